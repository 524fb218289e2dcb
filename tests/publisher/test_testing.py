"""`publisher.testing`: what would have been sent, with the answers that Redis would give."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

import publisher
from publisher import JobComplete, JobFailed, Progress, aio
from publisher.testing import Recorded, record, recorded_fixture
from tests.contract.processes import environment

EVENT = {"type": "progress", "jobId": "j", "jobType": "audio", "progress": 40}

recorded = recorded_fixture  # what a conftest gets by `pytest_plugins`


def test_single_events_are_recorded_by_project(recorded: Recorded) -> None:
    assert publisher.broadcast_to_project("p", EVENT) == 1
    assert publisher.broadcast_many([("q", EVENT), ("p", EVENT | {"jobId": "k"})]) == [2, 3]
    progress = Progress(job_id="j", job_type="audio", progress=40)
    assert recorded.of("p", "j") == recorded.of("q") == [progress]
    assert recorded.project_ids == ["p", "q", "p"]
    assert len(recorded.events) == 3
    assert publisher.last_event("p", "j") == progress
    assert publisher.last_event("p", "z") is None


def test_a_tracked_job_is_recorded_with_all_that_it_says(recorded: Recorded) -> None:
    with publisher.track_job("p", "j", "audio") as job:
        for percent in (10, 20, 30):
            job.progress(percent)
        assert recorded.end_of("p", "j") is None
        assert job.complete(file="a.mp3") == 5
    assert [getattr(event, "progress", None) for event in recorded.of("p", "j")] == [0, 10, 20, 30, None]
    end = recorded.end_of("p", "j")
    assert isinstance(end, JobComplete)
    assert end.result.file == "a.mp3"
    assert job.attempt == end.attempt == 0


def test_sentences_and_a_failure(recorded: Recorded) -> None:
    @publisher.track_job("p", "j", "audio")
    def work() -> None:
        for sentence in publisher.current_job().sentences(["s1", "s2"]):
            sentence.progress(50)
            if sentence.sentence_id == "s2":
                raise LookupError("no voice")

    with pytest.raises(LookupError):
        work()
    end = recorded.end_of("p", "j")
    assert isinstance(end, JobFailed)
    assert "no voice" in end.error
    assert [event.type for event in recorded.of("p", "j", "s1")] == ["progress", "progress", "job_complete"]
    assert [event.type for event in recorded.of("p", "j", "s2")] == ["progress", "progress", "job_failed"]


def test_attempts_are_numbered_and_the_rules_refuse_as_redis_does(recorded: Recorded) -> None:
    with publisher.track_job("p", "j", "audio") as first, publisher.track_job("p", "j", "audio") as second:
        assert (first.attempt, second.attempt) == (0, 1)
        assert recorded.end_of("p", "j") is None
        first.progress(90)
        assert first.is_ended
    assert publisher.broadcast_to_project("p", EVENT | {"attempt": 0}) is None
    assert publisher.broadcast_to_project("p", EVENT | {"attempt": 1}) is None  # it has ended
    assert publisher.broadcast_to_project("p", EVENT | {"attempt": "next"}) is not None
    assert recorded.of("p")[-1].attempt == 2
    with publisher.track_job("p", "j", "audio", attempt=7) as job:
        assert job.attempt == 7


def test_the_data_are_those_of_the_call(recorded: Recorded) -> None:
    data = {"voice": 1}
    with publisher.track_job("p", "j", "audio") as job:
        job.progress(10, data=data)
        data["voice"] = 2
    assert recorded.of("p")[1].data == {"voice": 1}


async def test_async_code_is_recorded_too(recorded: Recorded) -> None:
    assert await aio.broadcast_to_project("p", EVENT) == 1
    assert await aio.broadcast_many([("p", EVENT)]) == [2]
    assert await aio.last_event("p", "j") is not None
    await aio.revoke_viewer("ann")
    publisher.revoke_viewer("ben")
    assert recorded.revoked == ["ann", "ben"]
    async with aio.track_job("p", "k", "audio") as job:
        await job.progress(50)
        assert await job.complete() == 5
    assert recorded.end_of("p", "k") is not None


def test_threads_are_recorded(recorded: Recorded) -> None:
    def work(number: int) -> None:
        with publisher.track_job("p", f"j{number}", "audio") as job:
            for percent in range(100):
                job.progress(percent)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(recorded.events) == 8 * 102
    assert all(recorded.end_of("p", f"j{number}") for number in range(8))


def test_clear_forgets(recorded: Recorded) -> None:
    publisher.broadcast_to_project("p", EVENT)
    recorded.clear()
    assert recorded.events == []
    assert recorded.project_ids == []


def test_a_record_goes_before_disable_and_ends_with_its_block() -> None:
    publisher.disable()
    try:
        with record() as recorded:
            publisher.broadcast_to_project("p", EVENT)
        publisher.broadcast_to_project("p", EVENT)
        assert len(recorded.events) == 1
    finally:
        publisher.enable()


USERS_TEST = """
import publisher

def make_audio(project_id, job_id):
    with publisher.track_job(project_id, job_id, "audio") as job:
        job.progress(50)
        job.complete(file="a.mp3")

def test_audio(recorded):
    make_audio("project_1", "job_7")
    assert [event.type for event in recorded.of("project_1")] == ["progress", "progress", "job_complete"]
    assert recorded.end_of("project_1", "job_7").result.file == "a.mp3"
"""


def test_the_fixture_in_a_users_suite(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["publisher.testing"]\n')
    (tmp_path / "test_audio.py").write_text(USERS_TEST)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, env=environment(None), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
