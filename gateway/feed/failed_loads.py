"""The states that a link did not survive. No I/O, no clock."""

from collections.abc import Iterable

MOST_FAILURES = 2  # of one state in a row; then its project is refused, and the others are rid of it
MOST_REMEMBERED = 1_000


class FailedLoads:
    """Counts for each Redis channel how often in a row the link was lost while its state was on its way.

    Redis cuts off a pub/sub client for which it holds too much. If the feed asked for such a state again and again, no
    project would hear anything. After the first failure a state is asked for alone, so that a second one has one
    possible cause. Lives as long as its feed.
    """

    def __init__(self) -> None:
        self._failures: dict[str, int] = {}
        """The number of failures in a row, by Redis channel; in order of the last one."""

    def lost(self, redis_channels: Iterable[str]) -> None:
        """The link was lost while these states were on their way."""
        for redis_channel in redis_channels:
            self._failures[redis_channel] = self._failures.pop(redis_channel, 0) + 1
            if len(self._failures) > MOST_REMEMBERED:
                del self._failures[next(iter(self._failures))]

    def loaded(self, redis_channel: str) -> None:
        """The state came."""
        self._failures.pop(redis_channel, None)

    def try_again(self, redis_channel: str) -> None:
        """Somebody wants it again: one more failure is enough."""
        if redis_channel in self._failures:
            self._failures[redis_channel] = min(self._failures[redis_channel], MOST_FAILURES - 1)

    def is_suspect(self, redis_channel: str) -> bool:
        """Whether the state is to be asked for alone."""
        return redis_channel in self._failures

    def is_guilty(self, redis_channel: str) -> bool:
        """Whether the state is not to be asked for."""
        return self._failures.get(redis_channel, 0) >= MOST_FAILURES
