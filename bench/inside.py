"""`python -m bench tls inside`: what TLS of a replica costs, and what a look inside costs it.

tls: one replica without and one with GATEWAY_TLS_CERT, in turn. The clients read what comes and do not decrypt it, so
they take the same time for both. inside: pages of /admin/clients with many clients.
"""

import contextlib
import http.client
import json
import os
import selectors
import socket
import ssl
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.auth import UPGRADE
from bench.process import Child
from bench.servers import LOOPBACK, Ground, free_port
from bench.toolchain import BenchError

VIEWERS, EVENTS, EVENTS_PER_SECOND = 500, 200, 50.0
HANDSHAKES = 500
IDLE_FIRST, IDLE_MORE = 500, 1_500
LISTED = 10_000
PROJECT = "bench"


class Server:
    """A replica, and how to connect to it."""

    def __init__(self, child: Child, port: int, admin_port: int, context: ssl.SSLContext | None) -> None:
        self.child = child
        self.port = port
        self._admin_port = admin_port
        self._context = context

    def connect(self, *, subscribed: bool = True) -> socket.socket:
        plug = socket.create_connection((LOOPBACK, self.port), timeout=30)
        if self._context is not None:
            plug = self._context.wrap_socket(plug, server_hostname=LOOPBACK)
        scheme = "http" if self._context is None else "https"
        plug.sendall(UPGRADE.format(query="", port=self.port).replace("Origin: http", f"Origin: {scheme}").encode())
        self._until(plug, b'"connected"')
        if subscribed:
            text = json.dumps({"type": "subscribe", "projectId": PROJECT}).encode()
            plug.sendall(bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text)
            self._until(plug, b'"subscribed"')
        return plug

    @staticmethod
    def _until(plug: socket.socket, mark: bytes) -> None:
        seen = b""
        while mark not in seen:
            data = plug.recv(65_536)
            if not data:
                raise BenchError(f"The gateway closed a connection after {seen[:200]!r}.")
            seen += data

    def get(self, path: str) -> bytes:
        connection = http.client.HTTPConnection(LOOPBACK, self._admin_port, timeout=30)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise BenchError(f"{path} was answered with {answer.status}.")
        return body

    def deliveries(self) -> float:
        lines = self.get("/metrics").decode().splitlines()
        names = ("gateway_deliveries_total ", "gateway_deliveries_joined_total ")
        return sum(float(line.split()[1]) for line in lines if line.startswith(names))


@contextmanager
def _server(ground: Ground, directory: Path, *, tls: bool) -> Iterator[Server]:
    port, admin = free_port(), free_port()
    certificate, key = directory / "tls.crt", directory / "tls.key"
    flags = ["--tls-cert", str(certificate), "--tls-key", str(key)] if tls else []
    command = [
        sys.executable,
        "-m",
        "gateway",
        "serve",
        "--port",
        str(port),
        "--admin-port",
        str(admin),
        "--max-connections",
        "20000",
        *flags,
    ]
    env = {name: value for name, value in os.environ.items() if not name.startswith(("GATEWAY_", "PROGRESS_"))}
    env |= {"REDIS_URL": f"redis://{LOOPBACK}:{ground.redis_port}/0"}
    context = ssl.create_default_context(cafile=str(certificate)) if tls else None
    with Child("gateway", command, env=env, cores=ground.server_cores) as child:
        server = Server(child, port, admin, context)
        deadline = time.monotonic() + 30
        while True:
            child.assert_running()
            with contextlib.suppress(OSError, http.client.HTTPException, BenchError):
                server.get("/readyz")
                break
            if time.monotonic() > deadline:
                raise BenchError("The gateway was not ready in time.")
            time.sleep(0.1)
        yield server


def _make_certificate(directory: Path) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=bench", "-addext", f"subjectAltName=IP:{LOOPBACK}",
         "-keyout", str(directory / "tls.key"), "-out", str(directory / "tls.crt")],
        check=True, capture_output=True,
    )  # fmt: skip


class _Crowd:
    """Viewers that read and throw away what comes, in a thread."""

    def __init__(self, server: Server, count: int) -> None:
        self._selector = selectors.DefaultSelector()
        self._held = [server.connect() for _ in range(count)]
        for plug in self._held:
            plug.setblocking(False)
            self._selector.register(plug.fileno(), selectors.EVENT_READ)
        self._is_over = False
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while not self._is_over:
            for key, _ in self._selector.select(0.1):
                with contextlib.suppress(BlockingIOError):
                    os.read(key.fd, 65_536)

    def close(self) -> None:
        self._is_over = True
        self._thread.join()
        for plug in self._held:
            plug.close()


