"""What `python -m bench` can run beside the scenarios P1 to P7, which compare servers: one `Command` each.

A new command is one function that returns a `Result`, and one line in COMMANDS. Modules are imported when their command
runs: some need programs or packages that the others do not.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bench.latency import LATENCY
from bench.scenarios import SCENARIOS, Scenario
from bench.servers import Ground
from bench.toolchain import BenchError


@dataclass(frozen=True)
class Order:
    """What the caller wants of a command."""

    ground: Ground
    rounds: int
    only: tuple[str, ...] = ()  # the servers that --only names; empty: all


@dataclass(frozen=True)
class Result:
    """What a command found."""

    table: str  # as Markdown
    figures: list[dict[str, Any]] = field(default_factory=list)  # for --json
    lost: bool = False  # events were lost: the benchmark then exits with 1


@dataclass(frozen=True)
class Command:
    """One word that `python -m bench` knows."""

    name: str
    title: str
    rounds: int
    seconds: float  # of one round on two cores, for the time that is left
    run: Callable[[Order], Result]
    in_all: bool = False  # runs too when nothing is named


def _publishing(order: Order) -> Result:
    from bench.publishing import as_json, run_publishing, table

    figures = run_publishing(order.ground.redis_port, order.rounds)
    return Result(table(figures), as_json(figures))


def _capacity(order: Order) -> Result:
    from bench.capacity import run_capacity
    from bench.publishing import as_json, table

    figures = run_capacity(order.rounds)
    return Result(table(figures), as_json(figures))


def _auth(order: Order) -> Result:
    from bench.auth import run_auth

    return Result(run_auth(order.ground, order.rounds))


def _hostile(order: Order) -> Result:
    from bench.hostile import hostile_table, run_hostile

    return Result(hostile_table(run_hostile(order.ground, rounds=order.rounds)))


def _tls(order: Order) -> Result:
    from bench.inside import run_tls

    return Result(run_tls(order.ground, order.rounds))


def _inside(order: Order) -> Result:
    from bench.inside import run_inside

    return Result(run_inside(order.ground))


def _cores(order: Order) -> Result:
    from bench.fleet import run_cores  # needs nginx, and what the tests need

    return Result(run_cores(order.ground, order.rounds))


def _age(_: Order) -> Result:
    from bench.fleet import run_age

    return Result(run_age())


def _scale(order: Order) -> Result:
    from bench.scale import run_scale

    return Result(run_scale(order.ground))


def _reuseport(_: Order) -> Result:
    from bench.reuseport import run_reuseport

    return Result(run_reuseport())


COMMANDS = (
    Command("P8", "what publishing costs Redis and the caller", 5, 2, _publishing, in_all=True),
    Command("P9", "what one Redis can carry; docs/scaling.md uses these numbers", 3, 12, _capacity, in_all=True),
    Command("auth", "what tokens cost: a handshake with each kind of key, a forged token, memory", 5, 12, _auth),
    Command("hostile", "what attacks cost, and what another viewer feels of them", 1, 240, _hostile),
    Command("tls", "what TLS of a replica costs: a connection, a delivery, memory", 3, 40, _tls),
    Command("inside", "what a page of /admin/clients costs", 1, 30, _inside),
    Command("cores", "deliveries a second of one replica and of two; needs nginx", 3, 60, _cores),
    Command("age", "how long until a replica that is added has its share (GATEWAY_MAX_AGE_SECONDS)", 1, 120, _age),
    Command("scale", "50,000 idle connections on one replica: memory, accepting, an event, the drain", 1, 260, _scale),
    Command(
        "reuseport", "what a restart does to clients of two processes on one port (the kernel's)", 1, 3, _reuseport
    ),
)


ALL_SCENARIOS = (*SCENARIOS, *LATENCY)  # those of LATENCY run only if they are named
GROUPS = {"P6": "P6", "P7": "P7", "latency": "P7"}  # names that stand for several scenarios: how those begin


def choose(names: list[str]) -> tuple[list[Scenario], list[Command]]:
    """The scenarios and commands of these names. `P6` stands for P6a and P6b; no name for all that run by default."""
    known = {each.name for each in (*ALL_SCENARIOS, *COMMANDS)} | GROUPS.keys()
    for name in names:
        if name not in known:
            raise BenchError(f"Unknown scenario {name}. Use {', '.join(sorted(known))}.")
    beginnings = tuple(GROUPS[name] for name in names if name in GROUPS)
    scenarios = [s for s in ALL_SCENARIOS if s.name in names or (beginnings and s.name.startswith(beginnings))]
    scenarios = scenarios if names else list(SCENARIOS)
    commands = [c for c in COMMANDS if c.name in names or (not names and c.in_all)]
    return scenarios, commands


def list_all() -> str:
    """The list in `--help`."""
    scenarios = [
        f"  {s.name:8} {s.title} (goal {s.goal}; {s.rounds} rounds{'' if s in SCENARIOS else '; only if named'})"
        for s in ALL_SCENARIOS
    ]
    commands = [
        f"  {c.name:8} {c.title} ({c.rounds} round{'s' * (c.rounds > 1)}{'' if c.in_all else '; only if named'})"
        for c in COMMANDS
    ]
    return "\n".join(
        ["scenarios:", *scenarios, "  P6       both halves, P6a and P6b", "  latency  all of P7", *commands]
    )
