"""The state of a project's jobs, computed from its events. No I/O and no clock."""

import re
from dataclasses import dataclass, field

from publisher.events import Event, JobComplete, JobFailed, Progress
from publisher.publication import MAX_JOBS


@dataclass(slots=True)
class Part:
    """A job's own events, or one sentence: the state after its last event."""

    event: Event
    """The last one."""
    percent: float
    message: str
    """The last progress message that was not empty."""
    heard_at: float
    """When `event` arrived, by the caller's clock."""
    order: int
    """Counts the events of the board, so that the newest part is known."""

    @property
    def is_running(self) -> bool:
        return isinstance(self.event, Progress)

    def silence(self, listening_since: float | None, now: float) -> float:
        """Seconds since the last event while we were connected, if its `nextWithin` has passed; else 0."""
        if listening_since is None or not isinstance(self.event, Progress) or self.event.next_within is None:
            return 0.0
        seconds = now - max(self.heard_at, listening_since)
        return seconds if seconds > self.event.next_within else 0.0


@dataclass(slots=True)
class Job:
    """A job: its own part (key None), its sentences, or both."""

    id: str
    parts: dict[str | None, Part] = field(default_factory=dict)
    state: str = ""
    """running, complete or failed."""
    since: int = 0
    """The order of the event that brought it into this state."""

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
        """The job's own events decide; without any, all its sentences do."""
        parts = [self.own] if self.own else list(self.parts.values())
        if any(part.is_running for part in parts):
            state = "running"
        else:
            state = "failed" if any(isinstance(part.event, JobFailed) for part in parts) else "complete"
        if state != self.state:
            self.state, self.since = state, order


def _natural(text: str) -> list[str | int]:
    """A sort key that puts s2 before s10."""
    return [int(word) if index % 2 else word for index, word in enumerate(re.split(r"(\d+)", text))]


class JobBoard:
    """The jobs of one project, the one with the oldest last event first. Beyond a limit, that one is forgotten."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self._order = 0

    def apply(self, event: Event, now: float) -> bool:
        """Apply an event; return false and change nothing if it is older than the state of its job."""
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
        """Forget running jobs: events were missed, so they may have ended."""
        self.jobs = {job.id: job for job in self.jobs.values() if job.state != "running"}


def _is_newer(event: Event, part: Part) -> bool:
    """Whether an event is newer than the part. An end is final within its attempt."""
    before = part.event
    knows_attempts = event.attempt is not None and before.attempt is not None
    if knows_attempts and event.attempt != before.attempt:
        return (event.attempt or 0) > (before.attempt or 0)
    is_end = not isinstance(event, Progress)
    # An end beats a running job even with a lower seq: after a failover, the new Redis' clock may be behind.
    if event.seq is not None and before.seq is not None and event.seq <= before.seq:
        return is_end and part.is_running
    if part.is_running:
        return True
    # Without numbered attempts, a progress of 0 begins an ended job anew.
    return not knows_attempts and (not isinstance(event, Progress) or event.progress == 0)


def _advance(part: Part | None, event: Event, now: float, order: int) -> Part:
    """The part after `event`. Percent never falls within an attempt."""
    if part is None or not part.is_running or (event.attempt or 0) > (part.event.attempt or 0):
        percent, message = 0.0, ""
    else:
        percent, message = part.percent, part.message
    if isinstance(event, Progress):
        percent, message = max(percent, event.progress), event.message or message
    elif isinstance(event, JobComplete):
        percent = 100.0
    return Part(event, percent, message, now, order)
