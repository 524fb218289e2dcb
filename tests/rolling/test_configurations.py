"""The files of deploy/ in the programs that they are for: accepted, and each unusual value has the effect it is for."""

import asyncio
import re
import shutil
import signal
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect as open_socket

from tests.chaos.link import Link, open_link
from tests.contract.certificates import Authority
from tests.contract.client import upgrade_status, watching
from tests.contract.deadlines import PATIENCE, eventually
from tests.contract.processes import Process, RedisServer, Replica, environment
from tests.rolling.balancers import DEPLOY, KINDS, Balancer, balancer_class
from tests.rolling.stage import CHECK_SECONDS

KEY = "0123456789abcdef"
EVENT = {"type": "progress", "jobId": "job", "jobType": "audio", "progress": 1}
TOKEN = "a-token-of-a-page"
ONE_CLIENT = {
    "nginx": {"limit_conn progress_gateway_clients 200;": "limit_conn progress_gateway_clients 1;"},
    "haproxy": {"{ sc0_conn_cur gt 200 }": "{ sc0_conn_cur gt 1 }"},
}
IDLE = {
    "nginx": {
        "proxy_read_timeout 75s;": "proxy_read_timeout 10s;",
        "proxy_send_timeout 75s;": "proxy_send_timeout 10s;",
    },
    "haproxy": {"timeout tunnel          75s": "timeout tunnel          10s"},
}


class Front:
    """A balancer before two replicas; a third place is empty."""

    def __init__(self, balancer: Balancer, replicas: list[Replica]) -> None:
        self.balancer = balancer
        self.replicas = replicas


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)  # nginx' workers are another user
    return tmp_path


@pytest.fixture
def build(redis_server: RedisServer, directory: Path) -> Iterator["Build"]:
    made = Build(redis_server, directory)
    yield made
    for process in made.processes:
        process.end()


class Build:
    def __init__(self, redis_server: RedisServer, directory: Path) -> None:
        self._redis_server = redis_server
        self._directory = directory
        self._builds = 0
        self.processes: list[Balancer | Replica] = []

    def __call__(
        self,
        kind: str,
        changes: dict[str, str] | None = None,
        *,
        certificate: tuple[Path, Path] | None = None,
        has_v6: bool = False,
        replicas: int = 2,
        **settings: Any,
    ) -> Front:
        self._builds += 1
        directory = self._directory / str(self._builds)
        directory.mkdir()
        logs = [directory / f"{number}.log" for number in range(replicas)]
        started = [Replica(self._redis_server.url, log, command="serve", **settings) for log in logs]
        self.processes += started
        ports = [replica.wait_ready().port for replica in started]
        make = balancer_class(kind)
        places = [*ports, 9, 9][:3]
        balancer = make(directory / kind, places, changes, certificate=certificate, has_v6=has_v6)
        self.processes.append(balancer)
        return Front(balancer.wait_listening(), started)


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    """From an address of its own: a balancer still counts a viewer that has just left."""
    transport = httpx.AsyncHTTPTransport(local_address="127.0.0.2")
    async with httpx.AsyncClient(transport=transport, trust_env=False, timeout=PATIENCE) as client:
        yield client


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "authority")


# The load balancers


@pytest.mark.parametrize("kind", KINDS)
async def test_clients_come_in_and_only_ones_own_network_sees_the_rest(
    kind: str, build: Build, http: httpx.AsyncClient
) -> None:
    front = build(kind, publish_keys=KEY)
    done = front.balancer.check()
    assert done.returncode == 0, done.stderr
    assert "warn" not in (done.stdout + done.stderr).lower(), done.stderr
    url = front.balancer.http
    passed = {"/healthz": 200, "/": 200, "/readyz": 200, "/nothing": 404}
    for path, status in (passed | dict.fromkeys(("/metrics", "/%6detrics", "/metrics?a=b"), 404)).items():
        answer = await http.get(url + path)
        assert answer.status_code == status, path
        assert "gateway_connections" not in answer.text, path
    async with watching(front.balancer.ws, "p") as one, watching(front.balancer.ws, "p") as two:
        assert [len(await asyncio.to_thread(replica.metrics)) > 0 for replica in front.replicas] == [True, True]
        await eventually(lambda: {clients(replica) for replica in front.replicas} == {1}, "one client for each")
        answer = await http.post(f"{url}/projects/p/events", json=EVENT, headers={"Authorization": f"Bearer {KEY}"})
        assert answer.status_code == 202, answer.text
        for client in (one, two):
            assert (await client.events(1))[0]["jobId"] == "job"


