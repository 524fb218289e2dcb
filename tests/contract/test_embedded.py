"""`serve` and `demo` without any setting: they bring a Redis of their own, and take it with them when they end."""

import signal
from collections.abc import Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped, unused-ignore]
import pytest

from .client import connect, is_event, watching
from .deadlines import wait_for
from .events import progress
from .processes import PublisherProcess, RedisServer, Replica, environment, free_port, listens, run_python

DEFAULT_PORT = 6379
PUBLISH = (
    "import sys; from publisher import broadcast_to_project; "
    'print(broadcast_to_project(sys.argv[1], {"type": "progress", "jobId": "j", "jobType": "audio", "progress": 1}))'
)


@pytest.fixture
def found() -> bool:
    """Whether a Redis stands on the default port already: then it is used, and none is started."""
    return listens(DEFAULT_PORT)


def at_default(redis_url: str) -> str:
    """In place of 127.0.0.1:6379, where the machine that runs the tests may have a Redis of its own."""
    return f"gateway.feed.redis_start.DEFAULT_REDIS_URL={redis_url!r}"


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Replica]:
    replica = Replica(None, tmp_path / "alone.log")
    yield replica
    replica.end()


def nothing_left(replica: Replica, family: list[psutil.Process], found: bool) -> None:
    wait_for(lambda: not any(process.is_running() for process in family), f"{family} to be gone")
    assert listens(DEFAULT_PORT) is found
    assert not listens(replica.port)
    assert "Traceback" not in replica.log, replica.log


async def test_serve_without_a_setting_is_found_by_a_publisher_without_one(
    alone: Replica, project: str, found: bool
) -> None:
    alone.wait_ready()
    async with watching(alone.ws, project) as client:
        done = run_python(PUBLISH, environment(None), project)
        assert done.returncode == 0, done.stderr
        assert (await client.events(1))[0]["seq"] == int(done.stdout)
    family = alone.family()
    assert len(family) == (1 if found else 3), "the server, and who ends it with us"
    assert alone.stop() == 0
    nothing_left(alone, family, found)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_leaves_no_process_behind(alone: Replica, found: bool, number: signal.Signals) -> None:
    family = alone.wait_ready().family()
    async with connect(alone.ws) as client:
        alone.signal(number)
        assert await client.closed() == 1012
    assert alone.wait("serve to end") == 0
    nothing_left(alone, family, found)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_whatever_ends_it_the_embedded_server_ends_too(alone: Replica, found: bool, number: signal.Signals) -> None:
    family = alone.wait_ready().family()
    alone.signal(number)
    alone.wait("serve to end")
    nothing_left(alone, family, found)


async def test_ctrl_c_leaves_no_process_behind(alone: Replica, found: bool) -> None:
    """A terminal sends it to the embedded server too: that must not end before the clients are told."""
    family = alone.wait_ready().family()
    async with connect(alone.ws) as client:
        alone.ctrl_c()
        assert await client.closed() == 1012
        assert client.received[-1]["type"] != "stale"
    assert alone.wait("serve to end") == 0
    nothing_left(alone, family, found)


def test_a_signal_while_it_starts_leaves_no_process_behind(alone: Replica, found: bool) -> None:
    wait_for(lambda: len(alone.family()) > 1 or bool(alone.log), "the embedded server to be started")
    family = alone.family()
    alone.ctrl_c()
    alone.wait("serve to end")
    nothing_left(alone, family, found)


async def test_two_signals_leave_no_process_behind(alone: Replica, found: bool) -> None:
    family = alone.wait_ready().family()
    alone.ctrl_c()
    alone.ctrl_c()
    alone.wait("serve to end")
    nothing_left(alone, family, found)


async def test_a_url_that_is_set_is_never_replaced_by_an_embedded_server(
    replica: Replica, redis_server: RedisServer, publisher: PublisherProcess
) -> None:
    assert len(replica.family()) == 1
    assert publisher.seq("p", progress("job"))


@pytest.mark.parametrize("variables", [{"GATEWAY_HOST": "0.0.0.0"}, {"NOTIFY_SOCKET": "/nowhere"}])
def test_where_others_rely_on_it_serve_without_a_url_ends_with_78(
    tmp_path: Path, own_redis: RedisServer, variables: dict[str, str]
) -> None:
    """Also where a Redis answers at the default place: it may be another one on each machine, or tomorrow."""
    replica = Replica(None, tmp_path / "log", patched=at_default(own_redis.url), REDIS_URI="redis://r", **variables)
    assert replica.wait("serve to end") == 78
    assert "set REDIS_URL" in replica.log
    assert "REDIS_URI is set; did you mean REDIS_URL?" in replica.log
    assert "Traceback" not in replica.log


@pytest.mark.parametrize("settings", [{}, {"embedded_redis": "off"}, {"host": "0.0.0.0", "embedded_redis": "on"}])
def test_a_redis_that_answers_at_the_default_place_is_used(
    tmp_path: Path, own_redis: RedisServer, settings: dict[str, str]
) -> None:
    replica = Replica(None, tmp_path / "log", patched=at_default(own_redis.url), **settings)
    try:
        replica.wait_ready()
        assert len(replica.family()) == 1
        assert "embedded" not in replica.log
        assert replica.stop() == 0
    finally:
        replica.end()


def test_where_none_may_be_started_serve_waits_for_one_and_ends_with_75(tmp_path: Path) -> None:
    at = at_default(f"redis://127.0.0.1:{free_port()}/0")
    replica = Replica(None, tmp_path / "log", patched=at, embedded_redis="off", redis_wait_seconds=0)
    assert replica.wait("serve to end") == 75
    assert "REDIS_URL" in replica.log


async def test_the_demo_shows_jobs_from_processes_of_its_own_and_leaves_none_behind(
    tmp_path: Path, found: bool
) -> None:
    demo = Replica(None, tmp_path / "demo.log", command="demo")
    try:
        demo.wait_ready()
        assert demo.status("/") == 200
        async with watching(demo.ws, "demo") as client:
            await client.until(lambda message: message["type"] == "progress", "progress of the demo", within=15)
            await client.until(lambda message: message["type"] == "job_complete", "an end in the demo", within=60)
            assert len({event["jobType"] for event in filter(is_event, client.received)}) >= 2
            family = demo.family()
            assert len(family) > (1 if found else 2), "jobs run in processes of their own"
            demo.ctrl_c()
            assert await client.closed() == 1012
        assert demo.wait("the demo to end") == 0
        nothing_left(demo, family, found)
    finally:
        demo.end()
