"""What a Redis may do to its clients, on Redis 7 and on Valkey: viewers are told, the log and `/readyz` say what to do,
and all is well again, with nothing missed, once it is put right.

Each fault has a server and a replica of its own, and most of its time is waiting. So all are played side by side, by
the first test that asks for one.
"""

import asyncio
import json
import re
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from publisher.publication import Publication
from publisher.settings import PublisherSettings
from publisher.transport.async_driver import send

from .client import Client, Message, connect, watching
from .events import progress
from .processes import Replica, free_port
from .servers import KINDS, Server

AT_ONCE = 7  # faults that are played side by side
NOTICE_SECONDS = 60.0  # far above what any of them takes
PROJECT = "p"
GATEWAY_RIGHTS = re.findall(
    r"^ACL SETUSER gateway .*$", (Path(__file__).parents[2] / "docs" / "operating.md").read_text(), re.MULTILINE
)[0]

Fault = Callable[["Stage"], Awaitable[None]]
FAULTS: dict[str, Fault] = {}


def fault(play: Fault) -> Fault:
    FAULTS[play.__name__] = play
    return play


class Stage:
    """One server, and a replica on it when it is asked for."""

    def __init__(self, kind: str, directory: Path) -> None:
        self.kind = kind
        self.directory = directory
        self.servers: list[Server] = []
        self.replica: Replica | None = None
        self._http = httpx.AsyncClient(trust_env=False, timeout=30, verify=False)

    async def server(self, *settings: str) -> Server:
        directory = self.directory / str(len(self.servers))
        server = await asyncio.to_thread(Server, self.kind, directory, *settings)
        self.servers.append(server)
        return server

    async def serve(self, url: str, *, ready: bool = True, redis_wait_seconds: float = 3) -> Replica:
        self.replica = Replica(url, self.directory / "replica.log", redis_wait_seconds=redis_wait_seconds)
        if ready:
            await asyncio.to_thread(self.replica.wait_ready)
        return self.replica

    async def readiness(self) -> dict[str, Any]:
        assert self.replica is not None
        try:
            answer = (await self._http.get(self.replica.http + "/readyz")).json()
        except httpx.TransportError:
            return {}
        assert isinstance(answer, dict)
        return answer

    async def readiness_says(self, *words: str) -> dict[str, Any]:
        """Wait until `/readyz` says all these in its error and its hint."""
        end = time.monotonic() + NOTICE_SECONDS
        while True:
            answer = await self.readiness()
            text = f"{answer.get('error', '')} {answer.get('hint', '')}"
            if all(word in text for word in words):
                return answer
            assert time.monotonic() < end, f"waited for {words} in /readyz: {answer}"
            await asyncio.sleep(0.05)

    @property
    def errors(self) -> list[str]:
        """The error lines of the replica's log."""
        assert self.replica is not None
        return [line for line in self.replica.log.splitlines() if " ERROR " in line]

    def said_once(self, *words: str) -> None:
        """One line says all these, and no password."""
        lines = [line for line in self.errors if all(word in line for word in words)]
        assert len(lines) == 1, f"{words} in {self.errors}"
        assert "secret" not in "".join(self.errors)

    async def end(self) -> None:
        await self._http.aclose()
        if self.replica is not None:
            self.replica.end()
        for server in self.servers:
            server.end()


async def say(url: str, job: str, percent: float = 0, *, project: str = PROJECT) -> int:
    """Publish as a job does, within a second; raises what Redis says."""
    publication = Publication.of(project, progress(job, percent), "")
    (seq,) = (await send(PublisherSettings(url), [publication], strict=True, seconds=1)).seqs
    assert isinstance(seq, int)
    return seq


async def heard(client: Client, seq: int) -> list[Message]:
    """What came up to the event of this seq."""
    messages = [await client.next("an event", NOTICE_SECONDS)]
    while messages[-1].get("seq") != seq or messages[-1]["type"] == "subscribed":
        messages.append(await client.next(f"the event {seq}", NOTICE_SECONDS))
    return messages


@asynccontextmanager
async def viewer(stage: Stage, url: str) -> AsyncIterator[Client]:
    """Watches, and goes on watching after the fault: it was told `stale`, and in the end all is well."""
    replica = await stage.serve(url)
    async with watching(replica.ws, PROJECT) as client:
        assert await heard(client, await say(stage.servers[0].url, "job", 1))
        yield client
        missed = await say(stage.servers[0].url, "after", 2)
        await heard(client, missed)
        assert client.received[-1]["type"] == "progress"
        assert (await stage.readiness())["redis"] == "live"
        kinds = [message["type"] for message in client.received]
        assert kinds.count("stale") == kinds.count("live")


