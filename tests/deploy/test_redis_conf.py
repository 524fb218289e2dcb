"""deploy/redis/redis.conf, read by real servers: its limits, and that its users may do their work and nothing else."""

import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from tests.contract.client import watching
from tests.contract.deadlines import PATIENCE
from tests.contract.events import progress
from tests.contract.processes import PublisherProcess, Replica, free_port
from tests.contract.servers import KINDS, program

from .tools import DEPLOY

CONF = DEPLOY / "redis" / "redis.conf"
PASSWORDS = dict(re.findall(r"^user (\S+) on >(\S+)", CONF.read_text(), re.MULTILINE))
KEY = "k" * 32
MAY_NOT = [
    ["GET", "anything"],
    ["SET", "anything", "1"],
    ["HGETALL", "other"],
    ["DEL", "{project:p}:jobs"],
    ["FLUSHALL"],
    ["KEYS", "*"],
    ["CONFIG", "GET", "*"],
    ["CONFIG", "SET", "maxmemory", "1"],
    ["CLIENT", "LIST"],
    ["CLIENT", "KILL", "TYPE", "pubsub"],
    ["ACL", "LIST"],
    ["INFO"],
    ["SHUTDOWN", "NOSAVE"],
    ["PUBLISH", "other", "x"],
    ["PSUBSCRIBE", "*"],
    ["MONITOR"],
]


class Redis:
    """A server that was started with the file itself; only the port and the address are a test's own."""

    def __init__(self, kind: str, directory: Path) -> None:
        self.port = free_port()
        words = [program(kind), str(CONF), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(directory)]
        self.log = directory / "redis.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(words, stdout=log, stderr=log)

    def url(self, user: str) -> str:
        return f"redis://{user}:{PASSWORDS[user]}@127.0.0.1:{self.port}/0"

    def ask(self, user: str | None, *words: str) -> Any:
        password = PASSWORDS.get(user or "", "none")
        with redis.Redis(port=self.port, username=user, password=user and password, retry=None) as client:  # type: ignore[arg-type]
            return client.execute_command(*words)

    def refuses(self, user: str, words: list[str]) -> bool:
        try:
            self.ask(user, *words)
        except redis.exceptions.NoPermissionError:
            return True
        return False

    def wait(self) -> None:
        end = time.monotonic() + PATIENCE
        while True:
            assert self.process.poll() is None, self.log.read_text()[-2000:]
            try:
                assert self.ask("health", "PING") is True, "the health check of docker-compose.yml"
            except redis.ConnectionError:
                assert time.monotonic() < end, self.log.read_text()[-2000:]
                time.sleep(0.05)
            else:
                return


@pytest.fixture(scope="module", params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    server = Redis(request.param, tmp_path_factory.mktemp("redis"))
    try:
        server.wait()
        yield server
    finally:
        server.process.kill()
        server.process.wait()


def denials(server: Redis) -> list[str]:
    """What was refused since the last call. redis-py tells Redis 7.2 and newer its name, and minds no refusal."""
    log = server.ask("operator", "ACL", "LOG")
    server.ask("operator", "ACL", "LOG", "RESET")
    return [text for entry in log if "client|setinfo" not in (text := str(entry))]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("client-output-buffer-limit", "pubsub 67108864 16777216 30"),
        ("tcp-backlog", "4096"),
        ("tcp-keepalive", "60"),
        ("timeout", "0"),
        ("maxclients", "10000"),
        ("maxmemory", str(512 << 20)),
        ("maxmemory-clients", str(512 << 20)),
        ("maxmemory-policy", "volatile-ttl"),
        ("save", ""),
        ("appendonly", "no"),
    ],
)
def test_a_limit_is_in_force(server: Redis, name: str, value: str) -> None:
    answer = server.ask("operator", "CONFIG", "GET", name)
    [found] = answer.values() if isinstance(answer, dict) else answer[1::2]
    assert value in (found if isinstance(found, str) else found.decode())


def test_nobody_comes_in_without_a_name(server: Redis) -> None:
    with pytest.raises(redis.exceptions.AuthenticationError):
        server.ask(None, "PING")
    assert server.refuses("health", ["GET", "x"])


async def test_a_replica_and_jobs_can_do_their_work(server: Redis, project: str, tmp_path: Path) -> None:
    server.ask("operator", "ACL", "LOG", "RESET")
    replica = Replica(server.url("gateway"), tmp_path / "replica.log")
    jobs = PublisherProcess(server.url("jobs"))
    try:
        replica.wait_ready()
        early = jobs.seq(project, progress("early"))
        async with watching(replica.ws, project) as client:
            assert [event["seq"] for event in await client.events(1)] == [early]
            live = jobs.seq(project, progress("live"))
            assert [event["seq"] for event in await client.events(1)] == [live]
    finally:
        replica.end()
        jobs.end()
    assert denials(server) == [], "what they need is all there, to the last command"


async def test_a_replica_that_takes_events_can_do_its_work(server: Redis, project: str, tmp_path: Path) -> None:
    server.ask("operator", "ACL", "LOG", "RESET")
    replica = Replica(server.url("gateway-publishing"), tmp_path / "replica.log", publish_keys=KEY)
    try:
        replica.wait_ready()
        async with watching(replica.ws, project) as client, httpx.AsyncClient(trust_env=False) as http:
            url, headers = f"{replica.http}/projects/{project}/events", {"Authorization": f"Bearer {KEY}"}
            answer = await http.post(url, json=progress("posted"), headers=headers)
            assert answer.status_code == 202
            assert [event["seq"] for event in await client.events(1)] == answer.json()["seqs"]
    finally:
        replica.end()
    assert denials(server) == []


@pytest.mark.parametrize("user", ["gateway", "gateway-publishing", "jobs"])
def test_they_can_do_nothing_else(server: Redis, user: str) -> None:
    for words in MAY_NOT:
        assert server.refuses(user, words), f"{user} may {' '.join(words)}"
    if user == "gateway":
        assert server.refuses(user, ["HSET", "{project:p}:jobs", "job", "event"]), "it reads, and never writes"
        assert server.refuses(user, ["EVAL", "return 1", "0"])
    if user == "jobs":
        assert server.refuses(user, ["SUBSCRIBE", "project:p"])


def test_operators_can(server: Redis) -> None:
    assert server.ask("operator", "ACL", "WHOAMI") in ("operator", b"operator")
    assert server.ask("operator", "CLIENT", "LIST")
