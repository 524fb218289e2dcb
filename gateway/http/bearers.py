"""The header `Authorization: Bearer`, and keys that it may hold. No I/O."""

import hmac
from collections.abc import Iterable, Sequence


def bearer(authorization: Sequence[str]) -> str:
    """What follows `Bearer`; '' where there is not exactly one. `authorization`: the values of all such headers."""
    words = authorization[0].split() if len(authorization) == 1 else []
    return words[1] if len(words) == 2 and words[0].lower() == "bearer" else ""


def matching(keys: Iterable[bytes], authorization: Sequence[str]) -> bytes | None:
    """The key that the header holds; None: it holds none of them."""
    # Compare every key in constant time, so that the time does not reveal a near match.
    given = bearer(authorization).encode(errors="replace")
    matches = [key for key in keys if hmac.compare_digest(given, key)]
    return matches[0] if matches else None
