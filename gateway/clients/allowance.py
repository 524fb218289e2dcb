"""How much one client may say: a token for each frame it sends, whatever is in it. It has no clock."""

from dataclasses import dataclass
from enum import Enum

from gateway.clients.rate_limit import TokenBucket

ABUSE_SECONDS = 5.0  # of saying more than is allowed, before the connection is closed


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may send. All connections of a replica share one object."""

    max_bytes: int
    """Of one message."""
    rate: float
    """Messages per second: frames of any kind, and reads in which no frame is complete."""
    burst: int
    """Messages at once; at least 10, or an abuse could not be told from a burst."""

    @property
    def uncounted(self) -> int:
        """Messages in a row that need no `Allowance`, so that a quiet connection has none."""
        return self.burst // 4


class Verdict(Enum):
    """What to do with the next message of a client."""

    HEAR = "hear"
    WAIT = "wait"  # read nothing until `seconds_to_wait` have passed
    CLOSE = "close"  # it had to wait for ABUSE_SECONDS without becoming quieter


class Allowance:
    """The allowance of one client: `limits.burst` messages at once, then `limits.rate` a second.

    Once it is empty, it has recovered when half of the burst is there again. A client that sends faster than the rate
    empties it after each wait, so for that client it never recovers.
    """

    __slots__ = ("_bucket", "_empty_since", "_limits", "is_waiting")

    def __init__(self, limits: Limits, now: float, *, spent: int = 0) -> None:
        self._limits = limits
        self._bucket = TokenBucket(limits.burst - spent, now)
        self._empty_since: float | None = None
        """When it became empty; None once it has recovered."""
        self.is_waiting = False
        """For the connection: true while it reads nothing."""

    def take(self, now: float) -> Verdict:
        """Take one message from the allowance, if there is one."""
        if self.has_recovered(now):
            self._empty_since = None
        if self._bucket.take(rate=self._limits.rate, burst=self._limits.burst, now=now):
            return Verdict.HEAR
        if self._empty_since is None:
            self._empty_since = now
        return Verdict.WAIT if now - self._empty_since < ABUSE_SECONDS else Verdict.CLOSE

    def has_recovered(self, now: float) -> bool:
        """Is half of the burst there?"""
        self._bucket.take(rate=self._limits.rate, burst=self._limits.burst, now=now, count=0)
        return self._seconds_until(self._limits.burst // 2) == 0

    @property
    def seconds_to_wait(self) -> float:
        """Time from the last `take` until some messages may come, so that not each of them needs a timer.

        At most a second: a client that is not read from for longer would seem not to answer pings.
        """
        return min(1.0, max(0.001, self._seconds_until(max(1, self._limits.burst // 40))))

    def _seconds_until(self, count: int) -> float:
        return self._bucket.seconds_until(count, rate=self._limits.rate)
