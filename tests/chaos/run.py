"""A run: one stage, and round upon round on it."""

import asyncio
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.plan import Lane
from tests.chaos.rounds import Round, play
from tests.chaos.stage import Options, Stage


@dataclass
class Run:
    """What came of all its rounds."""

    seed: int
    rounds: list[Round] = field(default_factory=list)
    connections: int = 0
    backward: int = 0
    catch_ups: int = 0

    @property
    def events(self) -> int:
        return self.rounds[-1].events

    @property
    def lost(self) -> int:
        return sum(len(round_.verdict.lost) for round_ in self.rounds)

    @property
    def late(self) -> list[str]:
        return [complaint for round_ in self.rounds for complaint in round_.late]

    @property
    def is_good(self) -> bool:
        return all(round_.is_good for round_ in self.rounds)


async def run(options: Options, seed: int, plan: Iterable[list[Lane]], say: Callable[[str], None]) -> Run:
    """Play the rounds of the plan; it ends with the first that loses something."""
    result = Run(seed)
    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as directory:
        stage = Stage(options, seed, Path(directory))
        try:
            await stage.start(say)
            for number, lanes in enumerate(plan, 1):
                result.rounds.append(await play(stage, lanes, number))
                say(result.rounds[-1].line())
                for loss in result.rounds[-1].verdict.lost[:10]:
                    say(f"           {loss}")
                if result.rounds[-1].verdict.lost:
                    break  # what comes after a loss would only repeat it
            result.connections = sum(viewer.connections for viewer in stage.viewers)
            stage.kill_replicas()
            result.catch_ups = stage.catch_ups
            result.backward = sum(viewer.backward for viewer in stage.viewers)
        finally:
            await asyncio.shield(stage.end())
    return result
