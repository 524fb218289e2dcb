"""`python -m bench reuseport`: two processes on one port, by SO_REUSEPORT, and what a restart of one does to clients.

It measures the kernel, not the gateway: the processes only accept. docs/operating.md says why replicas do not share a
port in this way.
"""

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from bench.servers import LOOPBACK

CLIENTS = 1_000
QUEUED = 200  # that came and were not accepted yet when the process ends
MIGRATE = "/proc/sys/net/ipv4/tcp_migrate_req"  # 1: the kernel hands a closing process' queue to the others


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind((LOOPBACK, port))
    listener.listen(4_096)
    return listener


@contextmanager
def _process(port: int, name: bytes, *, accepts: bool = True) -> Iterator[int]:
    """Accepts, says its name to each client, and keeps it. Yields the process' id."""
    ready, tell = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            listener, held = _listen(port), []
            os.write(tell, b".")
            while True:
                if accepts:
                    held.append(listener.accept()[0])
                    held[-1].send(name)
                else:
                    signal.pause()
        finally:
            os._exit(0)
    os.read(ready, 1)
    os.close(ready)
    os.close(tell)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _connect(port: int, count: int) -> list[socket.socket]:
    return [socket.create_connection((LOOPBACK, port), timeout=10) for _ in range(count)]


def _names(clients: list[socket.socket]) -> list[bytes]:
    return [client.recv(1) for client in clients]


def run_reuseport() -> str:
    """The findings, as Markdown."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        probe.bind((LOOPBACK, 0))  # bound, not listening: it keeps the port and gets no connection
        port = probe.getsockname()[1]
        with _process(port, b"a"):
            with _process(port, b"b"):
                clients = _connect(port, CLIENTS)
                first = _names(clients)
            moving = first.count(b"b")
            with _process(port, b"c"):
                again = _names(_connect(port, moving))
            stayed = first.count(b"a") + again.count(b"a")
            with _process(port, b"-", accepts=False):
                waiting = _connect(port, QUEUED)
                time.sleep(0.5)
            reset = sum(map(_is_reset, waiting))
    with open(MIGRATE) as file:
        migrates = file.read().strip()
    return "\n".join(
        [
            f"| {CLIENTS:,} clients, two processes on one port | one | the other |",
            "| --- | --- | --- |",
            f"| at first | {first.count(b'a')} | {moving} |",
            f"| after the other was restarted and its {moving} clients came again | {stayed} | {again.count(b'c')} |",
            "",
            f"{reset} of {QUEUED} connections were reset: those that waited for a process when it ended "
            f"(net.ipv4.tcp_migrate_req = {migrates}).",
        ]
    )


def _is_reset(client: socket.socket) -> bool:
    """Did the kernel reset it, rather than hand it to the other process, which says its name?"""
    try:
        return not client.recv(1)
    except ConnectionResetError:
        return True
