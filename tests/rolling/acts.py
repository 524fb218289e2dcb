"""What happens to replicas behind a load balancer while people watch: a roll, a kill, and scaling from 1 to 3 to 1."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.rolling.stage import Stage, stage

CLIENTS = 300
NEWCOMERS = 100

# The shipped files as a load balancer of a cloud: no second try for a refused handshake, and a check every 5 seconds.
# nginx has no checks, so without a second try nothing helps.
SLOW_CHECK_SECONDS = 7.0
NO_SECOND_TRY: dict[str, dict[str, str]] = {
    "haproxy": {
        "retry-on conn-failure empty-response response-timeout 503": "retry-on none",
        "check inter 1s fall 2 rise 2": "check inter 5s fall 1 rise 1",
    },
    "caddy": {
        "lb_try_duration 5s": "lb_try_duration 0s",
        "fail_duration 1s": "",
        "unhealthy_status 503": "",
        "health_interval 1s": "health_interval 5s",
    },
    "traefik": {
        "middlewares: [another-replica]": "middlewares: []",
        " interval: 1s": " interval: 5s",
        "unhealthyInterval: 1s": "unhealthyInterval: 5s",
    },
    "envoy": {"num_retries: 5": "num_retries: 0", "interval: 1s": "interval: 5s"},
}


class Result(NamedTuple):
    """What one act did to people: handshakes refused, ends and pictures lost, seconds without a subscription."""

    refused: int
    lost: int
    gap_obeying: float
    gap_waiting: float
    failures: list[str]  # replicas that ended otherwise than they should

    def __str__(self) -> str:
        remarks = "".join(f", {failure}" for failure in self.failures)
        return f"{self.refused}, {self.lost}, {self.gap_obeying:.1f} / {self.gap_waiting:.1f} s{remarks}"


Act = Callable[[Stage], Awaitable[list[str]]]


async def roll(made: Stage) -> list[str]:
    """Each replica in turn: SIGTERM, its end, a new one in its place."""
    failures = []
    for number in list(made.replicas):
        failures += await ended_well(made, number)
        made.start(number)
        await made.wait_known(number)
    return failures


async def kill(made: Stage) -> list[str]:
    """The replica with the most clients; and it comes back."""
    victim = max(made.replicas, key=made.clients_of)
    made.replicas[victim].signal(signal.SIGKILL)
    await asyncio.to_thread(made.replicas[victim].wait, "the killed replica to be gone")
    await made.all_watch()
    made.start(victim)
    await made.wait_known(victim)
    return []


async def scale(made: Stage) -> list[str]:
    """Two more and new clients; then the two that are oldest go."""
    for number in (1, 2):
        made.start(number)
    for number in (1, 2):
        await made.wait_known(number)
    await made.open_viewers(NEWCOMERS)
    return [failure for number in (0, 1) for failure in await ended_well(made, number)]


async def ended_well(made: Stage, number: int) -> list[str]:
    drained = await made.drain(number)
    log = made.replicas[number].log
    return [] if drained.status == 0 and "0 of them by force" in log else [f"replica {number}: {log[-300:]}"]


ACTS: Mapping[str, tuple[Act, int]] = {"roll": (roll, 2), "kill": (kill, 2), "scale 1-3-1": (scale, 1)}


async def play(name: str, directory: Path, kind: str, *, second_try: bool, lame_duck_seconds: float) -> Result:
    act, replicas = ACTS[name]
    settings: dict[str, Any] = {"lame_duck_seconds": lame_duck_seconds}
    if not second_try:
        settings["check_seconds"] = SLOW_CHECK_SECONDS
    changes = {} if second_try else NO_SECOND_TRY[kind]
    async with stage(directory, kind, changes=changes, replicas=replicas, **settings) as made:
        await made.open_viewers(CLIENTS)
        made.start_jobs()
        await made.jobs_are_busy()
        before = made.refused()
        failures = await act(made)
        await made.all_watch()
        figures = await made.end_jobs()
        refused = made.refused() - before
    lost = figures.ends_lost + figures.differences
    return Result(refused, lost, figures.longest_gap_obeying, figures.longest_gap_waiting, failures)


async def seconds_until_even(directory: Path, kind: str, max_age_seconds: float) -> float:
    """One replica has all clients when two more come: how long until none has more than 1.25 of its share."""
    async with stage(directory, kind, replicas=1, max_age_seconds=max_age_seconds) as made:
        await made.open_viewers(CLIENTS, obey=True)
        for number in (1, 2):
            made.start(number)
        for number in (1, 2):
            await made.wait_known(number)
        began_at = made.now()
        while (
            max(await asyncio.gather(*(asyncio.to_thread(made.clients_of, n) for n in range(3)))) > CLIENTS / 3 * 1.25
        ):
            assert made.now() - began_at < 20 * max_age_seconds, "it had to even out"
            await asyncio.sleep(1)
        assert made.longest_gap(obey=True) == 0 == made.refused()
        return made.now() - began_at
