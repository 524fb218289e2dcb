"""The keys that tokens are checked with: HS256 secrets, or public keys as PEM or JWKS.

A key has one algorithm, which follows from its type. What a token says of its algorithm only has to match.
"""

import hmac
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from gateway.auth.refusal import bad
from publisher.tokens import MIN_SECRET_BYTES

# PyJWT and cryptography are imported where they are used: they take 0.1 s and 10 MB, and without GATEWAY_AUTH nobody
# needs them.

PUBLIC = frozenset({"RS256", "ES256", "EdDSA"})  # a new key may be of another kind than those that are known
MIN_RSA_BITS = 2_048
MAX_KEYS = 32  # a token without `kid` may have to be tried with each
LONGEST_KID = 256
_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)


class Key(NamedTuple):
    """One key."""

    algorithm: str
    """As `alg` of a token names it."""
    kid: str | None
    is_of: Callable[[bytes, bytes], bool]
    """Whether a signature is this key's: (signed bytes, signature)."""


class UnknownKid(Exception):
    """No key has the token's `kid`."""


class KeySet:
    """Keys of one kind. Immutable: a rotation makes another one."""

    __slots__ = ("_keys", "algorithms")

    def __init__(self, keys: Iterable[Key]) -> None:
        self._keys = tuple(keys)
        self.algorithms = frozenset(key.algorithm for key in self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def candidates(self, algorithm: str, kid: str | None) -> list[Key]:
        """The keys that may have signed a token; raises `UnknownKid`, or `NotAuthorised` for another algorithm."""
        if algorithm not in (PUBLIC if self.algorithms & PUBLIC else self.algorithms):
            raise bad("has another algorithm than the gateway's keys")
        named = self._keys if kid is None else [key for key in self._keys if key.kid == kid]
        if not named:
            raise UnknownKid
        found = [key for key in named if key.algorithm == algorithm]
        if not found:
            raise bad("has another algorithm than its key")
        return found


def secret_keys(secrets: Iterable[str]) -> KeySet:
    """HS256 keys, the newest first; raises `ValueError` for one that is too short. Errors repeat no secret."""
    keys = []
    for number, secret in enumerate(secrets, 1):
        check_secret(secret, number)
        keys.append(Key("HS256", None, _hs256(secret.encode())))
    return KeySet(keys)


def _hs256(secret: bytes) -> Callable[[bytes, bytes], bool]:
    """Without PyJWT, which prepares the key anew each time: with cold caches that is a third of the whole check."""
    prepared = hmac.new(secret, digestmod="sha256")

    def is_of(message: bytes, signature: bytes) -> bool:
        found = prepared.copy()
        found.update(message)
        return hmac.compare_digest(found.digest(), signature)

    return is_of


def check_secret(secret: str, number: int) -> None:
    if len(secret.encode()) < MIN_SECRET_BYTES:
        raise ValueError(f"secret {number} is too short: use {MIN_SECRET_BYTES} or more random bytes")


def split_secrets(text: str) -> tuple[str, ...]:
    """The secrets of a setting or a file: at commas and line ends."""
    return tuple(secret.strip() for secret in re.split(r"[,\n]", text) if secret.strip())


def _checker(algorithm: Any, key: Any) -> Callable[[bytes, bytes], bool]:
    def is_of(message: bytes, signature: bytes) -> bool:
        try:
            return bool(algorithm.verify(message, key, signature))
        except Exception:  # whatever a library says of odd bytes: they are no signature of this key
            return False

    return is_of


def public_keys(text: str) -> KeySet:
    """Public keys as PEM, one after the other, or as a JWKS; raises `ValueError` in words."""
    keys = _jwks_keys(text) if text.lstrip().startswith("{") else _pem_keys(text)
    if len(keys) > MAX_KEYS:
        raise ValueError(f"there are {len(keys)} keys; at most {MAX_KEYS} are used")
    return KeySet(keys)


def _pem_keys(text: str) -> list[Key]:
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from cryptography.x509 import load_pem_x509_certificate

    found = list(_PEM.finditer(text))
    if not found:
        raise ValueError("it holds no public key: neither PEM (-----BEGIN PUBLIC KEY-----) nor a JWKS ({...})")
    keys = []
    for number, match in enumerate(found, 1):
        if "PRIVATE" in match[1]:
            raise ValueError(f"key {number} is a private key; the gateway needs the public one, and must not have both")
        try:
            pem = match[0].encode()
            is_certificate = match[1] == "CERTIFICATE"
            key: Any = load_pem_x509_certificate(pem).public_key() if is_certificate else load_pem_public_key(pem)
        except Exception:  # of several kinds, by the version of the library
            raise ValueError(f"key {number} cannot be read as PEM") from None
        keys.append(_public_key(key, None, f"key {number}"))
    return keys


def _jwks_keys(text: str) -> list[Key]:
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON") from None
    listed = given.get("keys", [given] if "kty" in given else None) if isinstance(given, dict) else None
    if not isinstance(listed, list):
        raise ValueError('it is no JWKS, which is {"keys": [...]}')
    keys: list[Key] = []
    why = "its list of keys is empty"
    for number, jwk in enumerate(listed, 1):
        try:
            keys.append(_jwk_key(jwk, f"key {number}"))
        except ValueError as error:  # providers list keys of other uses beside those that we need
            if not isinstance(error, _Unusable):
                raise
            why = str(error)
    if not keys:
        raise ValueError(f"it holds no key that can be used: {why}")
    return keys


class _Unusable(ValueError):
    """A key of a JWKS that is not for us."""


def _jwk_key(jwk: object, name: str) -> Key:
    from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

    if not isinstance(jwk, Mapping):
        raise _Unusable(f"{name} is not an object")
    if "d" in jwk or jwk.get("kty") == "oct":
        raise ValueError(f"{name} is secret; the gateway needs the public part alone, and must not have both")
    if jwk.get("use", "sig") != "sig" or "verify" not in (jwk.get("key_ops") or ["verify"]):
        raise _Unusable(f"{name} is not for signatures")
    readers: dict[object, Any] = {"RSA": RSAAlgorithm, "EC": ECAlgorithm, "OKP": OKPAlgorithm}
    kid = jwk.get("kid")
    if kid is not None and not (isinstance(kid, str) and len(kid) <= LONGEST_KID):
        raise _Unusable(f"{name} has a kid that is no text of at most {LONGEST_KID} characters")
    try:
        key = readers[jwk.get("kty")].from_jwk(dict(jwk))
    except Exception:  # a missing field, a wrong number, an unknown kind: the library has many words for it
        raise _Unusable(f"{name} cannot be read") from None
    made = _public_key(key, kid, name)
    if jwk.get("alg", made.algorithm) != made.algorithm:
        raise _Unusable(f"{name} is for another algorithm than {made.algorithm}")
    return made


def _public_key(key: Any, kid: str | None, name: str) -> Key:
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

    if isinstance(key, RSAPublicKey):
        if key.key_size < MIN_RSA_BITS:
            raise _Unusable(f"{name} has {key.key_size} bits; an RSA key needs {MIN_RSA_BITS}")
        return Key("RS256", kid, _checker(RSAAlgorithm(RSAAlgorithm.SHA256), key))
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return Key("ES256", kid, _checker(ECAlgorithm(ECAlgorithm.SHA256), key))
    if isinstance(key, Ed25519PublicKey):
        return Key("EdDSA", kid, _checker(OKPAlgorithm(), key))
    raise _Unusable(f"{name} is of a kind that is not used; take RSA (RS256), P-256 (ES256) or Ed25519 (EdDSA)")
