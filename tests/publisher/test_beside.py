"""What becomes of a job, told by another process than its own."""

from collections.abc import Iterator

import pytest

import publisher
from publisher import beside
from publisher.beside import Ids, Reporter, ended, tried_again, untold_job
from tests.contract.deadlines import wait_for
from tests.contract.processes import RedisServer, free_port
from tests.listener import Listener


@pytest.fixture
def listener(redis_server: RedisServer, project: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    monkeypatch.setenv("REDIS_URL", redis_server.url)
    listener = Listener(redis_server, project)
    yield listener
    listener.close()


def begin(project: str, **fields: object) -> None:
    event = {"type": "progress", "jobId": "j", "jobType": "audio", "progress": 50, "message": "half", **fields}
    assert publisher.broadcast_to_project(project, event) is not None


def test_a_job_that_runs_is_ended_in_its_attempt_with_its_open_sentences(listener: Listener, project: str) -> None:
    begin(project, attempt=3, data={"voice": 1})
    begin(project, attempt=3, sentenceId="s1")
    begin(project, attempt=3, sentenceId="s2", type="job_complete")
    begin(project, attempt=0, jobId="j2")
    ended(Ids(project, "j", "video"), "Cancelled", "cancelled")
    ends = [event for event in listener.until("job_failed") + listener.of("s1") if event["type"] == "job_failed"]
    assert [(end.get("sentenceId"), end["attempt"], end["jobType"]) for end in ends] == [
        (None, 3, "audio"),
        ("s1", 3, "audio"),
    ]
    assert {(end["error"], end["reason"]) for end in ends} == {("Cancelled", "cancelled")}
    assert len(listener.of("s2")) == 1
    assert len(listener.of(job="j2")) == 1


def test_a_job_that_never_began_begins_and_ends(listener: Listener, project: str) -> None:
    ended(Ids(project, "j", "video"), "Cancelled", "cancelled")
    assert [(event["type"], event["attempt"], event["jobType"]) for event in listener.until("job_failed")] == [
        ("progress", 0, "video"),
        ("job_failed", 0, "video"),
    ]


@pytest.mark.parametrize("how", ["job_complete", "job_failed"])
def test_an_end_that_the_job_told_stays(listener: Listener, project: str, how: str) -> None:
    begin(project, type=how, error="no voice")
    ended(Ids(project, "j", "audio"), "Stopped", "lost")
    tried_again(Ids(project, "j", "audio"), "again")
    begin(project, sentenceId="marker")
    listener.until(50, "marker")
    assert len(listener.of()) == 1


def test_a_job_that_is_tried_again_keeps_its_bar(listener: Listener, project: str) -> None:
    begin(project, attempt=1, nextWithin=30)
    tried_again(Ids(project, "j", "audio"), "Stopped; it will be tried again")
    wait_for(lambda: len(listener.of()) == 2, "the second event", 30)
    last = listener.of()[-1]
    assert (last["progress"], last["attempt"]) == (50, 1)
    assert last["message"] == "Stopped; it will be tried again"
    assert "nextWithin" not in last


def test_a_report_is_tried_until_redis_is_back(
    project: str, monkeypatch: pytest.MonkeyPatch, redis_server: RedisServer
) -> None:
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{free_port()}")
    monkeypatch.setattr(beside, "PAUSE_SECONDS", 0.05)
    reporter, tries = Reporter(), []

    def tell(ids: Ids) -> None:
        tries.append(ids)
        if len(tries) == 3:
            monkeypatch.setenv("REDIS_URL", redis_server.url)
        ended(ids, "Stopped", "lost")

    listener = Listener(redis_server, project)
    reporter.report(tell, Ids(project, "j", "audio"))
    listener.until("job_failed", within=60)
    listener.close()
    assert len(tries) >= 3


def test_a_report_that_cannot_be_sent_is_given_up_and_logged(
    project: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{free_port()}")
    Reporter().now(ended, Ids(project, "j", "audio"), "Stopped", "lost", seconds=0)
    assert "The end of job 'j' was not reported" in caplog.text


def test_the_job_of_a_call_that_is_not_tracked_takes_everything(listener: Listener, project: str) -> None:
    with untold_job() as job:
        assert publisher.current_job() is job
        job.progress(50)
        for sentence in job.sentences(["a", "b"]):
            sentence.progress(10)
        assert job.complete(file="a.mp3") is None
    begin(project)
    assert [event["jobId"] for event in listener.until(50)] == ["j"]
