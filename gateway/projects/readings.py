"""Long work in slices of a few milliseconds, one in a turn of the loop: the others are served in between."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Generator
from typing import Generic, TypeVar

SLICE_SECONDS = 0.004  # of a turn; everybody may wait so long
MOST_LATE = 10_000  # payloads that are kept for one reading; then it is finished at once

Result = TypeVar("Result")


class Reading(Generic[Result]):
    """A large state that is being read. Lives until it is merged, or let go.

    What Redis sends after the state arrives meanwhile, and is kept here: it may be looked at only after the state.
    """

    __slots__ = ("_fail", "_steps", "_take", "is_over", "late")

    def __init__(
        self, steps: Generator[None, None, Result], take: Callable[[Result], None], fail: Callable[[Exception], None]
    ) -> None:
        self._steps = steps
        self._take = take
        self._fail = fail
        self.is_over = False
        """True once it is merged or let go."""
        self.late: list[bytes] = []
        """The payloads that arrived after the state, in order."""

    def step(self) -> None:
        """Do a little. After the last step its result is handed on; an error is, too."""
        try:
            try:
                next(self._steps)
            except StopIteration as end:
                self.is_over = True
                self._take(end.value)
        except Exception as error:
            self.is_over = True
            self._fail(error)

    def finish(self) -> None:
        """Do all that is left, at once."""
        while not self.is_over:
            self.step()

    def let_go(self) -> None:
        self.is_over = True


class Readings:
    """All readings of a hub, in the order in which they began. Lives as long as it; used by one event loop only."""

    def __init__(self, call_soon: Callable[[Callable[[], None]], object] | None = None) -> None:
        self._call_soon = call_soon
        """How the next slice is scheduled; None: by the running loop."""
        self._queue: deque[Reading] = deque()  # type: ignore[type-arg]
        self._is_scheduled = False

    def begin(self, reading: Reading[Result]) -> Reading[Result]:
        self._queue.append(reading)
        self._schedule()
        return reading

    def after_these(self, then: Callable[[], None]) -> Reading[None]:
        """Call `then` once all that have begun are over; at once, if all are."""

        def nothing() -> Generator[None, None, None]:
            yield from ()

        reading = Reading(nothing(), lambda _: then(), lambda _: None)
        if any(not other.is_over for other in self._queue):
            return self.begin(reading)
        reading.finish()
        return reading

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            (self._call_soon or asyncio.get_running_loop().call_soon)(self._run_slice)

    def _run_slice(self) -> None:
        self._is_scheduled = False
        ends_at = time.perf_counter() + SLICE_SECONDS
        while self._queue:
            if self._queue[0].is_over:
                self._queue.popleft()
                continue
            self._queue[0].step()
            if time.perf_counter() >= ends_at:
                break
        if self._queue:
            self._schedule()
