"""`python -m bench peers`: prepares the peers, runs the scenarios in rounds, and prints a table and the settings."""

import argparse
import json
import resource
import sys
from pathlib import Path

from bench.pace import Pace
from bench.peers import centrifugo, nchan, node
from bench.peers.table import table
from bench.report import Report
from bench.scenarios import SCENARIOS, Sample, Scenario
from bench.servers import KINDS, Ground, Kind, pin, run_redis
from bench.toolchain import BenchError, compile_c

PEERS = (centrifugo.PEER, nchan.PEER, node.WS, node.SOCKET_IO)
OURS = ("gateway", "c")
COMPARED = ["P1", "P2", "P3", "P4", "P4b", "P5", "P5e", "P7a", "P7b"]
ROUNDS = 3
NAMES = [scenario.name for scenario in SCENARIOS]


def _parse(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench peers", description=__doc__)
    parser.add_argument("scenarios", nargs="*", metavar="P1", help=f"default: {' '.join(COMPARED)}")
    parser.add_argument("--only", metavar="NAMES", help="the servers to run, by their names in the table")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="default: %(default)s")
    parser.add_argument("--pin", action="store_true", help="one core for the server, the others for everything else")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every sample to this file")
    parser.add_argument(
        "--table",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="only print the table of what --json wrote, here or elsewhere",
    )
    return parser.parse_args(words)


def _prepared() -> tuple[list[Kind], dict[str, str]]:
    """The kinds of all peers that are installed, and what is printed of each. Says how to install the others."""
    kinds: list[Kind] = []
    about: dict[str, str] = {}
    for peer in PEERS:
        version = peer.prepare()
        if version is None:
            print(f"Running without {peer.name}. To install it: {peer.install}", file=sys.stderr)
            continue
        kinds += peer.kinds
        about |= {kind.name: f"{peer.name} {version}: {peer.settings[kind.name]}" for kind in peer.kinds}
    return kinds, about


def _scenarios(names: list[str]) -> list[Scenario]:
    if unknown := set(names) - set(NAMES):
        raise BenchError(f"Unknown scenario {', '.join(sorted(unknown))}. Use {', '.join(NAMES)}.")
    return [scenario for scenario in SCENARIOS if scenario.name in names]


def _pick(kinds: list[Kind], only: str | None) -> list[Kind]:
    names = {name.strip() for name in only.split(",")} if only else {kind.name for kind in kinds}
    known = {kind.name for kind in kinds}
    if names - known:
        unknown = ", ".join(sorted(names - known))
        raise BenchError(f"--only: unknown or not installed: {unknown}. Use {', '.join(sorted(known))}.")
    return [kind for kind in kinds if kind.name in names]


def _measure(scenario: Scenario, kind: Kind, ground: Ground) -> Sample:
    """A peer that fails is marked, and the others run; a failure of ours ends the command."""
    try:
        return scenario.measure(kind, ground)
    except BenchError as error:
        if kind.name in OURS:
            raise
        return Sample(0.0, (str(error).splitlines()[0],), lost=True)


def _print_notes(about: dict[str, str], notes: list[str]) -> None:
    print()
    for note in [f"{name}: {text}" for name, text in about.items()] + notes:
        print(f"- {note}")


def run(words: list[str]) -> int:
    arguments = _parse(words)
    if arguments.table:
        found = [json.loads(path.read_text()) for path in arguments.table]
        figures = [figure for one in found for figure in one["figures"]]
        print(table(sorted(figures, key=lambda figure: NAMES.index(figure["name"]))))
        _print_notes({name: text for one in found for name, text in one["about"].items()}, [])
        return 0
    scenarios = _scenarios(arguments.scenarios or COMPARED)
    of_peers, about = _prepared()
    kinds = _pick([KINDS[name] for name in OURS] + of_peers, arguments.only)
    for program in ("client", "baseline"):
        compile_c(program)
    # As in bench/__main__.py: each client is one open file in the server and one in the client process.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    report = Report([kind.name for kind in kinds])
    server_cores = pin() if arguments.pin else None
    pace = Pace(sum(scenario.seconds for scenario in scenarios) * len(kinds) * arguments.rounds)
    with run_redis() as redis_port:
        ground = Ground(redis_port, server_cores)
        for scenario in scenarios:
            for number in range(1, arguments.rounds + 1):
                for kind in kinds:
                    sample = _measure(scenario, kind, ground)
                    report.add(scenario, kind.name, sample)
                    pace.add(scenario.seconds)
                    remarks = "".join(f"  [{note}]" for note in sample.notes) + f"  ({pace.left()})"
                    turn = f"{scenario.name} round {number}/{arguments.rounds} {kind.name:18}"
                    print(f"{turn} {sample.value:10.2f} {scenario.unit}{remarks}", file=sys.stderr, flush=True)
    if arguments.json:
        report.write_json(arguments.json, [], about)
    print(table(report.figures()))
    _print_notes(about, report.notes())
    return 1 if report.lost_anything(OURS) else 0
