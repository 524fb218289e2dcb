"""Replicas are rolled from the previous release to this one and back, while publishers of both publish."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests import previous_release
from tests.chaos.verdict import remembered_by
from tests.contract.deadlines import eventually
from tests.contract.processes import RedisServer, Replica, environment
from tests.previous_release import PREVIOUS
from tests.rolling.viewers import Viewer, differences

PROJECTS = 6
EVENTS_A_SECOND = 80  # of each publisher
DRAIN: dict[str, Any] = {"drain_seconds": 1, "drain_rate": 60}
PATIENCE = 60.0


class Figures(NamedTuple):
    """What came of it."""

    events: int
    ends: int
    ends_lost: int
    ends_invented: int  # seen by somebody, and published by nobody
    differences: int  # jobs that are seen otherwise than Redis remembers them

    def __str__(self) -> str:
        return (
            f"{self.events} events, {self.ends} ends, {self.ends_lost} lost, {self.ends_invented} invented, "
            f"{self.differences} pictures wrong"
        )


class Upgrade:
    """One Redis, a publisher of each version, one replica after another, and its viewers. Lives as long as its test."""

    def __init__(self, directory: Path, old: dict[str, str]) -> None:
        self._directory = directory
        self._variables = {PREVIOUS: old, version("progress-gateway"): {}}
        self.redis = RedisServer()
        self.replicas: list[Replica] = []
        self.publishers: list[subprocess.Popen[str]] = []
        self.viewers: list[Viewer] = []
        self._tasks: list[asyncio.Task[None]] = []

    def publish(self, name: str, of: str) -> None:
        """A process of this version begins to publish."""
        command = [sys.executable, "-P", "-m", "tests.rolling.jobs", str(PROJECTS), str(EVENTS_A_SECOND), name]
        env = environment(self.redis.url, PYTHONPATH=previous_release.ROOT) | self._variables[of]
        self.publishers.append(
            subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )

    def start(self, of: str) -> Replica:
        """A replica of this version; returns before it is ready."""
        log = self._directory / f"replica_{len(self.replicas)}.log"
        self.replicas.append(Replica(self.redis.url, log, **DRAIN, **self._variables[of]))
        return self.replicas[-1]

    async def serve(self, replica: Replica, of: str) -> None:
        """The replica of this version takes over, as in a roll: it is ready before the one before it drains."""
        await asyncio.to_thread(replica.wait_ready)
        assert any(f'version="{of}"' in line for line in replica.metrics() if line.startswith("gateway_build_info"))
        for viewer in self.viewers:
            viewer.port = replica.port
        if (place := self.replicas.index(replica)) > 0:
            before = self.replicas[place - 1]
            before.signal(signal.SIGTERM)
            assert await asyncio.to_thread(before.wait, "the drained replica to end", PATIENCE) == 0
            assert "Traceback" not in before.log, before.log
            await self.all_watch()

    async def watch(self, count: int) -> None:
        """Half of the viewers obey `going_away`, the others wait for the close."""
        for number in range(count):
            viewer = Viewer(number, self.replicas[-1].port, f"p{number // 2 % PROJECTS}", obeys=number % 2 == 0)
            self.viewers.append(viewer)
            self._tasks.append(asyncio.create_task(viewer.run()))
        await self.all_watch()

    async def all_watch(self) -> None:
        await eventually(lambda: all(viewer.is_watching for viewer in self.viewers), "all to watch", PATIENCE)

    async def more_ends(self) -> None:
        """Wait until the viewers have seen five more ends of jobs of each publisher."""

        def seen() -> dict[str, int]:
            jobs = {job for viewer in self.viewers for job in viewer.ends}
            return {name: sum(job.startswith(name) for job in jobs) for name in ("old", "new")}

        before = seen()
        await eventually(lambda: all(seen()[name] >= before[name] + 5 for name in before), "more ends", PATIENCE)

    async def judge(self) -> Figures:
        """Let the publishers end, wait until all that is on its way has arrived, and compare."""
        said = []
        for process in self.publishers:
            output, _ = await asyncio.to_thread(process.communicate, timeout=PATIENCE)
            assert process.returncode == 0
            said.append(json.loads(output))
        ends: dict[str, set[str]] = {f"p{number}": set() for number in range(PROJECTS)}
        for project, job in (end for each in said for end in each["ends"]):
            ends[project].add(job)
        await self.all_watch()
        remembered = remembered_by(
            (project, self.redis.command("HGETALL", f"{{project:{project}}}:jobs")) for project in ends
        )
        deadline = time.monotonic() + PATIENCE
        while differences(self.viewers, remembered) and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        return Figures(
            events=sum(each["events"] for each in said),
            ends=sum(map(len, ends.values())),
            ends_lost=sum(len(ends[viewer.project] - viewer.ends) for viewer in self.viewers),
            ends_invented=sum(len(viewer.ends - ends[viewer.project]) for viewer in self.viewers),
            differences=differences(self.viewers, remembered),
        )

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(viewer.leave() for viewer in self.viewers))
        for process in self.publishers:
            process.kill()
            process.communicate()
        for replica in self.replicas:
            replica.end()
        self.redis.kill()


@asynccontextmanager
async def upgrade(directory: Path) -> AsyncIterator[Upgrade]:
    packages = await asyncio.to_thread(previous_release.unpacked, directory / "previous")
    made = Upgrade(directory, previous_release.variables(packages))
    try:
        yield made
    finally:
        await made.close()


@pytest.fixture
def show(capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> Callable[[object], None]:
    """Figures are printed, also where nothing fails."""

    def show(text: object) -> None:
        with capsys.disabled():
            print(f"\n  {request.node.name}: {text}", end="", flush=True)

    return show


@pytest.mark.parametrize(
    ("rolls", "viewers"), [pytest.param(1, 24, id="once"), pytest.param(10, 240, id="again", marks=pytest.mark.soak)]
)
async def test_rolled_to_this_version_and_back_nobody_misses_an_end(
    rolls: int, viewers: int, tmp_path: Path, show: Callable[[object], None]
) -> None:
    async with upgrade(tmp_path) as made:
        made.publish("old", PREVIOUS)
        made.publish("new", version("progress-gateway"))
        await made.serve(made.start(PREVIOUS), PREVIOUS)
        await made.watch(viewers)
        for of in (version("progress-gateway"), PREVIOUS) * rolls:
            successor = made.start(of)
            await made.more_ends()
            await made.serve(successor, of)
        await made.more_ends()
        figures = await made.judge()
        moved = sum(viewer.moves for viewer in made.viewers)
    show(f"{figures}; {moved} moves")
    assert figures.ends_lost == figures.ends_invented == figures.differences == 0
    assert moved > 0
