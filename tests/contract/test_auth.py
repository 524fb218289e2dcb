"""Who may watch, on real replicas: the four places of a token, its end, revocation, and what a refused client sees."""

import asyncio
import json
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from publisher.names import jobs_key
from publisher.revocation import revoked_channel
from publisher.tokens import mint
from tests.auth.keys import OLD_SECRET, SECRET, claims, hs256, jwk, jwks, signed

from .client import Client
from .conftest import Launch
from .deadlines import PATIENCE, eventually
from .events import progress
from .processes import RedisServer, Replica, environment, run_gateway

KEY = "a-key-of-publishers-01"
PAGE = "https://app.example"


@pytest.fixture(scope="module")
def gateway(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    """A replica that asks for tokens."""
    settings = {
        "auth": "jwt", "jwt_secret": f"{SECRET},{OLD_SECRET}", "jwt_cookie": "progress", "origins": PAGE,
        "anonymous_projects": "public_*", "publish_keys": KEY,
    }  # fmt: skip
    replica = Replica(redis_server.url, tmp_path_factory.mktemp("auth") / "log", **settings)
    try:
        replica.wait_ready()
        yield replica
        assert replica.stop() == 0, replica.log
        assert "Traceback" not in replica.log
        assert "eyJ" not in replica.log  # how every token begins
    finally:
        replica.end()


@asynccontextmanager
async def page(
    replica: Replica, query: str = "", *, origin: str | None = PAGE, **headers: str
) -> AsyncIterator[Client]:
    named = {name.capitalize(): value for name, value in headers.items()} | ({"Origin": origin} if origin else {})
    socket = await connect(
        replica.ws + query, additional_headers=named, proxy=None, ping_interval=None, close_timeout=1
    )
    try:
        yield Client(socket)
    finally:
        await socket.close()


async def end(client: Client) -> tuple[int, str]:
    code = await client.closed()
    return code, client.socket.close_reason or ""


async def status(replica: Replica, query: str = "", *, origin: str | None = None, **headers: str) -> int:
    with pytest.raises(InvalidStatus) as refused:
        async with page(replica, query, origin=origin, **headers):
            pass
    return refused.value.response.status_code


# The four places


async def test_a_token_may_come_in_four_places(gateway: Replica, project: str) -> None:
    token = mint(project, sub="user_1", secret=SECRET)
    for query, headers in (
        ("", {"authorization": f"Bearer {token}"}),
        (f"?token={token}", {}),
        ("", {"cookie": f"a=b; progress={token}"}),
    ):
        for origin in (PAGE, None):
            async with page(gateway, query, origin=origin, **headers) as client:
                connected = await client.expect("connected")
                assert 3_000_000 < connected["expiresIn"] <= 3_600_000
                await client.subscribe(project)
    async with page(gateway) as client:
        assert "expiresIn" not in await client.expect("connected")
        await client.send("subscribe", projectId=project)
        await client.send("auth", token=token)
        assert 3_000_000 < (await client.expect("authorised"))["expiresIn"] <= 3_600_000
        await client.expect("subscribed")


async def test_a_token_that_is_present_and_bad_is_refused_whatever_the_next_place_has(
    gateway: Replica, project: str
) -> None:
    good, bad = mint(project, secret=SECRET), mint(project, secret="another-secret-of-32-bytes-or-more")
    cookie = f"progress={good}"
    for query, headers in (
        (f"?token={good}", {"authorization": f"Bearer {bad}"}),
        (f"?token={bad}", {"cookie": cookie}),
        ("?token=", {"cookie": cookie}),
        ("", {"authorization": "Bearer", "cookie": cookie}),
        ("", {"cookie": f"progress={bad}"}),
    ):
        async with page(gateway, query, **headers) as client:
            assert await end(client) == (4401, "bad token")
            assert client.received == []
        assert await status(gateway, query, **headers) == 401
    async with page(gateway, f"?token={bad}", authorization=f"Bearer {good}") as client:
        await client.expect("connected")
        await client.subscribe(project)


async def test_a_foreign_page_does_not_connect_with_the_cookie(gateway: Replica, project: str) -> None:
    cookie = f"progress={mint(project, secret=SECRET)}"
    assert await status(gateway, origin="https://evil.example", cookie=cookie) == 403


async def test_a_page_that_rebinds_its_name_does_not_reach_the_gateway(gateway: Replica, project: str) -> None:
    cookie = f"progress={mint(project, secret=SECRET)}"
    host = f"evil.example:{gateway.port}"
    headers = {"Origin": f"http://{host}", "Cookie": cookie}
    with pytest.raises(InvalidStatus) as refused:
        await connect(f"ws://{host}/ws", host="127.0.0.1", port=gateway.port, additional_headers=headers, proxy=None)
    assert refused.value.response.status_code == 421


async def test_a_program_without_a_token_may_still_say_auth(gateway: Replica, project: str) -> None:
    async with page(gateway, origin=None) as client:
        await client.expect("connected")
        await client.send("auth", token=mint(project, secret=OLD_SECRET))
        await client.expect("authorised")
        await client.subscribe(project)


async def test_the_answer_to_a_program_says_why_and_nothing_of_the_token(gateway: Replica) -> None:
    token = hs256(claims(exp=int(time.time()) - 5))
    with pytest.raises(InvalidStatus) as refused:
        async with page(gateway, origin=None, authorization=f"Bearer {token}"):
            pass
    response = refused.value.response
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert response.body == b"Not authorised: token expired.\n"


# What is seen


async def test_nothing_is_delivered_without_a_grant(gateway: Replica, redis_server: RedisServer, project: str) -> None:
    async with page(gateway) as waiting, page(gateway, f"?token={mint('other', secret=SECRET)}") as stranger:
        for client in (waiting, stranger):
            await client.expect("connected")
            await client.send("subscribe", projectId=project)
        assert (await stranger.error())["code"] == "forbidden"
        async with page(gateway, f"?token={mint(project, secret=SECRET)}") as viewer:
            await viewer.expect("connected")
            await viewer.subscribe(project)
            redis_server.publish(project, progress("job", 5))
            await viewer.until_job("job")
        assert await waiting.ping() == []
        assert await stranger.ping() == []


async def test_an_anonymous_project_needs_no_token(gateway: Replica, project: str) -> None:
    async with page(gateway) as client:
        await client.expect("connected")
        await client.subscribe(f"public_{project}")


async def test_a_connection_ends_soon_after_its_token_expires_also_behind_and_resumes_without_a_loss(
    gateway: Replica, redis_server: RedisServer, project: str
) -> None:
    publish = httpx.Client(
        base_url=gateway.http, headers={"Authorization": f"Bearer {KEY}"}, trust_env=False, timeout=30
    )

    def post(number: int) -> None:
        event = {"type": "progress", "jobId": f"job_{number}", "jobType": "audio", "progress": 1}
        assert publish.post(f"/projects/{project}/events", json=event).status_code == 202

    token = mint([project, "full"], sub="u", seconds=10, secret=SECRET)
    reader, writer = await upgraded(gateway, f"?token={token}")
    writer.write(text_frame(b'{"type":"subscribe","projectId":"full"}'))
    async with page(gateway, f"?token={token}") as client:
        await client.expect("connected")
        await client.subscribe(project)
        post(1)
        last = (await client.until_job("job_1"))[-1]["seq"]
        payloads = [progress(f"job_{number}", message="x" * 1_900, data={"x": "y" * 7_000}) for number in range(400)]
        redis_server.publish_all("full", payloads)
        await eventually(lambda: value_of(gateway, "gateway_connections_behind") >= 1, "the socket is full")
        assert await end(client) == (4401, "token expired")
    expired = 'gateway_auth_total{result="token_expired"}'
    await eventually(lambda: value_of(gateway, expired) >= 2, "the other one ends, too")
    data = b""
    async with asyncio.timeout(PATIENCE):
        while not data.endswith(b"\x11\x31token expired"):  # 4401: after what was under way
            piece = await reader.read(65_536)
            assert piece, data[-80:]
            data += piece
    writer.close()
    post(2)
    async with page(gateway, f"?token={mint(project, sub='u', secret=SECRET)}") as client:
        await client.expect("connected")
        assert (await client.subscribe(project, since=last))["recovered"] is True
        assert [event["jobId"] for event in await client.events(1)] == ["job_2"]
    publish.close()


async def test_without_a_token_in_time_a_connection_ends(launch: Launch, project: str) -> None:
    replica = launch(auth="jwt", jwt_secret=SECRET, auth_seconds=0.1)
    async with page(replica, origin=None) as client:
        assert await end(client) == (4401, "no token")
    assert 'gateway_auth_total{result="no_token"} 1.0' in replica.metrics()


# Revocation


async def test_a_revocation_counts_on_every_replica_and_after_a_restart(
    own_redis: RedisServer, launch: Launch, project: str, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"auth": "jwt", "jwt_secret": SECRET, "publish_keys": KEY}
    replicas = [launch(own_redis.url, **settings) for _ in range(2)]
    token, other = mint(project, sub="user 1/a", secret=SECRET), mint(project, sub="user_2", secret=SECRET)
    async with (
        page(replicas[0], f"?token={token}", origin=None) as one,
        page(replicas[1], f"?token={token}", origin=None) as two,
        page(replicas[1], f"?token={other}", origin=None) as stays,
    ):
        for client in (one, two, stays):
            await client.expect("connected")
            await client.subscribe(project)
        response = httpx.post(
            f"{replicas[0].http}/viewers/user%201%2Fa/revoke",
            headers={"Authorization": f"Bearer {KEY}"},
            trust_env=False,
        )
        assert response.status_code == 200
        assert await end(one) == (4401, "token revoked")
        assert await end(two) == (4401, "token revoked")
        assert await stays.ping() == []
    assert await status(replicas[0], f"?token={token}") == 401
    late = launch(own_redis.url, **settings)
    assert await status(late, f"?token={token}") == 401
    # Redis comes back without its data: what the replicas know counts, and is written again for those to come.
    own_redis.kill()
    own_redis.start()
    await eventually(lambda: is_remembered(own_redis, "user 1/a"), "it is written again")
    await eventually(replicas[0].ready, "the feed is back")
    assert await status(replicas[0], f"?token={token}") == 401
    fresh = mint(project, sub="user 1/a", secret=SECRET)
    async with page(late, f"?token={fresh}", origin=None) as client:
        await client.expect("connected")


def is_remembered(server: RedisServer, sub: str) -> bool:
    try:
        return sub.encode() in server.command("HKEYS", jobs_key(revoked_channel()))
    except OSError:
        return False


async def test_the_command_revokes(gateway: Replica, redis_server: RedisServer, project: str) -> None:
    token = mint(project, sub=project, secret=SECRET)
    async with page(gateway, f"?token={token}") as client:
        await client.expect("connected")
        assert run_gateway("revoke", project, env=environment(redis_server.url)).returncode == 0
        assert await end(client) == (4401, "token revoked")


# Keys


class Provider:
    """A server of a JWKS whose keys change."""

    def __init__(self, *keys: object) -> None:
        self.keys = list(keys)
        self.requests = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests += 1
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps({"keys": outer.keys}).encode())

            def log_message(self, *args: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/jwks.json"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


async def test_keys_of_a_jwks_that_rotate_are_known_at_their_first_token(launch: Launch, project: str) -> None:
    provider = Provider(jwk("ES256", "a"))
    replica = launch(auth="jwt", jwt_jwks_url=provider.url)
    given = claims(projects=[project])
    async with page(replica, f"?token={signed('ES256', given, kid='a')}", origin=None) as client:
        await client.expect("connected")
    provider.keys = [jwk("EdDSA", "b")]
    token = signed("EdDSA", given, kid="b")
    async with page(replica, origin=None) as client:
        await client.expect("connected")
        await client.send("subscribe", projectId=project)
        await client.send("auth", token=token)
        await client.expect("authorised")
        await client.expect("subscribed")
    for number in range(50):
        assert await status(replica, f"?token={signed('EdDSA', given, kid=f'x{number}')}") == 401
    assert provider.requests == 2  # at the start, and once for an unknown kid
    provider.close()


async def test_without_keys_a_page_is_told_to_come_back(launch: Launch, project: str) -> None:
    provider = Provider()
    provider.close()
    replica = launch(auth="jwt", jwt_jwks_url=provider.url, redis_wait_seconds=1)
    async with page(replica, f"?token={mint(project, secret=SECRET)}", origin=None) as client:
        assert (await end(client))[0] == 4503
    async with page(replica, origin=None) as client:
        await client.expect("connected")
        await client.send("auth", token=mint(project, secret=SECRET))
        assert (await end(client))[0] == 4503


def test_a_file_with_pem_and_jwks_is_one_kind(launch: Launch, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(jwks(jwk("RS256", "a")))
    launch(auth="jwt", jwt_public_keys_file=path)


async def test_many_connections_without_a_token_see_nothing(
    gateway: Replica, redis_server: RedisServer, project: str
) -> None:
    async def one() -> int:
        async with page(gateway) as client:
            await client.expect("connected")
            await client.send("subscribe", projectId=project)
            redis_server.publish(project, progress("job", 5))
            return len(await client.ping())

    assert await asyncio.gather(*(one() for _ in range(40))) == [0] * 40


async def test_a_refused_client_costs_no_session(gateway: Replica) -> None:
    for _ in range(5):
        async with page(gateway, "?token=x") as client:
            assert await end(client) == (4401, "bad token")
    with pytest.raises(ConnectionClosed):
        async with page(gateway, "?token=x") as client:
            await client.socket.recv()
    async with asyncio.timeout(PATIENCE):
        while httpx.get(f"{gateway.http}/readyz", trust_env=False, timeout=30).json().get("clients", 0):
            await asyncio.sleep(0.05)


async def test_a_connection_ends_with_its_token_while_the_replica_drains(launch: Launch, project: str) -> None:
    replica = launch(auth="jwt", jwt_secret=SECRET, drain_seconds=120, drain_rate=0.01)
    token = mint(project, seconds=8, secret=SECRET)
    async with page(replica, f"?token={token}", origin=None) as client:
        await client.expect("connected")
        await client.subscribe(project)
        replica.signal(signal.SIGTERM)
        await client.until_type("going_away")
        assert await end(client) == (4401, "token expired")


def value_of(replica: Replica, series: str) -> float:
    return next((float(line.rpartition(" ")[2]) for line in replica.metrics() if line.startswith(f"{series} ")), 0.0)


async def upgraded(replica: Replica, query: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection that is read only when the test reads."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8_192)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", replica.port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=1_024)
    writer.write(
        f"GET /ws{query} HTTP/1.1\r\nHost: 127.0.0.1:{replica.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    await reader.readuntil(b"\r\n\r\n")
    return reader, writer


def text_frame(payload: bytes) -> bytes:
    """Masked with zeros, as a client has to mask."""
    assert len(payload) < 126
    return bytes([0x81, 0x80 | len(payload), 0, 0, 0, 0]) + payload
