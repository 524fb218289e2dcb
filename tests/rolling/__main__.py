"""`python -m tests.rolling`: rolls, kills and scales replicas behind each load balancer, and prints a table.

Half an hour for all, `make balancers F="caddy --act roll"` for a part. The figures stand in docs/load-balancers.md.
"""

import argparse
import asyncio
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.rolling.acts import ACTS, CLIENTS, NO_SECOND_TRY, play, seconds_until_even
from tests.rolling.balancers import CLASSES


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.rolling", description=__doc__)
    add = parser.add_argument
    add("kinds", nargs="*", metavar="KIND", help=f"{', '.join(CLASSES)} (default: all)")
    add("--act", choices=ACTS, action="append", help="what happens (default: all)")
    duck = "GATEWAY_LAME_DUCK_SECONDS (default: 0 and 7)"
    add("--lame-duck", type=float, action="append", metavar="SECONDS", help=duck)
    add(
        "--second-try",
        choices=("yes", "no", "both"),
        default="both",
        help="as shipped; no retries and checks every 5 s; or both",
    )
    age = "instead: GATEWAY_MAX_AGE_SECONDS, and how long it takes until two new replicas have their share"
    add("--max-age", type=float, metavar="SECONDS", help=age)
    arguments = parser.parse_args()
    if unknown := set(arguments.kinds) - set(CLASSES):
        parser.error(f"unknown load balancer: {', '.join(unknown)}")
    return arguments


@contextmanager
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)  # nginx' workers are another user
        yield Path(directory)


async def rows(arguments: argparse.Namespace) -> int:
    """Print a row for each combination; 1 if anything was lost, or refused in a planned change of the shipped files."""
    acts = arguments.act or list(ACTS)
    print(f"{CLIENTS} clients; half of them obey `going_away`. A cell: handshakes refused; ends and states lost; the")
    print("longest time without a subscription for those who obey, and for those who wait for the close.\n")
    print("| | second try | lame duck | " + " | ".join(acts) + " |")
    print("|---|---|---|" + "---|" * len(acts), flush=True)
    is_bad = False
    for kind in arguments.kinds or CLASSES:
        for second_try in {"yes": [True], "no": [False], "both": [True, False]}[arguments.second_try]:
            if not second_try and kind not in NO_SECOND_TRY:
                continue
            for lame_duck in arguments.lame_duck or [0.0, 7.0]:
                print(f"| {kind} | {'yes' if second_try else 'no'} | {lame_duck:g} s |", end="", flush=True)
                for act in acts:
                    with place() as directory:
                        result = await play(act, directory, kind, second_try=second_try, lame_duck_seconds=lame_duck)
                    is_bad |= bool(result.lost or (second_try and act != "kill" and result.refused))
                    print(f" {result} |", end="", flush=True)
                print(flush=True)
    return int(is_bad)


async def ages(arguments: argparse.Namespace) -> int:
    for kind in arguments.kinds or CLASSES:
        with place() as directory:
            seconds = await seconds_until_even(directory, kind, arguments.max_age)
        print(f"{kind}: even after {seconds:.0f} s, {seconds / arguments.max_age:.1f} x the age", flush=True)
    return 0


async def main() -> int:
    arguments = parse_arguments()
    task = asyncio.current_task()
    assert task is not None
    # SIGTERM must leave the `with` blocks, as Ctrl-C does: they end the child processes.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await (rows(arguments) if arguments.max_age is None else ages(arguments))


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
