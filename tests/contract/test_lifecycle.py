"""Who comes and goes: viewers, however they go, leave nothing in Redis; replicas end in order, or without it."""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from .client import connect, watching
from .conftest import Launch
from .deadlines import PATIENCE, eventually
from .events import progress
from .processes import PublisherProcess, RedisServer, Replica, environment
from .raw import TEXT, frame, raw_connect

VIEWER = """
import sys
from websockets.sync.client import connect
with connect(sys.argv[1], proxy=None) as socket:
    socket.send('{"type": "subscribe", "projectId": "%s"}' % sys.argv[2])
    for message in socket:
        if '"subscribed"' in message:
            print("watching", flush=True)
"""


@pytest.fixture
def viewers(replicas: tuple[Replica, Replica], project: str) -> Iterator[list[subprocess.Popen[str]]]:
    """A viewer on each replica, each in a process of its own, that watch until they are killed."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", VIEWER, replica.ws, project],
            env=environment(None),
            stdout=subprocess.PIPE,
            text=True,
        )
        for replica in replicas
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "watching\n"
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


async def let_go(redis_server: RedisServer, project: str, within: float = PATIENCE) -> None:
    await eventually(lambda: redis_server.watched_by(project) == 0, "all replicas to let go of the project", within)


async def test_each_replica_watches_a_project_once_and_lets_go_when_viewers_close_or_unsubscribe(
    replica: Replica, other: Replica, redis_server: RedisServer, project: str
) -> None:
    stayed = project + "s"
    async with watching(replica.ws, stayed) as here, watching(other.ws, stayed) as there:
        async with watching(replica.ws, project), watching(replica.ws, project), watching(other.ws, project):
            assert redis_server.watched_by(project) == 2
            assert redis_server.watched_by(stayed) == 2
        for client in (here, there):
            await client.send("unsubscribe", projectId=stayed)
            await client.expect("unsubscribed")
        await let_go(redis_server, project)
        await let_go(redis_server, stayed)
        assert await here.ping() == []


async def test_each_replica_lets_go_when_its_viewers_are_killed(
    viewers: list[subprocess.Popen[str]], redis_server: RedisServer, project: str
) -> None:
    assert redis_server.watched_by(project) == 2
    for process in viewers:
        process.kill()
    await let_go(redis_server, project)


async def test_a_viewer_that_breaks_off_in_the_handshake_leaves_nothing(
    launch: Launch, redis_server: RedisServer, project: str
) -> None:
    """The subscription is under way when its client is gone."""
    replica = launch(linger_seconds=0)
    for number in range(20):
        async with raw_connect(replica.port) as client:
            await client.send(frame(TEXT, b'{"type":"subscribe","projectId":"%s_%d"}' % (project.encode(), number)))
    async with watching(replica.ws, project):
        for number in range(20):
            await let_go(redis_server, f"{project}_{number}")


async def test_a_project_is_kept_over_a_reload_and_is_not_lost_by_it(
    launch: Launch, redis_server: RedisServer, publisher: PublisherProcess, project: str
) -> None:
    """The last viewer leaves and the next one comes: at any moment of letting go, nobody misses an event."""
    replica = launch(linger_seconds=0.02)
    for number in range(40):
        async with watching(replica.ws, project) as client:
            publisher.seq(project, progress(f"job_{number}"))
            events = await client.until_job(f"job_{number}")
            assert len(events) == number + 1
        await asyncio.sleep(0.001 * number)  # the time of a reload, around the linger


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_replica_ends_in_order_and_tells_its_clients(
    launch: Launch, redis_server: RedisServer, project: str, number: signal.Signals
) -> None:
    replica = launch(drain_seconds=0.4)
    async with watching(replica.ws, project) as one, connect(replica.ws) as two:
        replica.signal(number)
        assert await one.closed() == 1012
        assert await two.closed() == 1012
    assert await asyncio.to_thread(replica.wait, f"the replica to end after {number.name}") == 0
    assert redis_server.watched_by(project) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_replica_without_clients_ends_at_once(launch: Launch, number: signal.Signals) -> None:
    replica = launch(drain_seconds=60)
    start = time.monotonic()
    replica.signal(number)
    assert await asyncio.to_thread(replica.wait, "the replica to end") == 0
    assert time.monotonic() - start < 30


async def test_a_client_that_does_not_answer_the_close_holds_nobody_up(launch: Launch) -> None:
    replica = launch(drain_seconds=0.4)
    async with raw_connect(replica.port):
        replica.signal(signal.SIGTERM)
        assert await asyncio.to_thread(replica.wait, "the replica to end in spite of its client") == 0


async def test_a_second_signal_ends_it_at_once(launch: Launch) -> None:
    replica = launch(drain_seconds=0.4, patched="gateway.clients.drain.CLOSE_SECONDS=60")
    async with raw_connect(replica.port) as client:  # which never answers the close
        replica.signal(signal.SIGTERM)
        assert await client.close_code() == 1012
        start = time.monotonic()
        replica.signal(signal.SIGTERM)
        await asyncio.to_thread(replica.wait, "the replica to end after the second signal")
        assert time.monotonic() - start < 30


async def test_the_death_of_a_replica_leaves_the_other_serving(
    launch: Launch, replica: Replica, redis_server: RedisServer, publisher: PublisherProcess, project: str
) -> None:
    doomed = launch()
    async with watching(replica.ws, project) as survivor, watching(doomed.ws, project) as orphan:
        publisher.seq(project, progress("before"))
        await survivor.events(1)
        (event,) = await orphan.events(1)
        doomed.signal(signal.SIGKILL)
        assert await orphan.closed() == 1006
        publisher.seq(project, progress("after"))
        assert [event["jobId"] for event in await survivor.events(1)] == ["after"]
        await eventually(lambda: redis_server.watched_by(project) == 1, "Redis to forget the dead replica")
        async with connect(replica.ws) as again:
            answer = await again.subscribe(project, event["seq"])
            assert answer["recovered"] is True
            assert [event["jobId"] for event in await again.events(1)] == ["after"]
