"""One tracked job: what was said of it, what of that arrived, and when the next is due. No I/O, no clock of its own."""

import enum
import heapq
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from math import inf
from typing import Any, TypeVar

from pydantic_core import from_json, to_json

from publisher.events import NEXT, Event, JobComplete, JobFailed, Progress, checked
from publisher.names import check_project_id
from publisher.publication import MAX_JOBS, Publication, Sent
from publisher.settings import PublisherSettings
from publisher.tracing import context_now

LEAST_PAUSE_SECONDS = 0.1  # between two progresses of a job: ten a second look smooth
MOST_PER_SECOND = 1_000.0
RETRY_SECONDS = 1.0  # from a try that failed to the next
HEARTBEAT_SECONDS = 15.0
MOST_HEARTBEAT_SECONDS = 43_200.0
# The promise is two heartbeats: one may be late or lost, and no viewer is alarmed.
PROMISED_HEARTBEATS = 2
LEAST_SWEEP = 256

Sayable = TypeVar("Sayable", Progress, JobComplete, JobFailed)

EndOf = Callable[["JobState"], JobComplete | JobFailed]
"""Makes the end of a job, or of one of its sentences."""


class Phase(enum.Enum):
    """Where a job is on its way. "On its way" means: a sender took events, and does not know yet if they arrived."""

    RUNNING = enum.auto()
    """More may be said. Nothing is on its way."""
    SENDING = enum.auto()
    """More may be said. A progress is on its way."""
    ENDING_NEXT = enum.auto()
    """It was ended or left while a progress was on its way. Its last words follow that."""
    ENDING = enum.auto()
    """It was ended or left. Its last words are due: the end, the progress before it, or a promise taken back."""
    SENDING_END = enum.auto()
    """Its last words are on their way."""
    OVER = enum.auto()
    """Nothing more will be sent."""


class Step(enum.Enum):
    """What moves a job from phase to phase."""

    END = enum.auto()
    """It was ended or left."""
    TAKE = enum.auto()
    """A sender took what is due."""
    TAKE_BEGIN = enum.auto()
    """A sender took the begin of a job that has ended already. Its last words need the number of its attempt."""
    ARRIVE = enum.auto()
    """What was taken arrived."""
    FAIL = enum.auto()
    """What was taken did not arrive, as far as is known."""
    FORGET = enum.auto()
    """Nothing of it is left to be sent, or it is given up."""


# Any other step is a bug, and raises `KeyError`.
TRANSITIONS = {
    (Phase.RUNNING, Step.TAKE): Phase.SENDING,
    (Phase.RUNNING, Step.END): Phase.ENDING,
    (Phase.SENDING, Step.ARRIVE): Phase.RUNNING,
    (Phase.SENDING, Step.FAIL): Phase.RUNNING,
    (Phase.SENDING, Step.END): Phase.ENDING_NEXT,
    (Phase.ENDING_NEXT, Step.ARRIVE): Phase.ENDING,
    (Phase.ENDING_NEXT, Step.FAIL): Phase.ENDING,
    (Phase.ENDING, Step.TAKE_BEGIN): Phase.ENDING_NEXT,
    (Phase.ENDING, Step.TAKE): Phase.SENDING_END,
    (Phase.SENDING_END, Step.ARRIVE): Phase.OVER,
    (Phase.SENDING_END, Step.FAIL): Phase.ENDING,
    **{(phase, Step.FORGET): Phase.OVER for phase in Phase},
    (Phase.OVER, Step.ARRIVE): Phase.OVER,  # it was forgotten while on its way
    (Phase.OVER, Step.FAIL): Phase.OVER,
}
_ON_ITS_WAY = {Phase.SENDING, Phase.ENDING_NEXT, Phase.SENDING_END}


class Attempt:
    """An attempt of a job: its number, and what shares it (the job and its sentences). Under the lock of its states."""

    def __init__(self, number: int | None = None, *, beginner: "JobState | None" = None, least: int = 0) -> None:
        self.number = number
        """None for an attempt that has none, or none yet: see `is_known`."""
        self.is_known = beginner is None
        """Whether the begin was answered. Until then nothing else of the job is sent: the begin would drop it."""
        self.beginner = beginner
        """The job whose first event asks Redis for the number."""
        self.least = least
        """The lowest number that Redis may give."""
        self.states: list[JobState] = []
        """The job and its sentences."""
        self.waiting: dict[JobState, None] = {}
        """The sentences that the schedule leaves out until `is_known`."""
        self.replaced_by: int | None = None
        """The later attempt that replaced this one; nothing more is sent."""
        self.is_told = False
        """Whether the log says so."""