async def hears(client: Client, kind: str) -> None:
    messages = await client.until_type(kind, within=NOTICE_SECONDS)
    assert messages[-1]["type"] == kind


# The faults


@fault
async def client_kill(stage: Stage) -> None:
    server = await stage.server()
    async with viewer(stage, server.url) as client:
        server.cut_gateways()
        await hears(client, "stale")
        await hears(client, "live")
        stage.said_once("closed", "CLIENT KILL", "client-output-buffer-limit")


@fault
async def output_buffer_limit(stage: Stage) -> None:
    """The replica does not read for a moment, and Redis cuts it off: what it missed is loaded."""
    server = await stage.server("--client-output-buffer-limit", "pubsub 256kb 0 0")
    async with viewer(stage, server.url) as client:
        assert stage.replica is not None
        stage.replica.signal(signal.SIGSTOP)
        payload = json.dumps(progress("loud", message="x" * 10_000))
        for _ in range(30):
            pipeline = server.client.pipeline(transaction=False)
            for _ in range(100):
                pipeline.publish(f"project:{PROJECT}", payload)
            if pipeline.execute()[-1] == 0:
                break
        missed = await say(server.url, "missed")
        stage.replica.signal(signal.SIGCONT)
        await hears(client, "stale")
        await heard(client, missed)
        await hears(client, "live")
        stage.said_once("closed", "client-output-buffer-limit")


@fault
async def client_pause(stage: Stage) -> None:
    """Redis takes connections and answers nobody; then it does again."""
    server = await stage.server()
    async with viewer(stage, server.url) as client:
        server.command("CLIENT", "PAUSE", 9_000, "ALL")
        await hears(client, "stale")
        answer = await stage.readiness_says("probe", "CLIENT PAUSE")
        assert answer["redis"] == "down"
        assert answer["ready"] is True, "within the grace"
        await hears(client, "live")
        stage.said_once("CLIENT PAUSE", "probe")
        assert len(stage.errors) == 1


@fault
async def client_pause_of_writes(stage: Stage) -> None:
    """Nobody can publish meanwhile, a probe neither."""
    server = await stage.server()
    async with viewer(stage, server.url) as client:
        server.command("CLIENT", "PAUSE", 7_000, "WRITE")
        await hears(client, "stale")
        await stage.readiness_says("probe", "CLIENT PAUSE")
        await hears(client, "live")


@fault
async def made_a_replica(stage: Stage) -> None:
    """A failover: this server answers on, but events are published at the new primary."""
    server = await stage.server()
    primary = await stage.server()
    async with viewer(stage, server.url) as client:
        server.command("REPLICAOF", "127.0.0.1", primary.port)
        await hears(client, "stale")
        answer = await stage.readiness_says("replica", "point REDIS_URL to the primary")
        assert answer["redis"] != "live"
        with pytest.raises(Exception, match=r"read.only|replica"):
            await say(server.url, "nowhere")
        server.command("REPLICAOF", "NO", "ONE")
        await hears(client, "live")
        stage.said_once("it is a replica", "point REDIS_URL to the primary")


@fault
async def a_replica_from_the_start(stage: Stage) -> None:
    primary, server = await stage.server(), await stage.server()
    server.command("REPLICAOF", "127.0.0.1", primary.port)
    replica = await stage.serve(server.url, ready=False, redis_wait_seconds=0.5)
    assert await asyncio.to_thread(replica.wait, "the end") == 75
    assert "point REDIS_URL to the primary" in replica.log


@fault
async def a_node_of_a_cluster(stage: Stage) -> None:
    """A plain URL: half of the projects stand elsewhere."""
    buses = [str(free_port()) for _ in range(2)]
    one, two = [await stage.server("--cluster-enabled", "yes", "--cluster-port", bus) for bus in buses]
    one.command("CLUSTER", "ADDSLOTSRANGE", 0, 8191)
    two.command("CLUSTER", "ADDSLOTSRANGE", 8192, 16383)
    one.command("CLUSTER", "MEET", "127.0.0.1", two.port, buses[1])
    end = time.monotonic() + NOTICE_SECONDS
    while not all(b"cluster_state:ok" in server.command("CLUSTER", "INFO") for server in (one, two)):
        assert time.monotonic() < end, one.command("CLUSTER", "INFO")
        await asyncio.sleep(0.1)
    project = next(
        name for name in map(str, range(100)) if one.command("CLUSTER", "KEYSLOT", f"{{project:{name}}}:jobs") > 8191
    )
    replica = await stage.serve(one.url, ready=False)
    while not await stage.readiness():
        assert replica.running(), replica.log
        await asyncio.sleep(0.05)
    async with connect(replica.ws) as client:
        await client.send("subscribe", projectId=project)
        await hears(client, "stale")
        await stage.readiness_says("MOVED", "redis+cluster://")
        stage.said_once("MOVED", "redis+cluster://")
        with pytest.raises(Exception, match=r"\d+ 127"):
            await say(one.url, "job", project=project)


