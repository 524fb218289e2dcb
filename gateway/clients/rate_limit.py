"""Token buckets. They have no clock: the caller passes the time."""


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


class ReplayAllowance:
    """What a client may cost by asking again for what it was given.

    The first replay of each project is free. Later ones are counted in bytes, also after an unsubscribe: `BURST_BYTES`
    at once, then `RATE_BYTES` a second. A replay that takes more than is left puts the client into debt.
    """

    BURST_BYTES = 8 << 20  # one whole state of a project
    RATE_BYTES = 256 << 10
    MOST_PROJECTS = 1_000  # that are told apart; with more, every replay counts as repeated

    __slots__ = ("_at", "_left", "_projects")

    def __init__(self, now: float) -> None:
        self._left: float = self.BURST_BYTES
        self._at = now
        self._projects: set[str] = set()

    def remember(self, project_id: str) -> None:
        """Count the next replay of this project."""
        if len(self._projects) < self.MOST_PROJECTS:
            self._projects.add(project_id)

    def is_repeated(self, project_id: str) -> bool:
        return project_id in self._projects or len(self._projects) == self.MOST_PROJECTS

    def is_spent(self, now: float) -> bool:
        self._left = min(self.BURST_BYTES, self._left + (now - self._at) * self.RATE_BYTES)
        self._at = now
        return self._left <= 0

    def spend(self, size: int) -> None:
        self._left -= size
