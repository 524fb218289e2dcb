"""Which exceptions are no end of a tracked job, since it will be tried again."""

import asyncio
from collections.abc import Callable

import pytest

from publisher import JobFailed, Progress, aio, last_event, track_job
from publisher.job import WillRetry
from tests.contract.processes import RedisServer

AWAY = ConnectionError("no answer")
Run = Callable[[str, WillRetry, BaseException], None]


@pytest.fixture(autouse=True)
def _server(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", redis_server.url)


def run(project: str, will_retry: WillRetry, error: BaseException) -> None:
    with track_job(project, "j", "audio", will_retry=will_retry) as job:
        job.progress(40)
        raise error


def run_async(project: str, will_retry: WillRetry, error: BaseException) -> None:
    async def fail() -> None:
        async with aio.track_job(project, "j", "audio", will_retry=will_retry) as job:
            await job.progress(40)
            raise error

    asyncio.run(fail())


def run_decorated(project: str, will_retry: WillRetry, error: BaseException) -> None:
    @track_job("{project_id}", "j", "audio", will_retry=will_retry)
    def fail(project_id: str) -> None:
        raise error

    fail(project)


@pytest.fixture(params=[run, run_async, run_decorated], ids=["with", "async with", "decorator"])
def fails(request: pytest.FixtureRequest) -> Run:
    run: Run = request.param
    return run


@pytest.mark.parametrize(
    "will_retry", [True, OSError, (KeyError, ConnectionError), lambda error: str(error) == "no answer"]
)
def test_it_will_be_tried_again(fails: Run, project: str, will_retry: WillRetry) -> None:
    with pytest.raises(ConnectionError):
        fails(project, will_retry, AWAY)
    last = last_event(project, "j")
    assert isinstance(last, Progress)
    assert (last.message, last.next_within) == ("ConnectionError: no answer; it will be tried again", None)


@pytest.mark.parametrize("will_retry", [False, KeyError, (KeyError, TimeoutError), (), lambda error: False])
def test_it_will_not(fails: Run, project: str, will_retry: WillRetry) -> None:
    with pytest.raises(ConnectionError):
        fails(project, will_retry, AWAY)
    last = last_event(project, "j")
    assert isinstance(last, JobFailed)
    assert last.error == "ConnectionError: no answer"


def test_a_function_that_fails_itself_is_logged_and_the_job_has_failed_of_its_own_error(
    fails: Run, project: str, caplog: pytest.LogCaptureFixture
) -> None:
    def will_retry(error: BaseException) -> bool:
        raise LookupError("no current task")

    with pytest.raises(ConnectionError):
        fails(project, will_retry, AWAY)
    assert isinstance(last_event(project, "j"), JobFailed)
    assert caplog.messages == ["will_retry of job 'j' failed"]
