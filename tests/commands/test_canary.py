"""`progress-gateway canary`: the path of an event, and where it was lost."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands.test_healthcheck import answering
from tests.contract.deadlines import PATIENCE
from tests.contract.processes import (
    PATCHED,
    Finished,
    RedisServer,
    Replica,
    environment,
    free_port,
    run_gateway,
    run_python,
)


def canary(*arguments: str, redis_url: str | None, **variables: object) -> Finished:
    return run_gateway("canary", *arguments, env=environment(redis_url, **variables))


def lost(done: Finished) -> str:
    """The one line that says where."""
    assert (done.returncode, done.stdout) == (1, ""), done
    (line,) = done.stderr.splitlines()
    return line


@pytest.fixture(scope="module")
def replica(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    replica = Replica(redis_server.url, tmp_path_factory.mktemp("canary") / "log")
    yield replica.wait_ready()
    assert replica.stop() == 0


def test_an_event_that_comes_back_is_0_and_its_milliseconds(replica: Replica, redis_server: RedisServer) -> None:
    for _ in range(2):
        done = canary(redis_url=redis_server.url, GATEWAY_PORT=replica.port)
        assert (done.returncode, done.stderr) == (0, "")
        assert 0 < float(done.stdout) < 5_000
    assert len(redis_server.keys("canary")) == 1
    assert redis_server.command("HLEN", redis_server.keys("canary")[0]) == 4, "one job, seq, from and format"


def test_a_project_and_a_gateway_may_be_named(replica: Replica, redis_server: RedisServer) -> None:
    done = canary("p", "--url", replica.ws, redis_url=redis_server.url)
    assert done.returncode == 0, done.stderr
    assert redis_server.keys("p")


def test_nobody_at_the_address_is_1() -> None:
    port = free_port()
    assert f"127.0.0.1:{port}" in lost(canary(redis_url=None, GATEWAY_PORT=port))


def test_a_redis_that_is_away_is_1(replica: Replica) -> None:
    url = f"redis://:hunter2@127.0.0.1:{free_port()}"
    said = lost(canary("--seconds", "9", redis_url=url, GATEWAY_PORT=replica.port))
    assert "not published" in said
    assert "hunter2" not in said


def test_a_redis_that_hangs_holds_it_up_no_longer_than_its_patience(replica: Replica, own_redis: RedisServer) -> None:
    own_redis.freeze()
    began = time.monotonic()
    patched = f"publisher.transport.circuit.GIVE_UP_SECONDS={2 * PATIENCE}"  # it would be waited for as long
    env = environment(own_redis.url, GATEWAY_PORT=replica.port)
    said = lost(run_python(PATCHED, env, patched, "canary", "--seconds", "1", within=3 * PATIENCE))
    assert time.monotonic() - began < PATIENCE, "a second, and the start and end of the process"
    assert "Redis did not take the event" in said


def test_the_url_of_redis_may_be_in_a_file_as_for_serve(
    replica: Replica, redis_server: RedisServer, tmp_path: Path
) -> None:
    file = tmp_path / "redis-url"
    file.write_text(redis_server.url + "\n")
    for where in ([], ["--url", replica.ws]):
        done = canary(*where, redis_url=None, REDIS_URL_FILE=file, GATEWAY_PORT=replica.port)
        assert done.returncode == 0, done.stderr


def test_another_redis_than_the_gateways_is_1(replica: Replica, own_redis: RedisServer) -> None:
    said = lost(canary("--seconds", "1", redis_url=own_redis.url, GATEWAY_PORT=replica.port))
    assert "published but did not arrive" in said


def test_a_namespace_that_is_not_the_gateways_is_1(replica: Replica, redis_server: RedisServer) -> None:
    variables = {"GATEWAY_PORT": replica.port, "PROGRESS_NAMESPACE": "staging"}
    assert "PROGRESS_NAMESPACE" in lost(canary("--seconds", "1", redis_url=redis_server.url, **variables))


def test_a_refused_upgrade_is_1(replica: Replica, redis_server: RedisServer) -> None:
    said = lost(canary("--url", f"{replica.ws}/nothing", redis_url=redis_server.url))
    assert "refuses the upgrade" in said


@pytest.mark.parametrize("url", ["nonsense", "http://h", "ws://h:port/ws", "ws://"])
def test_what_is_no_url_is_1(url: str) -> None:
    assert "Traceback" not in lost(canary("--url", url, redis_url=None))


@pytest.mark.parametrize(
    "url",
    [
        "ws://user:hunter2@127.0.0.1:{port}/ws?token=hunter2",
        "http://127.0.0.1/ws?token=hunter2",
        "ws://u:[hunter2]@127.0.0.1/ws",
    ],
)
def test_where_it_was_lost_is_told_without_the_secrets_of_the_url(url: str) -> None:
    said = lost(canary("--url", url.format(port=free_port()), redis_url=None))
    assert "127.0.0.1" in said
    assert "hunter2" not in said


def test_nor_does_a_redirect_show_any(redis_server: RedisServer) -> None:
    location = b"HTTP/1.1 302 Found\r\nlocation: http://h/?hunter2\r\ncontent-length: 0\r\n\r\n"
    with answering(location) as (port, _):
        assert "hunter2" not in lost(canary("--url", f"ws://127.0.0.1:{port}/ws?hunter2", redis_url=redis_server.url))


def test_what_is_no_project_is_2() -> None:
    assert canary("a b", redis_url=None).returncode == 2


def test_any_free_port_is_none_to_call() -> None:
    assert "--url" in lost(canary(redis_url=None, GATEWAY_PORT=0))
