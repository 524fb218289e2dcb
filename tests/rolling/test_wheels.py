"""Caddy, Traefik and Envoy with the files of deploy/; `make balancers` rolls, kills and scales behind them.

One start of everything for each program: a start is most of what a test costs. So this is one test in several steps.
"""

import asyncio
import re
import signal
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect as open_socket
from websockets.protocol import State
from websockets.typing import Origin

from tests.chaos.link import Link, open_link
from tests.contract.certificates import Authority
from tests.contract.client import Client, upgrade_status, watching
from tests.contract.deadlines import PATIENCE, eventually
from tests.contract.processes import RedisServer, Replica
from tests.rolling.balancers import WHEELS, Balancer, balancer_class

KEY = "0123456789abcdef"
EVENT = {"type": "progress", "jobId": "job", "jobType": "audio", "progress": 1}
TOKEN = "a-token-of-a-page"
OF_ONE_ADDRESS = 5
ENVOY_LOG = (
    "access_log: [{name: stderr, typed_config: "
    '{"@type": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StderrAccessLog, '
    'log_format: {text_format_source: {inline_string: "%PATH(NQ)% %RESPONSE_CODE%\\n"}}}}]'
)
# A log of accesses, as the files say how to have one; an own network of 127.0.0.1 alone; more time for health checks,
# for a machine that runs other work.
QUICK = {
    "caddy": {
        "level WARN": "level INFO",
        "\n:80 {\n": "\n:80 {\n\tlog\n",
        "private_ranges": "127.0.0.1/32",
        "health_timeout 2s": "health_timeout 20s",
    },
    "traefik": {
        "\nlog:\n": "\naccessLog: {fields: {names: {RequestPath: drop}}}\nlog:\n",
        "127.0.0.0/8": "127.0.0.1/32",
        "timeout: 2s": "timeout: 20s",
    },
    "envoy": {
        "use_remote_address: true": f"use_remote_address: true\n                {ENVOY_LOG}",
        "address_prefix: 127.0.0.0, prefix_len: 8": "address_prefix: 127.0.0.1, prefix_len: 32",
        "timeout: 2s\n        interval": "timeout: 20s\n        interval",
        "stream_idle_timeout: 75s": "stream_idle_timeout: 10s",
    },
}
# The controls look at /healthz, which is 200 during a drain: so they do not learn of it before the handshakes do.
NO_SECOND_TRY = {
    "caddy": {"lb_try_duration 5s": "lb_try_duration 0s", "health_uri /readyz": "health_uri /healthz"},
    "traefik": {'status: ["502-503"]': "", "path: /readyz": "path: /healthz"},
    "envoy": {"num_retries: 5": "num_retries: 0", "path: /readyz": "path: /healthz"},
}


class Front:
    """A balancer before one replica; `second` runs too, and a reload puts it at the second place. It pings rarely."""

    def __init__(self, kind: str, directory: Path, redis_url: str) -> None:
        self.kind = kind
        self._directory = directory
        settings: dict[str, Any] = {
            "publish_keys": KEY,
            "drain_seconds": 120,
            "drain_rate": 0.01,  # the client may stay until the test has ended
            "origins": "https://app.example.com",  # pages of loopback are then no exception
            "trusted_proxies": "127.0.0.1",
            "max_connections_per_address": OF_ONE_ADDRESS,
        }
        self.first, self.second = (
            Replica(redis_url, directory / f"{number}.log", ping_seconds=ping_seconds, **settings)
            for number, ping_seconds in enumerate((3.5, 25))
        )
        self.balancers: list[Balancer] = []

    async def put(
        self, second: int, changes: Mapping[str, str], certificate: tuple[Path, Path] | None = None
    ) -> Balancer:
        ports, place = [self.first.port, second, 10], self._directory / f"{self.kind}-{len(self.balancers)}"
        balancer = balancer_class(self.kind)(place, ports, changes, certificate=certificate)
        self.balancers.append(balancer)
        return await asyncio.to_thread(balancer.wait_listening)

    def end(self) -> None:
        for process in (*self.balancers, self.first, self.second):
            process.end()


@asynccontextmanager
async def front_of(kind: str, directory: Path, redis_url: str) -> AsyncIterator[Front]:
    front = Front(kind, directory, redis_url)
    try:
        for replica in (front.first, front.second):
            await asyncio.to_thread(replica.wait_ready)
        yield front
    finally:
        front.end()


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False, timeout=20, headers={"Authorization": f"Bearer {KEY}"}) as client:
        yield client


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "authority")


