"""Periodic checks of the whole replica: a sweep over all connections, and the event loop's lag."""

import asyncio
import logging
import time

from gateway.codes import CloseCode
from gateway.counters import Histogram
from gateway.hub import Hub, Viewer

logger = logging.getLogger("gateway.keepalive")

SWEEP_SECONDS = 1.0
LOOK_SECONDS = 0.1  # between two looks at the loop's lag


class Keepalive:
    """Pings each connection once in `ping_seconds`, spread over the sweeps. Lives as long as the hub."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._seconds = min(SWEEP_SECONDS, hub.settings.ping_seconds, hub.settings.slow_seconds)
        self._turns = max(1, round(hub.settings.ping_seconds / self._seconds))

    async def run(self) -> None:
        turn = 0
        while True:
            await asyncio.sleep(self._seconds)
            turn = (turn + 1) % self._turns
            self.sweep(turn, time.monotonic())

    def sweep(self, turn: int, now: float) -> None:
        """Look at everybody; ping those whose turn it is."""
        for viewer in list(self._hub.viewers):
            if viewer.behind_since is not None:
                # It neither reads nor is read from, so it cannot answer a ping: time alone decides.
                if now - viewer.behind_since > self._hub.settings.slow_seconds:
                    logger.info("Client %s: closed, behind for too long", viewer.client_id)
                    viewer.connection.close(CloseCode.TOO_SLOW, "behind for too long")
            elif viewer.number % self._turns == turn:
                self._ping(viewer)

    def _ping(self, viewer: Viewer) -> None:
        """Any byte that came since the last ping counts as life."""
        if viewer.connection.was_heard:
            viewer.connection.ping()
        else:
            logger.info("Client %s: closed, it did not answer a ping", viewer.client_id)
            viewer.connection.close(CloseCode.SILENT, "no answer to a ping")


async def watch_loop(lag: Histogram) -> None:
    """Observe, ten times a second, by how much a timer comes too late: so long every client waits. Ends by
    cancellation."""
    while True:
        # The loop's own clock stands still while a callback runs.
        due = time.monotonic() + LOOK_SECONDS
        await asyncio.sleep(LOOK_SECONDS)
        lag.observe(max(0.0, time.monotonic() - due))
