"""The limits of a client, a page or a connection, and the answer beyond them."""

import asyncio
import json
import time
from contextlib import AsyncExitStack

import pytest

from .client import connect, dial, upgrade_status
from .conftest import Launch
from .deadlines import PATIENCE, eventually
from .events import progress
from .processes import PublisherProcess, RedisServer, Replica
from .raw import PING, TEXT, RawClient, frame, raw_connect, raw_socket, request

BURST = 50
HEADER_BYTES = 32_768


async def test_subscribing_faster_than_the_limit_is_answered_with_an_error_and_costs_nothing_else(
    replica: Replica, publisher: PublisherProcess, project: str
) -> None:
    more = 10
    async with connect(replica.ws) as client:
        for number in range(5):
            await client.subscribe(f"{project}_{number}")
        for number in range(BURST - 5 + more):
            await client.send("subscribe", projectId=f"{project}_{number % 5}")
        answers = [await client.next("an answer to subscribe") for _ in range(BURST - 5 + more)]
        assert [answer["type"] for answer in answers[: BURST - 5]] == ["subscribed"] * (BURST - 5)
        refused = [answer for answer in answers if answer["type"] == "error"]
        assert 1 <= len(refused) <= more
        assert all(answer["code"] and answer["message"] for answer in refused)
        assert {answer.get("projectId", project)[: len(project)] for answer in refused} == {project}
        publisher.seq(f"{project}_3", progress("job"))
        assert (await client.until_job("job"))[-1]["projectId"] == f"{project}_3"


async def test_who_waits_may_subscribe_again(launch: Launch, project: str) -> None:
    replica = launch(subscribe_rate=2, subscribe_burst=2)
    async with connect(replica.ws) as client:
        start = time.monotonic()
        for number in range(8):
            await client.send("subscribe", projectId=f"{project}_{number}")
        answers = [(await client.next())["type"] for _ in range(8)]
        assert answers.count("subscribed") >= 2
        assert "error" in answers
        answer = "error"
        while answer != "subscribed":
            assert time.monotonic() - start < PATIENCE, "the limit never ends"
            await asyncio.sleep(0.6)  # the pace of a client that keeps to the rate
            await client.send("subscribe", projectId=project)
            answer = (await client.next())["type"]


async def test_the_limit_is_of_a_connection_not_of_the_replica(launch: Launch, project: str) -> None:
    replica = launch(subscribe_rate=0.1, subscribe_burst=1)
    for _ in range(5):
        async with connect(replica.ws) as client:
            await client.subscribe(project)
            await client.send("subscribe", projectId=project)
            await client.error()


async def test_a_connection_watches_so_many_projects_and_is_told_so(
    launch: Launch, publisher: PublisherProcess, project: str
) -> None:
    replica = launch(max_projects=3)
    async with connect(replica.ws) as client:
        for number in range(3):
            await client.subscribe(f"{project}_{number}")
        await client.send("subscribe", projectId=f"{project}_3")
        assert (await client.error()).get("projectId", f"{project}_3") == f"{project}_3"
        await client.subscribe(f"{project}_0")  # watched already: no more than before
        await client.send("unsubscribe", projectId=f"{project}_0")
        await client.expect("unsubscribed")
        await client.subscribe(f"{project}_3")
        for number in range(4):
            publisher.seq(f"{project}_{number}", progress("job"))
        assert {event["projectId"] for event in await client.events(3)} == {f"{project}_{n}" for n in (1, 2, 3)}


async def test_by_default_a_connection_watches_100_projects(replica: Replica, project: str) -> None:
    async with connect(replica.ws) as client:
        for number in range(101):
            if number >= BURST - 5:
                await asyncio.sleep(1 / 20)  # the rate that is allowed
            await client.send("subscribe", projectId=f"{project}_{number}")
        answers = [(await client.next())["type"] for _ in range(101)]
        assert answers == ["subscribed"] * 100 + ["error"]


async def test_connections_above_the_limit_are_refused_with_503_and_admitted_when_one_leaves(launch: Launch) -> None:
    replica = launch(max_connections=2)
    async with connect(replica.ws) as one:
        async with connect(replica.ws):
            assert await upgrade_status(replica.ws) == 503
            assert replica.status("/healthz") == 200
            await one.send("ping")
            await one.expect("pong")
        statuses: list[int] = []

        async def admitted() -> int:
            statuses.append(await upgrade_status(replica.ws))
            return statuses[-1]

        async with asyncio.timeout(PATIENCE):
            while await admitted() != 101:
                await asyncio.sleep(0.02)


