"""`python -m bench scale`: 50,000 idle connections on one replica: memory, accepting, keep-alive, an event, the drain.

One gateway holds them all. The clients (bench/holder.py) are a few processes, because each has a limit of open files,
and use several source addresses, because each has some 28,000 ports. If the machine allows fewer connections, the
command says which limit it is, and opens as many as it can.
"""

import http.client
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import redis

from bench.crowd import Drained, Replica, Step, run_replica
from bench.hostile import Victim
from bench.limits import Limits
from bench.servers import LOOPBACK, Ground
from bench.toolchain import BenchError

WANTED = 50_000
LEAST = 1_000
STEPS = (5_000, 10_000, 25_000)
PING_SECONDS = 25.0  # the default of GATEWAY_PING_SECONDS: in so long, each connection is pinged once
ALONE_SECONDS = 10.0
LOSS_SECONDS = 5.0  # in which the replica connects to Redis again and reads what it missed


def latencies_ms(replica: Replica, ground: Ground, seconds: float) -> list[float]:
    """From PUBLISH to one viewer's socket, 100 events a second."""
    with Victim(replica.port, ground.redis_port) as victim:
        time.sleep(1)
        victim.latencies_ms.clear()
        time.sleep(seconds)
        return list(victim.latencies_ms)


class Probe:
    """Asks for /healthz all the time, in a thread: the longest answer tells how long the event loop stood still."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection(LOOPBACK, port, timeout=60)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self.longest_ms = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()
        self._connection.close()

    def _ask(self) -> None:
        while not self._is_over.wait(0.002):
            began = time.perf_counter()
            self._connection.request("GET", "/healthz")
            self._connection.getresponse().read()
            self.longest_ms = max(self.longest_ms, (time.perf_counter() - began) * 1_000)


def standstill_ms(replica: Replica, ground: Ground) -> tuple[float, float]:
    """The longest answer of the replica while nothing happens, and while it loses Redis and tells every client."""
    longest = []
    for is_lost in (False, True):
        with Probe(replica.port) as probe:
            time.sleep(1)
            if is_lost:
                redis.Redis(LOOPBACK, ground.redis_port).execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            time.sleep(LOSS_SECONDS)
        longest.append(probe.longest_ms)
    return longest[0], longest[1]


@dataclass(frozen=True)
class Findings:
    """All that one run of the command measured."""

    steps: Sequence[Step]
    again: Step  # as the last of them, opened in one go
    alone_ms: Sequence[float]
    crowded_ms: Sequence[float]
    pinging: float  # share of a core
    quiet_ms: float
    loss_ms: float
    obeyed: Drained
    stayed: Drained


def measure(ground: Ground, most: int, processes: int) -> Findings:
    wanted = [*(step for step in STEPS if step < 0.8 * most), most]
    with run_replica(ground, most, processes, "obey") as replica:
        steps = [replica.grow(0)]
        alone = latencies_ms(replica, ground, ALONE_SECONDS)
        for step in wanted:
            steps.append(replica.grow(step))
            _say(_row(steps, len(steps) - 1))
        time.sleep(PING_SECONDS)  # the first pings come after one interval
        before = replica.child.cpu_seconds()
        time.sleep(PING_SECONDS)
        pinging = (replica.child.cpu_seconds() - before) / PING_SECONDS
        crowded = latencies_ms(replica, ground, PING_SECONDS)
        obeyed = replica.drain()
    _say("the same with clients that do not obey")
    with run_replica(ground, most, processes, "stay") as replica:
        again = replica.grow(most)
        quiet_ms, loss_ms = standstill_ms(replica, ground)
        with Victim(replica.port, ground.redis_port) as victim:
            time.sleep(1)
            victim.latencies_ms.clear()
            stayed = replica.drain(victim)
    return Findings(steps, again, alone, crowded, pinging, quiet_ms, loss_ms, obeyed, stayed)


def run_scale(ground: Ground) -> str:
    """The tables, as Markdown."""
    limits = Limits.read()
    most, why = limits.most(WANTED)
    if most < LEAST:
        raise BenchError(f"The machine allows {most:,} connections, too few to measure anything: {why}.")
    said = f"{most:,} connections, not {WANTED:,}: {why}." if why else f"{most:,} connections."
    _say(said)
    return f"{said}\n\n{_tables(measure(ground, most, limits.processes(most)))}"


def _tables(found: Findings) -> str:
    steps, most, again = found.steps, found.again.connections, found.again
    full = steps[-1].full_collections - steps[0].full_collections
    a_ping_us = found.pinging * PING_SECONDS * 1e6 / most
    lines = [
        *GROWTH,
        *(_row(steps, number) for number in range(len(steps))),
        "",
        f"Opened in one go: {most / again.seconds:,.0f} a second, {again.cpu_us:.0f} us each. "
        f"Full collections that ran by themselves: {full:.0f}.",
        f"Keep-alive of {most:,}: {found.pinging:.1%} of a core, {a_ping_us:.0f} us for a ping and its pong.",
        f"Longest answer to /healthz: {found.quiet_ms:.0f} ms; while Redis is lost and found again, and all are "
        f"told both: {found.loss_ms:.0f} ms.",
        "",
        "| an event to one viewer, 100/s | p50 | p99 | longest |",
        "| --- | --- | --- | --- |",
        _latency_row("with nobody else", found.alone_ms),
        _latency_row(f"beside {most:,} idle connections, which are pinged", found.crowded_ms),
        _latency_row("the same, while the replica drains", found.stayed.latencies_ms),
        "",
        "| drain, with clients that | ended after | CPU | exit status | left | were closed | were cut off |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        _drain_row("obey `going_away`", found.obeyed),
        _drain_row("do not", found.stayed),
    ]
    return "\n".join(lines)


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
