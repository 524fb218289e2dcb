"""A token bucket. It has no clock: the caller passes the time."""


class TokenBucket:
    """`burst` at once, then `rate` a second."""

    __slots__ = ("_at", "_left")

    def __init__(self, burst: float, now: float) -> None:
        self._left = burst
        self._at = now

    def take(self, *, rate: float, burst: float, now: float, count: int = 1) -> bool:
        """Take `count` tokens, or none and return false. The bucket holds at most `burst`."""
        self._left = min(burst, self._left + (now - self._at) * rate)
        self._at = now
        if self._left < count:
            return False
        self._left -= count
        return True

    def seconds_until(self, count: int, *, rate: float) -> float:
        """Time from the last `take` until the bucket holds `count`, if nothing is taken meanwhile."""
        return max(0.0, (count - self._left) / rate)
