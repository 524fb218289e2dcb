"""Sends what tracked jobs say, of ordinary and `async` code: one background thread a process, for all jobs."""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Collection, Sequence
from math import inf
from typing import Any, NamedTuple

from publisher.events import Event, Progress
from publisher.forks import in_each_child, is_before_uwsgi_forks, process, see
from publisher.job_state import EndOf, JobState, Phase, Schedule
from publisher.publication import Sent
from publisher.replaced import warn
from publisher.settings import PublisherSettings
from publisher.transport import sync_driver

logger = logging.getLogger("publisher")

LOG_PAUSE_SECONDS = 60.0
EXIT_SECONDS = 2.0  # for what is unsent when the interpreter exits
IDLE_SECONDS = 5.0  # without a job; then the thread ends
BRIEFLY_SECONDS = 0.5  # that an event loop stands still for the end of a cancelled job
STUCK_SECONDS = 1.0  # after which a caller looks whether the thread has taken its end
WAIT_SECONDS = 5.5  # that a caller waits for an end: a try takes 5 s at most


class Taken(NamedTuple):
    """Events of a job that are on their way."""

    state: JobState
    events: list[Event]


class Ending:
    """The ends of a job and of its open sentences, on their way. Lives until each was tried once.

    Touched under the sender's lock, but for `is_done` and `seq`, which change once.
    """

    def __init__(self, states: Sequence[JobState]) -> None:
        self.seq: int | None = None
        """The seq of the job's end, once it arrived."""
        self.is_done = False
        """Whether each was tried. What did not arrive is tried again, but nobody waits for that."""
        self._untried = {state for state in states if not state.is_over}
        self._last = states[-1] if states else None
        self._callbacks: list[Callable[[], object]] = []
        self._see_if_done()

    def note(self, state: JobState, seq: int | None) -> None:
        """The end of `state` was tried; its `seq`, if it arrived."""
        self._untried.discard(state)
        if state is self._last:
            self.seq = seq
        self._see_if_done()

    def call_when_done(self, callback: Callable[[], object]) -> None:
        """Call it now, or later in the sender's thread. It must not block."""
        if self.is_done:
            callback()
        else:
            self._callbacks.append(callback)

    def _see_if_done(self) -> None:
        if not self._untried:
            self.is_done = True
            for callback in self._callbacks:
                callback()


class Changed(threading.Condition):
    """A condition whose lock may be replaced: `eventlet.monkey_patch()` does so with each `RLock` that it finds.

    Python's own keeps methods of the lock that it was made with.
    """

    _lock: Any  # an RLock, or what eventlet puts in its place

    def __init__(self) -> None:
        super().__init__(threading.RLock())
        for name in ("acquire", "release", "_release_save", "_acquire_restore", "_is_owned"):
            self.__dict__.pop(name, None)

    def acquire(self, *args: Any) -> bool:
        return bool(self._lock.acquire(*args))

    def release(self) -> None:
        self._lock.release()

    def _release_save(self) -> Any:
        return self._lock._release_save()

    def _acquire_restore(self, state: Any) -> None:
        self._lock._acquire_restore(state)

    def _is_owned(self) -> bool:
        return bool(self._lock._is_owned())