async def test_an_address_has_so_many_connections_and_others_are_not_touched(launch: Launch, project: str) -> None:
    replica = launch(max_connections_per_address=2, trusted_proxies="127.0.0.1")

    async def arrive(address: str) -> tuple[int, str]:
        """A handshake that the proxy passes on; it stays open if it is granted."""
        client = await stack.enter_async_context(raw_socket(replica.port))
        await client.send(request(replica.port, more=(f"X-Forwarded-For: 198.51.100.1, {address}",)))
        head = (await client.reader.readuntil(b"\r\n\r\n")).decode().lower()
        return int(head.split()[1]), head

    async with connect(replica.ws) as bystander:
        await bystander.subscribe(project)
        async with AsyncExitStack() as stack:
            assert [(await arrive("203.0.113.7"))[0] for _ in range(2)] == [101, 101]
            status, head = await arrive("203.0.113.7")
            assert status == 429
            assert "retry-after: " in head
            assert (await arrive("203.0.113.8"))[0] == 101
            # One customer's network.
            assert [(await arrive(f"2001:db8::{number}"))[0] for number in (1, 2, 3)] == [101, 101, 429]
            assert (await arrive("2001:db8:0:1::1"))[0] == 101
            assert 'gateway_handshakes_total{outcome="address"} 2.0' in replica.metrics()

        async def admitted() -> bool:
            async with AsyncExitStack() as again:
                nonlocal stack
                stack = again
                return (await arrive("203.0.113.7"))[0] == 101

        async with asyncio.timeout(PATIENCE):
            while not await admitted():
                await asyncio.sleep(0.02)
        await bystander.send("ping")
        await bystander.expect("pong")


async def test_control_who_is_no_trusted_proxy_speaks_for_itself_only(launch: Launch) -> None:
    replica = launch(max_connections_per_address=1)
    async with connect(replica.ws), raw_socket(replica.port) as client:
        await client.send(request(replica.port, more=("X-Forwarded-For: 203.0.113.7",)))
        assert await client.status() == 429
    assert "GATEWAY_TRUSTED_PROXIES" in replica.log


async def test_a_replica_watches_so_many_projects_and_one_more_is_unavailable(
    launch: Launch, publisher: PublisherProcess, project: str
) -> None:
    replica = launch(max_watched_projects=3, linger_seconds=0)
    async with connect(replica.ws) as one, connect(replica.ws) as other:
        for number in range(3):
            await one.subscribe(f"{project}_{number}")
        for number in (3, 4) * 15:  # more often than bad messages are borne
            await other.send("subscribe", projectId=f"{project}_{number}")
            error = await other.error()
            assert (error["code"], error["projectId"]) == ("unavailable", f"{project}_{number}")
        await other.subscribe(f"{project}_0")  # watched already
        publisher.seq(f"{project}_0", progress("job"))
        assert await one.events(1) == await other.events(1)
        await one.send("unsubscribe", projectId=f"{project}_1")
        await one.expect("unsubscribed")

        async def answer() -> str:
            await other.send("subscribe", projectId=f"{project}_3")
            return str((await other.next())["type"])

        async with asyncio.timeout(PATIENCE):
            while await answer() != "subscribed":
                await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "https://evil.example",
        "http://127.0.0.1.evil.example",
        "http://localhost.evil.example",
        "http://notlocalhost",
        "http://evil.example:{port}",
        "http://evil.example/127.0.0.1",
        "http://127.0.0.1@evil.example",
        "http://10.0.0.1",
        "null",
        "garbage",
        "http://[::1",
    ],
)
async def test_a_page_of_another_origin_is_refused_with_403(replica: Replica, origin: str) -> None:
    assert await upgrade_status(replica.ws, origin=origin.format(port=replica.port)) == 403
    assert "Traceback" not in replica.log


@pytest.mark.parametrize(
    "origin",
    [
        None,
        "http://127.0.0.1:{port}",
        "http://localhost:{port}",
        "http://localhost:5173",
        "https://localhost",
        "http://127.0.0.1:3000",
        "http://[::1]:3000",
    ],
)
async def test_its_own_pages_loopback_and_programs_pass(replica: Replica, origin: str | None) -> None:
    assert await upgrade_status(replica.ws, origin=origin and origin.format(port=replica.port)) == 101


