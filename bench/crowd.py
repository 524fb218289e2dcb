"""One replica and the processes that hold its connections: for `python -m bench scale`."""

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
from bench.limits import meminfo_bytes
from bench.process import Child
from bench.servers import Ground, Kind, run_server
from bench.toolchain import BenchError

SETTLE_SECONDS = 3.0
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
