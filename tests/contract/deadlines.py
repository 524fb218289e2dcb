"""Waiting: always for a condition, never for longer than a deadline, and with a name in what fails."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Self

PATIENCE = 60.0  # seconds: it ends a test that hangs; a machine that runs other work may hold a step up for long
POLL_SECONDS = 0.02
# What a machine that other work holds up may add to a bound. Where a fault takes no longer than this, a test gives the
# fault more time, or compares something else than seconds.
STALL_SECONDS = 10.0


async def eventually(condition: Callable[[], bool], what: str, within: float = PATIENCE) -> None:
    """Polls until the condition holds, and lets the event loop run meanwhile."""
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, f"waited {within} s for: {what}"
        await asyncio.sleep(POLL_SECONDS)


def wait_for(condition: Callable[[], bool], what: str, within: float = PATIENCE) -> None:
    """The same where there is no event loop."""
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, f"waited {within} s for: {what}"
        time.sleep(POLL_SECONDS)


class Stalls:
    """When the machine held this process up, so that a test does not take that for the product's time.

    A thread of its own looks at the clock, many times a second. Where it could not, neither could the others.
    """

    BEAT_SECONDS = 0.02

    def __init__(self) -> None:
        self._late: list[tuple[float, float]] = []  # when a look was due, and when it came
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _look(self) -> None:
        due = time.monotonic() + self.BEAT_SECONDS
        while not self._is_over.wait(self.BEAT_SECONDS):
            now = time.monotonic()
            if now - due > self.BEAT_SECONDS:
                self._late.append((due, now))
            due = now + self.BEAT_SECONDS

    def without(self, began: float, ended: float) -> float:
        """The seconds from one moment to another, on the monotonic clock, without what the machine added."""
        return ended - began - sum(max(0.0, min(ended, came) - max(began, due)) for due, came in self._late)
