"""`python -m bench`: runs the scenarios in rounds, each server once a round, and prints a table of ratios."""

import argparse
import resource
import signal
import sys
from pathlib import Path
from typing import NamedTuple

from bench.commands import Command, Order, choose, list_all
from bench.pace import Pace
from bench.peers.command import run as run_peers
from bench.report import Report
from bench.scenarios import Scenario
from bench.servers import KINDS, Ground, Kind, has_gateway, pin, run_redis
from bench.toolchain import BenchError, compile_c

PEERS = "peers"  # has options of its own; see bench/peers/command.py
QUICK = ["P1", "P2", "P4", "P5e"]  # in one round each, beside the C program: a minute


def parse_arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="CPU time and memory of the gateway, compared with a C program that does one send() per delivery\n"
        "and with a plain Starlette loop. Method and results: bench/README.md.",
        epilog=f"{list_all()}\n  {PEERS:8} Centrifugo, Nchan, ws and Socket.IO beside the gateway (see {PEERS} --help)",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scenarios", nargs="*", metavar="P1", help="what to run (default: P1 to P9, in 13 minutes)")
    parser.add_argument("--only", help=f"the servers to run, of {','.join(KINDS)} (default: all)")
    parser.add_argument(
        "--quick", action="store_true", help=f"one round of {', '.join(QUICK)}, beside the C program only: a minute"
    )
    parser.add_argument("--rounds", type=int, help="rounds of each scenario (default: the scenario's own number)")
    parser.add_argument("--pin", action="store_true", help="one core for the server, the others for everything else")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every sample to this file")
    arguments = parser.parse_args(words)
    if arguments.quick:
        arguments.scenarios, arguments.only, arguments.rounds = arguments.scenarios or QUICK, "gateway,c", 1
    return arguments


def pick_kinds(names: tuple[str, ...]) -> list[Kind]:
    for name in names:
        if name not in KINDS:
            raise BenchError(f"--only: unknown server {name}. Use {', '.join(KINDS)}.")
    chosen = [name for name in KINDS if name in names or not names]
    if "gateway" in chosen and not has_gateway():
        print("Running without the gateway: the package cannot be imported.", file=sys.stderr)
        chosen.remove("gateway")
    return [KINDS[name] for name in chosen]


def raise_file_limit() -> None:
    """Each client is one open file in the server and one in the client process. Children inherit the limit."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Turn(NamedTuple):
    """One server in one round of a scenario."""

    scenario: Scenario
    number: int  # of the round, from 1
    rounds: int
    kind: Kind


def all_turns(scenarios: list[Scenario], kinds: list[Kind], rounds: int | None) -> list[Turn]:
    """Each scenario in rounds, and in each round the servers in turn. `rounds`: None: the scenario's own number."""
    return [
        Turn(scenario, number, rounds or scenario.rounds, kind)
        for scenario in scenarios
        for number in range(1, (rounds or scenario.rounds) + 1)
        for kind in scenario.among(kinds)
        if rounds or number == 1 or not kind.is_in_first_round_only
    ]


def compare(turns: list[Turn], report: Report, ground: Ground, pace: Pace) -> None:
    for program in ("client", "baseline") if turns else ():
        compile_c(program)  # before anything is measured
    for scenario, number, rounds, kind in turns:
        sample = scenario.measure(kind, ground)
        report.add(scenario, kind.name, sample)
        pace.add(scenario.seconds)
        parts = f"  ({' -> '.join(f'{part:,.2f}' for part in sample.parts)})" if sample.parts else ""
        remarks = parts + "".join(f"  [{note}]" for note in sample.notes)
        progress = f"{scenario.name} round {number}/{rounds} {kind.name:8}"
        value = f"{sample.value:10.2f} {scenario.unit}{remarks}"
        print(f"{progress} {value}  ({pace.left()})", file=sys.stderr, flush=True)


def _planned_seconds(turns: list[Turn], commands: list[Command], rounds: int | None) -> float:
    own = sum(turn.scenario.seconds for turn in turns)
    return own + sum(command.seconds * (rounds or command.rounds) for command in commands)


def run(arguments: argparse.Namespace) -> int:
    if sys.platform != "linux":
        raise BenchError("The benchmark needs Linux: it reads /proc and its C programs use epoll.")
    scenarios, commands = choose(arguments.scenarios)
    only = tuple(name.strip() for name in (arguments.only or "").split(",") if name.strip())
    kinds = pick_kinds(only) if scenarios else []
    raise_file_limit()
    server_cores = pin() if arguments.pin else None
    figures, is_lost = [], False
    with run_redis() as redis_port:
        ground = Ground(redis_port, server_cores)
        turns = all_turns(scenarios, kinds, arguments.rounds)
        pace = Pace(_planned_seconds(turns, commands, arguments.rounds))
        report = Report([kind.name for kind in kinds])
        compare(turns, report, ground, pace)
        if scenarios:
            print("\n".join([report.table(), *(f"- {note}" for note in report.notes())]), flush=True)
            if latencies := report.latency_table():
                print(f"\n{latencies}", flush=True)
        for command in commands:
            rounds = arguments.rounds or command.rounds
            result = command.run(Order(ground, rounds, only))
            pace.add(command.seconds * rounds)
            print(f"{command.name} is done  ({pace.left()})", file=sys.stderr)
            print(f"\n{result.table}", flush=True)
            figures += result.figures
            is_lost = is_lost or result.lost
    if arguments.json:
        report.write_json(arguments.json, figures)
    return 1 if is_lost or report.lost_anything() else 0


def main() -> int:
    # SIGTERM must leave the `with` blocks, as Ctrl-C does: they end the child processes.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if sys.argv[1:2] == [PEERS]:
            return run_peers(sys.argv[2:])
        return run(parse_arguments())
    except BenchError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
