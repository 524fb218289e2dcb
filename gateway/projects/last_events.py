"""The last event of each part of a project's jobs, within bounds. No I/O, no clock.

Whole jobs are forgotten: first those that ended longest ago, then running ones that are silent for longest. publish.lua
does the same in Redis.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator
from operator import attrgetter

from gateway.projects.entry import Entry
from publisher.publication import MAX_BYTES, MAX_JOBS, MAX_PARTS


class Job:
    """What a channel knows of one job. Lives until the job is forgotten.

    `running` counts the sentences whose last event is not an end.
    """

    __slots__ = ("number", "own", "running", "sentences")

    def __init__(self) -> None:
        self.number: int | None = None
        """The attempt: the highest that an event of the job carried."""
        self.own: Entry | None = None
        """The last event of the job itself."""
        self.sentences: dict[str, Entry] | None = None
        """The last event of each sentence that has one with a seq, by its field; most jobs have none."""
        self.running = 0

    @property
    def entries(self) -> list[Entry]:
        """The last event of each part."""
        own = [] if self.own is None else [self.own]
        return own + list((self.sentences or {}).values())

    @property
    def has_ended(self) -> bool:
        return self.own.is_terminal if self.own is not None else not self.running


class LastEvents:
    """The entries of a channel. Lives as long as it.

    Invariants: `by_field` is in order of arrival; `by_id` has the same entries by job, in the order in which the jobs
    were last heard of; `_ended` has the jobs that have ended, in the order of their ends.
    """

    __slots__ = ("_bytes", "_ended", "by_field", "by_id")

    def __init__(self) -> None:
        self.by_field: dict[str, Entry] = {}
        """The last event of each part, by the part's field."""
        self.by_id: dict[str, Job] = {}
        """Each job that has an entry, by its id, in the order in which they were last heard of."""
        self._ended: dict[str, None] = {}
        """The ids of the jobs that have ended; the first one is forgotten first."""
        self._bytes = 0
        """The size of all frames."""

    @property
    def jobs(self) -> int:
        return len(self.by_id)

    @property
    def size_bytes(self) -> int:
        return self._bytes

    def put(self, entry: Entry, before: Entry | None) -> bool:
        """Make `entry` the last event of its part, after `before`. True: there is more now than is to be kept."""
        job_id, field = entry.job_id, entry.field
        job = self.by_id.pop(job_id, None) or Job()
        self.by_id[job_id] = job
        self._bytes += len(entry.frame)
        if before is not None:
            self._bytes -= len(before.frame)
            del self.by_field[field]
        self.by_field[field] = entry  # at the end: in order of arrival
        if entry.sentence_id is None:
            job.own = entry
        else:
            job.sentences = job.sentences or {}
            job.sentences[field] = entry
            job.running += (not entry.is_terminal) - (before is not None and not before.is_terminal)
        if entry.attempt is not None and (job.number is None or entry.attempt > job.number):
            job.number = entry.attempt
        if entry.is_terminal and (job.own is None or entry is job.own):
            self._ended.pop(job_id, None)  # at the end: in order of the ends
        if entry.is_terminal or job_id in self._ended:
            self._settle(job_id, job)
        return self._bytes > MAX_BYTES or len(self.by_field) > MAX_PARTS or len(self.by_id) > MAX_JOBS

    def set_number(self, job_id: str, number: int) -> None:
        """The job's attempt, where none of its last events may carry it."""
        job = self.by_id.get(job_id)
        if job is not None and (job.number is None or number > job.number):
            job.number = number

    def drop(self, fields: Iterable[str]) -> None:
        """Drop the last events of these parts: a later attempt has replaced them."""
        for field in fields:
            job_id = self.by_field[field].job_id
            job = self.by_id[job_id]
            self._take_out(job, field)
            self._settle(job_id, job)

    def forget(self, *, unless: Collection[str] = ()) -> Iterator[Entry]:
        """Forget whole jobs until all bounds are kept, first those that are not among `unless`; give their entries."""
        others = [job_id for job_id in [*self._ended, *self.by_id] if job_id not in unless] if unless else []
        while self._bytes > MAX_BYTES or len(self.by_field) > MAX_PARTS or len(self.by_id) > MAX_JOBS:
            job_id = next((job_id for job_id in others if job_id in self.by_id), None) or next(
                iter(self._ended or self.by_id)
            )
            entries = self.by_id[job_id].entries
            self.drop([entry.field for entry in entries])
            yield from entries

    def _take_out(self, job: Job, field: str) -> None:
        entry = self.by_field.pop(field)
        self._bytes -= len(entry.frame)
        if entry is job.own:
            job.own = None
        elif job.sentences is not None:
            del job.sentences[field]
            job.running -= not entry.is_terminal

    def _settle(self, job_id: str, job: Job) -> None:
        """Keep `by_id` and `_ended` after a change of the job."""
        is_empty = job.own is None and not job.sentences
        if is_empty:
            del self.by_id[job_id]
        if is_empty or not job.has_ended:
            self._ended.pop(job_id, None)
        elif job_id not in self._ended:
            self._ended[job_id] = None

    def after(self, position: int) -> list[Entry]:
        """The entries after `position`, in order of arrival."""
        entries = list(self.by_field.values())
        return entries[bisect_right(entries, position, key=_position) :]

    def unseen(self, since: int) -> list[Entry]:
        """The entries that a client with the seq `since` may lack, in order of arrival."""
        entries = list(self.by_field.values())
        return entries[bisect_left(entries, since, key=_seen_before) :]


_position, _seen_before = attrgetter("position"), attrgetter("seen_before")  # both rise in order of arrival
