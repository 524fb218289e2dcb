"""The figures P1 to P6: what is done to a server, and what is measured.

Every sample uses a fresh server process and fresh clients, so no figure depends on what ran before it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from bench.latencies import Latencies
from bench.load import Clients, Delivery, Publisher, Traffic, commands, run_clients
from bench.process import Child
from bench.servers import Ground, Kind, run_server
from bench.toolchain import BenchError

SETTLE_SECONDS = 1.0  # from the last `subscribed` to the first count, so that the work of connecting is over
DELIVERY_SECONDS = 90.0  # the time limit for all deliveries of a run

CONNECTIONS = 2_000
MANY_CONNECTIONS = 8_000


@dataclass(frozen=True)
class Sample:
    """One figure of one server in one round."""

    value: float
    notes: tuple[str, ...] = ()  # what was unusual
    lost: bool = False  # events or connections were lost: the value is not valid
    parts: tuple[float, ...] = ()  # the measurements behind the value, if there are several
    latencies: Latencies | None = None  # where the events are timed
    core: float = 0.0  # the server's CPU time while such events were published, as a share of one core; 0: unknown


@dataclass(frozen=True)
class Scenario:
    """One row of the table."""

    name: str
    title: str
    unit: str
    goal: str
    rounds: int
    seconds: float  # of one round of one server on two cores, for the time that is left
    measure: Callable[[Kind, Ground], Sample]
    beside_c: bool = False  # shown as a ratio to the C program of the same round
    only: tuple[str, ...] = ()  # the servers that it is about; empty: all

    def among(self, kinds: list[Kind]) -> list[Kind]:
        return [kind for kind in kinds if not self.only or kind.name in self.only]


def judge(kind: Kind, traffic: Traffic, delivery: Delivery) -> Sample:
    """Was anything lost? The value of the sample is 0; the caller sets it."""
    per_client = traffic.deliveries // traffic.subscribers
    if delivery.connections_lost or delivery.errors:
        note = f"{delivery.connections_lost} connections lost, {delivery.errors} errors"
        return Sample(0.0, (note,), lost=True)
    if delivery.fewest == delivery.most == per_client:
        return Sample(0.0)
    share = f"{delivery.total:,} of {traffic.deliveries:,} events ({delivery.total / traffic.deliveries:.1%})"
    if delivery.most > per_client:
        return Sample(0.0, (f"events were delivered twice: {share}",), lost=True)
    if kind.conflates and delivery.complete:
        return Sample(0.0, (f"conflated: {share}, every job's last event among them",))
    return Sample(
        0.0, (f"LOST events: {share}, the worst client got {delivery.fewest:,} of {per_client:,}",), lost=True
    )


def publisher_of(kind: Kind, ground: Ground, port: int) -> Publisher:
    """`port`: the server's own."""
    return Publisher(port if kind.intake.is_server else ground.redis_port, intake=kind.intake)


def _reach_everybody(clients: Clients, publisher: Publisher, kind: Kind, traffic: Traffic) -> None:
    """Publish one event to each project; raises `BenchError` unless every client receives one."""
    once = replace(traffic, rounds=1, per_second=None)
    clients.count(once.jobs)
    publisher.publish(commands(once, kind.intake), None)
    if not clients.wait(DELIVERY_SECONDS).complete:
        raise BenchError(f"One event to each project did not reach every client within {DELIVERY_SECONDS:.0f} s.")


def open_clients(clients: Clients, publisher: Publisher, kind: Kind, traffic: Traffic) -> None:
    """Connect, and deliver one event to everybody. It fills the server's caches before anything is counted."""
    clients.open(traffic.subscribers, traffic.projects)
    time.sleep(SETTLE_SECONDS)
    _reach_everybody(clients, publisher, kind, traffic)
    time.sleep(SETTLE_SECONDS / 2)
    clients.count(traffic.jobs)


def _cost(traffic: Traffic, kind: Kind, ground: Ground) -> Sample:
    """CPU microseconds of the server per delivery (one event to one subscriber)."""
    ready = commands(traffic, kind.intake)
    with (
        run_server(kind, ground) as (server, port),
        run_clients(port, dialect=kind.dialect) as clients,
        publisher_of(kind, ground, port) as publisher,
    ):
        open_clients(clients, publisher, kind, traffic)
        before = server.cpu_seconds()
        took = publisher.publish(ready, traffic.per_second, traffic.at_once)
        delivery = clients.wait(DELIVERY_SECONDS)
        time.sleep(0.2)
        spent = server.cpu_seconds() - before
        latencies = clients.latencies() if traffic.is_timed else None
    verdict = judge(kind, traffic, delivery)
    notes = verdict.notes
    if traffic.per_second and took > 1.05 * traffic.events / traffic.per_second:
        notes += (f"the publisher fell behind: {took:.1f} s for {traffic.events / traffic.per_second:.1f} s of events",)
    cost = spent * 1e6 / traffic.deliveries
    return Sample(cost, notes, verdict.lost, latencies=latencies, core=spent / took)


def _cost_of(traffic: Traffic) -> Callable[[Kind, Ground], Sample]:
    return lambda kind, ground: _cost(traffic, kind, ground)


def tail_of(traffic: Traffic) -> Callable[[Kind, Ground], Sample]:
    """Milliseconds from publish to socket that 99 % of the deliveries did not exceed."""

    def measure(kind: Kind, ground: Ground) -> Sample:
        sample = _cost(replace(traffic, is_timed=True), kind, ground)
        assert sample.latencies is not None
        return replace(sample, value=sample.latencies.ms(99))

    return measure


