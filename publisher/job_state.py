"""One tracked job: what it said, what of that was sent, and when the next is due. No I/O, no clock of its own."""

import heapq
from collections.abc import Iterable, Iterator
from itertools import count
from math import inf
from typing import Any

from publisher.events import Event, JobComplete, JobFailed, Progress, checked
from publisher.names import check_project_id
from publisher.publication import MAX_JOBS, Publication
from publisher.settings import PublisherSettings
from publisher.tracing import context_now

LEAST_PAUSE_SECONDS = 0.1  # between two progresses of a job: ten a second are as smooth as an eye can see
MOST_PER_SECOND = 1_000.0
RETRY_SECONDS = 1.0  # between two tries to send what could not be sent
HEARTBEAT_SECONDS = 15.0
MOST_HEARTBEAT_SECONDS = 43_200.0
# What is promised is two heartbeats: one may be late or lost, and nobody is alarmed.
PROMISED_HEARTBEATS = 2
LEAST_SWEEP = 256


class JobState:
    """What is known of one job in the process that runs it. Lives from its begin until its end was sent.

    Whoever calls sees to it that no two threads do so at once. A sender takes what is due (`take`), sends it, and says
    how that went (`settle`); what is said meanwhile is due afterwards.
    """

    def __init__(
        self,
        settings: PublisherSettings,
        project_id: str,
        *,
        heartbeat: float | None = HEARTBEAT_SECONDS,
        per_second: float | None = None,
        promises_at_once: bool = True,
        **identity: Any,
    ) -> None:
        self.settings = settings
        self.project_id = check_project_id(project_id)
        self.identity = identity
        self.last = checked(Progress, **identity, progress=0)
        """The newest progress that was said."""
        self.end: JobComplete | JobFailed | None = None
        self.is_over = False
        """True when nothing more will be sent: the end was."""
        self.is_in_flight = False
        self.is_claimed = False
        """True while somebody is about to send the end; nobody else is to take it."""
        self.scheduled = inf  # the time that counts in the schedule
        self.owner: object = None  # the schedule that it is in
        self.heartbeat = check_heartbeat(heartbeat)
        if per_second is not None and not 0 < per_second <= MOST_PER_SECOND:
            raise ValueError(f"per_second is {per_second!r}; use a number up to {MOST_PER_SECOND:g}, or None")
        self._per_second = per_second
        self._promises_at_once = promises_at_once  # with each progress, not only with those that a heartbeat sends
        self._is_promised = False
        self._context = context_now()  # what is sent is sent by another thread
        self._is_left = False
        self._is_unsent = True  # `last`
        self._was_unsent = False
        self._took_end = False
        self._sent_at = -inf
        self._retry_at = -inf

    def of_sentence(self, sentence_id: str) -> "JobState":
        """The state of a part of this job."""
        identity = self.identity | {"sentence_id": sentence_id}
        options: dict[str, Any] = {
            "heartbeat": self.heartbeat, "per_second": self._per_second, "promises_at_once": self._promises_at_once
        }  # fmt: skip
        return JobState(self.settings, self.project_id, **options, **identity)

    def resume(self, progress: float, message: str | None, now: float) -> None:
        """Go on where another process left off: that was said already."""
        self.last = self.check_progress(progress, message)
        self._is_unsent, self._sent_at = False, now

    # What is said

    def check_progress(self, value: Any, message: str | None) -> Progress:
        """The event of a progress; raises `ValueError` naming what does not fit. Changes nothing."""
        return checked(Progress, **self.identity, progress=value, message=message)

    def say(self, progress: Progress) -> None:
        """Take a newer progress. A bar never goes backward, and a text stays until there is another."""
        if progress.progress < self.last.progress or progress.message is None:
            progress = progress.model_copy(
                update={
                    "progress": max(progress.progress, self.last.progress),
                    "message": self.last.message if progress.message is None else progress.message,
                }
            )
        self.last = progress
        self._is_unsent = True

    def finish(self, end: JobComplete | JobFailed) -> None:
        self.end = end
        self.is_claimed = True

    def leave(self) -> None:
        """The job goes on elsewhere, or later: what was promised here is taken back, and nothing more is said."""
        self.heartbeat = None
        self._is_unsent = self._is_unsent or self._is_promised
        self._is_left = True
        self.is_claimed = True
        self.is_over = not self._is_unsent and not self.is_in_flight

    def forgo(self) -> None:
        """It began after its job had ended: nothing is said of it."""
        self._is_unsent = False
        self._is_left = self.is_over = True

    @property
    def is_open(self) -> bool:
        """Whether more can be said."""
        return self.end is None and not self._is_left

    @property
    def is_late(self) -> bool:
        """Whether it has ended, and nobody is sending that."""
        return not (self.is_open or self.is_over or self.is_claimed or self.is_in_flight)

    @property
    def has_unsent(self) -> bool:
        return not self.is_over and (self._is_unsent or self.end is not None)

    def hurry(self) -> None:
        """Be due at once, if there is anything to be sent."""
        if self.has_unsent:
            self._sent_at = self._retry_at = -inf

    # What is due

    def due(self) -> float:
        """When the next `take` makes sense, on the monotonic clock; infinity for never."""
        if self.is_in_flight or self.is_over or self.is_claimed:
            return inf
        if self.end is not None or self._is_unsent:
            return max(self._sent_at + self._pause, self._retry_at)
        if self.heartbeat is not None:
            return max(self._sent_at + max(self.heartbeat, self._pause), self._retry_at)
        return inf

    @property
    def _pause(self) -> float:
        return LEAST_PAUSE_SECONDS if self._per_second is None else 1 / self._per_second

    def take(self) -> list[Publication]:
        """What is to be sent now, in order. `settle` must follow."""
        events: list[Event] = []
        if self.end is None or self._is_unsent:
            events.append(self._progress())
        if self.end is not None:
            events.append(self.end)
        self._was_unsent, self._is_unsent = self._is_unsent, False
        self._took_end = self.end is not None
        self.is_in_flight = True
        namespace, context = self.settings.namespace, self._context
        return [Publication.of(self.project_id, event, namespace, context) for event in events]

    def _progress(self) -> Progress:
        is_promised = self.end is None and (self._promises_at_once or not self._is_unsent)
        if self.heartbeat is None or not is_promised:
            self._is_promised = False
            return self.last
        self._is_promised = True
        seconds = PROMISED_HEARTBEATS * self.heartbeat
        return self.last.model_copy(update={"next_within": int(seconds) if seconds == int(seconds) else seconds})

    def settle(self, now: float, *, is_sent: bool) -> None:
        """How sending went of what was taken last."""
        self.is_in_flight = False
        if self._took_end or self._is_left:
            self.is_claimed = False
        if is_sent:
            self._sent_at = now
            self.is_over = self.is_over or self._took_end or (self._is_left and not self._is_unsent)
        else:
            self._is_unsent = self._is_unsent or self._was_unsent
            self._retry_at = now + RETRY_SECONDS


