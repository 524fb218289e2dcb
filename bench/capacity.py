"""P9, what one Redis can carry: its CPU time and memory for an event, a replica, a project; see docs/scaling.md.

The CPU time is that of the whole process: sockets, protocol and script, more than `INFO commandstats` counts. The
publisher is the real one; the replicas are bare sockets that subscribe as a replica does.
"""

import os
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import publisher
from bench.process import Child
from bench.publishing import Event, Figure, pack, usual_events
from bench.servers import LOOPBACK, redis_server
from bench.toolchain import BenchError

EVENTS = 5_000
PROJECTS = 20
REMEMBERED_JOBS = 20_000
CHANNELS = 10_000
JOBS_OF_A_PROJECT = 10
SLOTS = 16_384
NODES = 200  # primaries of a large Cluster
ASKS = 500  # for the cost of one answer


class Replicas:
    """Connections that subscribe to the same projects, as replicas do; a thread reads them all until `close`."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._selector = selectors.DefaultSelector()
        self._sockets: list[socket.socket] = []
        self._is_over = False
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def add(self, count: int, verb: str) -> None:
        for _ in range(count):
            plug = socket.create_connection((LOOPBACK, self._port), timeout=30)
            for number in range(PROJECTS):  # one a command: a Cluster takes only channels of one slot in a SSUBSCRIBE
                plug.sendall(pack(verb, f"project:bench-{number}"))
            answers = b""
            while answers.count(b"subscribe\r\n") < PROJECTS:
                answers += plug.recv(65536)
            self._sockets.append(plug)
            self._selector.register(plug, selectors.EVENT_READ)

    def _read(self) -> None:
        while not self._is_over:
            for key, _ in self._selector.select(0.05):
                key.fileobj.recv(1 << 20)  # type: ignore[union-attr]

    def close(self) -> None:
        self._is_over = True
        self._reader.join()
        for plug in self._sockets:
            plug.close()
        self._selector.close()


@contextmanager
def _replicas(port: int, count: int, verb: str = "SUBSCRIBE") -> Iterator[Replicas]:
    replicas = Replicas(port)
    try:
        replicas.add(count, verb)
        yield replicas
    finally:
        replicas.close()


class RedisConnection:
    """One connection for all commands except events. Lives as long as its `with` block."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection((LOOPBACK, port), timeout=60)

    def __enter__(self) -> "RedisConnection":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, *words: str) -> bytes:
        """Send a command; returns what one read brings. Raises `BenchError` if Redis answers with an error."""
        self._socket.sendall(pack(*words))
        answer = self._socket.recv(1 << 20)
        if answer.startswith(b"-"):
            raise BenchError(f"Redis answered {answer[:200]!r}.")
        return answer

    def send(self, commands: bytes, end: bytes, times: int) -> None:
        """Send the commands and read until `end` has arrived `times` times."""
        threading.Thread(target=self._socket.sendall, args=(commands,), daemon=True).start()
        found, tail = 0, b""
        while found < times:
            data = tail + self._socket.recv(1 << 20)
            found += data.count(end)
            tail = data[-len(end) + 1 :] if not data.endswith(end) else b""

    def drain(self) -> None:
        """Read the rest of a long answer: the answer to a PING comes after it."""
        self._socket.sendall(pack("PING"))
        while not self._socket.recv(1 << 20).endswith(b"+PONG\r\n"):
            pass

    def used_memory(self) -> int:
        time.sleep(0.2)
        for line in self.ask("INFO", "memory").splitlines():
            if line.startswith(b"used_memory:"):
                return int(line[12:])
        raise BenchError("INFO memory of this Redis has no used_memory.")


def _batch(events: Sequence[Event]) -> None:
    items = [(f"bench-{number % PROJECTS}", event) for number, event in enumerate(events)]
    for begin in range(0, len(items), 1_000):
        if None in publisher.broadcast_many(items[begin : begin + 1_000], strict=True):
            raise BenchError("The publish script refused an event of the benchmark.")


def _one_by_one(events: Sequence[Event]) -> None:
    for number, event in enumerate(events):
        publisher.broadcast_to_project(f"bench-{number % PROJECTS}", event, strict=True)


def _cost(redis: Child, publish: Callable[[Sequence[Event]], None], count: int) -> float:
    """CPU microseconds of Redis for one of `count` events."""
    events = usual_events(count)
    publish(events[:200])
    before = redis.cpu_seconds()
    publish(events)
    time.sleep(0.1)
    return (redis.cpu_seconds() - before) * 1e6 / count


def _large_cluster() -> str:
    """The nodes.conf of a node in a Cluster of NODES primaries. The others do not exist."""
    share = SLOTS // NODES
    lines = []
    for number in range(NODES):
        last = SLOTS - 1 if number == NODES - 1 else (number + 1) * share - 1
        address = f"127.0.0.1:{20_000 + number}@{30_000 + number}"
        flags = "myself,master" if number == 0 else "master"
        lines.append(f"{number:040x} {address} {flags} - 0 0 {number + 1} connected {number * share}-{last}")
    return "\n".join([*lines, f"vars currentEpoch {NODES} lastVoteEpoch 0", ""])


