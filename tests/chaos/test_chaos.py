"""The short run of the suite: each kind of fault once, a Redis that freezes, and two controls that have to fail.

On a Cluster and with Sentinels, the failovers and a resharding.
"""

import itertools
import random

import pytest

from .faults import KINDS, Fault, LoseFromRedis, Refuse, StopRedis
from .group_faults import KillPrimary, Reshard, ReshardHalf, SentinelFailOver, SentinelKillPrimary
from .plan import REPLICAS, Planned, rounds
from .report import table
from .run import run
from .stage import Options

FAULTS_OF_A_ROUND = 5
CLIENTS_OF_A_CONTROL = 40
pytestmark = pytest.mark.alone  # its clients and elections need the machine


async def test_after_every_kind_of_fault_each_client_holds_the_last_event_of_each_job() -> None:
    count = -(-len(KINDS) // FAULTS_OF_A_ROUND)
    plan = itertools.islice(rounds(KINDS, random.Random(1), FAULTS_OF_A_ROUND, is_brief=True), count)
    frozen = StopRedis(REPLICAS, random.Random(1))
    frozen.seconds = 5.5  # so that it is noticed
    result = await run(Options(), 1, [*plan, [[Planned(frozen, 0.3)]]], print)
    report = table([result])
    assert result.is_good, report
    assert all(kind.kind in report for kind in KINDS), report
    assert result.rounds[-1].timings[0].stale_seconds, report


@pytest.mark.parametrize(
    ("redis", "kinds"),
    [("cluster", (Reshard, KillPrimary, ReshardHalf)), ("sentinel", (SentinelKillPrimary, SentinelFailOver))],
)
async def test_after_failovers_and_a_resharding_each_client_holds_the_last_event_of_each_job(
    redis: str, kinds: tuple[type[Fault], ...]
) -> None:
    dice = random.Random(1)
    plan = [[[Planned(kind(REPLICAS, dice, is_brief=True), 0.3)]] for kind in kinds]
    result = await run(Options(redis=redis, clients=CLIENTS_OF_A_CONTROL), 1, plan, print)
    assert result.is_good, table([result])
    assert len(result.rounds) == len(kinds)


async def test_the_suite_sees_that_a_replica_does_not_probe_its_link() -> None:
    """A connection whose bytes get lost never ends: only the probe finds it."""
    plan = [[[Planned(LoseFromRedis((0,), random.Random(1), is_brief=True), 0.3)]]]
    options = Options(clients=CLIENTS_OF_A_CONTROL, control="no-probe", patience_seconds=6)
    result = await run(options, 1, plan, print)
    assert result.lost
    assert any("not told" in complaint for complaint in result.late)


async def test_the_suite_sees_that_a_replica_does_not_read_the_state_again() -> None:
    plan = [[[Planned(Refuse((0,), random.Random(1)), 0.3)]]]
    options = Options(clients=CLIENTS_OF_A_CONTROL, control="no-reload", patience_seconds=3)
    assert (await run(options, 1, plan, print)).lost
