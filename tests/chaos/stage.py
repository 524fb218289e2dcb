"""All processes of a run: a Redis, replicas behind a proxy each, job processes, and the viewers in this process."""

import asyncio
import http.client
import json
import random
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.proxy import Proxy
from tests.chaos.redis_groups import ClusterOfRedis, WatchedRedis
from tests.chaos.redis_process import RedisProcess
from tests.chaos.viewers import Viewer
from tests.contract.deadlines import eventually
from tests.contract.processes import Process, Replica, environment, free_port

REPLICA_PROGRAM = Path(__file__).with_name("replica.py")
JOBS_PROGRAM = Path(__file__).with_name("jobs.py")
JOB_PROCESSES = ("a", "b")
LAST_BREATH_US = 500_000
MARKER = "marker"  # a job process that publishes what it is told to, only
START_SECONDS = 60.0
ANSWER_SECONDS = 30.0  # a publisher may be in the middle of its 5 seconds of trying
STARTED = "Listening:"  # in the log of a replica that takes connections
SLOW_SHARE, MOVER_SHARE = 0.1, 0.2
# A replica that is started while its Redis is away waits for it; a small buffer, so that slow readers are behind soon.
SETTINGS = {"GATEWAY_REDIS_WAIT_SECONDS": 120, "GATEWAY_BUFFER_BYTES": 4_096, "GATEWAY_SUBSCRIBE_BURST": 200}


@dataclass(frozen=True)
class Options:
    """Of a run."""

    redis: str = "any"  # or `cluster`, or `sentinel`
    clients: int = 200
    projects: int = 30
    rate: float = 80.0  # events a second, of all job processes together
    control: str = "none"
    patience_seconds: float = 30.0  # for the clients to be current after a round


