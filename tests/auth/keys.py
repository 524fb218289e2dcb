"""Keys and tokens for tests: `signed` makes any token, also those that no library would make."""

import base64
import hmac
import json
import time
from functools import lru_cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

SECRET = "a-secret-of-forty-characters-for-tests-01"
OLD_SECRET = "an-older-secret-of-forty-characters-for-01"

ALGORITHMS: dict[str, Any] = {
    "RS256": RSAAlgorithm(RSAAlgorithm.SHA256),
    "ES256": ECAlgorithm(ECAlgorithm.SHA256),
    "EdDSA": OKPAlgorithm(),
}


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def part(value: object) -> str:
    return base64url(value if isinstance(value, bytes) else json.dumps(value).encode())


def claims(**changed: Any) -> dict[str, Any]:
    """Claims that are accepted; a changed one of None is left out."""
    given = {"exp": int(time.time()) + 600, "projects": ["film_1"], "sub": "user_1"} | changed
    return {name: value for name, value in given.items() if value is not None}


def hs256(payload: object, secret: str | bytes = SECRET, header: object = None) -> str:
    """A token signed with HS256, whatever its header says. `bytes` stand as they are."""
    text = f"{part(header or {'alg': 'HS256'})}.{part(payload)}"
    key = secret.encode() if isinstance(secret, str) else secret
    return f"{text}.{base64url(hmac.digest(key, text.encode(), 'sha256'))}"


@lru_cache
def private_key(algorithm: str, number: int = 0) -> Any:
    if algorithm == "RS256":
        return rsa.generate_private_key(65_537, 2_048)
    return ec.generate_private_key(ec.SECP256R1()) if algorithm == "ES256" else ed25519.Ed25519PrivateKey.generate()


def public_pem(algorithm: str, number: int = 0) -> str:
    key = private_key(algorithm, number).public_key()
    pem: bytes = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem.decode()


def private_pem(algorithm: str) -> str:
    pem: bytes = private_key(algorithm).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem.decode()


def jwk(algorithm: str, kid: str | None = None, number: int = 0, **fields: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ALGORITHMS[algorithm].to_jwk(private_key(algorithm, number).public_key()))
    return found | ({"kid": kid} if kid else {}) | fields


def jwks(*keys: dict[str, Any]) -> str:
    return json.dumps({"keys": keys})


def signed(algorithm: str, payload: object, number: int = 0, **header: Any) -> str:
    text = f"{part({'alg': algorithm} | header)}.{part(payload)}"
    signature: bytes = ALGORITHMS[algorithm].sign(text.encode(), private_key(algorithm, number))
    return f"{text}.{base64url(signature)}"
