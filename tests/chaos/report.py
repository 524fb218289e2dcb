"""The closing table."""

from collections.abc import Callable, Iterable, Sequence

from tests.chaos.run import Run
from tests.chaos.timings import Timing

HEADS = ("fault", "times", "`stale` after", "`live` after its begin", "`live` after its end", "current after its end")


def table(runs: Sequence[Run]) -> str:
    """By kind of fault, the longest times of any client, in seconds; and the sums."""
    rounds = [round_ for run in runs for round_ in run.rounds]
    answer = max((round_.longest_answer for round_ in rounds), default=0.0)
    stall = max((round_.stall for round_ in rounds), default=0.0)
    lines = [f"| {' | '.join(HEADS)} |", f"|{'---|' * len(HEADS)}"]
    by_kind: dict[str, list[Timing]] = {}
    for round_ in rounds:
        for timing in round_.timings:
            by_kind.setdefault(timing.fault.kind, []).append(timing)
    for kind, timings in sorted(by_kind.items()):
        lines.append(f"| {kind} | {len(timings)} | {' | '.join(_longest_of(timings))} |")
    connections = sum(run.connections for run in runs)
    lines += [
        "",
        f"seeds {', '.join(str(run.seed) for run in runs)}: {len(rounds)} rounds, {sum(run.events for run in runs):,} "
        f"events, {connections:,} connections, {sum(run.catch_ups for run in runs):,} catch-ups",
        f"{sum(round_.verdict.held for round_ in rounds):,} last events held, "
        f"{sum(round_.verdict.doubtful for round_ in rounds):,} in doubt and known to be, "
        f"lost = {sum(run.lost for run in runs)}",
        f"longest wait for `subscribed` or `stale` {answer:.1f} s; "
        f"older after newer, and known to be in doubt: {sum(run.backward for run in runs)}; "
        f"longest stall of the machine {stall:.2f} s",
    ]
    return "\n".join([*lines, *(f"LATE: {complaint}" for run in runs for complaint in run.late)])


def _longest_of(timings: Iterable[Timing]) -> list[str]:
    columns: tuple[Callable[[Timing], list[float]], ...] = (
        lambda timing: timing.stale_seconds,
        lambda timing: timing.return_seconds,
        lambda timing: timing.live_seconds,
        lambda timing: timing.current_seconds,
    )
    timings = list(timings)
    longest = [max((max(column(timing), default=-1.0) for timing in timings), default=-1.0) for column in columns]
    return [f"{seconds:.2f}" if seconds >= 0 else "-" for seconds in longest]
