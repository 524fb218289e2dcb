"""Publishing from `async` code: in one loop after another, in many tasks, and without stopping the loop."""

import asyncio
import gc
import json
import logging
import sys
import threading
import time
from typing import Any

import pytest
import redis

from publisher.aio import broadcast_to_project
from publisher.field_errors import EventError
from publisher.names import jobs_key
from publisher.transport import async_driver
from publisher.transport import circuit as module
from publisher.transport.circuit import unsent
from tests.contract.deadlines import PATIENCE, STALL_SECONDS, wait_for
from tests.contract.processes import RedisServer, environment, free_port, run

EVENT = {"type": "progress", "jobId": "j", "jobType": "audio", "progress": 40}


@pytest.fixture
def server(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> RedisServer:
    monkeypatch.setenv("REDIS_URL", redis_server.url)
    return redis_server


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GIVE_UP_SECONDS", 0.2)


def remembered(server: RedisServer, project: str) -> dict[bytes, bytes]:
    state: dict[bytes, bytes] = server.command("HGETALL", jobs_key(f"project:{project}"))
    return state


def seq_of(server: RedisServer, project: str, job: str) -> int:
    seq: int = json.loads(remembered(server, project)[f"{job}\n".encode()])["seq"]
    return seq


# Sent


async def test_an_event_is_published_and_its_seq_returned(server: RedisServer, project: str) -> None:
    assert await broadcast_to_project(project, EVENT) == seq_of(server, project, "j")


async def test_an_event_that_the_attempt_rule_refuses_is_none(server: RedisServer, project: str) -> None:
    assert await broadcast_to_project(project, EVENT | {"attempt": 2}) is not None
    assert await broadcast_to_project(project, EVENT | {"attempt": 1}, strict=True) is None


async def test_without_replay_nothing_is_remembered(
    server: RedisServer, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROGRESS_REPLAY", "off")
    assert await broadcast_to_project(project, EVENT) is None
    assert remembered(server, project) == {}


async def test_a_bad_event_is_raised_at_once_even_without_a_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{free_port()}")
    with pytest.raises(EventError):
        await broadcast_to_project("p", {})


async def test_many_tasks_at_once_get_their_own_answers_from_one_client(server: RedisServer, project: str) -> None:
    async def publish(number: int) -> int | None:
        return await broadcast_to_project(project, EVENT | {"jobId": f"job_{number}"})

    seqs = await asyncio.gather(*(publish(number) for number in range(100)))
    assert [seq_of(server, project, f"job_{number}") for number in range(100)] == seqs
    assert len(async_driver._servers_of(asyncio.get_running_loop())) == 1


async def test_a_task_that_is_cancelled_spoils_no_answer_of_the_next(server: RedisServer, project: str) -> None:
    for number in range(40):
        task = asyncio.create_task(broadcast_to_project(project, EVENT | {"jobId": "cancelled"}))
        for _ in range(number % 8):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await broadcast_to_project(project, EVENT | {"jobId": "next"}) == seq_of(server, project, "next")


# Redis comes and goes


async def test_the_script_is_loaded_again_after_script_flush(server: RedisServer, project: str) -> None:
    assert await broadcast_to_project(project, EVENT)
    server.command("SCRIPT", "FLUSH")
    assert await broadcast_to_project(project, EVENT)


async def test_a_redis_that_was_restarted_between_two_events_gets_both(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch, project: str
) -> None:
    monkeypatch.setenv("REDIS_URL", own_redis.url)
    assert await broadcast_to_project(project, EVENT)
    own_redis.kill()
    own_redis.start()
    assert await broadcast_to_project(project, EVENT)


async def test_a_redis_that_is_away_costs_five_seconds_and_the_loop_goes_on_meanwhile(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("REDIS_URL", own_redis.url)
    own_redis.freeze()
    count, before, turns = unsent.count, time.monotonic(), 0
    task = asyncio.create_task(broadcast_to_project("p", EVENT))
    while not task.done():
        await asyncio.sleep(0.01)
        turns += 1
    assert task.result() is None
    assert time.monotonic() - before < module.GIVE_UP_SECONDS + STALL_SECONDS
    assert turns > 40, "it has some four tries; were they to stop the loop, it would have a turn between them"
    assert unsent.count == count + 1
    assert [(record.name, record.levelno) for record in caplog.records] == [("publisher", logging.ERROR)]


async def test_with_strict_it_raises(hurried: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{free_port()}")
    with pytest.raises(redis.ConnectionError):
        await broadcast_to_project("p", EVENT, strict=True)


async def test_a_wrong_password_is_not_tried_again(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("REDIS_URL", f"redis://nobody:wrong-secret@127.0.0.1:{server.port}/0")
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    with monkeypatch.context() as patch:
        patch.setattr("publisher.transport.async_driver.asyncio.sleep", sleep)
        assert await broadcast_to_project("p", EVENT) is None
    assert not any(slept)
    assert len(caplog.records) == 1
    assert "wrong-secret" not in caplog.text


# Loops


def test_one_loop_after_another_publishes_and_none_is_kept(server: RedisServer, project: str) -> None:
    gc.collect()
    before = len(async_driver._loops)
    seqs = [asyncio.run(broadcast_to_project(project, EVENT)) for _ in range(5)]
    assert seqs == sorted(set(seqs))  # type: ignore[type-var]
    gc.collect()
    assert len(async_driver._loops) == before


def test_loops_in_threads_publish_side_by_side(server: RedisServer, project: str) -> None:
    seqs: list[Any] = []

    async def publish_some() -> None:
        seqs.extend([await broadcast_to_project(project, EVENT, strict=True) for _ in range(20)])

    threads = [threading.Thread(target=asyncio.run, args=(publish_some(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(set(seqs)) == 80


def test_when_a_loop_ends_its_connections_are_closed(own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", own_redis.url)

    def connections() -> int:
        return len(own_redis.command("CLIENT", "LIST").splitlines())

    before = connections()
    for _ in range(3):
        asyncio.run(broadcast_to_project("p", EVENT))
    wait_for(lambda: connections() <= before, "the connections of loops that ended to be closed")


LOOPS = """
import asyncio, sys, uvloop
from publisher.aio import broadcast_to_project
event = {"type": "progress", "jobId": "j", "jobType": "audio", "progress": 1}
async def publish():
    assert isinstance(await broadcast_to_project(sys.argv[1], event, strict=True), int)
    assert len(set(await asyncio.gather(*(broadcast_to_project(sys.argv[1], event) for _ in range(5))))) == 5
for factory in (None, None, uvloop.new_event_loop, None):
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(publish())
        runner.run(publish())
"""


def test_loops_in_a_row_leave_no_warning(server: RedisServer, project: str) -> None:
    finished = run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", LOOPS, project], environment(server.url), within=30
    )
    # A busy machine is slow: asyncio, in development mode, says that too.
    said = [line for line in finished.stderr.splitlines() if not line.startswith("Executing ")]
    assert (finished.returncode, said) == (0, [])
