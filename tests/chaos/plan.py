"""Which faults come in which round: drawn from a deck, so that in a few rounds every kind has its turn."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.chaos.faults import Fault, KillReplica

REPLICAS = (0, 1)
FAULTS_OF_A_ROUND = (1, 1, 1, 2, 2, 3)
QUIET_SECONDS = 0.3  # events before the first fault


@dataclass
class Planned:
    """A fault, and when it begins: so long after the round, or after the one before it in its lane."""

    fault: Fault
    after_seconds: float


Lane = list[Planned]


def rounds(
    kinds: Sequence[type[Fault]], dice: random.Random, faults: int | None = None, *, is_brief: bool = False
) -> Iterator[list[Lane]]:
    """Lanes for one round after another: Redis' own, and one for each replica. Those of a lane come one by one.

    So many faults in each round, or 1 to 3; brief ones only, for those who have no time.
    """
    deck: list[type[Fault]] = []
    while True:
        lanes: list[Lane] = [[] for _ in (*REPLICAS, "redis")]
        for _ in range(faults or dice.choice(FAULTS_OF_A_ROUND)):
            if not deck:
                deck = list(kinds)
                dice.shuffle(deck)
            kind = deck.pop()
            after = QUIET_SECONDS + dice.uniform(0, 0.3 if is_brief else 1.5)
            planned = Planned(kind(_hit_by(kind, dice), dice, is_brief=is_brief), after)
            lanes[-1 if kind.is_of_redis else planned.fault.replicas[0]].append(planned)
        yield [lane for lane in lanes if lane]


def _hit_by(kind: type[Fault], dice: random.Random) -> tuple[int, ...]:
    if kind.is_of_redis:
        return REPLICAS
    if kind is KillReplica or dice.random() < 0.7:
        return (dice.choice(REPLICAS),)
    return REPLICAS