class Sender:
    """Sends what the tracked jobs of this process say, in one thread, however many they are.

    Lives as long as the process. All that it holds, and the states of all jobs, are touched under `_changed` only. The
    lock is held for microseconds, never while anything is sent: an event loop takes it too. Only the thread sends, so
    no event overtakes another one of its job.
    """

    def __init__(self) -> None:
        self.at_exit_of_a_child: Callable[[], object] = lambda: self.flush(EXIT_SECONDS)
        """Called when a process of `multiprocessing` ends."""
        self.reset()

    def reset(self) -> None:
        """In a forked child: the thread is not here, nobody may hold the lock, and the jobs are the parent's."""
        self._changed = Changed()
        self._schedule = Schedule(goes_on=not process.is_told)
        self._thread: threading.Thread | None = None
        self._wakes_at = -inf  # when the thread looks again by itself; -infinity while it is busy
        self._on_their_way: set[JobState] = set()
        self._endings: dict[JobState, Ending] = {}
        self._is_flushed_at_exit = False
        self._is_slow_until = -inf
        self._complained_at = -inf

    def hold(self) -> None:
        """Before a fork: let no thread leave a job half changed, for the child."""
        see()
        self._forking = self._changed
        self._forking.acquire()

    def release(self) -> None:
        """After a fork, in the parent."""
        self._forking.release()

    # What jobs say. None of these waits for Redis.

    def begin(self, state: JobState, within: JobState | None = None) -> None:
        """Publish a job from now on; a sentence only if the job that it is `within` has not ended."""
        see()
        with self._changed:
            if within is not None and not within.is_open:
                state.forget()
            self._put(state)
        self._send_here_for_want_of_a_thread()

    def say(self, state: JobState, progress: Progress) -> bool:
        """Take a progress; False if the job has ended."""
        see()
        with self._changed:
            if not state.is_open:
                return False
            state.say(progress)
            self._put(state)
        self._send_here_for_want_of_a_thread()
        return True

    def end(self, open_states: Callable[[], Sequence[JobState]], end_of: EndOf | None) -> Ending:
        """End jobs, or leave them (`end_of` is None), after what they said before.

        `open_states` is called under the lock: another thread may be ending one of them, or beginning one more.
        """
        see()
        with self._changed:
            states = open_states()
            ends = [end_of(state) if end_of is not None else None for state in states]
            for state, end in zip(states, ends, strict=True):
                if end is None:
                    state.leave()
                else:
                    state.finish(end)
                self._put(state)
            ending = Ending(states)
            self._endings.update((state, ending) for state in states if not state.is_over)
        self._send_here_for_want_of_a_thread()
        return ending

    def drop(self, open_states: Callable[[], Sequence[JobState]]) -> None:
        """Send nothing more of jobs: another process tells what becomes of them."""
        with self._changed:
            for state in open_states():
                state.forget()
                self._put(state)

    def wait(self, ending: Ending) -> int | None:
        """Wait until ends were tried; returns the job's seq. An interrupt ends the wait, and the thread sends on.

        Does not wait in the thread itself: there the garbage collector may close a generator that holds a job.
        """
        if threading.current_thread() is self._thread:
            return ending.seq
        with self._changed:
            is_done = self._changed.wait_for(lambda: ending.is_done, STUCK_SECONDS)
            is_stuck = not is_done and not self._on_their_way and self._schedule.next_due() < time.monotonic()
        if is_stuck:  # the thread is idle, and has not taken what is due: a greenlet whose turn does not come
            self._send_here()
        if not is_done:
            with self._changed:
                self._changed.wait_for(lambda: ending.is_done, WAIT_SECONDS - STUCK_SECONDS)
        return ending.seq

    def wait_briefly(self, ending: Ending) -> None:
        """Wait in the event loop's thread: its task was cancelled, and the process may end in the next moment.

        It takes a millisecond. If it does not, because Redis is away, nobody waits again for a minute.
        """
        if time.monotonic() < self._is_slow_until or threading.current_thread() is self._thread:
            return
        with self._changed:
            if not self._changed.wait_for(lambda: ending.is_done, BRIEFLY_SECONDS):
                self._is_slow_until = time.monotonic() + LOG_PAUSE_SECONDS

    def call_when_done(self, ending: Ending, callback: Callable[[], object]) -> None:
        """For who cannot wait: see `Ending.call_when_done`."""
        with self._changed:
            ending.call_when_done(callback)

    def flush(self, seconds: float) -> None:
        """Send what is unsent, for at most so long."""
        see()
        with self._changed:
            for state in list(self._schedule):
                state.hurry()
                self._put(state)
        self._send_here_for_want_of_a_thread()
        with self._changed:
            self._changed.wait_for(self._is_idle, seconds)

    def _is_idle(self) -> bool:
        return not self._on_their_way and not any(state.has_unsent for state in self._schedule)

    # The thread

    def _put(self, state: JobState) -> None:
        self._schedule.put(state)
        self._see_to_the_thread()

    def _see_to_the_thread(self) -> None:
        """Wake the thread for what is due earlier than it knows."""
        due = self._schedule.next_due()
        if self._thread is None and due < inf:
            self._start_thread()
        elif due < self._wakes_at:
            self._changed.notify_all()

    def _start_thread(self) -> None:
        if _is_beside_the_main_hub() or is_before_uwsgi_forks():
            return
        self._flush_at_exit_of_a_child()
        self._thread = threading.Thread(target=self._run, name="publisher-jobs", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # there are too many, or the interpreter exits: see `_send_here_for_want_of_a_thread`
            self._thread = None

    def _flush_at_exit_of_a_child(self) -> None:
        """A process of `multiprocessing` ends without `atexit`."""
        multiprocessing = sys.modules.get("multiprocessing")
        if self._is_flushed_at_exit or multiprocessing is None or multiprocessing.parent_process() is None:
            return
        from multiprocessing.util import Finalize  # it is loaded, in such a process

        self._is_flushed_at_exit = True
        Finalize(None, self.at_exit_of_a_child, exitpriority=100)

    def _run(self) -> None:
        while batches := self._wait_for_due():
            for batch in batches:
                self._send(batch)

    def _send_here_for_want_of_a_thread(self) -> None:
        """Send what is due in the caller's thread if no other could be started. An event loop stops meanwhile."""
        if self._thread is None:
            self._send_here()

    def _send_here(self) -> None:
        for _ in ("a begin", "what waits for its number"):
            with self._changed:
                batches = self._take_due(time.monotonic())
            for batch in batches:
                self._send(batch)

    def _wait_for_due(self) -> list[list[Taken]]:
        """What is due, by where it goes; nothing after a while without any job."""
        with self._changed:
            while not (batches := self._take_due(now := time.monotonic())):
                self._wakes_at = self._schedule.next_due()
                is_idle = self._wakes_at == inf
                is_woken = self._changed.wait(IDLE_SECONDS if is_idle else self._wakes_at - now)
                if is_idle and not is_woken and self._schedule.next_due() == inf:
                    self._thread = None
                    return []
            self._wakes_at = -inf
            return batches

    def _take_due(self, now: float) -> list[list[Taken]]:
        batches: dict[PublisherSettings, list[Taken]] = {}
        for state in self._schedule.pop_due(now):
            self._on_their_way.add(state)
            batches.setdefault(state.settings, []).append(Taken(state, state.take()))
        return list(batches.values())

    # What is sent

    def _send(self, batch: Sequence[Taken]) -> None:
        states = [taken.state for taken in batch]
        unsent, outcomes = set(states), list[tuple[JobState, Sent]]()
        try:
            said = [(state, state.publication(event)) for state, events in batch for event in events]
            here = [(state, one) for state, one in said if not sync_driver.is_away(state.settings, one.key)]
            if here:
                sending = sync_driver.send(states[0].settings, [one for _, one in here])
                unsent -= {state for state, _ in here}
                unsent |= {here[index][0] for index in sending.given_up}
                outcomes = [(state, sent) for (state, _), sent in zip(here, sending.sent, strict=True)]
        except Exception:  # a bug, here or in a library: no reason to break a job, or to end the thread
            self._complain()
        finally:
            for state in self._settle(states, unsent, outcomes):
                warn(state.project_id, str(state.identity["job_id"]), state.attempt.replaced_by)

    def _complain(self) -> None:
        """Log the error that is being handled, once a minute."""
        if time.monotonic() - self._complained_at >= LOG_PAUSE_SECONDS:
            self._complained_at = time.monotonic()
            logger.exception("Tracked jobs could not be sent; trying again")

    def _settle(
        self, states: Sequence[JobState], unsent: Collection[JobState], outcomes: Sequence[tuple[JobState, Sent]]
    ) -> list[JobState]:
        """Take in what became of a batch; returns jobs whose attempts were replaced, for the log to say so once."""
        with self._changed:
            self._on_their_way.difference_update(states)
            for state, sent in outcomes:
                state.note(sent)
            tried = [state for state in states if state.phase is Phase.SENDING_END]
            for is_sent in (True, False):
                those = [state for state in states if (state not in unsent) == is_sent]
                self._schedule.settle(those, time.monotonic(), is_sent=is_sent)
            replaced: list[JobState] = []
            for state in states:
                attempt = state.attempt
                if attempt.replaced_by is not None and not attempt.is_told:
                    attempt.is_told = True
                    replaced.append(state)
                    tried += attempt.states
                elif not attempt.is_known:  # its begin did not arrive, so nothing of it can be sent
                    tried += [state, *attempt.waiting]
            tried += [state for state in states if state.is_over]
            seqs = {state: sent.seq for state, sent in outcomes}
            for state in tried:
                if ending := self._endings.pop(state, None):
                    ending.note(state, seqs.get(state) if state.is_over else None)
            self._see_to_the_thread()
            self._changed.notify_all()
            return replaced


def _is_beside_the_main_hub() -> bool:
    """Whether this is a thread of gevent's pool: a `Thread` that starts here is a greenlet that gets no turn."""
    gevent, monkey = sys.modules.get("gevent"), sys.modules.get("gevent.monkey")
    if gevent is None or monkey is None or not monkey.is_module_patched("threading"):
        return False
    return not getattr(gevent.get_hub(), "main_hub", True)


sender = Sender()
in_each_child(sender.reset)
os.register_at_fork(before=sender.hold, after_in_parent=sender.release)
