"""`publisher.disable()` and `PROGRESS_DISABLED=1`: nothing is sent, and code that publishes runs as before."""

import socket
from collections.abc import Iterator

import pytest

import publisher
from publisher import aio
from publisher.settings import PublisherSettings
from tests.contract.processes import RedisServer, environment, run_gateway, run_python
from tests.listener import Listener

EVENT = {"type": "progress", "jobId": "j", "jobType": "audio", "progress": 40}

PROGRAM = """
import asyncio, sys, threading
import publisher
from publisher import aio
{disable}
EVENT = {{"type": "progress", "jobId": "j", "jobType": "audio", "progress": 40}}

assert publisher.broadcast_to_project("p", EVENT, strict=True) is None
assert publisher.broadcast_many([("p", EVENT), ("q", EVENT)]) == [None, None]
assert publisher.last_event("p", "j") is None
assert publisher.revoke_viewer("ann") is None
with publisher.track_job("p", "j", "audio") as job:
    job.progress(40)
    with job.sentence("s") as sentence:
        sentence.progress(10)
    for sentence in job.sentences(["a", "b"]):
        pass
    assert job.complete(file="a.mp3") is None
    assert job.is_ended and job.attempt is None
try:
    with publisher.track_job("p", "j", "audio", will_retry=True):
        raise LookupError
except LookupError:
    pass

async def main():
    assert await aio.broadcast_to_project("p", EVENT, strict=True) is None
    assert await aio.last_event("p", "j") is None
    await aio.revoke_viewer("ann")
    async with aio.track_job("p", "j", "audio") as job:
        await job.progress(40)
        assert await job.complete() is None

asyncio.run(main())
assert threading.enumerate() == [threading.main_thread()], threading.enumerate()
"""


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as plug:
        yield plug


@pytest.mark.parametrize(
    ("variables", "disable"),
    [({"PROGRESS_DISABLED": "1"}, ""), ({"PROGRESS_DISABLED": "on"}, ""), ({}, "publisher.disable()")],
    ids=["1", "on", "disable"],
)
def test_nothing_is_sent_no_thread_starts_and_nobody_is_called(
    listening: socket.socket, variables: dict[str, str], disable: str
) -> None:
    env = environment(f"redis://127.0.0.1:{listening.getsockname()[1]}", **variables)
    done = run_python(PROGRAM.format(disable=disable), env)
    assert (done.returncode, done.stderr) == (0, "")
    listening.setblocking(False)
    with pytest.raises(BlockingIOError):
        listening.accept()


@pytest.fixture
def disabled() -> Iterator[None]:
    publisher.disable()
    yield
    publisher.enable()


@pytest.mark.usefixtures("disabled")
async def test_what_is_wrong_is_still_refused() -> None:
    with pytest.raises(ValueError, match="progress"):
        publisher.broadcast_to_project("p", EVENT | {"progress": 101})
    with pytest.raises(ValueError, match="project"):
        await aio.broadcast_to_project("no project", EVENT)
    with publisher.track_job("p", "j", "audio") as job, pytest.raises(ValueError, match="progress"):
        job.progress(101)


def test_control_enabled_again_it_is_sent(
    redis_server: RedisServer, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", redis_server.url)
    listener = Listener(redis_server, project)
    publisher.disable()
    assert publisher.broadcast_to_project(project, EVENT) is None
    publisher.enable()
    assert publisher.broadcast_to_project(project, EVENT | {"progress": 50}) is not None
    monkeypatch.setenv("PROGRESS_DISABLED", "off")
    assert publisher.broadcast_to_project(project, EVENT | {"progress": 60}) is not None
    assert listener.until(60)[0]["progress"] == 50
    listener.close()


def test_a_value_that_is_neither_on_nor_off_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROGRESS_DISABLED", "maybe")
    with pytest.raises(ValueError, match="PROGRESS_DISABLED is 'maybe'; use on or off"):
        PublisherSettings.from_environment()


def test_a_shell_script_under_test_goes_on() -> None:
    env = environment("redis://127.0.0.1:1", PROGRESS_DISABLED="1")
    done = run_gateway("publish", "p", "--job", "j", "--type", "audio", "--progress", "40", env=env)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
