"""Users whose tokens are refused, because they were issued before a moment. No I/O."""

from collections.abc import Iterable, Mapping

from publisher.revocation import MAX_REVOKED, read_revocation


class Revocations:
    """What this replica knows of revocations. Lives as long as the replica, whatever becomes of its Redis.

    While Redis is away, and after one that came back empty, what is known here still counts.
    """

    def __init__(self, keep_seconds: float) -> None:
        self._keep_us = int(keep_seconds * 1_000_000)
        """For so long a token may be valid that was issued before its user was revoked."""
        self._revoked_at: dict[str, int] = {}
        """By `sub`: microseconds since the epoch, by Redis' clock. In order of arrival."""

    def __len__(self) -> int:
        return len(self._revoked_at)

    def is_revoked(self, sub: str | None, issued_at: float | None) -> bool:
        """Whether a token was issued before its user was revoked. The same second counts as before: `iat` has often no
        fraction."""
        if sub is None or (revoked_at := self._revoked_at.get(sub)) is None:
            return False
        return issued_at is None or issued_at * 1_000_000 <= revoked_at

    def on_loaded(self, remembered: Mapping[bytes, bytes], now: float) -> set[str]:
        """Take what Redis remembers; returns the users of whom that is news."""
        found = (read_revocation(value + b" " + sub) for sub, value in remembered.items())
        return self._add((one for one in found if one is not None), now)

    def on_events(self, payloads: Iterable[bytes], now: float) -> set[str]:
        """Take what was published; returns the users of whom that is news."""
        return self._add((one for payload in payloads if (one := read_revocation(payload)) is not None), now)

    def missing(self, remembered: Mapping[bytes, bytes], now: float) -> dict[str, int]:
        """What Redis has forgotten of what still counts, as after a restart without its data."""
        self._forget_old(now)
        return {sub: at for sub, at in self._revoked_at.items() if sub.encode() not in remembered}

    def _add(self, found: Iterable[tuple[str, int]], now: float) -> set[str]:
        news = set()
        least = int(now * 1_000_000) - self._keep_us
        for sub, revoked_at in found:
            if revoked_at > max(self._revoked_at.get(sub, 0), least):
                self._revoked_at.pop(sub, None)  # so that it goes to the end
                self._revoked_at[sub] = revoked_at
                news.add(sub)
        if len(self._revoked_at) > MAX_REVOKED:
            self._forget_old(now)
        while len(self._revoked_at) > MAX_REVOKED:
            del self._revoked_at[next(iter(self._revoked_at))]
        return news

    def _forget_old(self, now: float) -> None:
        least = int(now * 1_000_000) - self._keep_us
        for sub in [sub for sub, revoked_at in self._revoked_at.items() if revoked_at <= least]:
            del self._revoked_at[sub]
