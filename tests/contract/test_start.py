"""The start of a replica: its ports while it waits for Redis, and signals."""

import json
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from .conftest import Launch
from .deadlines import STALL_SECONDS, eventually, wait_for
from .processes import RedisServer, environment, free_port, listens, run_gateway

ENDING = [signal.SIGTERM, signal.SIGINT]


def is_bound(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


@pytest.fixture
def deaf(own_redis: RedisServer) -> str:
    """The URL of a Redis that answers, and at which the feed cannot subscribe, so it is waited for."""
    own_redis.command("ACL", "SETUSER", "deaf", "on", ">secret", "~*", "&*", "+hello", "+ping", "+auth")
    return own_redis.url.replace("redis://", "redis://deaf:secret@")


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """systemd's end of the notifications."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as plug:
        plug.bind(str(tmp_path / "notify"))
        plug.setblocking(False)
        yield plug


def told(manager: socket.socket) -> list[str]:
    lines = []
    try:
        while True:
            lines.append(manager.recv(4_096).decode())
    except BlockingIOError:
        return lines


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_while_the_feed_is_waited_for_ends_the_wait(
    launch: Launch, deaf: str, manager: socket.socket, number: signal.Signals
) -> None:
    admin_port = free_port()
    replica = launch(
        deaf, ready=False, admin_port=admin_port, redis_wait_seconds=300, NOTIFY_SOCKET=manager.getsockname()
    )
    wait_for(lambda: listens(admin_port), "the operators' port")
    with httpx.Client(base_url=f"http://127.0.0.1:{admin_port}", trust_env=False, timeout=30) as operators:
        assert operators.get("/healthz").status_code == 200
        assert operators.get("/readyz").status_code == 503
    assert not listens(replica.port), "nobody would answer there yet"
    assert told(manager) == []
    began = time.monotonic()
    replica.signal(number)
    assert replica.wait("the end of the wait") == 0
    assert time.monotonic() - began < STALL_SECONDS
    assert "READY=1" not in told(manager), "a service that ends is not ready"


async def test_control_the_wait_for_the_feed_ends_with_its_patience(
    launch: Launch, deaf: str, manager: socket.socket
) -> None:
    replica = launch(deaf, ready=False, redis_wait_seconds=2, NOTIFY_SOCKET=manager.getsockname())
    await eventually(lambda: replica.status("/healthz") == 200, "the port to be opened")
    assert replica.status("/readyz") == 503, "it serves, and tells its clients `stale`"
    said: list[str] = []

    def has_spoken() -> bool:
        said.extend(told(manager))
        return bool(said)

    await eventually(has_spoken, "word to systemd")
    assert said == ["READY=1"]


def test_ports_are_taken_and_refuse_while_redis_is_waited_for(launch: Launch, own_redis: RedisServer) -> None:
    own_redis.kill()
    ports = free_port(), free_port()
    replica = launch(own_redis.url, ready=False, port=ports[0], admin_port=ports[1], redis_wait_seconds=300)
    wait_for(lambda: all(map(is_bound, ports)), "both ports to be taken")
    for _ in range(10):
        assert [listens(port) for port in ports] == [False, False]
        time.sleep(0.02)
    own_redis.start()
    replica.wait_ready()
    assert all(map(listens, ports))


@pytest.mark.parametrize(("host", "has_v6"), [("::", True), ("0.0.0.0", False)])
def test_two_colons_are_all_addresses_of_both_families(
    launch: Launch, redis_server: RedisServer, host: str, has_v6: bool
) -> None:
    """On both ports, and for `healthcheck`; the chart has it for clusters that have IPv6 only."""
    admin = free_port()
    replica = launch(redis_server.url, host=host, admin_port=admin)
    for port in (replica.port, admin):
        assert listens(port)
        with socket.socket(socket.AF_INET6) as client:
            assert (client.connect_ex(("::1", port)) == 0) == has_v6
    env = environment(None, GATEWAY_HOST=host, GATEWAY_PORT=replica.port, GATEWAY_ADMIN_PORT=admin)
    assert run_gateway("healthcheck", "--ready", env=env).returncode == 0


def test_a_taken_port_is_known_before_redis_is_waited_for(launch: Launch) -> None:
    replica = launch()
    env = environment(f"redis://127.0.0.1:{free_port()}", GATEWAY_REDIS_WAIT_SECONDS=60)
    done = run_gateway("serve", "--port", str(replica.port), env=env)
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{replica.port}" in done.stderr


@pytest.mark.parametrize("shared", ["port", "admin_port"])
def test_of_two_that_wait_with_one_port_one_serves_and_the_other_says_why_not(
    launch: Launch, own_redis: RedisServer, shared: str
) -> None:
    own_redis.kill()
    port = free_port()
    two = []
    for _ in range(2):
        ports: dict[str, Any] = {"admin_port": free_port(), shared: port}
        two.append(launch(own_redis.url, ready=False, redis_wait_seconds=60, log_format="json", **ports))
    wait_for(lambda: is_bound(port), "the port to be taken")
    time.sleep(1)
    own_redis.start()
    wait_for(lambda: not all(replica.running() for replica in two), "one to give up")
    (loser,) = [replica for replica in two if not replica.running()]
    assert loser.popen.returncode == 1
    last = json.loads(loser.log.splitlines()[-1])
    assert f"cannot listen on 127.0.0.1:{port}" in last["message"]
    (winner,) = [replica for replica in two if replica is not loser]
    winner.wait_ready()
