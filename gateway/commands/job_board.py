"""The state of a project's jobs, computed from its events by publisher.job_rules. No I/O and no clock."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from publisher.events import Event, JobFailed, Progress
from publisher.job_rules import Verdict, View, judge, view_of
from publisher.publication import MAX_JOBS, MAX_PARTS

_UNIT = 10_000  # percents are summed as whole numbers of 1e-4 percent: a running sum of floats would drift
_MOST_LEFT_OUT = 10 * MAX_JOBS


def published_at(event: Event) -> int | None:
    """When Redis took the event, in milliseconds since the epoch; None for an event without a seq."""
    return None if event.seq is None else event.seq // 1000


@dataclass(slots=True, eq=False)
class Part:
    """A job's own events, or one sentence. Never changed: the next event makes a new one."""

    event: Event
    """The last one. It alone decides what is shown."""
    view: View
    heard_at: float
    """When `event` arrived, by the caller's clock."""
    rank: int
    """Its seq. An event without one gets that of the job's newest event, because it arrived later."""
    ended: int
    """The seq of the last end of this part, in this run or an earlier one; 0 for none."""

    @property
    def attempt(self) -> int | None:
        return self.event.attempt

    @property
    def is_terminal(self) -> bool:
        return not isinstance(self.event, Progress)

    @property
    def progress(self) -> float:
        return self.event.progress if isinstance(self.event, Progress) else 0

    def silence(self, listening_since: float | None, now: float) -> float:
        """Seconds since the last event while we were connected, if its `nextWithin` has passed; else 0."""
        if listening_since is None or not isinstance(self.event, Progress) or self.event.next_within is None:
            return 0.0
        seconds = now - max(self.heard_at, listening_since)
        return seconds if seconds > self.event.next_within else 0.0


@dataclass(slots=True, eq=False)
class Job:
    """A job and its parts. `put` and `drop` keep the sums, so an event costs the same in a job of any size."""

    id: str
    parts: dict[str | None, Part] = field(default_factory=dict)
    """By sentence id; under None the job itself."""
    number: int | None = None
    """The highest attempt that any of its events carried: what an event's attempt is compared with."""
    since: int = 0
    """Counts the events of the board: the one that brought the job into its present state."""
    counts: dict[str, int] = field(default_factory=lambda: {"running": 0, "complete": 0, "failed": 0})
    """How many sentences are in each state."""
    _sum: int = 0
    """The percents of the sentences, in units of 1e-4 percent."""
    _newest: Part | None = None
    """The part with the highest rank; None after it was dropped, until it is asked for."""
    _ordered: list[str] | None = None
    """The ids of the sentences as people count; None after a change, until it is asked for."""

    @property
    def own(self) -> Part | None:
        return self.parts.get(None)

    @property
    def attempt(self) -> int | None:
        """The attempt to show: that of its last events, as on a page that opens now."""
        if self.number is None or self.newest.attempt == self.number:
            return self.number
        return max((part.attempt for part in self.parts.values() if part.attempt is not None), default=None)

    @property
    def newest(self) -> Part:
        """The part whose event says the job's type, message and data."""
        if self._newest is None:
            self._newest = max(self.parts.values(), key=lambda part: part.rank)
        return self._newest

    @property
    def failure(self) -> Part | None:
        """The part that says why the job failed; None if it did not."""
        if self.state != "failed":
            return None
        failed = (part for part in self.parts.values() if isinstance(part.event, JobFailed))
        return self.own or max(failed, key=lambda part: part.rank)

    @property
    def sentence_count(self) -> int:
        return len(self.parts) - (None in self.parts)

    @property
    def sentence_ids(self) -> list[str]:
        """As people count: s2 before s10."""
        if self._ordered is None:
            self._ordered = sorted((key for key in self.parts if key is not None), key=_natural)
        return self._ordered

    @property
    def state(self) -> str:
        """`running`, `complete` or `failed`: as its own event says; without one, as its sentences add up."""
        if self.own is not None:
            return self.own.view.status
        return "running" if self.counts["running"] else "failed" if self.counts["failed"] else "complete"

    @property
    def percent(self) -> float:
        return self.own.view.percent if self.own is not None else self._sum / (_UNIT * self.sentence_count)

    def silence(self, listening_since: float | None, now: float) -> float:
        return max(part.silence(listening_since, now) for part in self.parts.values())

    def put(self, event: Event, now: float) -> None:
        """Make `event` the last one of its part."""
        key = event.sentence_id
        before = self.parts.get(key)
        rank = event.seq or (self.newest.rank if self.parts else 0)
        ended = (rank if not isinstance(event, Progress) else before.ended if before is not None else 0) or 0
        part = Part(event, view_of(event), now, rank, ended)
        newest = self._newest
        if before is not None:
            self._count(before, -1)
        elif key is not None:
            self._ordered = None
        self.parts[key] = part
        self._count(part, +1)
        if newest is not None:  # after a failover, the newest event's part may get one with a lower seq
            self._newest = part if rank >= newest.rank else None if newest is before else newest
        if event.attempt is not None and (self.number is None or event.attempt > self.number):
            self.number = event.attempt

    def drop(self, keys: Iterable[str | None]) -> None:
        """Drop parts that a later attempt has replaced."""
        for key in keys:
            self._count(self.parts.pop(key), -1)
            self._newest = self._ordered = None

    def _count(self, part: Part, by: int) -> None:
        if part.event.sentence_id is not None:
            self.counts[part.view.status] += by
            self._sum += by * round(part.view.percent * _UNIT)


