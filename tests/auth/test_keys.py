"""Which keys are taken, and in which words others are refused."""

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.auth.keys import public_keys, secret_keys, split_secrets
from tests.auth.keys import SECRET, jwk, jwks, private_pem, public_pem


def pem_of(key: Any) -> str:
    pem: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem.decode()


def test_secrets_have_at_least_32_bytes_and_no_error_repeats_one() -> None:
    assert secret_keys(["x" * 32, "é" * 16]).algorithms == {"HS256"}
    with pytest.raises(ValueError, match="secret 2 is too short: use 32") as error:
        secret_keys([SECRET, "short-secret"])
    assert "short-secret" not in str(error.value)


def test_secrets_are_split_at_commas_and_lines() -> None:
    assert split_secrets(" new , old\n\nolder,") == ("new", "old", "older")


def test_pems_of_several_kinds_may_stand_in_one_file() -> None:
    keys = public_keys("\n".join(public_pem(kind) for kind in ("RS256", "ES256", "EdDSA")))
    assert keys.algorithms == {"RS256", "ES256", "EdDSA"}
    assert len(keys) == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no public key"),
        ("hello", "holds no public key"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "key 1 cannot be read as PEM"),
        ("{", "not JSON"),
        ("{}", "no JWKS"),
        ('{"keys": 5}', "no JWKS"),
        ('{"keys": []}', "list of keys is empty"),
        ('{"keys": [5]}', "not an object"),
        ('{"keys": [{"kty": "oct", "k": "AAAA"}]}', "is secret"),
        ('{"keys": [{"kty": "RSA"}]}', "cannot be read"),
        ('{"keys": [{"kty": "XYZ"}]}', "cannot be read"),
    ],
)
def test_what_is_no_public_key_is_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        public_keys(text)


def test_private_keys_are_refused() -> None:
    with pytest.raises(ValueError, match="key 1 is a private key"):
        public_keys(private_pem("ES256"))
    with pytest.raises(ValueError, match="is secret"):
        public_keys(jwks(jwk("EdDSA") | {"d": "AAAA"}))


def test_weak_keys_and_other_curves_are_refused() -> None:
    with pytest.raises(ValueError, match="1024 bits"):
        public_keys(pem_of(rsa.generate_private_key(65_537, 1_024)))
    with pytest.raises(ValueError, match="of a kind that is not used"):
        public_keys(pem_of(ec.generate_private_key(ec.SECP384R1())))


def test_keys_of_a_jwks_for_other_uses_are_passed_over() -> None:
    usable = jwk("RS256", "a", use="sig", alg="RS256")
    others = [jwk("RS256", "b", use="enc"), jwk("RS256", "c", alg="RS512"), jwk("ES256", "d", key_ops=["sign"])]
    assert len(public_keys(jwks(usable, *others))) == 1
    with pytest.raises(ValueError, match="for another algorithm than RS256"):
        public_keys(jwks(others[1]))


def test_one_key_may_stand_alone() -> None:
    import json

    assert public_keys(json.dumps(jwk("EdDSA", "a"))).algorithms == {"EdDSA"}


def test_there_are_at_most_32_keys() -> None:
    with pytest.raises(ValueError, match="33 keys; at most 32"):
        public_keys(public_pem("EdDSA") * 33)