@fault
async def loading(stage: Stage) -> None:
    """It was restarted, and reads its data for some seconds."""
    server = await stage.server()
    async with viewer(stage, server.url) as client:
        pipeline = server.client.pipeline(transaction=False)
        for number in range(4_000):
            pipeline.set(f"other:{number}", "x" * 100)
        pipeline.execute()
        server.command("SAVE")
        server.kill()
        server.start("--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024", wait=False)
        await hears(client, "stale")
        await stage.readiness_says("loading", "wait")
        await hears(client, "live")
        stage.said_once("loading", "Nothing is to be done but to wait")
        assert len(stage.errors) <= 3, "closed, refused, loading: each once"


@fault
async def loading_at_the_start(stage: Stage) -> None:
    """Redis and the replica are started together: it waits."""
    server = await stage.server()
    server.command("DEBUG", "POPULATE", 3_000) if False else None
    pipeline = server.client.pipeline(transaction=False)
    for number in range(3_000):
        pipeline.set(f"other:{number}", "x" * 100)
    pipeline.execute()
    server.command("SAVE")
    server.kill()
    server.start("--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024", wait=False)
    await stage.serve(server.url, redis_wait_seconds=20)
    assert stage.errors == []


@fault
async def a_password_is_set(stage: Stage) -> None:
    """Those who are in stay in; the next connection is refused."""
    server = await stage.server()
    async with viewer(stage, server.url) as client:
        server.config("requirepass", "secret")
        server.cut_gateways()
        await hears(client, "stale")
        answer = await stage.readiness_says("redis://user:password@host:port")
        assert answer["redis"] == "down"
        await asyncio.sleep(3)  # many tries
        server.config("requirepass", "")
        await hears(client, "live")
        stage.said_once("Redis wants a password")
        assert len(stage.errors) == 2, "the loss, and why it lasts"


@fault
async def a_password_is_changed(stage: Stage) -> None:
    server = await stage.server()
    server.command(*GATEWAY_RIGHTS.split())
    async with viewer(stage, server.url_of("gateway")) as client:
        server.command("ACL", "SETUSER", "gateway", "resetpass", ">secret2")
        server.cut_gateways()
        await hears(client, "stale")
        await stage.readiness_says("password", "ACL SETUSER <user> >old >new")
        await asyncio.sleep(3)
        server.command("ACL", "SETUSER", "gateway", ">secret")
        await hears(client, "live")
        stage.said_once("does not take the user or password")
        assert len(stage.errors) == 2


@fault
async def the_user_is_deleted(stage: Stage) -> None:
    server = await stage.server()
    server.command(*GATEWAY_RIGHTS.split())
    async with viewer(stage, server.url_of("gateway")) as client:
        server.command("ACL", "DELUSER", "gateway")
        await hears(client, "stale")
        await stage.readiness_says("password", "REDIS_URL")
        server.command(*GATEWAY_RIGHTS.split())
        await hears(client, "live")


@fault
async def no_right_to_the_keys(stage: Stage) -> None:
    """Live events come; what is remembered does not, and the operator learns it. One line, however many projects."""
    server = await stage.server()
    server.command(*GATEWAY_RIGHTS.split())
    async with viewer(stage, server.url_of("gateway")) as client:
        assert stage.replica is not None
        server.command("ACL", "SETUSER", "gateway", "resetkeys")
        for number in range(10):
            await client.subscribe(f"q{number}")
        answer = await stage.readiness_says("permission", "ACL SETUSER")
        assert answer["redis"] == "live"
        assert answer["ready"] is True
        seq = await say(server.url, "live", project="q0")
        await heard(client, seq)
        async with connect(stage.replica.ws) as back:
            assert (await back.subscribe("q1", seq))["recovered"] is False
        stage.said_once("refuses to load", "ACL SETUSER")
        assert len(stage.errors) == 1
        server.command(*GATEWAY_RIGHTS.split())
        server.cut_gateways()
        await hears(client, "live")
        assert "error" not in await stage.readiness()


