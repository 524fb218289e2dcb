"""Notifications to systemd, read from a real datagram socket."""

import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from gateway.operations.systemd import Systemd
from tests.contract.deadlines import PATIENCE
from tests.contract.processes import RedisServer, Replica
from tests.simulated_time import SimulatedTime

Lines = list[str]


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as plug:
        plug.bind(str(tmp_path / "notify"))
        plug.settimeout(PATIENCE)
        yield plug


def heard(manager: socket.socket) -> Lines:
    return manager.recv(4_096).decode().split("\n")


def is_silent(manager: socket.socket) -> bool:
    manager.settimeout(0.1)
    try:
        return not manager.recv(4_096)
    except TimeoutError:
        return True


def test_it_is_told_one_message_of_all_lines(manager: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", manager.getsockname())
    Systemd().tell("STOPPING=1", "EXTEND_TIMEOUT_USEC=5")
    assert heard(manager) == ["STOPPING=1", "EXTEND_TIMEOUT_USEC=5"]


def test_a_socket_of_the_abstract_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"progress-gateway-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name)
        manager.settimeout(PATIENCE)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name)
        Systemd().tell("READY=1")
        assert heard(manager) == ["READY=1"]


def test_without_systemd_nothing_is_said(manager: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    Systemd().tell("READY=1")
    assert is_silent(manager)


def test_a_manager_that_is_gone_is_one_line_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    Systemd().tell("READY=1")
    assert caplog.messages == ["Cannot tell systemd READY=1: No such file or directory"]


def test_a_manager_that_does_not_read_is_not_waited_for(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", manager.getsockname())
    systemd = Systemd()
    for _ in range(2_000):  # its queue holds a few
        systemd.tell("WATCHDOG=1")
        if caplog.messages:
            break
    assert "WATCHDOG=1" in caplog.messages[0]


@pytest.mark.parametrize(
    ("interval", "pid", "is_fed"),
    [("150000", None, True), ("150000", "own", True), ("150000", "1", False), ("", None, False), ("soon", None, False)],
)
async def test_the_watchdog_is_fed_thrice_an_interval_if_it_is_ours(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch, interval: str, pid: str | None, is_fed: bool
) -> None:
    SimulatedTime(asyncio.get_running_loop(), monkeypatch)
    monkeypatch.setenv("NOTIFY_SOCKET", manager.getsockname())
    monkeypatch.setenv("WATCHDOG_USEC", interval)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    if pid is not None:
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if pid == "own" else pid)
    task = asyncio.create_task(Systemd().feed_watchdog())
    await asyncio.sleep(0.28)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    manager.setblocking(False)
    beats = 0
    try:
        while heard(manager) == ["WATCHDOG=1"]:
            beats += 1
    except BlockingIOError:
        pass
    assert beats == (6 if is_fed else 0), beats


async def test_a_replica_says_when_it_is_ready_lives_and_stops(
    redis_server: RedisServer, manager: socket.socket, tmp_path: Path
) -> None:
    notify = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "300000"}
    replica = Replica(redis_server.url, tmp_path / "log", drain_seconds=4, lame_duck_seconds=1, **notify)
    try:
        assert heard(manager) == ["READY=1"]
        assert replica.status("/readyz") == 200, "it was ready when it said so"
        for _ in range(3):
            assert heard(manager) == ["WATCHDOG=1"]
        async with connect(replica.ws, proxy=None) as client:  # does not know `going_away`
            await client.recv()
            replica.signal(signal.SIGTERM)
            await client.wait_closed()
            said = []
            while (line := heard(manager)) == ["WATCHDOG=1"]:
                pass
            assert line == ["STOPPING=1", f"EXTEND_TIMEOUT_USEC={(1 + 4 + 1 + 4 + 5 + 5) * 1_000_000}"]
            said = [heard(manager) for _ in range(3)]
            assert said == [["WATCHDOG=1"]] * 3, "the watchdog is fed while it drains"
        assert replica.wait("the end") == 0
    finally:
        replica.end()
