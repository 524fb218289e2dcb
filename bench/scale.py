"""`python -m bench scale`: 50,000 idle connections on one replica: memory, accepting, keep-alive, an event, the drain.

One gateway holds them all. The clients (bench/holder.py) are a few processes, because each has a limit of open files,
and use several source addresses, because each has some 28,000 ports. If the machine allows fewer connections, the
command says which limit it is, and opens as many as it can.
"""

import os
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.hostile import Victim
from bench.limits import Limits, meminfo_bytes
from bench.process import Child
from bench.servers import Ground, Kind, run_server
from bench.toolchain import BenchError

WANTED = 50_000
STEPS = (5_000, 10_000, 25_000)
SETTLE_SECONDS = 3.0
PING_SECONDS = 25.0  # the default of GATEWAY_PING_SECONDS: in so long, each connection is pinged once
ALONE_SECONDS = 10.0
OPEN_SECONDS = 300.0
DRAIN_SECONDS = 120.0


@dataclass(frozen=True)
class Step:
    """The replica with so many connections."""

    connections: int
    seconds: float  # that it took to open those since the step before
    cpu_us: float  # of the replica, for each of these
    pss_bytes: int
    slab_bytes: int  # the kernel's structures of the whole machine, beyond those before the first connection
    queued_pages: int  # of all TCP sockets: data that waits; /proc/net/sockstat
    collection_ms: float  # a full garbage collection
    tracked: int  # objects that the collector looks at
    full_collections: float  # that ran by themselves so far


@dataclass(frozen=True)
class Drained:
    """From SIGTERM to the end of the process."""

    seconds: float
    cpu_seconds: float
    status: int
    left: int  # connections that their clients closed
    told: int  # that got a close frame
    cut: int  # that ended without one
    latencies_ms: Sequence[float]  # of one viewer meanwhile


class Lines:
    """Asks a child by lines, and reads its answers."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self._unread = b""

    def tell(self, line: str) -> None:
        assert self._child.popen.stdin is not None
        self._child.popen.stdin.write(line.encode() + b"\n")
        self._child.popen.stdin.flush()

    def read(self, word: str, seconds: float) -> list[float]:
        """The numbers after `word`."""
        assert self._child.popen.stdout is not None
        fd, deadline = self._child.popen.stdout.fileno(), time.monotonic() + seconds
        while b"\n" not in self._unread:
            if not select.select([fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise BenchError(f"{self._child.name}: no `{word}` within {seconds:.0f} s; see {self._child.log}.")
            if not (data := os.read(fd, 4096)):
                raise BenchError(f"{self._child.name} ended instead of `{word}`; see {self._child.log}.")
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        said, *numbers = line.decode().split()
        if said != word:
            raise BenchError(f"{self._child.name}: {line.decode()}")
        return [float(number) for number in numbers]


class Replica:
    """One gateway, and the processes that hold its connections."""

    def __init__(self, child: Child, port: int, holders: Sequence[Child]) -> None:
        self.child, self.port = child, port
        self._holders = holders
        self._lines = [Lines(holder) for holder in holders]
        self._collector = Lines(child)
        self.connections = 0
        self._slab = meminfo_bytes("Slab")

    def grow(self, connections: int) -> Step:
        """Open more, up to so many, and look at what they cost."""
        more = connections - self.connections
        began, before = time.monotonic(), self.child.cpu_seconds()
        shares = [more // len(self._lines) + (number < more % len(self._lines)) for number in range(len(self._lines))]
        busy = [(lines, share) for lines, share in zip(self._lines, shares, strict=True) if share]
        for lines, share in busy:
            lines.tell(f"open {share}")
        for lines, _ in busy:
            lines.read("opened", OPEN_SECONDS)
        seconds, spent = time.monotonic() - began, self.child.cpu_seconds() - before
        self.connections = connections
        time.sleep(SETTLE_SECONDS)
        pss, slab = self.child.pss_bytes(), meminfo_bytes("Slab") - self._slab
        self._collector.tell("collect")
        took_ms, tracked, full = self._collector.read("collected", 30)
        cpu_us = spent * 1e6 / max(1, more)
        return Step(connections, seconds, cpu_us, pss, slab, queued_pages(), took_ms, int(tracked), full)

    def drain(self, victim: Victim | None = None) -> Drained:
        before, children = self.child.cpu_seconds(), children_cpu_seconds()
        began = time.monotonic()
        self.child.popen.send_signal(signal.SIGTERM)
        try:
            status = self.child.popen.wait(DRAIN_SECONDS)
        except subprocess.TimeoutExpired:
            raise BenchError(f"The replica did not end within {DRAIN_SECONDS:.0f} s; see {self.child.log}.") from None
        seconds = time.monotonic() - began
        left, told, cut = map(sum, zip(*(lines.read("closed", 20) for lines in self._lines), strict=True))
        latencies = tuple(victim.latencies_ms) if victim is not None else ()
        cpu = children_cpu_seconds() - children - before  # the replica is the only child that ended meanwhile
        return Drained(seconds, cpu, status, int(left), int(told), int(cut), latencies)


def children_cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def queued_pages() -> int:
    for line in Path("/proc/net/sockstat").read_text().splitlines():
        if line.startswith("TCP:"):
            return int(line.split()[-1])
    return 0


@contextmanager
def run_replica(ground: Ground, most: int, processes: int, manner: str) -> Iterator[Replica]:
    flags = ["serve", "--max-connections", str(most + 10)]  # beside them: the viewer, and /readyz
    kind = Kind(
        "gateway",
        lambda port, _: [sys.executable, "-m", "bench.collected", *flags, "--port", str(port)],
        piped=True,
    )
    with ExitStack() as stack:
        child, port = stack.enter_context(run_server(kind, ground))
        holders = []
        for number in range(processes):
            words = [sys.executable, "-m", "bench.holder", str(port), str(number), manner]
            holders.append(stack.enter_context(Child(f"holder-{number}", words, piped=True)))
        yield Replica(child, port, holders)


def latencies_ms(replica: Replica, ground: Ground, seconds: float) -> list[float]:
    """From PUBLISH to one viewer's socket, 100 events a second."""
    with Victim(replica.port, ground.redis_port) as victim:
        time.sleep(1)
        victim.latencies_ms.clear()
        time.sleep(seconds)
        return list(victim.latencies_ms)


