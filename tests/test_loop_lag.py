"""How late the loop is."""

import asyncio
import time

from gateway.figures import LAG_SECONDS, Histogram
from gateway.loop_lag import PAUSE_SECONDS, watch_loop


async def test_a_loop_that_is_held_up_is_seen() -> None:
    lag = Histogram(LAG_SECONDS)
    task = asyncio.create_task(watch_loop(lag))
    await asyncio.sleep(PAUSE_SECONDS * 2.5)
    before = lag.sum
    time.sleep(PAUSE_SECONDS + 0.3)
    await asyncio.sleep(PAUSE_SECONDS)
    task.cancel()
    assert lag.sum - before > 0.25
    assert sum(lag.counts[LAG_SECONDS.index(0.25) + 1 :]) == 1


async def test_a_loop_that_runs_is_not() -> None:
    lag = Histogram(LAG_SECONDS)
    task = asyncio.create_task(watch_loop(lag))
    await asyncio.sleep(PAUSE_SECONDS * 4.5)
    task.cancel()
    assert 2 <= sum(lag.counts) <= 4
    assert min(index for index, count in enumerate(lag.counts) if count) <= LAG_SECONDS.index(0.05)
