"""Four replicas on four ports of one machine, started as the shipped unit says, behind the shipped files."""

import asyncio
import re
import shlex
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.contract.deadlines import eventually, wait_for
from tests.contract.events import complete
from tests.contract.processes import Process, PublisherProcess, RedisServer, claim, environment, free_port, listens
from tests.rolling.balancers import DEPLOY, KINDS, Balancer, balancer_class
from tests.rolling.test_host import COMMAND
from tests.rolling.viewers import Viewer

UNIT = DEPLOY / "systemd" / "progress-gateway@.service"
INSTANCES, CLIENTS = 4, 40
START_SECONDS = 60


def two_free_ports() -> int:
    """A port whose admin port, 1,000 above, is free too."""
    while True:
        port = free_port()
        if not listens(port + 1_000) and claim(port + 1_000):
            return port


def command_of(port: int) -> list[str]:
    """What systemd runs for the instance of this port."""
    (line,) = re.findall(r"^ExecStart=(.*)$", UNIT.read_text(), re.MULTILINE)
    installed = str(Path(sys.executable).with_name("progress-gateway"))
    return shlex.split(line.replace("%i", str(port)).replace("$$", "$").replace(COMMAND, installed))


class Instance:
    def __init__(self, port: int, redis_url: str, directory: Path) -> None:
        self.port = port
        self._directory = directory
        self._variables = environment(redis_url, GATEWAY_DRAIN_SECONDS=20)
        self._starts = 0
        self.start()

    def start(self) -> None:
        self._starts += 1
        log = self._directory / f"{self.port}_{self._starts}.log"
        self.process = Process(command_of(self.port), self._variables, log)

    def admin(self, path: str) -> httpx.Response:
        with httpx.Client(trust_env=False, timeout=30) as client:
            return client.get(f"http://127.0.0.1:{self.port + 1_000}{path}")

    def is_ready(self) -> bool:
        assert self.process.running(), self.process.log
        try:
            return self.admin("/readyz").status_code == 200 and listens(self.port)
        except httpx.TransportError:
            return False

    def wait_ready(self) -> None:
        wait_for(self.is_ready, f"the instance {self.port} to be ready", START_SECONDS)

    def clients(self) -> int:
        (line,) = [line for line in self.admin("/metrics").text.splitlines() if line.startswith("gateway_connections ")]
        return int(float(line.split()[1]))


@pytest.fixture(scope="module")
def instances(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Instance]]:
    directory = tmp_path_factory.mktemp("instances")
    made = [Instance(two_free_ports(), redis_server.url, directory) for _ in range(INSTANCES)]
    try:
        for instance in made:
            instance.wait_ready()
        yield made
    finally:
        for instance in made:
            instance.process.end()


def changes(kind: str, ports: list[int]) -> dict[str, str]:
    """The lines for one machine instead of those for three hosts."""
    hosts = {
        "nginx": "    server gateway-{}:3001 max_fails=0;\n",
        "haproxy": "    server gateway-{0} gateway-{0}:3001\n",
    }[kind]
    machine = {"nginx": "# server 127.0.0.1:{} max_fails=0;", "haproxy": "# server port-{0} 127.0.0.1:{0}"}[kind]
    text = "".join((DEPLOY / name).read_text() for name in balancer_class(kind).files)
    places = re.findall(re.escape(machine).replace(r"\{\}", r"(\d+)").replace(r"\{0\}", r"(\d+)"), text)
    assert len(places) == len(ports) == INSTANCES
    found = {hosts.format(number): "" for number in (1, 2, 3)}
    for place, port in zip(places, ports, strict=True):
        number = place[0] if isinstance(place, tuple) else place
        found[machine.format(number)] = machine.format(port).removeprefix("# ")
    return found


def front(kind: str, instances: list[Instance], tmp_path: Path) -> Balancer:
    tmp_path.chmod(0o755)  # nginx' workers are another user
    ports = [instance.port for instance in instances]
    return balancer_class(kind)(tmp_path / kind, ports[:3], changes(kind, ports)).wait_listening()


@asynccontextmanager
async def crowd(balancer: Balancer, project: str) -> AsyncIterator[list[Viewer]]:
    viewers = [Viewer(number, balancer.port, project, obeys=True) for number in range(CLIENTS)]
    tasks = [asyncio.create_task(viewer.run()) for viewer in viewers]
    try:
        await eventually(lambda: all(viewer.is_watching for viewer in viewers), "all to watch")
        yield viewers
    finally:
        # First: a task that is cancelled cancels the future by which it would learn that its connection is closed.
        await asyncio.gather(*(viewer.leave() for viewer in viewers))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        balancer.end()


@pytest.mark.parametrize("kind", KINDS)
async def test_each_instance_gets_its_share_and_prometheus_sees_each(
    kind: str, instances: list[Instance], tmp_path: Path
) -> None:
    balancer = front(kind, instances, tmp_path)
    async with crowd(balancer, "p"):
        done = balancer.check()
        assert done.returncode == 0, done.stderr
        found: list[int] = []

        def all_are_counted() -> bool:  # those of an earlier test may still be
            found[:] = [instance.clients() for instance in instances]
            return sum(found) == CLIENTS

        await eventually(all_are_counted, "each client to be on one instance")
        assert min(found) >= CLIENTS / INSTANCES / 2, found


@pytest.fixture
def publisher(redis_server: RedisServer) -> Iterator[PublisherProcess]:
    process = PublisherProcess(redis_server.url)
    yield process
    process.end()


async def test_an_instance_that_is_rolled_loses_nothing(
    instances: list[Instance], publisher: PublisherProcess, tmp_path: Path
) -> None:
    project, jobs = "rolled", list[str]()

    def publish() -> None:
        jobs.append(f"job_{len(jobs)}")
        publisher.seq(project, complete(jobs[-1]))

    async with crowd(front("nginx", instances, tmp_path), project) as viewers:
        publish()
        rolled = instances[0]
        rolled.process.signal(signal.SIGTERM)
        end = asyncio.create_task(asyncio.to_thread(rolled.process.wait, "the end of a drain", START_SECONDS))
        while not end.done():
            publish()
            await asyncio.sleep(0.05)
        assert await end == 0
        rolled.start()
        await asyncio.to_thread(rolled.wait_ready)
        publish()
        await eventually(lambda: all(viewer.ends == set(jobs) for viewer in viewers), "all to see all ends")
        assert not any(viewer.refused or viewer.gaps for viewer in viewers)
        assert sum(viewer.moves for viewer in viewers) >= CLIENTS / 4
