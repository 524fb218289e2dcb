"""Tokens for viewers: what a page's own server gives to its page, so that the page may watch its projects.

    from publisher.tokens import mint
    token = mint(["film_7", "team_3.*"], sub="user_42", seconds=3600)

Signed with HS256 and the first secret of `GATEWAY_JWT_SECRET`. Needs no library of tokens.
"""

import hmac
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterable

from publisher.names import MAX_PATTERNS, MAX_SUB, PATTERN_RULE, is_project_pattern, is_sub
from publisher.settings import first_secret, token_secret

MIN_SECRET_BYTES = 32  # RFC 7518, 3.2: an HS256 key is at least as long as the hash
MAX_TOKEN_CHARACTERS = 4_096


def mint(
    projects: str | Iterable[str],
    *,
    sub: str | None = None,
    seconds: float = 3_600,
    publish: str | Iterable[str] = (),
    audience: str | None = None,
    issuer: str | None = None,
    secret: str | None = None,
) -> str:
    """Return a token that may watch `projects`: ids, `prefix*`, or `*` for all; 1 to 100, or one as a string.

    `sub` is the user's id: `revoke_viewer(sub)` refuses all tokens of this user. The token is valid for `seconds`, at
    most the gateway's `GATEWAY_JWT_MAX_SECONDS` (a day). With `publish`, its bearer may also post events to these
    projects by HTTP. `audience` and `issuer` where the gateway asks for them. `secret` defaults to
    `GATEWAY_JWT_SECRET`, or to the file `GATEWAY_JWT_SECRET_FILE`; of several (`new,old`) the first signs.

    Raises `ValueError` for anything that the gateway would refuse. Its words repeat no secret.
    """
    key = (token_secret() if secret is None else first_secret(secret)).encode()
    if len(key) < MIN_SECRET_BYTES:
        raise ValueError(f"the secret is too short: use {MIN_SECRET_BYTES} or more random bytes")
    if sub is not None and not is_sub(sub):
        raise ValueError(f"sub must be a text of 1 to {MAX_SUB} printable characters")
    if isinstance(seconds, bool) or not 0 < seconds < 1e9:
        raise ValueError("seconds must be a number above 0")
    now = time.time()
    # With a fraction, so that a token made right after a revocation is told from one made right before it.
    claims: dict[str, object] = {"projects": _patterns(projects, "projects"), "iat": round(now, 3)}
    claims["exp"] = int(now + seconds)
    given = {"sub": sub, "aud": audience, "iss": issuer, "publish": _patterns(publish, "publish") if publish else None}
    claims |= {name: value for name, value in given.items() if value is not None}
    signed = f"{_encoded({'alg': 'HS256', 'typ': 'JWT'})}.{_encoded(claims)}"
    token = f"{signed}.{_base64url(hmac.digest(key, signed.encode(), 'sha256'))}"
    if len(token) > MAX_TOKEN_CHARACTERS:
        raise ValueError(f"the token has {len(token)} characters, and may have {MAX_TOKEN_CHARACTERS}: use `prefix*`")
    return token


def _patterns(given: str | Iterable[str], name: str) -> list[str]:
    patterns = [given] if isinstance(given, str) else list(given)
    if not 1 <= len(patterns) <= MAX_PATTERNS:
        raise ValueError(f"{name} must name 1 to {MAX_PATTERNS} projects, got {len(patterns)}")
    for pattern in patterns:
        if not is_project_pattern(pattern):
            shown = repr(pattern)[:80] if isinstance(pattern, str) else type(pattern).__name__
            raise ValueError(f"{name}: {shown} is not {PATTERN_RULE}")
    return patterns


def _encoded(value: object) -> str:
    return _base64url(json.dumps(value, separators=(",", ":")).encode())


def _base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
