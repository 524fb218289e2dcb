"""Periodic checks of the whole replica: a sweep over all connections, and the event loop's lag."""

import asyncio
import time
from collections.abc import Iterable

from gateway.clients.age import MovesByAge
from gateway.codes import CloseCode
from gateway.operations.counters import Histogram
from gateway.projects.hub import Hub, Viewer

SWEEP_SECONDS = 1.0
LEAST_SWEEPS = 4  # between two pings of a client: within a sweep, its place may change when others come or go
SWEEPS_OF_AN_AGE = 8  # at least; more rarely, clients would be told too early or too late
LEAST_SWEEP_SECONDS = 0.05  # however short the age
LAG_CHECK_SECONDS = 0.1
NEWCOMERS_PER_TURN = 20  # that get the same turn
LOOKED_AT_ONCE = 100  # viewers, at least; and a sweep has 50 pieces at most
PIECES = 50


class Keepalive:
    """Pings each connection once in `ping_seconds`, in the sweep of its turn. Lives as long as the hub.

    A sweep goes on until the next one, a few viewers at a time: a look at 50,000 takes some milliseconds, and so do
    their pings, in which no event would be delivered (bench/README.md).

    A new connection counts as heard, so its first ping comes a whole interval later. When many come at once, most get
    earlier turns: pinging them all in one sweep would hold up every client.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._seconds = min(SWEEP_SECONDS, hub.settings.ping_seconds / LEAST_SWEEPS, hub.settings.slow_seconds)
        self._moves: MovesByAge | None = None
        if max_age := hub.settings.max_age_seconds:
            self._seconds = min(self._seconds, max(LEAST_SWEEP_SECONDS, max_age / SWEEPS_OF_AN_AGE))
            self._moves = MovesByAge(hub, max_age, self._seconds)
        self._turns = max(1, round(hub.settings.ping_seconds / self._seconds))
        self._newcomers = 0
        """Those that this sweep has given a turn."""

    async def run(self) -> None:
        turn = 0
        while True:
            began, pieces = time.monotonic(), self.pieces()
            for number, piece in enumerate(pieces, 1):
                due = began + self._seconds * number / len(pieces)  # a late timer must not delay all that follow
                await asyncio.sleep(due - time.monotonic())
                if self._hub.authority is not None:
                    self.check_access(piece, time.time())
                self.look_at(piece, turn, time.monotonic())
            turn = (turn + 1) % self._turns
            if self._moves is not None:
                self._moves.sweep(time.monotonic())

    def pieces(self) -> list[list[Viewer]]:
        """Begin a sweep: all viewers of this moment, in pieces."""
        self._newcomers = 0
        viewers = list(self._hub.viewers)
        size = max(LOOKED_AT_ONCE, -(-len(viewers) // PIECES))
        return [viewers[first : first + size] for first in range(0, len(viewers), size)] or [[]]

    def look_at(self, viewers: Iterable[Viewer], turn: int, now: float) -> None:
        """Give new connections a turn, close those that are behind for too long, ping those whose turn it is.

        All that are here still: the sweep began up to a second ago. `now`: by the monotonic clock.
        """
        for viewer in viewers:
            if viewer.ping_turn is None:
                # It came after the last sweep. With the turn of that sweep, its first ping comes within an interval.
                viewer.ping_turn = (turn - 1 - self._newcomers // NEWCOMERS_PER_TURN) % self._turns
                self._newcomers += 1
            if viewer.behind_since is not None:
                # It is not read from, so it cannot answer a ping: time alone decides.
                if now - viewer.behind_since > self._hub.settings.slow_seconds and viewer in self._hub.viewers:
                    text = "Client %s: closed, behind for too long"
                    self._hub.occasional.info("too slow", text, viewer.client_id)
                    viewer.connection.close(CloseCode.TOO_SLOW, "behind for too long")
            elif viewer.ping_turn == turn and viewer in self._hub.viewers:
                self._ping(viewer)

    def check_access(self, viewers: Iterable[Viewer], now: float) -> None:
        """Also of those that are behind: they are owed nothing any more. `now`: seconds since the epoch."""
        for viewer in viewers:
            if viewer in self._hub.viewers:
                viewer.check_access(now)

    def _ping(self, viewer: Viewer) -> None:
        """Any byte since the last ping counts as an answer."""
        if viewer.connection.was_heard:
            viewer.connection.ping()
        else:
            text = "Client %s: closed, it did not answer a ping"
            self._hub.occasional.info("silent", text, viewer.client_id)
            viewer.connection.close(CloseCode.SILENT, "no answer to a ping")


async def watch_loop(lag: Histogram) -> None:
    """Observe, ten times a second, how late a timer is: every client waits as long. Runs until cancelled."""
    while True:
        # Not the loop's own clock: it stands still while a callback runs.
        due = time.monotonic() + LAG_CHECK_SECONDS
        await asyncio.sleep(LAG_CHECK_SECONDS)
        lag.observe(max(0.0, time.monotonic() - due))
