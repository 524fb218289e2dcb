"""Shutdown of a replica: tells its clients to move, serves them meanwhile, closes those that stay at a limited rate.

Otherwise all of them would reconnect to the other replicas at the same moment, each with a handshake and a replay.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable
from itertools import islice
from typing import NamedTuple

from gateway import messages
from gateway.clients.connection import CLOSE_SECONDS, Outgoing
from gateway.clients.frames import text_frame
from gateway.codes import CloseCode
from gateway.projects.hub import Hub, Viewer

logger = logging.getLogger("gateway.drain")

TICK_SECONDS = 0.05
TOLD_AT_ONCE = 500  # per tick: some 5 ms of writing, so that events are not delayed
MOVE_SECONDS = 5.0  # for a client that moves at the end of the window: a handshake, a subscribe, a replay
PROGRESS_SECONDS = 5.0  # between two log lines


class Plan(NamedTuple):
    """The two phases of moving, in seconds from the start of the drain."""

    window_seconds: float
    """Each client opens its next connection at a random moment until then."""
    stay_seconds: float
    """All are served until then. A client that still stays is stuck or does not know `going_away`."""

    @classmethod
    def of(cls, clients: int, *, seconds: float, rate: float) -> "Plan":
        """As short as `rate` clients per second allow, and at most `seconds`."""
        window = min(seconds, clients / rate)
        return cls(window, window + _moving(seconds)) if window else cls(0, 0)

    def window_ms(self, elapsed: float) -> tuple[int, int]:
        """`reconnectIn` for a client that is told now; the window ends at the same moment for all."""
        return 0, max(0, round((self.window_seconds - elapsed) * 1_000))


def may_remain(clients: int, elapsed: float, *, seconds: float, rate: float) -> int:
    """How many of the clients that stayed may still be open, `elapsed` seconds after the first was closed."""
    whole = min(seconds, clients / rate)
    return 0 if elapsed >= whole else int(clients * (1 - elapsed / whole))


def longest_seconds(seconds: float) -> float:
    """The longest that a drain takes, whatever its clients do; gateway.server then takes END_SECONDS at most."""
    return seconds + _moving(seconds) + seconds + CLOSE_SECONDS


def _moving(seconds: float) -> float:
    return min(MOVE_SECONDS, seconds / 4)


class Drain:
    """One drain, from the signal to the end of the last connection; used by the replica's loop only.

    It never waits for a single client: one that is behind is told to move once its socket has drained, or never.
    """

    def __init__(self, hub: Hub, *, seconds: float, is_cut_short: Callable[[], bool]) -> None:
        self._hub = hub
        self._seconds = seconds
        self._is_cut_short = is_cut_short  # true after a second signal
        self._clients = len(hub.viewers)  # when no newcomer is taken any more
        self._told: set[Viewer] = set()  # that were sent `going_away`
        self._closing: list[tuple[float, Outgoing]] = []  # sent a close, with the deadline for its answer
        self._closed = self._forced = 0  # clients that stayed, and those of them that did not answer the close
        self._began_at = self._logged_at = self._now

    async def run(self) -> None:
        self._hub.is_draining = True
        self._hub.drains += 1
        await self._be_a_lame_duck()
        self._hub.drain_due_at = time.monotonic() + longest_seconds(self._seconds)
        await self._let_move()
        await self._close_the_rest()
        await self._see_off()
        if self._clients:
            logger.log(
                logging.WARNING if self._forced else logging.INFO,
                "Drained in %.1f s: %d clients left, %d were closed, %d of them by force",
                self._elapsed, max(0, self._clients - self._closed), self._closed, self._forced,
            )  # fmt: skip

    @property
    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    @property
    def _elapsed(self) -> float:
        return self._now - self._began_at

    async def _tick(self) -> None:
        await asyncio.sleep(TICK_SECONDS)
        self._force(self._now)
        if self._now - self._logged_at >= PROGRESS_SECONDS:
            self._logged_at = self._now
            here = len(self._hub.viewers) + len(self._closing)
            logger.info("Draining: %d of %d clients are still here", here, self._clients)

    # First: load balancers learn of it

    async def _be_a_lame_duck(self) -> None:
        """Serve everybody as before, newcomers too, until load balancers have seen /readyz."""
        if not self._hub.takes_newcomers:
            return
        logger.info("Not ready: clients are still taken for %.1f s", self._hub.lame_duck_until - time.monotonic())
        while self._hub.takes_newcomers and not self._is_cut_short():
            await asyncio.sleep(TICK_SECONDS)
        self._clients = len(self._hub.viewers)
        self._began_at = self._logged_at = self._now

    # Then: they move

    async def _let_move(self) -> None:
        """Tell all clients, and serve them until they have left or the time is over."""
        plan = Plan.of(self._clients, seconds=self._seconds, rate=self._hub.settings.drain_rate)
        if self._clients:
            logger.info("Draining: %d clients should move within %.1f s", self._clients, plan.window_seconds)
        while self._hub.viewers and self._elapsed < plan.stay_seconds and not self._is_cut_short():
            self._tell(plan)
            await self._tick()

    def _tell(self, plan: Plan) -> None:
        # Look anew each time: an upgrade in progress at the signal may be a client by now, and a client that was behind
        # (nothing may be written to it) may have drained.
        new = (viewer for viewer in self._hub.viewers if viewer not in self._told and not viewer.connection.is_behind)
        batch = list(islice(new, TOLD_AT_ONCE))
        frame = text_frame(messages.going_away(plan.window_ms(self._elapsed)))
        for viewer in batch:
            viewer.connection.write(frame)
        self._hub.counters.sent_bytes += len(frame) * len(batch)
        self._told.update(batch)

    # At last: those that stayed are closed

    async def _close_the_rest(self) -> None:
        if not (clients := len(self._hub.viewers)):
            return
        logger.info("Draining: closing %d clients that stayed", clients)
        began_at, rate = self._now, self._hub.settings.drain_rate
        while self._hub.viewers and not self._is_cut_short():
            elapsed = self._now - began_at + TICK_SECONDS  # so that the first tick closes some
            self._close(len(self._hub.viewers) - may_remain(clients, elapsed, seconds=self._seconds, rate=rate))
            await self._tick()
        self._close(len(self._hub.viewers))

    def _close(self, count: int) -> None:
        answers_until = (
            self._now + CLOSE_SECONDS - 2 * TICK_SECONDS
        )  # before the connection's own timer, so that we count it
        for viewer in list(islice(self._hub.viewers, max(0, count))):
            self._closed += 1
            self._closing.append((answers_until, viewer.connection))
            viewer.connection.close(CloseCode.RESTART, "this replica is shutting down; reconnect")

    async def _see_off(self) -> None:
        """Wait for the answers of the clients that were closed at the very end, too."""
        while self._closing and not self._is_cut_short():
            await self._tick()
        self._force(math.inf)

    def _force(self, now: float) -> None:
        """Abort the connections that have not answered their close by their deadline."""
        still_closing = []
        for answers_until, connection in self._closing:
            if connection.is_closed:
                continue
            if now < answers_until:
                still_closing.append((answers_until, connection))
                continue
            self._forced += 1
            self._hub.drain_forced_closes += 1
            connection.abort()
        self._closing = still_closing
