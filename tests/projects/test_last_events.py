"""The last event of each part of a project's jobs: which jobs have ended, and which are forgotten first."""

from collections.abc import Callable
from typing import Any

import pytest

from gateway.projects import last_events
from gateway.projects.entry import entry_of
from gateway.projects.last_events import LastEvents
from publisher.events import check_event


class Project:
    """Events in order of arrival, as a channel puts them."""

    def __init__(self) -> None:
        self.last = LastEvents()
        self.position = 0

    def say(self, job: str, kind: str = "progress", *, sentence: str | None = None, size: int = 1, **more: Any) -> None:
        usual: dict[str, dict[str, Any]] = {
            "progress": {"progress": 5},
            "job_complete": {},
            "job_failed": {"error": "e"},
        }
        base: dict[str, Any] = {"type": kind, "jobId": job, "jobType": "audio", "sentenceId": sentence}
        self.position += 1
        event = check_event(base | usual[kind] | more | {"seq": self.position})
        entry = entry_of(event, b"x" * size)
        known = self.last.by_field.get(entry.field)
        entry.put(self.position, self.position - 1, known)
        self.last.put(entry, known)

    def forget(self, **more: Any) -> list[str]:
        """The ids of the forgotten jobs in order, once each."""
        return list(dict.fromkeys(entry.job_id for entry in self.last.forget(**more)))

    @property
    def jobs(self) -> list[str]:
        return sorted({entry.job_id for entry in self.last.by_field.values()})


@pytest.fixture
def project() -> Project:
    return Project()


@pytest.fixture
def bound(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set the bounds: `bound(jobs=2)`."""

    def set_bounds(**bounds: int) -> None:
        for name, most in bounds.items():
            monkeypatch.setattr(last_events, f"MAX_{name.upper()}", most)

    return set_bounds


def test_a_part_has_one_entry_its_last(project: Project) -> None:
    project.say("a")
    project.say("a", sentence="s")
    project.say("a", "job_complete")
    assert [entry.position for entry in project.last.by_field.values()] == [2, 3]


@pytest.mark.parametrize(
    ("events", "has_ended"),
    [
        ([(None, "progress")], False),
        ([(None, "job_failed")], True),
        ([("s", "job_complete")], True),
        ([("s", "job_complete"), ("t", "progress")], False),
        ([("s", "job_complete"), ("t", "progress"), ("t", "job_failed")], True),
        ([("s", "progress"), (None, "job_complete")], True),  # its own event says so
        ([("s", "job_complete"), (None, "progress")], False),
        ([(None, "job_complete"), (None, "progress")], False),  # it runs again
        ([(None, "job_complete"), ("s", "progress")], True),
    ],
)
def test_when_a_job_has_ended(project: Project, events: list[tuple[str | None, str]], has_ended: bool) -> None:
    for sentence, kind in events:
        project.say("a", kind, sentence=sentence)
    job = project.last.by_id.get("a")
    assert job is not None
    assert job.has_ended is has_ended
    assert ("a" in project.last._ended) is has_ended


def test_jobs_that_ended_are_forgotten_first_in_the_order_of_their_ends(
    project: Project, bound: Callable[..., None]
) -> None:
    for job in "abcd":
        project.say(job)
    for job in "db":
        project.say(job, "job_complete")
    project.say("d", sentence="s")  # what comes after its end is no end
    bound(jobs=3)
    assert project.forget() == ["d"]
    bound(jobs=2)
    assert project.forget() == ["b"]
    assert project.jobs == ["a", "c"]


def test_a_job_of_sentences_alone_has_ended_with_the_last_of_them(project: Project, bound: Callable[..., None]) -> None:
    project.say("a", "job_complete", sentence="s")
    project.say("b", "job_complete")
    project.say("a", "job_complete", sentence="t")
    bound(jobs=1)
    assert project.forget() == ["b"]


def test_then_running_jobs_are_forgotten_the_one_that_is_silent_for_longest_first(
    project: Project, bound: Callable[..., None]
) -> None:
    for job in "abc":
        project.say(job)
    project.say("a", sentence="s")
    bound(jobs=1)
    assert project.forget() == ["b", "c"]


def test_parts_and_bytes_are_bounded_and_jobs_are_forgotten_whole(project: Project, bound: Callable[..., None]) -> None:
    for sentence in (None, "s", "t"):
        project.say("a", sentence=sentence, size=10)
    project.say("b", size=10)
    bound(parts=3)
    assert project.forget() == ["a"]
    project.say("c", size=10)
    bound(bytes=19)
    assert project.forget() == ["b"]
    assert project.jobs == ["c"]
    assert project.last._bytes == 10


def test_first_the_jobs_that_redis_has_forgotten(project: Project, bound: Callable[..., None]) -> None:
    project.say("a", "job_complete")
    project.say("b")
    project.say("c")
    bound(jobs=2)
    assert project.forget(unless={"a", "c"}) == ["b"]
    bound(jobs=1)
    assert project.forget(unless={"a", "c"}) == ["a"]


def test_the_number_of_a_job_is_the_highest_that_it_carried(project: Project) -> None:
    project.say("a", attempt=3)
    project.say("a", sentence="s", attempt=2)
    project.say("a")
    job = project.last.by_id.get("a")
    assert job is not None
    assert job.number == 3
    project.last.set_number("a", 5)
    project.last.set_number("a", 4)
    project.last.set_number("unknown", 4)
    assert job.number == 5


def test_dropping_all_parts_drops_the_job(project: Project) -> None:
    project.say("a", "job_complete", attempt=3)
    project.say("a", sentence="s")
    project.last.drop(["a\n", "a\ns"])
    assert project.last.by_id.get("a") is None
    assert not project.last.by_field
    assert not project.last._ended
    assert project.last._bytes == 0


def test_dropping_the_own_end_of_a_job_makes_its_sentences_count(project: Project) -> None:
    project.say("a", sentence="s")
    project.say("a", "job_complete")
    project.last.drop(["a\n"])
    job = project.last.by_id.get("a")
    assert job is not None
    assert not job.has_ended
    assert not project.last._ended


def test_what_is_newer_is_found(project: Project) -> None:
    for job in "abc":
        project.say(job)
    project.say("a")
    assert [entry.job_id for entry in project.last.after(2)] == ["c", "a"]
    assert project.last.after(4) == []
