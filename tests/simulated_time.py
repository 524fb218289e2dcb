"""Time that passes as soon as an event loop has nothing else to do: no test waits for it, and no machine delays it."""

import asyncio
import time
from typing import Any

import pytest


class SimulatedTime:
    """The monotonic clock of this process, while a test with one event loop and no threads runs."""

    def __init__(self, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = time.monotonic()
        selector: Any = loop._selector  # type: ignore[attr-defined]
        self._select = selector.select
        monkeypatch.setattr(selector, "select", self._wait)
        monkeypatch.setattr(time, "monotonic", lambda: self.now)

    def _wait(self, timeout: float | None) -> Any:
        """What the loop calls until its next timer is due."""
        if timeout is None:  # no timer: something outside has to come
            return self._select(None)
        found = self._select(0)
        if not found:
            self.now += max(0.0, timeout)
        return found
