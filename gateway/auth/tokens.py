"""From a token to what it allows. No clock and no I/O: the caller passes keys and time.

What costs nothing is checked first, so that a forged token is cheap: the form, the header, the claims, then the
signature. PyJWT checks the signatures of public keys; the rest is stricter than it.
"""

import json
from binascii import Error as NotBase64
from binascii import a2b_base64
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple, NoReturn, TypeGuard

from gateway.auth.grant import NOTHING, Grant, Scope, scope
from gateway.auth.keys import KeySet
from gateway.auth.refusal import NotAuthorised, Reason, bad
from publisher.names import MAX_PATTERNS, MAX_SUB, are_project_patterns, is_sub
from publisher.tokens import MAX_TOKEN_CHARACTERS

CLOCK_SECONDS = 10  # by which the clock of the server that made the token may be ahead: for `nbf` and `iat`

FORGED = "has a signature of none of the gateway's keys"

# They name keys, or change what is signed. Nothing of it is ever followed.
_REFUSED_HEADERS = ("jku", "jwk", "x5u", "crit", "b64")


class Rules(NamedTuple):
    """What a token must say, by the settings."""

    max_seconds: float
    audience: str = ""
    issuer: str = ""


def read_token(token: str, keys: KeySet, rules: Rules, now: float) -> Grant:
    """Check a token; raises `NotAuthorised`, or `UnknownKid` where another set of keys may know it."""
    if len(token) > MAX_TOKEN_CHARACTERS:
        raise bad(f"has more than {MAX_TOKEN_CHARACTERS} characters")
    parts = token.split(".")
    # A regular expression would cost as much as all else. `_bytes_of` refuses what is in neither alphabet of base64.
    if len(parts) != 3 or not all(parts) or not token.isascii() or any(letter in token for letter in "+/="):
        raise bad("is not three parts of base64url with dots between them")
    header, claims, end = parts
    candidates = keys.candidates(*_header(header))
    grant = _grant_of(_object(claims, "claims"), rules, now)
    signed, signature = token[: -len(end) - 1].encode(), _bytes_of(end, "signature")
    if not any(key.is_of(signed, signature) for key in candidates):
        raise bad(FORGED)
    # Only now: of a forged token nobody can say that it was valid once.
    if grant.expires_at <= now:
        raise NotAuthorised(Reason.TOKEN_EXPIRED, "has expired")
    return grant


@lru_cache(maxsize=64)  # all tokens of one server have the same header
def _header(part: str) -> tuple[str, str | None]:
    """The algorithm and the `kid`."""
    header = _object(part, "header")
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or not isinstance(kid, str | None):
        raise bad("has an `alg` or a `kid` that is no text")
    if refused := [name for name in _REFUSED_HEADERS if name in header]:
        raise bad(f"has a header that is not accepted: {refused[0]}")
    return algorithm, kid


def _bytes_of(part: str, name: str) -> bytes:
    try:
        text = part.replace("-", "+").replace("_", "/")  # much faster than `translate`
        return a2b_base64(text + "=" * (-len(part) % 4), strict_mode=True)
    except NotBase64:
        raise bad(f"has a {name} that is not base64url") from None


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Two values of one name: each reader would take another one."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


def _not_json(name: str) -> NoReturn:
    raise ValueError(name)


_DECODER = json.JSONDecoder(object_pairs_hook=_no_duplicates, parse_constant=_not_json)


def _object(part: str, name: str) -> Mapping[str, Any]:
    try:
        value = _DECODER.decode(_bytes_of(part, name).decode())
    except (ValueError, RecursionError):
        raise bad(f"has a {name} that is not JSON in UTF-8, or names a field twice") from None
    if not isinstance(value, dict):
        raise bad(f"has a {name} that is not a JSON object")
    return value


def _grant_of(claims: Mapping[str, Any], rules: Rules, now: float) -> Grant:
    """Check all claims but whether `exp` is over."""
    expires_at, issued_at = claims.get("exp"), claims.get("iat")
    if type(expires_at) is not int:  # exactly: True is an int, too, and 1e300 is no time
        raise bad("has no `exp`, or one that is not a whole number of seconds since the epoch")
    if expires_at > now + rules.max_seconds:  # a difference could be too large for a float
        raise bad("has an `exp` further away than GATEWAY_JWT_MAX_SECONDS")
    if "iat" in claims and not (_is_time(issued_at) and issued_at <= now + CLOCK_SECONDS):
        raise bad("has an `iat` that is not a time, or lies ahead")
    if "nbf" in claims and not (_is_time(claims["nbf"]) and claims["nbf"] <= now + CLOCK_SECONDS):
        raise bad("has an `nbf` that is not a time, or lies ahead")
    sub = claims.get("sub")
    if "sub" in claims and not is_sub(sub):
        raise bad(f"has a `sub` that is not a text of 1 to {MAX_SUB} printable characters")
    if rules.audience and rules.audience not in _texts(claims.get("aud")):
        raise bad("is not for GATEWAY_JWT_AUDIENCE")
    if rules.issuer and claims.get("iss") != rules.issuer:
        raise bad("is not from GATEWAY_JWT_ISSUER")
    publish = _scope(claims, "publish") if "publish" in claims else NOTHING
    return Grant(sub, expires_at, issued_at, _scope(claims, "projects"), publish)


def _is_time(value: object) -> TypeGuard[float]:
    return type(value) in (int, float) and 0 <= value < 1e11  # type: ignore[operator]


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    return value if isinstance(value, list) and all(isinstance(item, str) for item in value) else []


def _scope(claims: Mapping[str, Any], name: str) -> Scope:
    patterns = claims.get(name)
    if not are_project_patterns(patterns):
        raise bad(f"has no `{name}`, or one that is not a list of 1 to {MAX_PATTERNS} project ids, `prefix*` or `*`")
    return scope(patterns)
