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
    broken: str = ""
    """Why it ended early, if not by a loss: a traceback in a replica's log, say."""

    @property
    def events(self) -> int:
        return self.rounds[-1].events if self.rounds else 0

    @property
    def lost(self) -> int:
        return sum(len(round_.verdict.lost) for round_ in self.rounds)

    @property
    def late(self) -> list[str]:
        complaints = [complaint for round_ in self.rounds for complaint in round_.late]
        return [*complaints, self.broken] if self.broken else complaints

    @property
    def is_good(self) -> bool:
        return not self.lost and not self.late


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
            stage.kill_replicas()
        except AssertionError as error:
            result.broken = str(error)
        finally:
            result.connections = sum(viewer.connections for viewer in stage.viewers)
            result.backward = sum(viewer.backward for viewer in stage.viewers)
            result.catch_ups = stage.catch_ups
            await asyncio.shield(stage.end())
    return result
