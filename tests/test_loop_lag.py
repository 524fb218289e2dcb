"""How late the loop is."""

import asyncio
import time

from gateway.counters import LAG_SECONDS, Histogram
from gateway.keepalive import LOOK_SECONDS, watch_loop
from tests.contract.deadlines import eventually


def above(lag: Histogram, bound: float) -> int:
    return sum(lag.counts[LAG_SECONDS.index(bound) + 1 :])


async def test_a_loop_that_is_held_up_is_seen() -> None:
    lag = Histogram(LAG_SECONDS)
    task = asyncio.create_task(watch_loop(lag))
    await eventually(lambda: sum(lag.counts) > 0, "the first look")
    before, long = lag.sum, above(lag, 0.25)
    time.sleep(LOOK_SECONDS + 0.3)
    await eventually(lambda: above(lag, 0.25) > long, "the next look")
    task.cancel()
    assert lag.sum - before > 0.25


async def test_a_loop_that_runs_is_not() -> None:
    lag = Histogram(LAG_SECONDS)
    task = asyncio.create_task(watch_loop(lag))
    await eventually(lambda: sum(lag.counts) - above(lag, 0.05) >= 3, "three looks in time")
    task.cancel()