def check_heartbeat(seconds: Any) -> float | None:
    """Return the seconds of a heartbeat, or None for none; raises `ValueError`."""
    if seconds is None:
        return None
    try:
        heartbeat = float(seconds)
    except (TypeError, ValueError, OverflowError):
        heartbeat = 0.0
    if not 0 < heartbeat <= MOST_HEARTBEAT_SECONDS:
        raise ValueError(f"heartbeat is {seconds!r}; use seconds, up to {MOST_HEARTBEAT_SECONDS:g}, or None")
    return heartbeat


class Schedule:
    """The jobs of a sender, and which is due when: a heap, in which an entry counts while its job has that time."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, JobState]] = []
        self._numbers = count()
        self._sweep_at = LEAST_SWEEP  # entries; then those that count no more are taken out, with their jobs
        # Jobs that ended while Redis was away; the oldest are forgotten where they are too many.
        self._late: dict[JobState, None] = {}

    def put(self, state: JobState) -> None:
        """After each change of a job: remember when it is due."""
        if state.owner is not self:
            self._adopt(state)
        due = state.due()
        if due != state.scheduled:
            state.scheduled = due
            if due < inf:
                heapq.heappush(self._heap, (due, next(self._numbers), state))
                if len(self._heap) >= self._sweep_at:
                    self._sweep()

    def _sweep(self) -> None:
        self._heap = [entry for entry in self._heap if self._counts(entry)]
        heapq.heapify(self._heap)
        self._sweep_at = max(LEAST_SWEEP, 2 * len(self._heap))

    def settle(self, states: Iterable[JobState], now: float, *, is_sent: bool) -> None:
        """How sending went of what was taken from these jobs."""
        for state in states:
            state.settle(now, is_sent=is_sent)
            if state.is_over:
                self._late.pop(state, None)
            elif state.end is not None:
                self._late[state] = None
            self.put(state)
        while len(self._late) > MAX_JOBS:
            self._late.pop(oldest := next(iter(self._late)))
            oldest.is_over = True
            self.put(oldest)

    def _adopt(self, state: JobState) -> None:
        """A job that came here by a fork, or from an event loop: whoever may have been sending it is not here.

        After a fork the parent goes on renewing the promise. A child that did so too would go on after the end, of
        which it hears nothing, and a viewer who comes then would see a job that runs.
        """
        if state.owner is not None:
            state.is_in_flight, state.is_claimed, state.scheduled, state.heartbeat = False, False, inf, None
        state.owner = self

    def drop(self, state: JobState) -> None:
        """Another schedule takes it over."""
        self._late.pop(state, None)
        state.scheduled = inf

    def next_due(self) -> float:
        """The earliest time at which a job is due; infinity without one."""
        while self._heap and not self._counts(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else inf

    def pop_due(self, now: float) -> list[JobState]:
        """The jobs that are due, each once."""
        states = []
        while self.next_due() <= now:
            state = heapq.heappop(self._heap)[2]
            state.scheduled = inf
            # Who left a job takes what is unsent of it himself, and does not say so here.
            if state.due() <= now:
                states.append(state)
            else:
                self.put(state)
        return states

    def __iter__(self) -> Iterator[JobState]:
        return (entry[2] for entry in self._heap if self._counts(entry))

    def _counts(self, entry: tuple[float, int, JobState]) -> bool:
        due, _, state = entry
        return state.scheduled == due and state.owner is self
