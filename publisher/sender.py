"""Sends what tracked jobs say: one background thread a process, however many jobs run."""

import atexit
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence, Set
from math import inf

from publisher.events import Progress, event_to_json
from publisher.job import EndOf
from publisher.job_state import JobState, Schedule
from publisher.publication import Publication
from publisher.settings import PublisherSettings

logger = logging.getLogger("publisher")

LOG_PAUSE_SECONDS = 60.0
EXIT_SECONDS = 2.0  # for what is unsent when the interpreter ends
IDLE_SECONDS = 5.0  # without a job; then the thread ends

Said = tuple[JobState, Publication]
"""A job, and what is to be sent of it."""


class Sender:
    """Sends what the tracked jobs of this process say, in one thread, however many they are.

    Lives as long as the process. All that it holds, and all states of jobs, are touched under `_changed` only; what is
    on its way to Redis is marked in its job's state, so that nothing is sent past it.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """In a forked child: the thread is not here, the lock may be held by nobody, and the jobs are the parent's."""
        self._changed = threading.Condition()
        self._schedule = Schedule()
        self._thread: threading.Thread | None = None
        self._wakes_at = -inf  # when the thread looks again by itself; -infinity while it is at work
        self._in_flight: set[JobState] = set()
        self._is_flushed_at_exit = False
        self._complained_at = -inf

    # What jobs say

    def begin(self, state: JobState, within: JobState | None = None) -> None:
        """Tell of a job from now on; of a sentence only if the job that it is `within` has not ended."""
        with self._changed:
            if within is not None and not within.is_open:
                state.forgo()
            self._put(state)

    def say(self, state: JobState, progress: Progress) -> bool:
        """Take what a job says; false if it has ended."""
        with self._changed:
            if not state.is_open:
                return False
            state.say(progress)
            self._put(state)
            return True

    def finish(self, open_states: Callable[[], Sequence[JobState]], end_of: EndOf) -> int | None:
        """End jobs, in order, after what they said before; returns the seq of the last one's end.

        Which ones is asked under the lock: another thread may be ending one of them, or beginning one more.
        """
        with self._changed:
            states = open_states()
            ends = [end_of(state) for state in states]
            for state, end in zip(states, ends, strict=True):
                state.finish(end)
                self._put(state)  # it is not due any more: this thread sends it
        return self._send_now(states)

    def entrust(self, open_states: Callable[[], Sequence[JobState]], end: Callable[[JobState], object]) -> None:
        """`end` jobs whose event loop is closed, without waiting: the thread sends it."""
        with self._changed:
            for state in open_states():
                self._put(state)
                end(state)
                state.is_claimed = False
                self._put(state)

    def leave(self, open_states: Callable[[], Sequence[JobState]]) -> None:
        """Say what is unsent, and no more, without an end: the jobs go on elsewhere."""
        with self._changed:
            states = open_states()
            for state in states:
                state.leave()
                self._put(state)
        self._send_now(states)

    def flush(self, seconds: float) -> None:
        """Have sent what is unsent, or wait so long for it."""
        with self._changed:
            for state in list(self._schedule):
                state.hurry()
                self._put(state)
            self._changed.wait_for(self._is_idle, seconds)

    def _is_idle(self) -> bool:
        return not self._in_flight and not any(state.has_unsent for state in self._schedule)

    # What is sent

    def _send_now(self, states: Sequence[JobState]) -> int | None:
        with self._changed:
            if not self._wait_for_flight(states):
                return None
            states = [state for state in states if not state.is_over]
            said = self._take(states)
        seqs = self._deliver(states, said)
        return seqs[-1] if seqs else None

    def _wait_for_flight(self, states: Sequence[JobState]) -> bool:
        """An event that is on its way must not arrive after what follows. The thread's own bound ends this wait.

        False where the thread is to send it: it would wait for itself, when the garbage collector closes a generator
        in it; and whoever is interrupted while waiting will not.
        """
        is_over = False
        try:
            if threading.current_thread() is not self._thread:
                is_over = self._changed.wait_for(lambda: self._in_flight.isdisjoint(states))
        finally:
            if not is_over:
                for state in states:
                    state.is_claimed = False
                    self._put(state)
        return is_over

    def _take(self, states: Iterable[JobState]) -> list[Said]:
        self._in_flight.update(states)
        return [(state, publication) for state in states for publication in state.take()]

    def _deliver(self, states: Sequence[JobState], said: Sequence[Said]) -> list[int | None]:
        from publisher.transport.sync_driver import send as deliver  # see publisher.client

        if not states:
            return []
        unsent, seqs = set(states), list[int | None]()
        try:
            delivery = deliver(states[0].settings, [publication for _, publication in said])
            unsent, seqs = {said[index][0] for index in delivery.given_up}, delivery.seqs
        except Exception:  # nobody knows which; no reason to break a job, or to end the thread
            self.complain()
        finally:
            self._settle(states, unsent)
        return seqs

    def complain(self) -> None:
        """Log the error that is being handled, once a minute."""
        if time.monotonic() - self._complained_at >= LOG_PAUSE_SECONDS:
            self._complained_at = time.monotonic()
            logger.exception("Tracked jobs could not be sent; trying again")

    def _settle(self, states: Iterable[JobState], unsent: Set[JobState]) -> None:
        with self._changed:
            self._in_flight.difference_update(states)
            for is_sent in (True, False):
                those = [state for state in states if (state not in unsent) == is_sent]
                self._schedule.settle(those, time.monotonic(), is_sent=is_sent)
            self._see_to_the_thread()
            self._changed.notify_all()

    # The thread

    def _put(self, state: JobState) -> None:
        self._schedule.put(state)
        self._see_to_the_thread()

    def _see_to_the_thread(self) -> None:
        """Let it know of what is due earlier than it knows."""
        due = self._schedule.next_due()
        if self._thread is None and due < inf:
            self._start_thread()
        elif due < self._wakes_at:
            self._changed.notify_all()

    def _start_thread(self) -> None:
        _load()
        self._flush_at_exit_of_a_child()
        self._thread = threading.Thread(target=self._run, name="publisher-jobs", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # there are too many: the next word tries again, and an end needs none
            self._thread = None

    def _flush_at_exit_of_a_child(self) -> None:
        """A process of `multiprocessing` ends without `atexit`."""
        multiprocessing = sys.modules.get("multiprocessing")
        if self._is_flushed_at_exit or multiprocessing is None or multiprocessing.parent_process() is None:
            return
        from multiprocessing.util import Finalize  # it is loaded, in such a process

        self._is_flushed_at_exit = True
        Finalize(None, self.flush, args=(EXIT_SECONDS,), exitpriority=100)

    def _run(self) -> None:
        from publisher.transport.routes import routes_of

        while batches := self._wait_for_due():
            for states, said in batches:
                away = {
                    state
                    for state, publication in said
                    if routes_of(state.settings.redis_url).circuit_for(publication.key).is_open
                }
                if away:
                    self._settle(away, away)
                here = [state for state in states if state not in away]
                self._deliver(here, [one for one in said if one[0] not in away])

    def _wait_for_due(self) -> list[tuple[list[JobState], list[Said]]]:
        """What is due, by where it goes; nothing after a while without any job."""
        with self._changed:
            while not (states := self._schedule.pop_due(now := time.monotonic())):
                self._wakes_at = self._schedule.next_due()
                is_idle = self._wakes_at == inf
                is_woken = self._changed.wait(IDLE_SECONDS if is_idle else self._wakes_at - now)
                if is_idle and not is_woken and self._schedule.next_due() == inf:
                    self._thread = None
                    return []
            self._wakes_at = -inf
            batches: dict[PublisherSettings, list[JobState]] = {}
            for state in states:
                batches.setdefault(state.settings, []).append(state)
            return [(batch, self._take(batch)) for batch in batches.values()]


def _load() -> None:
    """What pydantic looks up when it writes its first numbers, before a thread does so.

    A child that is forked while a thread looks it up waits for it for ever. (So it is with modules; the thread imports
    none, see `publisher.transport.sync_driver`.)
    """
    for number in (0, 0.5):
        event_to_json(Progress(job_id="j", job_type="audio", progress=number))


sender = Sender()
os.register_at_fork(after_in_child=sender.reset)
atexit.register(lambda: sender.flush(EXIT_SECONDS))
