"""Asks each client to move once it is old, so that a fleet balances itself.

Connections last for hours. A replica that is added gets new clients only, and the full ones would stay full.
"""

from random import randint

from gateway import messages
from gateway.clients.frames import text_frame
from gateway.clients.rate_limit import TokenBucket
from gateway.projects.hub import Hub, Viewer

STEPS = 100  # of the wheel, in one age
WHEEL = 256  # steps in all. CPython has one object for each of these numbers, so a turn costs a client 8 bytes
MOST_LATE = 50  # steps by which a sweep may miss a turn; more would be taken for turns that are still to come
DUE = -1  # in place of a turn: to be told as soon as it is not behind and the rate allows it


class MovesByAge:
    """Tells `going_away` to each client between half and twice the age. Lives as long as the keep-alive's sweep.

    As in a drain, the client opens its next connection before it leaves this one, so no event is missed. The load
    balancer chooses the replica, perhaps this one. A client that stays is served on, and told again after another age.
    """

    def __init__(self, hub: Hub, max_age_seconds: float, sweep_seconds: float) -> None:
        self._hub = hub
        self._step_seconds = max_age_seconds / STEPS
        # A newcomer gets its turn up to one sweep late, and is told up to one sweep after its turn.
        self._earliest = STEPS // 2 + 1
        self._latest = max(self._earliest, int(2 * (STEPS - sweep_seconds / self._step_seconds)) - 1)
        # All that are told in one sweep move before the next, at the rate of a drain.
        self._frame = text_frame(messages.going_away((0, round(sweep_seconds * 1_000))))
        self._rate = hub.settings.drain_rate
        self._burst = max(1, int(self._rate * sweep_seconds))
        self._bucket: TokenBucket | None = None

    def sweep(self, now: float) -> None:
        """Give newcomers their turn; tell those whose turn has come. `now`: by the monotonic clock."""
        if self._hub.is_draining:  # the drain tells all
            return
        position = int(now / self._step_seconds) % WHEEL
        due = []
        for viewer in self._hub.viewers:
            turn = viewer.move_turn
            if turn is None:
                self._give_turn(viewer, position)
            elif turn == DUE or (position - turn) % WHEEL <= MOST_LATE:
                viewer.move_turn = DUE
                if not viewer.connection.is_behind:  # nothing may be written to it
                    due.append(viewer)
        for viewer in due:
            if not self._is_allowed(now):
                break
            self._give_turn(viewer, position)
            self._hub.moves_asked += 1
            self._hub.counters.sent_bytes += len(self._frame)
            viewer.connection.write(self._frame)

    def _give_turn(self, viewer: Viewer, position: int) -> None:
        viewer.move_turn = (position + randint(self._earliest, self._latest)) % WHEEL  # noqa: S311

    def _is_allowed(self, now: float) -> bool:
        if self._bucket is None:
            self._bucket = TokenBucket(self._burst, now)
        return self._bucket.take(rate=self._rate, burst=self._burst, now=now)
