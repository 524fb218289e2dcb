"""One round: events and faults, then quiet, then the comparison."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.chaos.plan import Lane
from tests.chaos.stage import Stage
from tests.chaos.timings import STALE_SECONDS, Timing
from tests.chaos.verdict import Verdict, judge, remembered_by
from tests.contract.deadlines import POLL_SECONDS

Say = Callable[[str], None]


@dataclass
class Round:
    """What came of it."""

    number: int
    timings: list[Timing]
    verdict: Verdict
    events: int
    """Published since the run began."""
    late: list[str] = field(default_factory=list)
    """Promises that were not kept, though nothing was lost."""
    stall: float = 0.0
    longest_answer: float = 0.0
    """The longest that a client waited for `subscribed`, or else for `stale`."""

    def line(self) -> str:
        faults = ", ".join(
            f"{timing.fault.kind} {''.join(map(str, timing.fault.replicas))} {timing.ended - timing.began:.1f} s"
            for timing in sorted(self.timings, key=lambda timing: timing.began)
        )
        marks = [f"lost {len(self.verdict.lost)}"] if self.verdict.lost else []
        return f"round {self.number:3}  {self.verdict.held:7,} held  {faults}" + "".join(
            f"  [{mark}]" for mark in [*marks, *self.late]
        )


async def play(stage: Stage, lanes: list[Lane], number: int) -> Round:
    """Everything of one round."""
    stage.longest_stall = 0.0
    timings: list[Timing] = []
    await stage.let_jobs_run()
    restless = asyncio.create_task(stage.be_restless())
    await asyncio.gather(*(_run_lane(stage, lane, timings) for lane in lanes))
    for proxy in stage.proxies:
        proxy.lift()
    restless.cancel()
    await asyncio.wait([restless])
    assert restless.cancelled(), restless.exception()
    await stage.mark(f"lifted {number}")
    events = await stage.pause_jobs()
    for replica in range(len(stage.replicas)):
        await stage.replica_is_ready(replica)
    await stage.mark(f"over {number}")
    late = await _settle(stage, f"over {number}")
    remembered = await asyncio.to_thread(remembered_by, stage.redis.hashes(stage.projects))
    verdict = judge(stage.viewers, remembered, stage.taken, handovers=stage.handovers if stage.redis.is_group else None)
    result = Round(number, timings, verdict, events, late)
    result.stall = stage.longest_stall
    for timing in timings:
        timing.measure(timings, str(number))
        result.late += timing.complaints(result.stall)
        timing.links.clear()
    result.longest_answer = max(viewer.longest_answer for viewer in stage.viewers)
    if result.longest_answer > STALE_SECONDS + result.stall:
        result.late.append(f"neither `subscribed` nor `stale` for {result.longest_answer:.1f} s")
    for viewer in stage.viewers:
        viewer.longest_answer = 0.0
        viewer.marker_at.clear()
        result.late += [f"client {viewer.number} was told {complaint}" for complaint in viewer.complaints]
        viewer.complaints.clear()
    return result


async def _run_lane(stage: Stage, lane: Lane, timings: list[Timing]) -> None:
    clock = asyncio.get_running_loop().time
    for planned in lane:
        await asyncio.sleep(planned.after_seconds)
        timing = Timing.of(planned.fault, stage.viewers, clock())
        timings.append(timing)
        await planned.fault.begin(stage)
        await asyncio.sleep(max(0.0, timing.began + planned.fault.seconds - clock()))
        await planned.fault.end(stage)
        timing.ended = clock()


async def _settle(stage: Stage, marker: str) -> list[str]:
    """Wait until every client is live and has seen the marker."""
    clock = asyncio.get_running_loop().time
    end = clock() + stage.options.patience_seconds
    while not stage.all_see(marker):
        if clock() > end:
            behind = [viewer for viewer in stage.viewers if not viewer.has_seen(marker)]
            return [f"{len(behind)} clients not current after {stage.options.patience_seconds:g} s"]
        await asyncio.sleep(POLL_SECONDS)
    return []
