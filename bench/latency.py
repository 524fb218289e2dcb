"""P7c to P7f: from publish to socket with many connections, and while something large happens to the server.

Two client processes: the watchers, whose clock counts, and a crowd, which connects or comes back. Each sample compares
two windows of one run: before it happens, and meanwhile.
"""

import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from statistics import median

from bench.latencies import Latencies
from bench.load import FINAL, Clients, Traffic, commands, run_clients
from bench.process import Child
from bench.scenarios import (
    DELIVERY_SECONDS,
    SETTLE_SECONDS,
    Sample,
    Scenario,
    judge,
    open_clients,
    publisher_of,
    tail_of,
)
from bench.servers import LOOPBACK, Ground, Kind, run_server
from bench.toolchain import BenchError

QUIET_SECONDS = 3.0  # the window before
CROWD = 1_000_000  # the number of its first project, beyond those of the watchers
CONNECTS = 3_000
CONNECTS_PROJECTS = 100
RECONNECTS = 1_000
MISSED = 200  # events that each of these missed, of a job each
IDLE = 15_000  # connections, each of a project of its own, so that the collector has much to look at
COLLECTIONS = 5

# Published for 15 s, so that the windows lie within.
ONE_WATCHER = Traffic(subscribers=1, projects=1, rounds=30_000, per_second=2_000, is_timed=True)
WATCHERS = Traffic(subscribers=100, projects=100, rounds=150, per_second=1_000, is_timed=True)
# For 30 s, so that the keep-alive pings each connection.
MANY = Traffic(subscribers=10_000, projects=10_000, rounds=6, per_second=2_000)


@dataclass
class Watch:
    """A server that delivers timed events to the watchers. Lives as long as a sample."""

    kind: Kind
    server: Child
    port: int
    watchers: Clients
    published: Future[float]
    notes: list[str] = field(default_factory=list)
    is_lost: bool = False

    def quiet(self) -> Latencies:
        time.sleep(SETTLE_SECONDS)
        self.watchers.latencies()
        time.sleep(QUIET_SECONDS)
        return self.watchers.latencies()

    def latencies(self) -> Latencies:
        """Since they were last asked for."""
        if self.published.done():
            self.notes.append("the window is longer than events were published")
        return self.watchers.latencies()

    @contextmanager
    def crowd(self) -> Iterator[Clients]:
        with run_clients(self.port, dialect=self.kind.dialect, name="crowd") as clients:
            yield clients

    def sample(self, meanwhile: Latencies, *before: Latencies) -> Sample:
        """The largest latency meanwhile, and those of the windows before. To be called when the watch is over."""
        parts = tuple(each.ms(100) for each in (*before, meanwhile))
        return Sample(parts[-1], tuple(self.notes), self.is_lost, parts, meanwhile)


@contextmanager
def _watch(kind: Kind, ground: Ground, traffic: Traffic, *, idle: int = 0) -> Iterator[Watch]:
    """Events are published all the time; at the end each watcher must have had every one. `idle`: other clients."""
    ready = commands(traffic, kind.intake)
    with (
        run_server(kind, ground) as (server, port),
        run_clients(port, dialect=kind.dialect, name="watchers") as watchers,
        publisher_of(kind, ground, port) as publisher,
        ThreadPoolExecutor(1) as thread,
        ExitStack() as stack,
    ):
        if idle:
            crowd = stack.enter_context(run_clients(port, dialect=kind.dialect, name="idle"))
            crowd.open(idle, idle, first=CROWD)
        open_clients(watchers, publisher, kind, traffic)
        watch = Watch(kind, server, port, watchers, thread.submit(publisher.publish, ready, traffic.per_second))
        yield watch
        watch.published.result()
        verdict = judge(kind, traffic, watchers.wait(DELIVERY_SECONDS))
        watch.notes += verdict.notes
        watch.is_lost = watch.is_lost or verdict.lost


def _connecting(kind: Kind, ground: Ground) -> Sample:
    """The events of one viewer, every 0.5 ms, show how long the loop is busy with others."""
    with _watch(kind, ground, ONE_WATCHER) as watch:
        quiet = watch.quiet()
        with watch.crowd() as crowd:
            crowd.open(CONNECTS, CONNECTS_PROJECTS, first=CROWD)
            meanwhile = watch.latencies()
    return watch.sample(meanwhile, quiet)