class JobState:
    """What is known of one job in the process that runs it. Lives from the job's begin until its end arrived.

    Not safe in threads: the caller holds a lock. A sender takes what is due (`take`), sends it, and reports what became
    of it (`settle`); what is said meanwhile is due afterwards.
    """

    def __init__(
        self,
        settings: PublisherSettings,
        project_id: str,
        *,
        heartbeat: float | None = HEARTBEAT_SECONDS,
        per_second: float | None = None,
        promises_at_once: bool = True,
        attempt: Any = None,
        begins: bool = True,
        part_of: "Attempt | None" = None,
        **identity: Any,
    ) -> None:
        """The job begins the next attempt, numbered `attempt` at least; without `begins` it is in attempt `attempt`.

        A sentence begins none: other workers may be at the job's other sentences. With replay off nothing is numbered.
        """
        self.settings = settings
        self.project_id = check_project_id(project_id)
        self.identity = identity
        """The fields that all its events share, without the attempt."""
        self._context = context_now()  # OpenTelemetry's, of the job's begin: another thread makes the events
        if attempt == NEXT:
            attempt = None
        number = checked(Progress, **identity, attempt=attempt, progress=0).attempt
        if part_of is not None:
            self.attempt = part_of
        elif begins and settings.replay and identity.get("sentence_id") is None:
            self.attempt = Attempt(beginner=self, least=number or 0)
        else:
            self.attempt = Attempt(number)
        self.attempt.states.append(self)

        # What was said
        self.last = checked(Progress, **identity, progress=0)
        """The newest progress."""
        self.end: JobComplete | JobFailed | None = None
        """The end; None of a job that runs, or was left without one."""
        self.heartbeat = check_heartbeat(heartbeat)
        """Seconds without news after which the last progress is sent again; None for never."""
        if per_second is not None and not 0 < per_second <= MOST_PER_SECOND:
            raise ValueError(f"per_second is {per_second!r}; use a number up to {MOST_PER_SECOND:g}, or None")
        self._per_second = per_second
        self._promises_at_once = promises_at_once  # False: only heartbeats carry a promise

        # What became of it
        self.phase = Phase.RUNNING
        self._asks_number = False  # the begin of the attempt is on its way
        self._taken: Progress | None = None  # the newest progress that a sender took
        self._arrived: Progress | None = None  # the newest progress that arrived
        self._has_promised = False  # the last progress that was taken promised another one
        self._sent_at = -inf
        self._retry_at = -inf

        # For the schedule
        self.scheduled = inf
        """When it is due, as the schedule knows it."""
        self.owner: object = None
        """The schedule that it is in."""

    def of_sentence(self, sentence_id: str) -> "JobState":
        """The state of a part of this job."""
        identity = self.identity | {"sentence_id": sentence_id}
        options: dict[str, Any] = {
            "heartbeat": self.heartbeat, "per_second": self._per_second, "promises_at_once": self._promises_at_once
        }  # fmt: skip
        return JobState(self.settings, self.project_id, part_of=self.attempt, **options, **identity)

    def resume(self, progress: Progress, now: float) -> None:
        """Continue the job of another process, which has sent this progress."""
        self.last = self._arrived = progress
        self._sent_at = now

    def _go(self, step: Step) -> None:
        self.phase = TRANSITIONS[self.phase, step]

    # What is said

    def check_progress(self, value: Any, message: str | None, data: Any = None) -> Progress:
        """The event of a progress; raises `ValueError` that names the field. Changes nothing."""
        progress = checked(Progress, **self.identity, progress=value, message=message, data=data)
        if isinstance(progress.progress, float):
            progress = progress.model_copy(update={"progress": shown_percent(progress.progress)})
        return progress if data is None else copied(progress)

    def say(self, progress: Progress) -> None:
        """Take a newer progress. A bar never goes backward; text and data stay until the next ones."""
        last = self.last
        is_lower, has_text = progress.progress < last.progress, progress.message is not None
        if is_lower or not has_text or (progress.data is None and last.data is not None):
            progress = progress.model_copy(
                update={
                    "progress": max(progress.progress, last.progress),
                    "message": progress.message if has_text else last.message,
                    "data": last.data if progress.data is None else progress.data,
                }
            )
        self.last = progress

    def finish(self, end: JobComplete | JobFailed) -> None:
        """The job ended: `end` is due at once."""
        self.end = end
        self._end()

    def leave(self) -> None:
        """The job goes on elsewhere, or later: what is unsent is due, and its promise is taken back."""
        self.heartbeat = None
        self._end()

    def _end(self) -> None:
        self._retry_at = -inf  # who ends a job waits for one try
        if self._is_waiting and self.attempt.beginner is not None:
            self.attempt.beginner._retry_at = -inf
        self._go(Step.END)
        self._see_if_over()

    def _see_if_over(self) -> None:
        """A job that was left has its promise to take back, or news to send, or nothing."""
        if self.phase is Phase.ENDING and self.end is None:
            if self._has_promised:
                self._arrived, self._has_promised = None, False
            if not self._has_news:
                self._go(Step.FORGET)

    def forget(self) -> None:
        """Nothing more is sent of it, nor of the sentences that wait for its begin."""
        self._go(Step.FORGET)
        if self is self.attempt.beginner:
            for state in self.attempt.waiting:
                state.forget()

    @property
    def is_open(self) -> bool:
        """Whether more can be said."""
        return self.phase is Phase.RUNNING or self.phase is Phase.SENDING

    @property
    def is_over(self) -> bool:
        """Whether nothing more will be sent."""
        return self.phase is Phase.OVER

    @property
    def _is_waiting(self) -> bool:
        """Whether it is a sentence of a job whose begin was not answered yet."""
        return not self.attempt.is_known and self.attempt.beginner is not self

    @property
    def is_on_its_way(self) -> bool:
        """Whether a sender has taken events and not settled yet."""
        return self.phase in _ON_ITS_WAY

    @property
    def _has_news(self) -> bool:
        """Whether a progress must be sent that is no heartbeat."""
        return self.last is not self._arrived

    @property
    def has_unsent(self) -> bool:
        """Whether something must be sent that is no heartbeat."""
        return not self.is_over and (self.is_on_its_way or not self.is_open or self._has_news)

    def hurry(self) -> None:
        """Be due at once, if there is anything to send."""
        if self.has_unsent:
            self._sent_at = self._retry_at = -inf

    # What is due

    def due(self) -> float:
        """When the next `take` makes sense, on the monotonic clock; infinity for never."""
        if self._is_waiting:
            return inf
        if self.phase is Phase.ENDING:
            return self._retry_at
        if self.phase is not Phase.RUNNING:
            return inf
        if self._has_news:
            return max(self._sent_at + self._pause, self._retry_at)
        if self.heartbeat is not None:
            return max(self._sent_at + max(self.heartbeat, self._pause), self._retry_at)
        return inf

    @property
    def _pause(self) -> float:
        return LEAST_PAUSE_SECONDS if self._per_second is None else 1 / self._per_second

    def take(self) -> list[Event]:
        """The events to send now, in order. `settle` must follow.

        The begin of an attempt goes alone: what follows it carries the number that Redis answers.
        """
        events: list[Event] = []
        self._asks_number = not self.attempt.is_known
        is_heartbeat = not self._has_news and not self._asks_number
        if not is_heartbeat or self.end is None:
            events.append(self._progress(is_heartbeat=is_heartbeat))
        self._taken = self.last
        if self._asks_number:
            self._go(Step.TAKE if self.is_open else Step.TAKE_BEGIN)
            return events
        if self.end is not None:
            events.append(self.end)
        self._go(Step.TAKE)
        return events

    def _progress(self, *, is_heartbeat: bool) -> Progress:
        self._has_promised = self.is_open and self.heartbeat is not None and (self._promises_at_once or is_heartbeat)
        if self.heartbeat is None or not self._has_promised:
            return self.last
        seconds = PROMISED_HEARTBEATS * self.heartbeat
        return self.last.model_copy(update={"next_within": int(seconds) if seconds == int(seconds) else seconds})

    def publication(self, event: Event) -> Publication:
        """An event that was taken, as it is sent."""
        if self.attempt.number is not None:
            event = event.model_copy(update={"attempt": self.attempt.number})
        least_attempt = self.attempt.least if self._asks_number else None
        return Publication.of(
            self.project_id, event, self.settings.namespace, self._context, least_attempt=least_attempt
        )

    def note(self, sent: Sent) -> None:
        """What became of an event that was taken; before `settle`."""
        if sent.replaced_by is not None:
            self.attempt.replaced_by = sent.replaced_by
        elif self._asks_number:
            self.attempt.number = sent.attempt

    def settle(self, now: float, *, is_sent: bool) -> None:
        """Report whether the events that were taken last arrived."""
        if is_sent:
            self._sent_at, self._arrived = now, self._taken
            if self._asks_number:
                self.attempt.is_known = True
        elif self._asks_number or self.phase is not Phase.ENDING_NEXT:  # else the end is due at once: it was not tried
            self._retry_at = now + RETRY_SECONDS
        self._asks_number = False
        self._go(Step.ARRIVE if is_sent else Step.FAIL)
        if self.attempt.replaced_by is not None:
            self.forget()
        else:
            self._see_if_over()

    def go_on(self) -> None:
        """Continue in a worker that uWSGI forked. Its parent only loads the application, and no thread runs there.

        So this process renews, and begins the attempt if the parent has not.
        """
        has_begun = self.attempt.is_known or self._taken is not None
        if self.is_on_its_way:
            self._go(Step.FAIL)
        self._asks_number, self.scheduled, self._retry_at = False, inf, -inf
        self.attempt.is_known = has_begun or self.attempt.beginner is None

    def adopt(self) -> None:
        """Continue in a forked child. The parent may have been sending; what becomes of that is not known here.

        The parent goes on sending heartbeats. A child that did so too would go on after the end, which it does not
        hear of, and a viewer who comes then would see a job that runs.

        The parent begins the attempt. Where its number is not known here, the child's events go without: one more
        begin would replace the parent's, and with it the parent's end.
        """
        self.heartbeat, self.scheduled = None, inf
        self.attempt.is_known, self._asks_number = True, False
        self.attempt.waiting.clear()
        if self.is_on_its_way:
            self._go(Step.FAIL)