async def comes_back(client: Client, project: str) -> None:
    """Subscribe until the pause after a refusal is over."""
    async with asyncio.timeout(NOTICE_SECONDS):
        while True:
            await client.send("subscribe", projectId=project)
            answer = await client.next("an answer")
            if answer["type"] == "subscribed":
                return
            assert answer["code"] == "unavailable", answer
            await asyncio.sleep(0.2)


@fault
async def no_right_to_the_channel(stage: Stage) -> None:
    """Redis ends the connection at once; the viewers of what may still be heard hear on, the others are told."""
    server = await stage.server()
    server.command(*GATEWAY_RIGHTS.split())
    async with viewer(stage, server.url_of("gateway")) as client:
        await client.subscribe("secret-plans")
        server.command("ACL", "SETUSER", "gateway", "resetchannels", "&project:~probe*", f"&project:{PROJECT}")
        await hears(client, "stale")
        messages = await client.until_type("live", within=NOTICE_SECONDS)
        assert [message["projectId"] for message in messages if message["type"] == "error"] == ["secret-plans"]
        await stage.readiness_says("permission", "ACL SETUSER")
        lines = [line for line in stage.errors if "refuses to subscribe project:secret-plans" in line]
        assert len(lines) == 1
        assert "ACL SETUSER" in lines[0]
        server.command(*GATEWAY_RIGHTS.split())
        await comes_back(client, "secret-plans")


@fault
async def no_right_to_a_command(stage: Stage) -> None:
    """Without PUBLISH nothing can be proven."""
    server = await stage.server()
    server.command(*GATEWAY_RIGHTS.split())
    async with viewer(stage, server.url_of("gateway")) as client:
        server.command("ACL", "SETUSER", "gateway", "-publish")
        await hears(client, "stale")
        answer = await stage.readiness_says("publish", "ACL SETUSER")
        assert answer["redis"] != "live"
        server.command("ACL", "SETUSER", "gateway", "+publish")
        await hears(client, "live")
        stage.said_once("publish", "ACL SETUSER", "docs/operating.md")
        assert len(stage.errors) == 1


@fault
async def memory_is_full(stage: Stage) -> None:
    """Who watches sees every event; who comes late is shown nothing for it rather than the older one."""
    server = await stage.server()
    async with viewer(stage, server.url) as client:
        assert stage.replica is not None
        before = await say(server.url, "old", 10, project="q")
        server.config("maxmemory", 1)
        live = await say(server.url, "job", 50)
        assert (await heard(client, live))[-1]["progress"] == 50
        unseen = await say(server.url, "old", 90, project="q")
        assert (await stage.readiness())["redis"] == "live"
        async with connect(stage.replica.ws) as late:
            answer = await late.subscribe("q", before)
            assert answer["recovered"] is False
            assert await late.ping() == []
        async with connect(stage.replica.ws) as returning:
            assert (await returning.subscribe("q", unseen))["recovered"] is False
        server.config("maxmemory", 0)
        seq = await say(server.url, "old", 95, project="q")
        async with connect(stage.replica.ws) as late:
            assert (await late.subscribe("q"))["recovered"] is True
            assert await heard(late, seq)


@fault
async def frozen(stage: Stage) -> None:
    server = await stage.server()
    async with viewer(stage, server.url) as client:
        server.freeze()
        await hears(client, "stale")
        await stage.readiness_says("probe", "SLOWLOG")
        server.thaw()
        await hears(client, "live")
        stage.said_once("probe")


# Their outcomes


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], BaseException | None]:
    """What each fault came to, all played side by side."""
    directory = tmp_path_factory.mktemp("faults")
    found: dict[tuple[str, str], BaseException | None] = {}

    async def play(kind: str, name: str, turn: asyncio.Semaphore) -> None:
        async with turn:
            stage = Stage(kind, directory / kind / name)
            try:
                async with asyncio.timeout(90):
                    await FAULTS[name](stage)
                assert stage.replica is not None
                assert "Traceback" not in stage.replica.log, stage.replica.log
            except BaseException as error:
                if stage.replica is not None:
                    error.add_note(f"The replica's log:\n{stage.replica.log[-3000:]}")
                found[kind, name] = error
            else:
                found[kind, name] = None
            finally:
                await stage.end()

    async def play_all() -> None:
        turn = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for name in FAULTS:
                for kind in KINDS:
                    group.create_task(play(kind, name, turn))

    (directory / "redis").mkdir()
    (directory / "valkey").mkdir()
    asyncio.run(play_all())
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FAULTS)
def test_it_is_told_and_mended(outcomes: dict[tuple[str, str], BaseException | None], kind: str, name: str) -> None:
    error = outcomes[kind, name]
    if error is not None:
        raise error
