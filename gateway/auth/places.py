"""Where a token may stand in a handshake. The message `auth` is the fourth place, for pages."""

from collections.abc import Iterable
from urllib.parse import unquote

from gateway.auth.refusal import bad


def token_in(headers: Iterable[tuple[bytes, bytes]], query: bytes, cookie: str) -> str | None:
    """The token of a handshake: the first of `Authorization: Bearer`, `?token=` and the cookie; None without one.

    If one place has a token, the next is never tried, whatever is wrong with the first. Raises `NotAuthorised` where
    one place has two: proxies and frameworks do not agree on which of them counts.
    """
    found = [value.strip() for name, value in headers if name == b"authorization"]
    bearers = [value[6:].strip() for value in found if value[:7].lower() in (b"bearer ", b"bearer")]
    if bearers:  # another scheme is for a proxy
        return _one(bearers)
    pairs = [pair.partition(b"=") for pair in query.split(b"&")]
    if tokens := [value for name, _, value in pairs if name == b"token"]:
        return unquote(_one(tokens))
    if cookie:
        values = [value for name, value in headers if name == b"cookie"]
        pairs = [part.strip().partition(b"=") for value in values for part in value.split(b";")]
        # A cookie without a value is what a signed-out user has.
        if tokens := [value for name, _, value in pairs if name == cookie.encode() and value]:
            return _one(tokens).strip('"')
    return None


def _one(values: list[bytes]) -> str:
    if len(values) > 1:
        raise bad("came twice in the handshake")
    return values[0].decode("latin-1")
