"""How often somebody may do something: a token bucket. Knows no clock; the caller says what time it is."""


class TokenBucket:
    """`burst` at once, then `rate` a second."""

    __slots__ = ("_at", "_left")

    def __init__(self, burst: float, now: float) -> None:
        self._left = burst
        self._at = now

    def take(self, *, rate: float, burst: float, now: float, count: int = 1) -> bool:
        """Take `count`, all or none; false if there are not as many. More than `burst` there never are."""
        self._left = min(burst, self._left + (now - self._at) * rate)
        self._at = now
        if self._left < count:
            return False
        self._left -= count
        return True

    def seconds_until(self, count: int, *, rate: float) -> float:
        """How long after the last `take` there will be `count`, if nobody takes any meanwhile."""
        return max(0.0, (count - self._left) / rate)
