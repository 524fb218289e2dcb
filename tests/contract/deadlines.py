"""Waiting: always for a condition, never for longer than a deadline, and with a name in what fails."""

import asyncio
import time
from collections.abc import Callable

PATIENCE = 30.0  # seconds: it ends a test that hangs; a machine that runs other work may hold a step up for long
POLL_SECONDS = 0.02


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