def _publish(ground: Ground) -> None:
    import redis

    from publisher import broadcast_to_project

    os.environ["REDIS_URL"] = f"redis://{LOOPBACK}:{ground.redis_port}/0"
    redis.Redis(port=ground.redis_port).ping()
    due = time.monotonic()
    for number in range(EVENTS):
        time.sleep(max(0.0, due - time.monotonic()))
        due += 1 / EVENTS_PER_SECOND
        event = {"type": "progress", "jobId": "job_7", "jobType": "audio", "message": "voice 2 of 5"}
        broadcast_to_project(PROJECT, event | {"progress": round(100 * number / EVENTS, 1)})


def run_tls(ground: Ground, rounds: int) -> str:
    """The table, as Markdown."""
    values: dict[tuple[str, bool], list[float]] = {}
    with TemporaryDirectory() as text:
        directory = Path(text)
        _make_certificate(directory)
        for number in range(1, rounds + 1):
            for tls in (False, True):
                with _server(ground, directory, tls=tls) as server:
                    for name, value in _round(server, ground).items():
                        values.setdefault((name, tls), []).append(value)
                        said = f"tls round {number}/{rounds} {'TLS' if tls else 'plain'} {name} {value:,.1f}"
                        print(said, file=sys.stderr, flush=True)
    lines = ["| what | without | with TLS | ratio |", "| --- | --- | --- | --- |"]
    for name in dict.fromkeys(name for name, _ in values):
        without, with_tls = (statistics.median(values[name, tls]) for tls in (False, True))
        lines.append(f"| {name} | {without:,.1f} | {with_tls:,.1f} | {with_tls / without:.2f} |")
    return "\n".join(lines)


def _round(server: Server, ground: Ground) -> dict[str, float]:
    child = server.child
    for _ in range(20):
        server.connect().close()
    before = child.cpu_seconds()
    held = [server.connect() for _ in range(HANDSHAKES)]
    shaken = (child.cpu_seconds() - before) / HANDSHAKES
    held += [server.connect() for _ in range(IDLE_FIRST)]
    pss = child.pss_bytes()
    held += [server.connect() for _ in range(IDLE_MORE)]
    memory = (child.pss_bytes() - pss) / IDLE_MORE
    for plug in held:
        plug.close()
    time.sleep(1)
    crowd = _Crowd(server, VIEWERS)
    try:
        delivered, before = server.deliveries(), child.cpu_seconds()
        _publish(ground)
        spent = child.cpu_seconds() - before
        delivered = server.deliveries() - delivered
    finally:
        crowd.close()
    if delivered != VIEWERS * EVENTS:
        raise BenchError(f"{delivered:.0f} of {VIEWERS * EVENTS} deliveries were made.")
    return {
        "us of CPU for a connection and its subscribe": shaken * 1e6,
        "bytes of an idle subscribed connection": memory,
        "us of CPU for a delivery": spent / delivered * 1e6,
    }


def run_inside(ground: Ground) -> str:
    """The table, as Markdown."""
    lines = [f"| with {LISTED:,} clients | us of CPU | ms until answered |", "| --- | --- | --- |"]
    with TemporaryDirectory() as text, ExitStack() as stack, _server(ground, Path(text), tls=False) as server:
        for _ in range(LISTED):
            stack.callback(server.connect().close)
        last = json.loads(server.get("/admin/clients?limit=1"))["next"]
        after = ""
        while following := json.loads(server.get(f"/admin/clients?limit=1000&after={after}"))["next"]:
            after = following  # the start of the last page
        for name, path in (
            ("nothing: /healthz", "/healthz"),
            ("first page of 100", "/admin/clients?limit=100"),
            ("last page of 100", f"/admin/clients?limit=100&after={after}"),
            ("first page of 1,000", "/admin/clients?limit=1000"),
            ("last page of 1,000", f"/admin/clients?limit=1000&after={after}"),
            ("one client, the second", f"/admin/clients?limit=1&after={last}"),
            ("all, in pages of 500", ""),
        ):
            before, began = server.child.cpu_seconds(), time.perf_counter()
            repeats = 3 if not path else 20
            for _ in range(repeats):
                _all(server) if not path else server.get(path)
            cpu, took = server.child.cpu_seconds() - before, time.perf_counter() - began
            lines.append(f"| {name} | {cpu / repeats * 1e6:,.0f} | {took / repeats * 1e3:,.1f} |")
    return "\n".join(lines)


def _all(server: Server) -> None:
    after: str | None = ""
    while after is not None:
        after = json.loads(server.get(f"/admin/clients?limit=500&after={after}"))["next"]