async def status_of(replica: Replica, path: str, host: str, *more: str, origin: str | None = None) -> int:
    """The status of a handshake at `/ws`, else of a plain request."""
    head = request(replica.port, path, host=host, origin=origin, more=more)
    async with raw_socket(replica.port) as client:
        await client.send(head if path == "/ws" else head.replace(b": Upgrade\r\n", b": close\r\n"))
        return await client.status()


async def test_a_page_of_the_requests_own_origin_passes(launch: Launch) -> None:
    replica = launch(hosts="gateway.example")
    proxied = "X-Forwarded-Proto: https"
    for host, origin, more, status in (
        ("gateway.example", "https://gateway.example", (), 101),
        ("gateway.example:3001", "http://gateway.example:3001", (), 101),
        ("GATEWAY.example", "https://gateway.EXAMPLE", (), 101),
        ("gateway.example:8443", "https://gateway.example:8443", (proxied,), 101),
        ("gateway.example:3001", "https://gateway.example:3001", (), 403),
        ("gateway.example:3001", "http://gateway.example:8080", (), 403),
        ("gateway.example", "http://gateway.example", (proxied,), 403),
        ("gateway.example", "http://localhost:3000", (), 403),
        ("gateway.example", "https://evil.example", (), 403),
        ("gateway.example", "https://gateway.example.evil.example", (), 403),
        ("gateway.example", "https://sub.gateway.example", (), 403),
    ):
        assert await status_of(replica, "/ws", host, *more, origin=origin) == status, (host, origin)


@pytest.mark.parametrize("path", ["/ws", "/", "/static/dashboard.js", "/healthz", "/readyz", "/metrics", "/nothing"])
async def test_a_page_cannot_reach_a_replica_on_loopback_under_its_own_name(replica: Replica, path: str) -> None:
    """DNS rebinding: the page's name leads here, so for its browser this is the page's own origin."""
    evil = f"evil.example:{replica.port}"
    assert await status_of(replica, path, evil, origin=f"http://{evil}") == 421


async def test_control_with_every_host_answered_that_page_watches(launch: Launch) -> None:
    replica = launch(hosts="*")
    evil = f"evil.example:{replica.port}"
    assert await status_of(replica, "/ws", evil, origin=f"http://{evil}") == 101


async def test_a_replica_behind_a_proxy_of_its_machine_answers_its_name_and_probes(launch: Launch) -> None:
    replica = launch(hosts="progress.example")
    assert await status_of(replica, "/ws", "progress.example") == 101
    assert await status_of(replica, "/ws", "127.0.0.1") == 421
    assert await status_of(replica, "/", "other.example") == 421
    assert [replica.status(path) for path in ("/healthz", "/readyz", "/metrics", "/")] == [200, 200, 200, 421]
    assert 'gateway_handshakes_total{outcome="host"} 1.0' in replica.metrics()


@pytest.mark.parametrize("path", ["/ws", "/healthz", "/nothing"])
async def test_a_request_with_no_host_or_two_is_refused(replica: Replica, path: str) -> None:
    whole = request(replica.port, path)
    host = next(line for line in whole.split(b"\r\n") if line.lower().startswith(b"host:")) + b"\r\n"
    for head in (whole.replace(host, b""), whole.replace(host, host * 2), whole.replace(host, b"Host: a b\r\n")):
        async with raw_socket(replica.port) as client:
            await client.send(head)
            assert await client.status() == 400


async def test_named_origins_pass_and_others_are_refused(launch: Launch) -> None:
    replica = launch(origins="https://app.example,http://two.example:8080")
    for origin, status in (
        ("https://app.example", 101),
        ("http://two.example:8080", 101),
        (f"http://127.0.0.1:{replica.port}", 101),
        ("http://localhost", 403),
        (f"http://localhost:{replica.port}", 403),
        ("http://127.0.0.1:3000", 403),
        (f"https://127.0.0.1:{replica.port}", 403),
        ("http://app.example", 403),
        ("https://app.example:444", 403),
        ("http://two.example", 403),
        ("https://app.example.evil.example", 403),
        ("https://evil-app.example", 403),
        (None, 101),
    ):
        assert await upgrade_status(replica.ws, origin=origin) == status, origin
    assert await status_of(replica, "/ws", "app.example", origin="https://app.example") == 101


