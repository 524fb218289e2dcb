"""What a viewer knows of a project's jobs, from its events alone: no I/O, no clock of its own."""

import re
from dataclasses import dataclass, field

from publisher.events import Event, JobComplete, JobFailed, Progress
from publisher.publication import MAX_JOBS


@dataclass(slots=True)
class Part:
    """A job, or one sentence of it, as its last event and those before left it."""

    event: Event
    percent: float
    message: str
    heard_at: float
    order: int

    @property
    def is_running(self) -> bool:
        return isinstance(self.event, Progress)

    def silence(self, listening_since: float | None, now: float) -> float:
        """Seconds without the event that was promised, counted while it could be heard; 0 if none is overdue."""
        if listening_since is None or not isinstance(self.event, Progress) or self.event.next_within is None:
            return 0.0
        seconds = now - max(self.heard_at, listening_since)
        return seconds if seconds > self.event.next_within else 0.0


@dataclass(slots=True)
class Job:
    """What one job id stands for: a job of its own (key None), its sentences, or both."""

    id: str
    parts: dict[str | None, Part] = field(default_factory=dict)
    state: str = ""  # running, complete or failed
    since: int = 0  # the order of the event that brought it into this state

    @property
    def own(self) -> Part | None:
        return self.parts.get(None)

    @property
    def sentences(self) -> dict[str, Part]:
        parts = [(key, part) for key, part in self.parts.items() if key is not None]
        return dict(sorted(parts, key=lambda item: _natural(item[0])))

    @property
    def newest(self) -> Part:
        return max(self.parts.values(), key=lambda part: part.order)

    @property
    def percent(self) -> float:
        parts = [self.own] if self.own else list(self.parts.values())
        return sum(part.percent for part in parts) / len(parts)

    def silence(self, listening_since: float | None, now: float) -> float:
        return max(part.silence(listening_since, now) for part in self.parts.values())

    def update_state(self, order: int) -> None:
        """A job is what its own events say, or without any, what its sentences add up to."""
        parts = [self.own] if self.own else list(self.parts.values())
        if any(part.is_running for part in parts):
            state = "running"
        else:
            state = "failed" if any(isinstance(part.event, JobFailed) for part in parts) else "complete"
        if state != self.state:
            self.state, self.since = state, order


def _natural(text: str) -> list[str | int]:
    """A key that sorts s2 before s10."""
    return [int(word) if index % 2 else word for index, word in enumerate(re.split(r"(\d+)", text))]


class JobBoard:
    """The jobs of one project. The one that was not heard of for longest comes first, and is forgotten first."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self._order = 0

    def apply(self, event: Event, now: float) -> bool:
        """Take one event; false, and nothing changes, if it is older than what is known of its job."""
        job = self.jobs.get(event.job_id) or Job(event.job_id)
        part = job.parts.get(event.sentence_id)
        if part is not None and not _is_newer(event, part):
            return False
        self._order += 1
        job.parts[event.sentence_id] = _advance(part, event, now, self._order)
        job.update_state(self._order)
        self.jobs.pop(job.id, None)
        self.jobs[job.id] = job
        if len(self.jobs) > MAX_JOBS:
            self.jobs.pop(next(iter(self.jobs)))
        return True

    def forget_running(self) -> None:
        """Something was missed, so what became of the jobs that ran is not known."""
        self.jobs = {job.id: job for job in self.jobs.values() if job.state != "running"}


def _is_newer(event: Event, part: Part) -> bool:
    """Whether an event comes after what is known. An end is final within its attempt."""
    before = part.event
    knows_attempts = event.attempt is not None and before.attempt is not None
    if knows_attempts and event.attempt != before.attempt:
        return (event.attempt or 0) > (before.attempt or 0)
    is_end = not isinstance(event, Progress)
    # An end beats a running job even with a lower seq: a Redis that failed over may have a clock that is behind.
    if event.seq is not None and before.seq is not None and event.seq <= before.seq:
        return is_end and part.is_running
    if part.is_running:
        return True
    # Where attempts are not numbered, a progress of 0 says that a job that ended begins anew.
    return not knows_attempts and (not isinstance(event, Progress) or event.progress == 0)


def _advance(part: Part | None, event: Event, now: float, order: int) -> Part:
    """The part after `event`. A bar never goes backward within an attempt."""
    if part is None or not part.is_running or (event.attempt or 0) > (part.event.attempt or 0):
        percent, message = 0.0, ""
    else:
        percent, message = part.percent, part.message
    if isinstance(event, Progress):
        percent, message = max(percent, event.progress), event.message or message
    elif isinstance(event, JobComplete):
        percent = 100.0
    return Part(event, percent, message, now, order)