def _publish_to_crowd(ground: Ground, text: str, jobs: int) -> int:
    """By the publisher, whose events Redis remembers. Returns the last seq."""
    from publisher import broadcast_many

    os.environ["REDIS_URL"] = f"redis://{LOOPBACK}:{ground.redis_port}/0"
    event = {"type": "progress", "jobType": "audio", "progress": 40, "message": text + "." * 100}
    seq = broadcast_many([(f"bench-{CROWD}", event | {"jobId": f"job-{number}"}) for number in range(jobs)])[-1]
    if seq is None:
        raise BenchError("Redis refused an event of the publisher.")
    return seq


def _catching_up(kind: Kind, ground: Ground) -> Sample:
    """Clients come back all at once with a cursor: first nothing is newer, then `MISSED` events are."""
    with _watch(kind, ground, WATCHERS) as watch:
        quiet = watch.quiet()
        known = _publish_to_crowd(ground, "known ", 1)
        with watch.crowd() as crowd:
            crowd.open(RECONNECTS, 1, first=CROWD, since=known, at_once=RECONNECTS)
            connecting = watch.latencies()
        if not kind.conflates:
            watch.notes.append("has no catch-up: its clients only connect")
            meanwhile = connecting
        else:
            time.sleep(SETTLE_SECONDS)  # the crowd has left
            _publish_to_crowd(ground, FINAL, MISSED)
            meanwhile = _catch_up(watch, known)
    return watch.sample(meanwhile, quiet, connecting)


def _catch_up(watch: Watch, known: int) -> Latencies:
    with watch.crowd() as crowd:
        crowd.count(MISSED)
        watch.latencies()
        crowd.open(RECONNECTS, 1, first=CROWD, since=known, at_once=RECONNECTS)
        missed = crowd.wait(DELIVERY_SECONDS)
        meanwhile = watch.latencies()
    if not missed.fewest == missed.most == MISSED or missed.errors:
        watch.is_lost = True
        watch.notes.append(f"LOST: of {MISSED} missed events clients got {missed.fewest} to {missed.most}")
    return meanwhile


def _collecting(kind: Kind, ground: Ground) -> Sample:
    """A full collection of all objects, once a second; see collected.py for how. In service one is rare.

    Of the parts, the second is the median length of the collections themselves.
    """
    flags = [sys.executable, "-m", "bench.collected", "serve", "--max-connections", str(2 * IDLE), "--port"]
    piped = replace(kind, command=lambda port, _: [*flags, str(port)], piped=True)
    with _watch(piped, ground, WATCHERS, idle=IDLE) as watch:
        quiet = watch.quiet()
        found = []
        for _ in range(COLLECTIONS):
            found.append(_collect(watch.server))
            time.sleep(1)
        meanwhile = watch.latencies()
    length_ms, objects = median(ms for ms, _ in found), found[-1][1]
    watch.notes.append(f"a full collection of {objects:,} objects takes {length_ms:.0f} ms")
    sample = watch.sample(meanwhile, quiet)
    return replace(sample, parts=(sample.parts[0], length_ms, sample.parts[1]))


def _collect(server: Child) -> tuple[float, int]:
    """Milliseconds, and the number of objects."""
    pipes = server.popen
    assert pipes.stdin is not None
    assert pipes.stdout is not None
    pipes.stdin.write(b"collect\n")
    pipes.stdin.flush()
    word, ms, objects, *_ = pipes.stdout.readline().decode().split() or [""]
    if word != "collected":
        raise BenchError(f"The gateway did not answer; see {server.log}.")
    return float(ms), int(objects)


LATENCY = (
    Scenario("P7c", "p99: 10,000 projects, 2,000 events/s, with pings", "ms", "<= 1 ms", 3, 45, tail_of(MANY)),
    Scenario("P7d", "largest latency while 3,000 clients connect", "ms", "<= 3 ms", 3, 20, _connecting),
    Scenario("P7e", "largest latency while 1,000 clients catch up, 200 events each", "ms", "-", 3, 22, _catching_up),
    Scenario(
        "P7f",
        "largest latency with a full collection a second, 15,000 connections",
        "ms",
        "-",
        3,
        25,
        _collecting,
        only=("gateway",),
    ),
)
