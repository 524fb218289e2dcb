"""`python -m tests.chaos`: faults from seeds, round by round, and one table at the end."""

import argparse
import asyncio
import itertools
import random
import signal
import sys

from tests.chaos.faults import KINDS
from tests.chaos.group_faults import OF_A_CLUSTER, OF_SENTINELS
from tests.chaos.plan import rounds
from tests.chaos.replica import CONTROLS
from tests.chaos.report import table
from tests.chaos.run import Run, run
from tests.chaos.stage import Options

KINDS_OF = {"cluster": OF_A_CLUSTER, "sentinel": OF_SENTINELS}
BY_NAME = {fault.kind: fault for fault in (*OF_SENTINELS, *OF_A_CLUSTER, *KINDS)}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description="Break Redis, the network and replicas at random, while events flow to clients on two replicas.\n"
        "After each round every client must hold each job's last event. Exit status 1 if one does not, or if it was\n"
        "not told `stale` within 5 seconds.",
        epilog=f"kinds of fault: {', '.join(BY_NAME)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--seeds", type=int, nargs="*", metavar="SEED", help="a run for each (default: one, at random)")
    add("--rounds", type=int, default=50, help="of each run (default: %(default)s)")
    add("--clients", type=int, default=200, help="default: %(default)s")
    redis = (
        "redis-server from the PATH, or the embedded Valkey (default: the first that is there); or several processes"
    )
    add("--redis", choices=("any", "redis", "valkey", *KINDS_OF), default="any", help=redis)
    add("--faults", type=int, help="in each round (default: 1 to 3)")
    add("--only", nargs="+", choices=BY_NAME, metavar="KIND", help="these kinds of fault only")
    control = "replicas that cannot find a dead link, or do not read the state again: this must fail"
    add("--control", choices=("none", *CONTROLS), default="none", help=control)
    patience = "for clients to be current after a round (default: %(default)s)"
    add("--patience", type=float, default=30.0, metavar="SECONDS", help=patience)
    many = "instead of rounds: so many projects on one replica, Redis restarted; time until all are current"
    add("--many-projects", type=int, metavar="COUNT", help=many)
    return parser.parse_args()


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    arguments = parse_arguments()
    seeds = arguments.seeds or [random.SystemRandom().randrange(10_000)]
    options = Options(
        redis=arguments.redis,
        clients=arguments.clients,
        control=arguments.control,
        patience_seconds=arguments.patience,
    )
    if arguments.many_projects:
        from tests.chaos.many import restart

        print(asyncio.run(restart(options, arguments.many_projects, say)))
        return 0
    kinds = KINDS_OF.get(arguments.redis, KINDS)
    if arguments.only:
        kinds = tuple(kind for kind in kinds if kind.kind in arguments.only)
        if not kinds:
            sys.exit(f"No fault of this name with --redis {arguments.redis}.")
    # Both end all that was started; a shell may have told background processes to ignore the one.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    runs: list[Run] = []
    for seed in seeds:
        say(f"seed {seed}, {arguments.rounds} rounds")
        plan = itertools.islice(rounds(kinds, random.Random(seed), arguments.faults), arguments.rounds)
        runs.append(asyncio.run(run(options, seed, plan, say)))
    print(table(runs))
    return 0 if all(run.is_good for run in runs) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
