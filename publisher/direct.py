"""Tracked jobs whose events go to an outlet: at once, in the caller's thread. The counterpart of `publisher.sender`."""

import os
import threading
from collections.abc import Callable, Sequence

from publisher.events import Progress
from publisher.forks import in_each_child
from publisher.job_state import EndOf, JobState
from publisher.outlet import Outlet, outlets
from publisher.sender import Ending, Sender, sender
from publisher.settings import PublisherSettings


class _States:
    """The lock for the states of all such jobs."""

    def __init__(self) -> None:
        self.reset()
        os.register_at_fork(before=lambda: self.lock.acquire(), after_in_parent=lambda: self.lock.release())
        in_each_child(self.reset)

    def reset(self) -> None:
        # Reentrant: the garbage collector may close a generator that holds another job.
        self.lock = threading.RLock()


_states = _States()


class DirectSender:
    """Hands what a job says to an outlet, each progress too: nothing is left out, whatever the pace."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet

    def begin(self, state: JobState, within: JobState | None = None) -> None:
        with _states.lock:
            if within is not None and not within.is_open:
                state.forget()
            else:
                self._send(state)

    def say(self, state: JobState, progress: Progress) -> bool:
        with _states.lock:
            if not state.is_open:
                return False
            state.say(progress)
            self._send(state)
            return True

    def end(self, open_states: Callable[[], Sequence[JobState]], end_of: EndOf | None) -> Ending:
        with _states.lock:
            states = open_states()
            ending = Ending(states)
            for state in states:
                if end_of is None:
                    state.leave()
                else:
                    state.finish(end_of(state))
                ending.note(state, self._send(state))
            return ending

    def drop(self, open_states: Callable[[], Sequence[JobState]]) -> None:
        with _states.lock:
            for state in open_states():
                state.forget()

    def _send(self, state: JobState) -> int | None:
        """Send all that is due; returns the last seq."""
        seq = None
        while state.has_unsent:
            for sent in self._outlet.send([state.publication(event) for event in state.take()]):
                seq = sent.seq
                state.note(sent)
            state.settle(0.0, is_sent=True)
        return seq


def sender_of(settings: PublisherSettings) -> Sender | DirectSender:
    """Who sends what a job says."""
    outlet = outlets.instead_of_redis(settings)
    return sender if outlet is None else DirectSender(outlet)