def _natural(text: str) -> list[str | int]:
    """A sort key that puts s2 before s10."""
    return [int(word) if index % 2 else word for index, word in enumerate(re.split(r"(\d+)", text))]


class JobBoard:
    """The jobs of one project, as the gateway delivers their events.

    `jobs` is in order of the jobs' last events, and `_ended` in order of the ends. Beyond the bounds whole jobs are
    forgotten: first those that ended longest ago, then those that run and are silent for longest.
    """

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        """The jobs by their ids."""
        self.left_out: dict[str, None] = {}
        """The ids of running jobs that were forgotten, and not heard of since."""
        self._ended: dict[str, None] = {}
        """The ids of the jobs that have ended."""
        self._parts = 0
        """The number of parts of all jobs."""
        self._order = 0
        """The number of events that were applied."""

    def apply(self, event: Event, now: float) -> None:
        """Apply a live event. The gateway delivers what Redis accepted, in order, so nothing is refused here.

        A refusal by what this client has seen would be wrong after a failover that lost writes.
        """
        job = self.jobs.get(event.job_id) or Job(event.job_id)
        parts = len(job.parts)
        if judge(job.number, job.parts.get(event.sentence_id), event) is Verdict.BEGINS:
            job.drop([key for key in job.parts if key != event.sentence_id])
        self._put(job, event, now)
        self._parts += len(job.parts) - parts
        self._place(job)
        self._keep_bounds()

    def replay(self, events: Iterable[Event], now: float, *, is_after_gap: bool = False) -> list[Event]:
        """Merge a whole replay in one step; return those of its events that were news, in order.

        Redis has deleted what an attempt replaced, so the events of one replay never drop one another. `is_after_gap`:
        events were missed for good, and the replay has all that is remembered. It then replaces what is known of its
        jobs, and other jobs that ran are forgotten: they may have ended.
        """
        last = {(event.job_id, event.sentence_id): event for event in events}
        in_order = sorted(last.values(), key=lambda event: event.seq or 0)
        news = [event for event in in_order if _is_news(self._part_of(event), event)]
        if is_after_gap:
            named = {event.job_id for event in in_order}
            for job in [job for job in self.jobs.values() if job.id in named or job.id not in self._ended]:
                self._forget(job)
        jobs = self._begin_replay(in_order)
        for event in in_order if is_after_gap else news:
            self._put(jobs[event.job_id], event, now)
        for job in jobs.values():
            number = job.number or 0
            job.drop([key for key, part in job.parts.items() if part.attempt is not None and part.attempt < number])
        for event in in_order:
            self._place(jobs[event.job_id])
        self._parts = sum(len(job.parts) for job in self.jobs.values())
        self._keep_bounds()
        return [event for event in news if event.sentence_id in jobs[event.job_id].parts]

    def _begin_replay(self, events: list[Event]) -> dict[str, Job]:
        """The jobs that a replay names, without what was known of an earlier attempt."""
        names: dict[str, set[str | None]] = {}
        numbers: dict[str, int] = {}
        for event in events:
            names.setdefault(event.job_id, set()).add(event.sentence_id)
            if event.attempt is not None:
                numbers[event.job_id] = max(event.attempt, numbers.get(event.job_id, 0))
        jobs = {job_id: self.jobs.get(job_id) or Job(job_id) for job_id in names}
        for job_id, number in numbers.items():
            job = jobs[job_id]
            if job.number is None or number > job.number:
                job.drop([key for key in job.parts if key not in names[job_id]])
        return jobs

    def knows(self, event: Event) -> bool:
        """Whether the last event of the part is this one, or has a higher seq."""
        part = self._part_of(event)
        return part is not None and event.seq is not None and part.event.seq is not None and part.event.seq >= event.seq

    def _part_of(self, event: Event) -> Part | None:
        job = self.jobs.get(event.job_id)
        return None if job is None else job.parts.get(event.sentence_id)

    def _put(self, job: Job, event: Event, now: float) -> None:
        self._order += 1
        before = job.state if job.parts else ""
        job.put(event, now)
        if job.state != before:
            job.since = self._order

    def _place(self, job: Job) -> None:
        """Put the job where it belongs after its event."""
        self.jobs.pop(job.id, None)
        self.left_out.pop(job.id, None)
        if job.parts:
            self.jobs[job.id] = job
        if not job.parts or job.state == "running":
            self._ended.pop(job.id, None)
        else:
            self._ended.setdefault(job.id)

    def _keep_bounds(self) -> None:
        while len(self.jobs) > MAX_JOBS or self._parts > MAX_PARTS:
            if self._ended:
                self._forget(self.jobs[next(iter(self._ended))])
                continue
            silent = next(iter(self.jobs.values()))
            self._forget(silent)
            self.left_out[silent.id] = None
            if len(self.left_out) > _MOST_LEFT_OUT:
                self.left_out.pop(next(iter(self.left_out)))

    def _forget(self, job: Job) -> None:
        del self.jobs[job.id]
        self._ended.pop(job.id, None)
        self._parts -= len(job.parts)


def _is_news(known: Part | None, event: Event) -> bool:
    """Whether a replayed event is newer than the last one known of its part.

    The seq decides, with one exception: an end beats a progress that has a higher seq. A failover to a server whose
    clock is behind lost that progress. It wins all the same if its run began after that very end.
    """
    if known is None or known.event.seq is None or event.seq is None or event.seq > known.event.seq:
        return True
    attempts = (event.attempt or 0), (known.attempt or 0)
    if attempts[0] != attempts[1]:
        return attempts[0] > attempts[1]
    return not isinstance(event, Progress) and not known.is_terminal and event.seq > known.ended
