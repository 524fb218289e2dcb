"""For tests of code that publishes: records what would have been sent. Nothing reaches Redis, and none is needed.

    # conftest.py
    pytest_plugins = ["publisher.testing"]

    def test_audio(recorded):
        make_audio("project_1", "job_7")
        assert [event.type for event in recorded.of("project_1")] == ["progress", "progress", "job_complete"]
        assert recorded.end_of("project_1", "job_7").result.file == "a.mp3"

Without pytest: `with record() as recorded: ...`. Tracked jobs, single events, `async` code and threads of this process
are recorded. A worker that a test starts as a process of its own can only be silenced: `PROGRESS_DISABLED=1`.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from publisher.events import Event, JobComplete, JobFailed, Progress
from publisher.job_rules import Verdict, judge
from publisher.outlet import outlets
from publisher.publication import Publication, Sent


class _Known(NamedTuple):
    """The last event of a part, as the rules look at it."""

    attempt: int | None
    is_terminal: bool
    progress: float


class Recorded:
    """The events that would have been sent, in order, as the models of `publisher`. Safe in threads.

    It answers as Redis does: each event gets a `seq`, attempts are numbered, and the rules for attempts refuse events,
    which are then not recorded. Each progress of a tracked job is recorded, also where fewer would be sent.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        """All events."""
        self.project_ids: list[str] = []
        """The project of each event, at the same place."""
        self.revoked: list[str] = []
        """The users of `revoke_viewer`."""
        self._lock = threading.RLock()
        self._attempts: dict[tuple[str, str], int | None] = {}  # by project and job: the highest number
        self._seq = 0

    def of(self, project_id: str, job_id: str | None = None, sentence_id: str | None = None) -> list[Event]:
        """The events of a project, or of one job with its sentences, or of one sentence."""
        with self._lock:
            return [
                event
                for project, event in zip(self.project_ids, self.events, strict=True)
                if project == project_id and job_id in (None, event.job_id) and sentence_id in (None, event.sentence_id)
            ]

    def end_of(self, project_id: str, job_id: str) -> JobComplete | JobFailed | None:
        """The job's end; None while it runs, and if it began again since."""
        last = self.last_event(project_id, job_id, None)
        return None if last is None or isinstance(last, Progress) else last

    def clear(self) -> None:
        """Forget what was recorded. The numbers of attempts go on."""
        with self._lock:
            self.events.clear()
            self.project_ids.clear()
            self.revoked.clear()

    # What Redis does otherwise

    def send(self, publications: Sequence[Publication]) -> list[Sent]:
        with self._lock:
            return [self._take(publication) for publication in publications]

    def last_event(self, project_id: str, job_id: str, sentence_id: str | None) -> Event | None:
        found = (event for event in reversed(self.of(project_id, job_id)) if event.sentence_id == sentence_id)
        last = next(found, None)
        is_replaced = last is not None and last.attempt != self._attempts.get((project_id, job_id), last.attempt)
        return None if is_replaced else last

    def revoke(self, sub: str) -> None:
        self.revoked.append(sub)

    def _take(self, publication: Publication) -> Sent:
        event, job = publication.event, (publication.project_id, publication.event.job_id)
        number = self._attempts.get(job)
        begun = None
        if isinstance(publication.attempt, str) and publication.attempt:  # "+2": the next number, and 2 at least
            begun = max(int(publication.attempt), 0 if number is None else number + 1)
            event = event.model_copy(update={"attempt": begun})
        last = self.last_event(*job, event.sentence_id)
        known = None
        if last is not None:
            is_progress = isinstance(last, Progress)
            known = _Known(last.attempt, not is_progress, last.progress if isinstance(last, Progress) else 0)
        verdict = judge(number, known, event)
        if not verdict.is_accepted:
            return Sent(None, replaced_by=number if verdict is Verdict.REPLACED else None)
        if event.attempt is not None:
            self._attempts[job] = event.attempt if number is None else max(number, event.attempt)
        self._seq += 1
        self.events.append(event)
        self.project_ids.append(publication.project_id)
        return Sent(self._seq, attempt=begun)


@contextmanager
def record() -> Iterator[Recorded]:
    """Record what this process publishes meanwhile, instead of sending it. Goes before `disable()`."""
    recorded = Recorded()
    outlets.put(recorded)
    try:
        yield recorded
    finally:
        outlets.remove(recorded)


try:
    import pytest
except ModuleNotFoundError:  # `record` needs none
    pass
else:

    @pytest.fixture(name="recorded")
    def recorded_fixture() -> Iterator[Recorded]:
        """What the test publishes; nothing is sent."""
        with record() as recorded:
            yield recorded