async def refused(client: RawClient) -> None:
    """An answer of 4xx, or no answer but the end of the connection."""
    answer = await client.ended()
    assert not answer or answer.split(b" ", 2)[1].startswith(b"4"), answer[:100]


@pytest.mark.parametrize("path", ["/ws", "/healthz"])
async def test_a_request_with_a_long_head_is_refused(replica: Replica, path: str) -> None:
    for more in (
        ("X-Long: " + "x" * HEADER_BYTES,),
        tuple(f"X-Many-{number}: {'x' * 100}" for number in range(HEADER_BYTES // 100)),
    ):
        async with raw_socket(replica.port) as client:
            await client.send(request(replica.port, path, more=more))
            await refused(client)


async def test_a_long_path_is_refused(replica: Replica) -> None:
    async with raw_socket(replica.port) as client:
        await client.send(request(replica.port, "/ws?" + "x" * HEADER_BYTES))
        await refused(client)


async def test_a_head_that_never_ends_is_not_taken(replica: Replica) -> None:
    """Two megabytes of header were taken once, and the connection stayed."""
    before = replica.rss_bytes()
    async with raw_socket(replica.port) as client:
        try:
            await client.send(request(replica.port)[:-2] + b"X-Endless: ")
            for _ in range(200):
                await client.send(b"x" * 10_000)
        except ConnectionError:
            pass
        await client.ended()
    assert replica.rss_bytes() - before < 1_500_000


@pytest.mark.parametrize(
    "more",
    [("Cookie: " + "x" * (HEADER_BYTES - 2_000),), tuple(f"X-Many-{number}: 1" for number in range(200))],
    ids=["one long line", "many lines"],
)
async def test_a_head_within_the_limit_is_taken(replica: Replica, more: tuple[str, ...]) -> None:
    async with raw_socket(replica.port) as client:
        await client.send(request(replica.port, more=more))
        assert await client.status() == 101


async def test_an_unfinished_request_is_dropped_and_a_finished_upgrade_stays(launch: Launch, project: str) -> None:
    replica = launch(request_seconds=1)

    async def begin(text: bytes) -> None:
        async with raw_socket(replica.port) as client:
            await client.send(text)
            await client.ended()

    async with connect(replica.ws) as client:
        async with asyncio.TaskGroup() as group:
            for beginning in (b"", b"G", b"GET /ws HTTP/1.1\r\nHost: x\r\n", request(replica.port)[:-2]):
                group.create_task(begin(beginning))
        await client.subscribe(project)


async def test_a_request_that_drips_is_dropped_too(launch: Launch) -> None:
    """A byte now and then does not prolong it."""
    replica = launch(request_seconds=1)
    async with raw_socket(replica.port) as client:
        await client.send(request(replica.port)[:-2])
        end = time.monotonic() + PATIENCE
        try:
            while not client.reader.at_eof():
                assert time.monotonic() < end, "the request is held for ever"
                await client.send(b"X-Drip: 1\r\n")
                await asyncio.sleep(0.1)
                try:
                    await asyncio.wait_for(client.reader.read(1_000), 0.01)
                except TimeoutError:
                    pass
        except ConnectionError:
            pass


async def test_an_idle_client_is_pinged_and_one_that_never_answers_is_let_go(launch: Launch) -> None:
    replica = launch(ping_seconds=3)
    async with raw_connect(replica.port) as dead, dial(replica.ws) as alive:
        await alive.expect("connected")
        assert (await dead.frame("a ping")).opcode == PING
        await dead.close_code()
        await alive.send("ping")
        await alive.expect("pong")


async def test_who_was_let_go_no_longer_watches(launch: Launch, redis_server: RedisServer, project: str) -> None:
    """The limit counts open connections, not past ones."""
    replica = launch(max_connections=3, ping_seconds=0.5, linger_seconds=0.1)
    async with raw_connect(replica.port) as one, raw_connect(replica.port) as two, raw_connect(replica.port) as three:
        for dead in (one, two, three):
            await dead.send(frame(TEXT, json.dumps({"type": "subscribe", "projectId": project}).encode()))
        await eventually(lambda: redis_server.watched_by(project) == 1, "the replica to watch")
        await eventually(lambda: redis_server.watched_by(project) == 0, "the replica to let go of the project")
        async with connect(replica.ws), connect(replica.ws), connect(replica.ws):
            assert await upgrade_status(replica.ws) == 503
