"""One load balancer, its replicas, their Redis, a job process and the viewers; and what came of it."""

import asyncio
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.chaos.verdict import remembered_by
from tests.contract.deadlines import PATIENCE, eventually
from tests.contract.processes import RedisServer, Replica, environment, free_port
from tests.rolling.balancers import Balancer, balancer_class
from tests.rolling.viewers import Viewer, differences

PROJECTS = 20
EVENTS_A_SECOND = 150
CHECK_SECONDS = 4.0  # HAProxy looks each second, and believes the second answer
# Long enough that a machine may stand still for a moment: at its end nobody is closed who moves.
DRAIN = {"drain_seconds": 12, "drain_rate": 40}


class Drained(NamedTuple):
    """How one replica ended."""

    status: int
    began_at: float
    took: float


class Figures(NamedTuple):
    """What came of it, for both kinds of viewers."""

    events: int
    ends_lost: int
    differences: int  # jobs that are seen otherwise than Redis remembers them
    longest_gap_obeying: float
    longest_gap_waiting: float

    def __str__(self) -> str:
        return (
            f"{self.events} events, {self.ends_lost} ends lost, {self.differences} pictures wrong, longest gap "
            f"{self.longest_gap_obeying:.3f} s obeying and {self.longest_gap_waiting:.2f} s waiting"
        )


class Stage:
    """Lives as long as one test."""

    def __init__(self, directory: Path, drain: dict[str, Any], check_seconds: float) -> None:
        self._directory = directory
        self._check_seconds = check_seconds
        self._drain = drain
        self._starts = 0
        self.redis = RedisServer()
        self.ports = [free_port() for _ in range(3)]
        self.replicas: dict[int, Replica] = {}
        self.balancer: Balancer | None = None
        self.viewers: list[Viewer] = []
        self.ended: dict[str, set[str]] = {}  # jobs, by project; known when the job process has ended
        self._tasks: list[asyncio.Task[None]] = []
        self._jobs: subprocess.Popen[str] | None = None

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    # Replicas

    def start(self, number: int) -> None:
        """Starts the replica that has this place in the balancer's list; returns before it is ready."""
        self._starts += 1
        log = self._directory / f"replica_{number}_{self._starts}.log"
        self.replicas[number] = Replica(self.redis.url, log, port=self.ports[number], **self._drain)

    async def wait_known(self, number: int) -> None:
        """Until it is ready and the balancer knows: in between, an operator ends no other replica."""
        await asyncio.to_thread(self.replicas[number].wait_ready)
        await asyncio.sleep(self._check_seconds)

    async def drain(self, number: int) -> Drained:
        replica, began_at = self.replicas[number], self.now()
        replica.signal(signal.SIGTERM)
        status = await asyncio.to_thread(replica.wait, "a drained replica to end", PATIENCE)
        assert "Traceback" not in replica.log, replica.log
        return Drained(status, began_at, self.now() - began_at)

    def clients_of(self, number: int) -> int:
        for line in self.replicas[number].metrics():
            if line.startswith("gateway_connections "):
                return int(float(line.split()[1]))
        raise AssertionError("no such metric")

    # Viewers

    def put_in_front(self, kind: str, changes: Mapping[str, str] | None = None) -> None:
        """Starts the balancer: after the replicas, so that it need not find out first that they are there."""
        self.balancer = balancer_class(kind)(self._directory / kind, self.ports, changes).wait_listening()

    async def open_viewers(self, count: int, *, obey: bool | None = None) -> None:
        """Half of them obey `going_away`, or all, or none."""
        assert self.balancer is not None
        for number in range(len(self.viewers), len(self.viewers) + count):
            obeys = number % 2 == 0 if obey is None else obey
            viewer = Viewer(number, self.balancer.port, f"p{number // 2 % PROJECTS}", obeys=obeys)
            self.viewers.append(viewer)
            self._tasks.append(asyncio.create_task(viewer.run()))
        await self.all_watch()

    async def all_watch(self) -> None:
        await eventually(lambda: all(viewer.is_watching for viewer in self.viewers), "all viewers to watch")

    def refused(self) -> int:
        return sum(len(viewer.refused) for viewer in self.viewers)

    def closes(self, since: float) -> list[float]:
        """The moments at which a replica closed a connection with 1012."""
        return sorted(at for viewer in self.viewers for at, code in viewer.closed if code == 1012 and at >= since)

    # Jobs

    def start_jobs(self) -> None:
        command = [sys.executable, "-m", "tests.rolling.jobs", str(PROJECTS), str(EVENTS_A_SECOND)]
        self._jobs = subprocess.Popen(
            command, env=environment(self.redis.url), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    async def jobs_are_busy(self) -> None:
        """Wait until viewers have seen more ends of jobs than there are projects."""

        def ends() -> int:
            return len({(viewer.project, job) for viewer in self.viewers for job in viewer.ends})

        await eventually(lambda: ends() > PROJECTS, "the jobs to be busy")

    async def end_jobs(self) -> Figures:
        """Let the jobs end, wait until every viewer has all that is still on its way, and judge."""
        assert self._jobs is not None
        output, _ = await asyncio.to_thread(self._jobs.communicate, timeout=PATIENCE)
        said = json.loads(output)
        await self.all_watch()
        projects = [f"p{number}" for number in range(PROJECTS)]
        remembered = remembered_by(
            (project, self.redis.command("HGETALL", f"{{project:{project}}}:jobs")) for project in projects
        )
        try:
            await eventually(lambda: differences(self.viewers, remembered) == 0, "all to see what Redis remembers")
        except AssertionError:
            pass  # it stands in the figures
        for project, job in said["ends"]:
            self.ended.setdefault(project, set()).add(job)
        assert len(said["ends"]) > PROJECTS
        return Figures(
            events=said["events"],
            ends_lost=sum(len(self.ended.get(viewer.project, set()) - viewer.ends) for viewer in self.viewers),
            differences=differences(self.viewers, remembered),
            longest_gap_obeying=self.longest_gap(obey=True),
            longest_gap_waiting=self.longest_gap(obey=False),
        )

    def longest_gap(self, *, obey: bool) -> float:
        return max((gap for viewer in self.viewers if viewer.obeys == obey for gap in viewer.gaps), default=0.0)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(viewer.leave() for viewer in self.viewers))
        if self._jobs is not None:
            self._jobs.kill()
            self._jobs.communicate()
        for process in (self.balancer, *self.replicas.values()):
            if process is not None:
                process.end()
        self.redis.kill()


@asynccontextmanager
async def stage(
    directory: Path,
    kind: str,
    *,
    changes: Mapping[str, str] | None = None,
    replicas: int = 2,
    check_seconds: float = CHECK_SECONDS,
    **drain: Any,
) -> AsyncIterator[Stage]:
    """A balancer of this kind, which checks within these seconds, before three places; the first ones are taken."""
    made = Stage(directory, DRAIN | drain, check_seconds)
    try:
        for number in range(replicas):
            made.start(number)
        for replica in made.replicas.values():
            await asyncio.to_thread(replica.wait_ready)
        await asyncio.to_thread(made.put_in_front, kind, changes)
        await asyncio.sleep(check_seconds)  # for HAProxy to find that nobody is at the third place
        yield made
        for task in made._tasks:
            assert not task.done(), task
    finally:
        await made.close()


def most_at_once(moments: list[float], window: float) -> int:
    """Of these moments, how many at most fall into one window."""
    return max(Counter(int(at / window) for at in moments).values(), default=0)
