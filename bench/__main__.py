"""`python -m bench`: runs the scenarios in rounds, each server once a round, and prints a table of ratios."""

import argparse
import resource
import signal
import sys
from pathlib import Path

from bench.auth import ROUNDS as AUTH_ROUNDS
from bench.auth import run_auth
from bench.capacity import run_capacity
from bench.hostile import hostile_table, run_hostile
from bench.inside import ROUNDS as TLS_ROUNDS
from bench.inside import run_inside, run_tls
from bench.publishing import as_json, run_publishing, table
from bench.report import Report
from bench.scenarios import SCENARIOS, pick
from bench.servers import KINDS, Ground, Kind, has_gateway, pin, run_redis
from bench.toolchain import BenchError, compile_c

PUBLISHING = "P8"  # compares no servers, so it is not a Scenario; see bench/publishing.py
PUBLISHING_ROUNDS = 7
CAPACITY = "P9"  # neither does this one; see bench/capacity.py
CAPACITY_ROUNDS = 5
AUTH = "auth"  # nor this one; see bench/auth.py
HOSTILE = "hostile"  # nor this one, which runs only if it is named; see bench/hostile.py
CORES, AGE = "cores", "age"  # nor these, which run only if they are named; see bench/fleet.py
QUICK = ["P1", "P2", "P4", "P5e"]  # in one round each, beside the C program: some 80 seconds
TLS, INSIDE = "tls", "inside"  # nor these; see bench/inside.py
OTHERS = (PUBLISHING, CAPACITY, HOSTILE, AUTH, CORES, AGE, TLS, INSIDE)


def parse_arguments() -> argparse.Namespace:
    scenarios = "\n".join(f"  {s.name:4} {s.title} (goal {s.goal}; {s.rounds} rounds)" for s in SCENARIOS)
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="CPU time and memory of the gateway, compared with a C program that does one send() per delivery\n"
        "and with a plain Starlette loop. Method and results: bench/README.md.",
        epilog=f"scenarios:\n{scenarios}\n  P6   both halves, P6a and P6b\n"
        f"  P8   what publishing costs Redis and the caller ({PUBLISHING_ROUNDS} rounds)\n"
        f"  P9   what one Redis can carry; docs/scaling.md uses these numbers ({CAPACITY_ROUNDS} rounds)\n"
        "  auth   what tokens cost: a handshake with each kind of key, a forged token, memory\n"
        "  hostile   what attacks cost, and what another viewer feels of them\n"
        "  tls   what TLS of a replica costs: a connection, a delivery, memory\n"
        "  inside   what a page of /admin/clients costs\n"
        "  cores   deliveries a second of one replica and of two\n"
        "  age   how long until a replica that is added has its share (GATEWAY_MAX_AGE_SECONDS)",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scenarios", nargs="*", metavar="P1", help="the scenarios to run (default: all)")
    parser.add_argument("--only", default=",".join(KINDS), help="the servers to run (default: %(default)s)")
    parser.add_argument(
        "--quick", action="store_true", help=f"one round of {', '.join(QUICK)}, beside the C program only"
    )
    parser.add_argument("--rounds", type=int, help="rounds of each scenario (default: the scenario's own number)")
    parser.add_argument("--pin", action="store_true", help="one core for the server, the others for everything else")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every sample to this file")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.scenarios, arguments.only, arguments.rounds = arguments.scenarios or QUICK, "gateway,c", 1
    return arguments


def pick_kinds(only: str) -> list[Kind]:
    names = [name.strip() for name in only.split(",") if name.strip()]
    for name in names:
        if name not in KINDS:
            raise BenchError(f"--only: unknown server {name}. Use {', '.join(KINDS)}.")
    if "gateway" in names and not has_gateway():
        print("Running without the gateway: the package cannot be imported.", file=sys.stderr)
        names.remove("gateway")
    return [kind for name, kind in KINDS.items() if name in names]


def run(arguments: argparse.Namespace) -> int:
    if sys.platform != "linux":
        raise BenchError("The benchmark needs Linux: it reads /proc and its C programs use epoll.")
    kinds, names = (
        pick_kinds(arguments.only),
        [name for name in arguments.scenarios if name not in OTHERS],
    )
    scenarios = [] if arguments.scenarios and not names else pick(names)
    for program in ("client", "baseline") if scenarios else ():
        compile_c(program)
    # Each client is one open file in the server and one in the client process. Children inherit the limit.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    report = Report([kind.name for kind in kinds])
    server_cores = pin() if arguments.pin else None
    with run_redis() as redis_port:
        ground = Ground(redis_port, server_cores)
        for scenario in scenarios:
            rounds = arguments.rounds or scenario.rounds
            for number in range(1, rounds + 1):
                for kind in kinds:
                    sample = scenario.measure(kind, ground)
                    report.add(scenario, kind.name, sample)
                    parts = f"  ({' -> '.join(f'{part:,.2f}' for part in sample.parts)})" if sample.parts else ""
                    remarks = parts + "".join(f"  [{note}]" for note in sample.notes)
                    progress = f"{scenario.name} round {number}/{rounds} {kind.name:8}"
                    print(f"{progress} {sample.value:10.2f} {scenario.unit}{remarks}", file=sys.stderr, flush=True)
        hostile = run_hostile(ground, rounds=arguments.rounds or 1) if HOSTILE in arguments.scenarios else []
        if AUTH in arguments.scenarios:
            print(run_auth(ground, arguments.rounds or AUTH_ROUNDS))
        if TLS in arguments.scenarios:
            print(run_tls(ground, arguments.rounds or TLS_ROUNDS))
        if INSIDE in arguments.scenarios:
            print(run_inside(ground))
        if CORES in arguments.scenarios:
            from bench.fleet import ROUNDS, run_cores  # needs nginx, and what the tests need

            print(run_cores(ground, arguments.rounds or ROUNDS))
        publishing = []
        if not arguments.scenarios or PUBLISHING in arguments.scenarios:
            publishing = run_publishing(redis_port, arguments.rounds or PUBLISHING_ROUNDS)
    if not arguments.scenarios or CAPACITY in arguments.scenarios:
        publishing += run_capacity(arguments.rounds or CAPACITY_ROUNDS)
    if AGE in arguments.scenarios:
        from bench.fleet import run_age

        print(run_age())
    if scenarios:
        print(report.table())
        for note in report.notes():
            print(f"- {note}")
    if hostile:
        print(hostile_table(hostile))
    if publishing:
        print(table(publishing))
    if arguments.json:
        report.write_json(arguments.json, as_json(publishing))
    return 1 if report.lost_anything() else 0


def main() -> int:
    # SIGTERM must leave the `with` blocks, as Ctrl-C does: they end the child processes.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return run(parse_arguments())
    except BenchError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