def clients(replica: Replica) -> int:
    (line,) = [line for line in replica.metrics() if line.startswith("gateway_connections ")]
    return int(float(line.split()[1]))


@pytest.mark.parametrize("kind", KINDS)
async def test_one_address_cannot_take_all_connections(kind: str, build: Build) -> None:
    front = build(kind)
    links: list[Link] = []
    try:
        while len(links) < 200:
            links.append(await open_link(front.balancer.port, lambda link, message: None))
        await eventually(lambda: all(link.status == 101 for link in links), "200 clients to be let in")
        assert await upgrade_status(front.balancer.ws) == 429
        other = await open_link(front.balancer.port, lambda link, message: None, source="127.0.0.2")
        links.append(other)
        await eventually(lambda: other.status == 101, "a client from another address to be let in")
    finally:
        for link in links:
            link.close()
        await asyncio.gather(*(link.closed for link in links))


@pytest.mark.parametrize("kind", KINDS)
async def test_no_log_has_the_token_of_a_page_whatever_goes_wrong(
    kind: str, build: Build, http: httpx.AsyncClient, directory: Path
) -> None:
    """A replica that is away, an address with too many connections, nobody who answers: nginx logs requests for each.

    Also in an nginx of one's own, which has a log of requests.
    """
    access = directory / "access.log"
    of_ones_own = {"access_log off;  # the line of": f"access_log {access};  #"} if kind == "nginx" else {}
    front = build(kind, ONE_CLIENT[kind] | of_ones_own)
    await fail_in_each_way(front, http)
    assert TOKEN not in front.balancer.log
    if kind == "nginx":
        assert "/healthz" in front.balancer.log, "of other requests it says what failed"
        assert "/healthz" in access.read_text()
        assert TOKEN not in access.read_text()


async def test_control_nginx_logs_the_token_where_its_error_log_is_as_elsewhere(
    build: Build, http: httpx.AsyncClient
) -> None:
    front = build("nginx", {**ONE_CLIENT["nginx"], "error_log stderr emerg;": ""})
    await fail_in_each_way(front, http)
    lines = [line for line in front.balancer.log.splitlines() if TOKEN in line]
    for what in ("limiting connections by zone", "connect() failed"):
        assert any(what in line for line in lines), front.balancer.log


async def fail_in_each_way(front: Front, http: httpx.AsyncClient) -> None:
    place = f"/ws?token={TOKEN}"
    async with watching(f"{front.balancer.ws}?token={TOKEN}", "p"):
        assert await upgrade_status(f"{front.balancer.ws}?token={TOKEN}") == 429
    for replica in front.replicas:
        replica.end()
    assert (await http.get(front.balancer.http + place)).status_code in (502, 503)
    assert (await http.get(f"{front.balancer.http}/healthz")).status_code in (502, 503)
    front.balancer.end()  # it says the rest