@pytest.mark.parametrize("kind", WHEELS)
async def test_clients_come_in_and_stay_and_those_who_are_refused_go_to_another_replica(
    kind: str, redis_server: RedisServer, tmp_path: Path, http: httpx.AsyncClient, authority: Authority
) -> None:
    async with front_of(kind, tmp_path, redis_server.url) as front, AsyncExitStack() as clients:
        balancer = await front.put(9, QUICK[kind], authority.sign(kind))
        done = await asyncio.to_thread(balancer.check)
        assert done.returncode == 0, done.stdout + done.stderr
        first = await client_of(front.first, balancer, clients)
        await only_ones_own_network_sees_the_rest(balancer, http)
        await pages_come_over_tls_too(balancer, authority)
        await one_address_cannot_take_all(balancer)

        await asyncio.to_thread(balancer.reload, 9, front.second.port)
        second = await client_of(front.second, balancer, clients)
        assert await is_open(first), "a reload cuts nobody"
        if kind == "envoy":  # the others have no idle time-out for WebSockets
            await eventually(lambda: second.socket.state is not State.OPEN, "a client without pings to be cut")
            assert await is_open(first), "pings keep a client"

        control = await front.put(front.second.port, NO_SECOND_TRY[kind])
        front.first.signal(signal.SIGTERM)
        await nobody_is_refused(balancer, http)
        assert front.first.running(), "it drains for as long as it has a client"
        await a_handshake_is_refused(control)

        front.first.end()
        await nobody_is_refused(balancer, http)
        front.second.end()
        assert await upgrade_status(f"{balancer.ws}?token={TOKEN}") in (502, 503)
        await eventually(lambda: bool(re.search(r"\b50[23]\b", balancer.log)), "accesses to be logged")
        assert TOKEN not in balancer.log


async def client_of(replica: Replica, balancer: Balancer, clients: AsyncExitStack) -> Client:
    """A client through the balancer at this replica, once the balancer knows it."""
    async with asyncio.timeout(PATIENCE):
        while True:
            async with AsyncExitStack() as stack:
                client = await stack.enter_async_context(watching(balancer.ws, "p"))
                if await asyncio.to_thread(clients_of, replica):
                    clients.push_async_exit(stack.pop_all())
                    return client
            await asyncio.sleep(0.1)


def clients_of(replica: Replica) -> int:
    (line,) = [line for line in replica.metrics() if line.startswith("gateway_connections ")]
    return int(float(line.split()[1]))


async def is_open(client: Client) -> bool:
    await asyncio.wait_for(await client.socket.ping(), PATIENCE)
    return client.socket.state is State.OPEN


async def only_ones_own_network_sees_the_rest(balancer: Balancer, http: httpx.AsyncClient) -> None:
    hidden = dict.fromkeys(("/metrics", "/%6detrics", "/metrics?a=b"), 404)
    for path, status in {"/healthz": 200, "/": 200, "/readyz": 200, "/nothing": 404, **hidden}.items():
        answer = await http.get(balancer.http + path)
        assert answer.status_code == status, path
        assert "gateway_connections" not in answer.text, path
    transport = httpx.AsyncHTTPTransport(local_address="127.0.0.4")
    async with httpx.AsyncClient(trust_env=False, timeout=20, transport=transport) as stranger:
        others = dict.fromkeys(("/", "/readyz", "/nothing", "/projects/q/events"), 403)
        for path, status in {"/healthz": 200, **others}.items():
            assert (await stranger.get(balancer.http + path)).status_code == status, path
        assert (await stranger.get(f"{balancer.http}/metrics")).status_code in (403, 404)


async def pages_come_over_tls_too(balancer: Balancer, authority: Authority) -> None:
    """And their own origin is known: Host and X-Forwarded-Proto arrive."""
    place = f"127.0.0.1:{balancer.port}"
    assert await upgrade_status(f"ws://{place}/ws", origin=f"http://{place}") == 101
    assert await upgrade_status(f"ws://{place}/ws", origin=f"https://{place}") == 403
    context = ssl.create_default_context(cafile=authority.certificate)
    place = f"127.0.0.1:{balancer.tls_port}"
    own = Origin(f"https://{place}")
    async with open_socket(f"wss://{place}/ws", ssl=context, origin=own, proxy=None) as socket:
        assert b"connected" in await socket.recv(decode=False)


async def one_address_cannot_take_all(balancer: Balancer) -> None:
    """None of the three counts WebSockets of an address: the replica does, by X-Forwarded-For."""
    links: list[Link] = []
    try:
        while not links or links[-1].status == 101:
            assert len(links) <= OF_ONE_ADDRESS, "the last one had to be refused"
            links.append(await settled(balancer, "127.0.0.3"))
        assert links[-1].status == 429
        links.append(await settled(balancer, "127.0.0.4"))
        assert links[-1].status == 101
    finally:
        for link in links:
            link.close()
        await asyncio.gather(*(link.closed for link in links))


async def settled(balancer: Balancer, source: str) -> Link:
    link = await open_link(balancer.port, lambda link, message: None, source=source)
    await eventually(lambda: link.status > 0, "an answer to the handshake")
    return link


async def nobody_is_refused(balancer: Balancer, http: httpx.AsyncClient) -> None:
    for _ in range(6):
        assert await upgrade_status(balancer.ws) == 101
        answer = await http.post(f"{balancer.http}/projects/q/events", json=EVENT)
        assert answer.status_code == 202, answer.text


async def a_handshake_is_refused(control: Balancer) -> None:
    for _ in range(20):
        if await upgrade_status(control.ws) == 503:
            return
    raise AssertionError("without a second try the draining replica had to refuse one")