def _cost_of_asking(redis: Child, asking: RedisConnection, *words: str) -> float:
    """CPU microseconds of Redis for one answer of any length."""
    before = redis.cpu_seconds()
    for _ in range(ASKS):
        asking.ask(*words)
        asking.drain()
    return (redis.cpu_seconds() - before) * 1e6 / ASKS


class Capacity:
    """All figures of P9. Each round uses a fresh Redis."""

    def __init__(self) -> None:
        self._batched = Figure("P9a", "CPU of Redis for an event of a batch, heard by 1 replica", "us", "")
        self._single = Figure("P9b", "CPU of Redis for an event sent alone, heard by 1 replica", "us", "")
        self._sharded = Figure("P9c", "as P9a, in a Cluster (SPUBLISH)", "us", "")
        self._job = Figure("P9d", "memory of Redis for a remembered job with a last event of 200 B", "bytes", "")
        self._channel = Figure("P9e", "memory of Redis for a project that one replica watches", "bytes", "")
        self._load = Figure("P9f", f"CPU of Redis to load a project of {JOBS_OF_A_PROJECT} jobs", "us", "")
        self._own_slots = Figure("P9g", f"CPU of a primary to report its own slots, among {NODES} primaries", "us", "")
        self.figures = [
            self._batched, self._single, self._sharded, self._job, self._channel, self._load, self._own_slots,
        ]  # fmt: skip

    def measure(self) -> None:
        with redis_server() as (redis, port):
            os.environ["REDIS_URL"] = f"redis://{LOOPBACK}:{port}/0"
            self._events(redis, port)
            self._single.add(self._with(redis, port, 1, _one_by_one, EVENTS // 5))
            self._memory(redis, port)
        with redis_server("--cluster-enabled", "yes", "--cluster-require-full-coverage", "no") as (redis, port):
            os.environ["REDIS_URL"] = f"redis+cluster://{LOOPBACK}:{port}"
            with RedisConnection(port) as asking:
                asking.ask("CLUSTER", "ADDSLOTSRANGE", "0", str(SLOTS - 1))
                while b"cluster_state:ok" not in asking.ask("CLUSTER", "INFO"):
                    time.sleep(0.05)
            self._sharded.add(self._with(redis, port, 1, _batch, EVENTS, "SSUBSCRIBE"))
        with (
            redis_server("--cluster-enabled", "yes", nodes=_large_cluster()) as (redis, port),
            RedisConnection(port) as asking,
        ):
            asking.ask("CLUSTER", "MYID")
            costs = [_cost_of_asking(redis, asking, *words) for words in (("CLUSTER", "NODES"), ("CLUSTER", "SLOTS"))]
            self._own_slots.add(costs[0], **{"for the whole map": sum(costs)})

    @staticmethod
    def _with(
        redis: Child, port: int, replicas: int, publish: Callable[[Sequence[Event]], None], count: int,
        verb: str = "SUBSCRIBE",
    ) -> float:  # fmt: skip
        with _replicas(port, replicas, verb):
            return _cost(redis, publish, count)

    def _events(self, redis: Child, port: int) -> None:
        costs = {number: self._with(redis, port, number, _batch, EVENTS) for number in (1, 0, 2, 8)}
        beside = {f"heard by {number}": cost for number, cost in costs.items() if number != 1}
        self._batched.add(costs[1], **beside)

    def _memory(self, redis: Child, port: int) -> None:
        with RedisConnection(port) as asking:
            asking.ask("FLUSHALL")
            before = asking.used_memory()
            jobs = [
                (f"memory-{number // JOBS_OF_A_PROJECT}", event | {"jobId": f"job-{number % JOBS_OF_A_PROJECT}"})
                for number, event in enumerate(usual_events(REMEMBERED_JOBS))
            ]
            for begin in range(0, len(jobs), 1_000):
                publisher.broadcast_many(jobs[begin : begin + 1_000], strict=True)
            self._job.add((asking.used_memory() - before) / REMEMBERED_JOBS)
            with RedisConnection(port) as replica:
                before = asking.used_memory()
                names = [f"project:memory-{number}" for number in range(CHANNELS)]
                replica.send(b"".join(pack("SUBSCRIBE", name) for name in names), b"subscribe\r\n", CHANNELS)
                self._channel.add((asking.used_memory() - before) / CHANNELS)
            projects = REMEMBERED_JOBS // JOBS_OF_A_PROJECT
            loads = b"".join(
                pack("SUBSCRIBE", f"project:memory-{number}") + pack("HGETALL", f"{{project:memory-{number}}}:jobs")
                for number in range(projects)
            )
            with RedisConnection(port) as replica:
                replica.ask("HELLO", "3")
                cpu = redis.cpu_seconds()
                replica.send(loads, b"subscribe\r\n", projects)
                time.sleep(0.2)
                self._load.add((redis.cpu_seconds() - cpu) * 1e6 / projects)


def run_capacity(rounds: int) -> list[Figure]:
    """Measure P9 `rounds` times."""
    for name in [name for name in os.environ if name.startswith("PROGRESS_")]:
        del os.environ[name]
    capacity = Capacity()
    for number in range(1, rounds + 1):
        capacity.measure()
        values = ", ".join(f"{figure.name} {figure.values[-1]:,.1f} {figure.unit}" for figure in capacity.figures)
        print(f"P9 round {number}/{rounds} {values}", file=sys.stderr, flush=True)
    return capacity.figures
