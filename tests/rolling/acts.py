"""What happens to replicas behind a load balancer while people watch: a roll, a kill, and scaling from 1 to 3 to 1."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from tests.rolling.stage import Stage, stage

CLIENTS = 300
NEWCOMERS = 100

# The shipped files without their second try for a refused handshake. What is left are the health checks: this is also
# any load balancer that cannot try again. nginx has none; its third place, which is empty in a roll, is taken out.
NO_SECOND_TRY: dict[str, dict[str, str]] = {
    "nginx": {
        "proxy_next_upstream error timeout http_502 http_503;": "proxy_next_upstream off;",
        "server gateway-3:3001 max_fails=0;": "server gateway-3:3001 max_fails=0 down;",
    },
    "haproxy": {"retry-on conn-failure empty-response response-timeout 503": "retry-on none"},
    "caddy": {"lb_try_duration 5s": "lb_try_duration 0s"},
    "traefik": {"middlewares: [another-replica]": "middlewares: []"},
    "envoy": {"num_retries: 5": "num_retries: 0"},
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


async def play(name: str, directory: Path, kind: str, changes: Mapping[str, str], lame_duck_seconds: float) -> Result:
    act, replicas = ACTS[name]
    settings = {"lame_duck_seconds": lame_duck_seconds} if lame_duck_seconds else {}
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