def _growth(small: Traffic, large: Traffic) -> Callable[[Kind, Ground], Sample]:
    """The cost of a delivery under the large load, divided by the cost under the small one."""

    def measure(kind: Kind, ground: Ground) -> Sample:
        few, many = _cost(small, kind, ground), _cost(large, kind, ground)
        parts = (few.value, many.value)
        return Sample(many.value / few.value, few.notes + many.notes, few.lost or many.lost, parts)

    return measure


def _memory(kind: Kind, ground: Ground) -> Sample:
    """Bytes of one more idle, subscribed connection. The difference removes the memory of the process itself."""
    everybody = Traffic(subscribers=MANY_CONNECTIONS, projects=100, rounds=1, per_second=None)
    with (
        run_server(kind, ground) as (server, port),
        run_clients(port, dialect=kind.dialect) as clients,
        publisher_of(kind, ground, port) as publisher,
    ):
        clients.open(CONNECTIONS, everybody.projects)
        few = _settled_pss(server)
        clients.open(MANY_CONNECTIONS - CONNECTIONS, everybody.projects)
        many = _settled_pss(server)
        _reach_everybody(clients, publisher, kind, everybody)  # proves that the connections were alive
    return Sample((many - few) / (MANY_CONNECTIONS - CONNECTIONS), parts=(few, many))


def _settled_pss(server: Child) -> int:
    time.sleep(2 * SETTLE_SECONDS)
    return server.pss_bytes()


def _connect(kind: Kind, ground: Ground, *, are_browsers: bool = False) -> Sample:
    """CPU microseconds from the TCP connection to `subscribed`, for a project that the server has loaded already."""
    with (
        run_server(kind, ground) as (server, port),
        run_clients(port, dialect=kind.dialect, are_browsers=are_browsers) as clients,
    ):
        clients.open(50, 1)
        time.sleep(SETTLE_SECONDS)
        before = server.cpu_seconds()
        clients.open(CONNECTIONS, 1)
        spent = server.cpu_seconds() - before
    return Sample(spent * 1e6 / CONNECTIONS)


P1 = Traffic(subscribers=1_000, projects=1, rounds=300, per_second=50)
P2 = Traffic(subscribers=500, projects=1, rounds=2_000, per_second=None)
P5 = Traffic(subscribers=5_000, projects=5_000, rounds=3, per_second=2_000, at_once=20)
P5E = replace(P5, at_once=1)

# 40,000 deliveries a second in each, so that a server's timers weigh the same in all.
FEW_SUBSCRIBERS = Traffic(subscribers=100, projects=1, rounds=1_600, per_second=400)
MANY_SUBSCRIBERS = Traffic(subscribers=8_000, projects=1, rounds=20, per_second=5)
FEW_PROJECTS = Traffic(subscribers=10, projects=10, rounds=800, per_second=2_000)
MANY_PROJECTS = Traffic(subscribers=8_000, projects=8_000, rounds=2, per_second=2_000)

# At half a core or less: a server that is busy all the time has no latency, it has a queue.
P7A = Traffic(subscribers=500, projects=1, rounds=1_000, per_second=100)
P7B = Traffic(subscribers=2_000, projects=2_000, rounds=5, per_second=1_000)

SCENARIOS = (
    Scenario(
        "P1", "1 project, 1,000 subscribers, 50 events/s", "us/delivery", "<= 1.15 x C", 3, 9, _cost_of(P1),
        beside_c=True,
    ),
    Scenario(
        "P2", "1 project, 500 subscribers, 2,000 events at once", "us/delivery", "<= 0.02 x C", 3, 5, _cost_of(P2),
        beside_c=True,
    ),
    Scenario("P3", "memory of an idle subscribed connection", "bytes", "<= 2.8 KB", 2, 8, _memory),
    Scenario("P4", "CPU to connect and subscribe", "us", "<= 120 us", 3, 2, _connect),
    Scenario(
        "P4b", "the same, with a browser's headers", "us", "<= 150 us", 3, 2, partial(_connect, are_browsers=True)
    ),
    Scenario(
        "P5", "5,000 projects, 1 subscriber each, 2,000 events/s, 20 at once", "us/event", "<= 2.3 x C", 3, 12,
        _cost_of(P5), beside_c=True,
    ),
    Scenario("P5e", "the same, each event alone", "us/event", "<= 2.0 x C", 5, 12, _cost_of(P5E), beside_c=True),
    Scenario(
        "P6a", "a delivery: 8,000 subscribers beside 100", "times", "<= 1.25 x C", 2, 15,
        _growth(FEW_SUBSCRIBERS, MANY_SUBSCRIBERS), beside_c=True,
    ),
    Scenario(
        "P6b", "an event: 8,000 projects beside 10", "times", "<= 1.25 x C", 2, 20,
        _growth(FEW_PROJECTS, MANY_PROJECTS), beside_c=True,
    ),
    Scenario("P7a", "p99: 1 project, 500 subscribers, 100 events/s", "ms", "below every peer", 3, 12, tail_of(P7A)),
    Scenario(
        "P7b", "p99: 2,000 projects, 1 subscriber each, 1,000 events/s", "ms", "below every peer", 3, 13, tail_of(P7B)
    ),
)  # fmt: skip