def run_scale(ground: Ground) -> str:
    """The tables, as Markdown."""
    limits = Limits.read()
    most, why = limits.most(WANTED)
    said = [f"{most:,} connections, not {WANTED:,}: {why}." if why else f"{most:,} connections."]
    _say(said[0])
    processes = limits.processes(most)
    steps = [*(step for step in STEPS if step < 0.8 * most), most]
    with run_replica(ground, most, processes, "obey") as replica:
        found = [replica.grow(0)]
        alone = latencies_ms(replica, ground, ALONE_SECONDS)
        for step in steps:
            found.append(replica.grow(step))
            _say(_row(found, len(found) - 1))
        time.sleep(PING_SECONDS)  # the first pings come after one interval
        before = replica.child.cpu_seconds()
        time.sleep(PING_SECONDS)
        pinging = (replica.child.cpu_seconds() - before) / PING_SECONDS
        crowded = latencies_ms(replica, ground, PING_SECONDS)
        obeyed = replica.drain()
    with run_replica(ground, most, processes, "stay") as replica:
        again = replica.grow(most)
        with Victim(replica.port, ground.redis_port) as victim:
            time.sleep(1)
            victim.latencies_ms.clear()
            stayed = replica.drain(victim)
    full = found[-1].full_collections - found[0].full_collections
    a_ping_us = pinging * PING_SECONDS * 1e6 / most
    rows = [_row(found, number) for number in range(len(found))]
    said += [
        "",
        *GROWTH,
        *rows,
        "",
        f"Opened in one go: {most / again.seconds:,.0f} a second, {again.cpu_us:.0f} us each.",
        "",
    ]
    said += [
        "| an event to one viewer, 100/s | p50 | p99 | longest |",
        "| --- | --- | --- | --- |",
        _latency_row("with nobody else", alone),
        _latency_row(f"beside {most:,} idle connections, which are pinged", crowded),
        _latency_row("the same, while the replica drains", stayed.latencies_ms),
        "",
        f"Keep-alive of {most:,}: {pinging:.1%} of a core, {a_ping_us:.0f} us for a ping and its pong. "
        f"Full collections that ran by themselves while the connections were opened: {full:.0f}.",
        "",
        "| drain, with clients that | ended after | CPU | exit status | left | were closed | were cut off |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        _drain_row("obey `going_away`", obeyed),
        _drain_row("do not", stayed),
    ]
    return "\n".join(said)


GROWTH = (
    "| connections | process | a connection | kernel, both ends | opened | CPU of a connect | collection | objects |",
    "| --- | --- | --- | --- | --- | --- | --- | --- |",
)


def _row(steps: Sequence[Step], number: int) -> str:
    step, first, last = steps[number], steps[0], steps[max(0, number - 1)]
    cells = [f"{step.connections:,}", f"{step.pss_bytes / 1e6:.1f} MB"]
    if number:
        cells += [
            f"{(step.pss_bytes - first.pss_bytes) / step.connections:,.0f} bytes",
            f"{step.slab_bytes / step.connections:,.0f} bytes, {step.queued_pages} pages queued",
            f"{(step.connections - last.connections) / step.seconds:,.0f} a second",
            f"{step.cpu_us:.0f} us",
        ]
    else:
        cells += [""] * 4
    cells += [f"{step.collection_ms:.1f} ms", f"{step.tracked:,}"]
    return f"| {' | '.join(cells)} |"


def _latency_row(title: str, samples: Sequence[float]) -> str:
    ordered = sorted(samples) or [float("nan")]
    p50, p99 = (ordered[min(int(len(ordered) * share), len(ordered) - 1)] for share in (0.5, 0.99))
    return f"| {title} | {p50:.1f} ms | {p99:.1f} ms | {ordered[-1]:.1f} ms |"


def _drain_row(title: str, drained: Drained) -> str:
    return (
        f"| {title} | {drained.seconds:.1f} s | {drained.cpu_seconds:.1f} s | {drained.status} | {drained.left:,} "
        f"| {drained.told:,} | {drained.cut:,} |"
    )


def _say(line: str) -> None:
    print(f"scale: {line}", file=sys.stderr, flush=True)
