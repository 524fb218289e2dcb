"""How long the benchmark still takes."""

import time


class Pace:
    """The planned seconds of what is left, corrected by how the plan held so far. Lives as long as a run."""

    def __init__(self, planned_seconds: float) -> None:
        self._planned = planned_seconds
        self._done = 0.0  # of the planned seconds
        self._began_at = time.monotonic()

    def add(self, planned_seconds: float) -> None:
        """A part of the plan is over."""
        self._done += planned_seconds

    def left(self) -> str:
        return time_left(self._planned, self._done, time.monotonic() - self._began_at)


def time_left(planned: float, done: float, took: float) -> str:
    """`done` of the `planned` seconds are over; they took `took` seconds in fact."""
    seconds = (planned - done) * (took / done if done else 1.0)
    if seconds < 1:
        return "done"
    return f"{seconds:.0f} s left" if seconds < 90 else f"{seconds / 60:.0f} min left"