async def test_pings_keep_a_silent_connection_and_without_them_it_is_cut(build: Build) -> None:
    """In a seventh of the time. The control: pings that are rarer than the idle time, as others' defaults are."""
    urls = {
        (kind, ping_seconds): build(kind, IDLE[kind], replicas=1, ping_seconds=ping_seconds).balancer.ws
        for ping_seconds in (3.5, 25)
        for kind in KINDS
    }
    async with AsyncExitStack() as stack:
        # Those that are kept come first: they are older when the others are cut.
        clients = {case: await stack.enter_async_context(watching(url, "p")) for case, url in urls.items()}
        for kind in KINDS:
            await clients[kind, 25].closed()
        for kind in KINDS:
            await clients[kind, 3.5].ping()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_posted_event_that_a_draining_replica_refuses_goes_to_another(
    kind: str, build: Build, http: httpx.AsyncClient
) -> None:
    front = build(kind, publish_keys=KEY, drain_seconds=120)
    await asyncio.sleep(CHECK_SECONDS)  # for HAProxy to find that nobody is at the third place
    async with AsyncExitStack() as stack:
        for replica in front.replicas:
            await stack.enter_async_context(watching(replica.ws, "p"))
        front.replicas[0].signal(signal.SIGTERM)
        for _ in range(20):
            headers = {"Authorization": f"Bearer {KEY}"}
            answer = await http.post(f"{front.balancer.http}/projects/p/events", json=EVENT, headers=headers)
            assert answer.status_code == 202, answer.text
        assert front.replicas[0].running()


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """How docs/publishing.md publishes from JavaScript."""
    document = (DEPLOY.parent / "docs" / "publishing.md").read_text()
    (code,) = re.findall(r"^```js\n(async function publish.*?)^```", document, re.MULTILINE | re.DOTALL)
    path = tmp_path / "example.mjs"
    path.write_text(code)
    return path


def publishing(example: Path, front: Front) -> Process:
    node = shutil.which("node")
    assert node, "these tests need node"
    env = environment(None, GATEWAY_URL=front.balancer.http, GATEWAY_KEY=KEY)
    return Process([node, str(example)], env, example.with_suffix(".log"))


@pytest.mark.parametrize("kind", KINDS)
def test_the_example_of_the_document_tries_again_while_the_balancer_finds_no_replica(
    kind: str, build: Build, example: Path
) -> None:
    front = build(kind)
    for replica in front.replicas:
        replica.end()
    begin = time.monotonic()
    process = publishing(example, front)
    assert process.wait("the example to give up") == 1
    assert time.monotonic() - begin > 3, "it tries five times, and waits a second between"
    assert re.search(r"Error: 50[23]: ", process.log), process.log


def test_the_example_of_the_document_goes_on_when_a_replica_is_back(
    build: Build, example: Path, redis_server: RedisServer, directory: Path
) -> None:
    front = build("nginx")
    for replica in front.replicas:
        replica.end()
    text = example.read_text()
    example.write_text(text.replace("tries = 5", "tries = 60"))  # the machine may take long to start a replica
    assert example.read_text() != text
    process = publishing(example, front)
    back = Replica(redis_server.url, directory / "back.log", port=front.replicas[0].port, publish_keys=KEY)
    build.processes.append(back)
    assert process.wait("the example to publish") == 0, process.log
    assert len(re.findall(r"\d{16}", process.log)) == 2


def test_the_example_of_the_document_says_what_the_balancer_refused(build: Build, example: Path) -> None:
    front = build("nginx", {"client_max_body_size 1m;": "client_max_body_size 64;"}, publish_keys=KEY)
    process = publishing(example, front)
    assert process.wait("the example to fail") == 1
    assert "Error: 413: <html>" in process.log


@pytest.mark.parametrize("kind", KINDS)
async def test_with_the_line_for_tls_it_takes_clients_over_tls(
    kind: str, build: Build, authority: Authority, directory: Path
) -> None:
    front = build(kind, certificate=authority.sign(kind))
    done = front.balancer.check()
    assert done.returncode == 0, done.stderr
    context = ssl.create_default_context(cafile=authority.certificate)
    async with open_socket(f"wss://127.0.0.1:{front.balancer.tls_port}/ws", ssl=context, proxy=None) as socket:
        assert b"connected" in await socket.recv(decode=False)


@pytest.mark.parametrize("kind", KINDS)
async def test_with_the_line_for_ipv6_it_takes_clients_of_both(kind: str, build: Build) -> None:
    front = build(kind, has_v6=True)
    done = front.balancer.check()
    assert done.returncode == 0, done.stderr
    for host in ("127.0.0.1", "[::1]"):
        assert await upgrade_status(f"ws://{host}:{front.balancer.port}/ws") == 101
