"""The end of a replica's service: its clients are told to move, served meanwhile, and those who stay let go at a pace.

All clients of a replica that ends would otherwise come to the others at one moment, each with a handshake and a resume.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable
from itertools import islice
from typing import NamedTuple

from gateway import messages
from gateway.codes import CloseCode
from gateway.connection import CLOSE_SECONDS, Outgoing
from gateway.frames import text_frame
from gateway.hub import Hub, Viewer

logger = logging.getLogger("gateway.drain")

TICK_SECONDS = 0.05
TOLD_AT_ONCE = 500  # in one tick: some 5 ms of writing, so that events are not held up by it
MOVE_SECONDS = 5.0  # for who draws the end of the window: a handshake through a proxy, a subscribe, what was missed
PROGRESS_SECONDS = 5.0  # between two lines in the log


class Plan(NamedTuple):
    """When what is due, in seconds from the beginning."""

    window_seconds: float  # in which each client, at a moment of its own, opens its next connection
    stay_seconds: float  # until then all are served; who is still here then does not know `going_away`, or is stuck

    @classmethod
    def of(cls, clients: int, *, seconds: float, rate: float) -> "Plan":
        """As short as `rate` clients a second allow, and never longer than `seconds`."""
        window = min(seconds, clients / rate)
        return cls(window, window + _moving(seconds)) if window else cls(0, 0)

    def window_ms(self, elapsed: float) -> tuple[int, int]:
        """`reconnectIn` for a client that is told now: the window ends at the same moment for all."""
        return 0, max(0, round((self.window_seconds - elapsed) * 1_000))


def may_remain(clients: int, elapsed: float, *, seconds: float, rate: float) -> int:
    """How many of those who stayed are still to be served, `elapsed` seconds after the first of them was closed."""
    whole = min(seconds, clients / rate)
    return 0 if elapsed >= whole else int(clients * (1 - elapsed / whole))


def longest_seconds(seconds: float) -> float:
    """No drain takes longer, whatever its clients do; after it the process has END_SECONDS of gateway.server."""
    return seconds + _moving(seconds) + seconds + CLOSE_SECONDS


def _moving(seconds: float) -> float:
    return min(MOVE_SECONDS, seconds / 4)


class Drain:
    """One drain, from the signal to the end of the last connection; used by the replica's loop only.

    Nothing in it waits for a client: one that is behind is told to move once its socket has drained, or never.
    """

    def __init__(self, hub: Hub, *, seconds: float, is_cut_short: Callable[[], bool]) -> None:
        self._hub = hub
        self._seconds = seconds
        self._is_cut_short = is_cut_short  # by a second signal
        self._clients = len(hub.viewers)
        self._told: set[Viewer] = set()
        self._closing: list[tuple[float, Outgoing]] = []  # until when the client may take to answer
        self._closed = self._forced = 0
        self._began_at = self._logged_at = self._now

    async def run(self) -> None:
        self._hub.is_draining = True
        self._hub.drains += 1
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
            here = len(self._hub.viewers) + len(self._closing)  # the latter have not answered their close yet
            logger.info("Draining: %d of %d clients are still here", here, self._clients)

    # First: they move

    async def _let_move(self) -> None:
        """Tell everybody, and go on serving until all have left or the time is over."""
        plan = Plan.of(self._clients, seconds=self._seconds, rate=self._hub.settings.drain_rate)
        if self._clients:
            logger.info("Draining: %d clients are to move within %.1f s", self._clients, plan.window_seconds)
        while self._hub.viewers and self._elapsed < plan.stay_seconds and not self._is_cut_short():
            self._tell(plan)
            await self._tick()

    def _tell(self, plan: Plan) -> None:
        # Asked anew each time: an upgrade that was under way at the signal has become a client since, and a client that
        # was behind, to which nothing may be written, reads again.
        new = (viewer for viewer in self._hub.viewers if viewer not in self._told and not viewer.connection.is_behind)
        batch = list(islice(new, TOLD_AT_ONCE))
        frame = text_frame(messages.going_away(plan.window_ms(self._elapsed)))
        for viewer in batch:
            viewer.connection.write(frame)
        self._hub.counters.sent_bytes += len(frame) * len(batch)
        self._told.update(batch)

    # Then: who stayed is closed

    async def _close_the_rest(self) -> None:
        if not (clients := len(self._hub.viewers)):
            return
        logger.info("Draining: closing %d clients that stayed", clients)
        began_at, rate = self._now, self._hub.settings.drain_rate
        while self._hub.viewers and not self._is_cut_short():
            elapsed = self._now - began_at + TICK_SECONDS  # so that the first tick closes some, too
            self._close(len(self._hub.viewers) - may_remain(clients, elapsed, seconds=self._seconds, rate=rate))
            await self._tick()
        self._close(len(self._hub.viewers))

    def _close(self, count: int) -> None:
        answers_until = self._now + CLOSE_SECONDS - 2 * TICK_SECONDS  # before the connection's own timer: to be counted
        for viewer in list(islice(self._hub.viewers, max(0, count))):
            self._closed += 1
            self._hub.drain_closes += 1
            self._closing.append((answers_until, viewer.connection))
            viewer.connection.close(CloseCode.RESTART, "this replica is shutting down; reconnect")

    async def _see_off(self) -> None:
        """Who was closed last is given time to answer, too."""
        while self._closing and not self._is_cut_short():
            await self._tick()
        self._force(math.inf)

    def _force(self, now: float) -> None:
        """End the connections of those who do not answer: they are stuck, or gone without a word."""
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