class ChaosReplica(Replica):
    """A replica on a port that it keeps when it is started again."""

    def __init__(self, port: int, redis_url: str, control: str, log: Path) -> None:
        self.port = port
        env = environment(redis_url, GATEWAY_HOST="127.0.0.1", GATEWAY_PORT=port, **SETTINGS)
        Process.__init__(self, [sys.executable, str(REPLICA_PROGRAM), control], env, log)

    def catch_ups(self) -> int:
        """How often a client or a project was given what it had missed; 0 for a replica that does not answer yet."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_SECONDS)
        try:
            connection.request("GET", "/metrics")
            found = re.search(r"(?m)^gateway_catch_ups_total (\S+)", connection.getresponse().read().decode())
        except OSError:
            return 0
        finally:
            connection.close()
        return int(float(found[1])) if found else 0


class JobProcess:
    """A process that runs jobs.py. Its methods block."""

    def __init__(self, name: str, redis_url: str, amounts: Mapping[str, float], log: Path) -> None:
        flags = [word for flag, amount in amounts.items() for word in (f"--{flag}", str(amount))]
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                [sys.executable, "-P", str(JOBS_PROGRAM), name, *flags],
                env=environment(redis_url),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=output,
            )  # fmt: skip

    def ask(self, **order: object) -> dict[str, Any]:
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._popen.stdin.write(json.dumps(order).encode() + b"\n")
        self._popen.stdin.flush()
        assert select.select([self._popen.stdout], [], [], ANSWER_SECONDS)[0], f"a job process did not answer {order}"
        answer: dict[str, Any] = json.loads(self._popen.stdout.readline())
        return answer

    def end(self) -> None:
        self._popen.kill()
        for pipe in (self._popen.stdin, self._popen.stdout):
            if pipe is not None:
                pipe.close()
        self._popen.wait()


def _redis_of(kind: str, directory: Path) -> RedisProcess | ClusterOfRedis | WatchedRedis:
    if kind == "cluster":
        return ClusterOfRedis(directory)
    if kind == "sentinel":
        return WatchedRedis(directory)
    return RedisProcess(kind, directory)


class Stage:
    """Lives as long as a run; `end` leaves nothing of it behind."""

    def __init__(self, options: Options, seed: int, directory: Path, *, replicas: int = 2) -> None:
        self.options = options
        self.dice = random.Random(seed)
        self.projects = [f"p{number}" for number in range(options.projects)]
        self.redis = _redis_of(options.redis, directory / "redis")
        # The members of a group are known to each other, and to those who ask, by their own ports: no proxy between.
        self.proxies = []
        if isinstance(self.redis, RedisProcess):
            self.proxies = [Proxy(self.redis.port, random.Random(f"{seed} {number}")) for number in range(replicas)]
        self.replicas: list[ChaosReplica | None] = [None] * replicas
        self.ports = [free_port() for _ in range(replicas)]
        self.jobs: dict[str, JobProcess] = {}
        self.viewers = [self._new_viewer(number) for number in range(options.clients)]
        self.taken: dict[tuple[str, str], int] = {}
        """The seq of the last event of each job that a publisher was told."""
        self.handovers: list[tuple[int, int]] = []
        """While a primary took events for the last time, which no other server was told; as seqs."""
        self.catch_ups = 0  # of the replicas that were killed
        self.longest_stall = 0.0
        """How late this process was woken, since somebody set it to 0: what the machine adds to every time."""
        self._seed = seed
        self._directory = directory
        self._starts = 0
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, say: Callable[[str], None]) -> None:
        await asyncio.to_thread(self.redis.start)
        for proxy in self.proxies:
            await proxy.start()
        for number in range(len(self.replicas)):
            self.start_replica(number)
        for name in (*JOB_PROCESSES, MARKER):
            amounts = {
                "projects": len(self.projects),
                "rate": self.options.rate / len(JOB_PROCESSES),
                "seed": self._seed,
            }
            self.jobs[name] = JobProcess(name, self.redis.url, amounts, self._directory / "jobs.log")
        for number in range(len(self.replicas)):
            await self.replica_is_ready(number)
        self._tasks.append(asyncio.create_task(self._notice_stalls()))
        await self.mark("start")
        for viewer in self.viewers:
            dice = random.Random(f"{self._seed} viewer {viewer.number}")
            self._tasks.append(asyncio.create_task(viewer.run(dice)))
        await eventually(lambda: self.all_see("start"), "every client to be subscribed", START_SECONDS)
        say(f"{self.redis.version}, {len(self.replicas)} replicas, {len(self.viewers)} clients, "
            f"{len(self.projects)} projects")  # fmt: skip

    def _new_viewer(self, number: int) -> Viewer:
        is_slow = number % 100 < 100 * SLOW_SHARE
        shared = self.projects[: self.options.projects]
        projects = self.dice.sample(shared, 12 if is_slow else self.dice.randint(1, 8))
        if self._is_mover(number):  # watches what nobody else does, too: it is subscribed and loaded with each move
            projects.append(f"p{len(self.projects)}")
            self.projects.append(projects[-1])
        return Viewer(number, projects, self.ports, is_slow=is_slow)

    @staticmethod
    def _is_mover(number: int) -> bool:
        return number % 100 >= 100 * (1 - MOVER_SHARE)

    @property
    def server(self) -> RedisProcess:
        """Redis, where it is a single one."""
        assert isinstance(self.redis, RedisProcess)
        return self.redis

    # Replicas

    def start_replica(self, number: int) -> None:
        self._starts += 1
        log = self._directory / f"replica_{number}_{self._starts}.log"
        url = f"redis://127.0.0.1:{self.proxies[number].port}/0" if self.proxies else self.redis.url
        self.replicas[number] = ChaosReplica(self.ports[number], url, self.options.control, log)

    def kill_replica(self, number: int) -> None:
        replica = self.replicas[number]
        if replica is not None and replica.running():
            self._check_log(replica)
            if STARTED in replica.log:
                self.catch_ups += replica.catch_ups()
            replica.end()

    def kill_replicas(self) -> None:
        for number in range(len(self.replicas)):
            self.kill_replica(number)

    async def replica_is_ready(self, number: int) -> None:
        replica = self.replicas[number]
        assert replica is not None
        await eventually(lambda: replica.log.count(STARTED) > 0, f"replica {number} to start", START_SECONDS)

    @staticmethod
    def _check_log(replica: Replica) -> None:
        assert replica.running(), f"a replica ended with {replica.popen.returncode}:\n{replica.log[-2_000:]}"
        assert "Traceback" not in replica.log, replica.log[-4_000:]

    # Events

    async def mark(self, text: str) -> None:
        """An event in each project, behind all that was published before."""
        answer = await asyncio.to_thread(self.jobs[MARKER].ask, mark=text, seconds=ANSWER_SECONDS - 5)
        self._take(answer)
        assert answer["done"], f"Redis did not take the marker {text!r}"

    async def let_jobs_run(self) -> None:
        await asyncio.gather(*(asyncio.to_thread(self.jobs[name].ask, go=True) for name in JOB_PROCESSES))

    async def pause_jobs(self) -> int:
        """How many events they have published, all in all."""
        answers = await asyncio.gather(*(asyncio.to_thread(self.jobs[name].ask, pause=True) for name in JOB_PROCESSES))
        for answer in answers:
            self._take(answer)
        return sum(answer["events"] for answer in answers)

    def note_death(self) -> None:
        now = time.time_ns() // 1_000
        self.note_handover(now - LAST_BREATH_US, now)

    def note_handover(self, begin: int, end: int) -> None:
        self.handovers.append((begin, end))

    def _take(self, answer: dict[str, Any]) -> None:
        for project, job, seq in answer["taken"]:
            self.taken[project, job] = max(seq, self.taken.get((project, job), 0))

    # Viewers

    def all_see(self, marker: str) -> bool:
        return all(viewer.has_seen(marker) for viewer in self.viewers)

    async def be_restless(self) -> None:
        """Some go to the other replica, some do not read for a while; until it is cancelled."""
        movers = [viewer for viewer in self.viewers if self._is_mover(viewer.number)]
        slow = [viewer for viewer in self.viewers if viewer.is_slow]
        pauses = set()
        try:
            while True:
                await asyncio.sleep(self.dice.uniform(0, 0.2))
                if movers:
                    self.dice.choice(movers).leave()
                link = self.dice.choice(slow).link if slow else None
                if link is not None and not link.is_paused:
                    pauses.add(asyncio.create_task(link.pause(self.dice.uniform(0.5, 6))))
        finally:
            for pause in pauses:
                pause.cancel()
            await asyncio.gather(*pauses, return_exceptions=True)

    async def _notice_stalls(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            before = loop.time()
            await asyncio.sleep(0.05)
            self.longest_stall = max(self.longest_stall, loop.time() - before - 0.05)

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for viewer in self.viewers:
            if viewer.link is not None:
                viewer.link.close()
        for job in self.jobs.values():
            job.end()
        for replica in self.replicas:
            if replica is not None:
                replica.end()
        for proxy in self.proxies:
            await proxy.close()
        self.redis.kill()
