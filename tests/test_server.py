"""The orderly shutdown: signals, and what clients are told."""

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvicorn
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from gateway.app import create_app
from gateway.operations.reload import Reload
from gateway.server import Server
from tests.contract.deadlines import PATIENCE, STALL_SECONDS
from tests.contract.processes import RedisServer, Replica
from tests.fakes import new_hub
from tests.raw_http import get, rest_of, status, tcp, until, upgrade

Start = Callable[..., Replica]


@pytest.fixture
def start(redis_server: RedisServer, tmp_path: Path) -> Iterator[Start]:
    started: list[Replica] = []

    def start(patched: str = "") -> Replica:
        log = tmp_path / f"{len(started)}.log"
        started.append(Replica(redis_server.url, log, drain_seconds=0.4, patched=patched))
        return started[-1].wait_ready()

    yield start
    for replica in started:
        replica.end()
        assert "Traceback" not in replica.log, replica.log


# Signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order_with_status_0(start: Start, number: signal.Signals) -> None:
    replica = start()
    with connect(replica.ws, proxy=None) as client:
        client.recv(timeout=PATIENCE)
        replica.signal(number)
        assert "going_away" in str(client.recv(timeout=PATIENCE))
        with pytest.raises(ConnectionClosed) as caught:
            client.recv(timeout=PATIENCE)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1012
    assert replica.wait("the end") == 0
    assert "Ended in order" in replica.log


def test_a_client_that_does_not_answer_the_close_delays_the_end_by_a_few_seconds_only(start: Start) -> None:
    replica = start()
    with tcp(replica.port) as plug:
        plug.sendall(upgrade())
        until(plug, b"}")
        began = time.monotonic()
        replica.signal(signal.SIGTERM)
        assert replica.wait("the end") == 0
        assert time.monotonic() - began < 9 + STALL_SECONDS
        assert (1012).to_bytes(2, "big") in rest_of(plug)


def test_a_second_signal_ends_it_at_once(start: Start) -> None:
    replica = start(f"gateway.clients.drain.CLOSE_SECONDS={2 * PATIENCE}")
    with tcp(replica.port) as plug:
        plug.sendall(upgrade())
        until(plug, b"}")
        replica.signal(signal.SIGTERM)
        until(plug, (1012).to_bytes(2, "big"))
        began = time.monotonic()
        replica.signal(signal.SIGTERM)
        replica.wait("the end")
        assert time.monotonic() - began < PATIENCE / 2


def test_a_draining_replica_fails_readiness_and_refuses_upgrades(start: Start) -> None:
    replica = start()
    with tcp(replica.port) as watcher, tcp(replica.port) as balancer, tcp(replica.port) as late:
        watcher.sendall(upgrade())
        until(watcher, b"}")
        for plug in (balancer, late):
            plug.sendall(get(close=False))
            until(plug, b"ok\n")
        replica.signal(signal.SIGTERM)
        until(watcher, (1012).to_bytes(2, "big"))
        balancer.sendall(get("/readyz"))
        late.sendall(upgrade())
        assert [status(rest_of(plug)) for plug in (balancer, late)] == [503, 503]
    assert replica.wait("the end") == 0


def test_signals_are_counted_and_not_raised_again(monkeypatch: pytest.MonkeyPatch) -> None:
    hub, _ = new_hub()
    server = Server(uvicorn.Config(create_app(hub.settings), log_config=None), hub, Reload([]))
    ended: list[int] = []
    monkeypatch.setattr("gateway.server.os._exit", ended.append)
    server.handle_exit(signal.SIGTERM, None)
    assert (server.should_exit, server.force_exit) == (True, False)
    server.handle_exit(signal.SIGINT, None)
    assert (server.should_exit, server.force_exit) == (True, True)
    server.handle_exit(signal.SIGINT, None)
    assert ended == [], "the second one was given no time yet"
    monkeypatch.setattr("gateway.server.FORCE_SECONDS", 0)
    server.handle_exit(signal.SIGINT, None)
    assert ended == [1]
    assert server._captured_signals == []