def shown_percent(value: float) -> float:
    """Percents as people read them: one decimal, and 100 only for a job that is done."""
    return round(value, 1) if value == 100 else min(round(value, 1), 99.9)


def copied(event: Sayable) -> Sayable:
    """The event with a copy of its data: the caller may change the original before it is sent."""
    return event if event.data is None else event.model_copy(update={"data": from_json(to_json(event.data))})


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
    """The jobs of a sender, by the time when they are due. Lives as long as the sender, under its lock.

    A heap. An entry counts as long as its job has that time, so each change of a job leaves one that does not.
    """

    def __init__(self, *, goes_on: bool = False) -> None:
        """With `goes_on`, jobs that a parent began are renewed here: see `JobState.go_on`."""
        self._goes_on = goes_on
        self._heap: list[tuple[float, int, JobState]] = []
        self._numbers = count()
        self._sweep_at = LEAST_SWEEP  # entries; then those that do not count are removed, with their jobs
        # Jobs whose last words did not arrive, oldest first. Too many are forgotten from the front.
        self._late: dict[JobState, None] = {}

    def put(self, state: JobState) -> None:
        """Remember when a job is due. Call it after each change."""
        if state.owner is not self:
            if state.owner is not None:
                state.go_on() if self._goes_on else state.adopt()
            state.owner = self
        if state._is_waiting and (beginner := state.attempt.beginner) is not None:
            if beginner.owner is self:
                state.attempt.waiting[state] = None
                self.put(beginner)  # it may be due earlier now
            else:  # a sentence that a forked child adds to its parent's job: see `JobState.adopt`
                state.attempt.is_known = True
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
        """Report whether what was taken from these jobs arrived."""
        for state in states:
            state.settle(now, is_sent=is_sent)
            if state.is_over:
                self._late.pop(state, None)
            elif not state.is_open and not is_sent:
                self._late[state] = None
            self.put(state)
            if state is state.attempt.beginner or state.attempt.replaced_by is not None:
                self._follow(state.attempt)
        while len(self._late) > MAX_JOBS:
            self._late.pop(oldest := next(iter(self._late)))
            oldest.forget()
            self.put(oldest)

    def _follow(self, attempt: Attempt) -> None:
        """The number of an attempt may be known now: its sentences are due. Or it was replaced, and they are over."""
        while attempt.is_known and attempt.waiting:
            self.put(attempt.waiting.popitem()[0])
        if attempt.replaced_by is not None:
            for state in attempt.states:
                state.forget()
                self._late.pop(state, None)
                if state.owner is self:
                    self.put(state)

    def next_due(self) -> float:
        """The earliest time at which a job is due; infinity if none is."""
        while self._heap and not self._counts(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else inf

    def pop_due(self, now: float) -> list[JobState]:
        """The jobs that are due, each once; of those that end, sentences before jobs."""
        states = []
        while self.next_due() <= now:
            state = heapq.heappop(self._heap)[2]
            state.scheduled = inf
            if state.due() <= now:
                states.append(state)
            else:  # it changed without `put`: its heartbeat was switched off
                self.put(state)
        states.sort(key=lambda state: state.phase is Phase.ENDING and state.identity.get("sentence_id") is None)
        return states

    def __iter__(self) -> Iterator[JobState]:
        return (entry[2] for entry in self._heap if self._counts(entry))

    def _counts(self, entry: tuple[float, int, JobState]) -> bool:
        due, _, state = entry
        return state.scheduled == due and state.owner is self
