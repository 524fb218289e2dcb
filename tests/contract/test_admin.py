"""The admin port: what is on it, what is no longer on the public port, and how long it stays open."""

import asyncio
import json
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from gateway.app import create_app
from gateway.clients.drain import longest_seconds
from gateway.server import END_SECONDS
from gateway.settings import Settings
from tests.raw_http import ask, status, upgrade

from .client import watching
from .conftest import Launch
from .deadlines import PATIENCE, STALL_SECONDS
from .events import progress
from .processes import RedisServer, Replica, environment, free_port, run_gateway
from .raw import raw_connect

KEY = "0123456789abcdef"
PUBLISH = "/projects/p/events"
PATHS = {"/healthz", "/readyz", "/metrics", PUBLISH, "/openapi.json", "/", "/static/dashboard.css"}


class Operators:
    """The second port of a replica, as an HTTP client sees it."""

    def __init__(self, port: int) -> None:
        self.http = f"http://127.0.0.1:{port}"

    def get(self, path: str) -> httpx.Response:
        with httpx.Client(trust_env=False, timeout=30) as client:
            return client.get(self.http + path)

    def found(self) -> set[str]:
        return {path for path in PATHS if self.get(path).status_code != 404}


@pytest.fixture
def with_admin(launch: Launch) -> tuple[Replica, Operators]:
    port = free_port()
    return launch(admin_port=port, publish_keys=KEY), Operators(port)


def test_without_it_all_is_on_one_port(launch: Launch) -> None:
    assert Operators(launch(publish_keys=KEY).port).found() == PATHS


def test_metrics_and_publishing_are_there_alone_and_health_is_on_both(with_admin: tuple[Replica, Operators]) -> None:
    replica, operators = with_admin
    assert operators.found() == {"/healthz", "/readyz", "/metrics", PUBLISH, "/openapi.json"}
    assert Operators(replica.port).found() == {"/healthz", "/readyz", "/", "/static/dashboard.css"}


async def test_what_is_posted_there_reaches_clients_and_is_counted(
    with_admin: tuple[Replica, Operators],
    project: str,
) -> None:
    replica, operators = with_admin
    async with watching(replica.ws, project) as client, httpx.AsyncClient(trust_env=False, timeout=30) as http:
        url = f"{operators.http}/projects/{project}/events"
        answer = await http.post(url, json=progress("job"), headers={"Authorization": f"Bearer {KEY}"})
        assert answer.status_code == 202
        assert [event["jobId"] for event in await client.events(1)] == ["job"]
        text = (await http.get(operators.http + "/metrics")).text
    assert 'gateway_published_total{result="accepted"} 1.0' in text
    assert 'gateway_publish_requests_total{status="202"} 1.0' in text
    assert "gateway_connections 1.0" in text


def test_no_websocket_is_there(with_admin: tuple[Replica, Operators]) -> None:
    _, operators = with_admin
    headers = {
        "connection": "upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    with httpx.Client(trust_env=False, timeout=30) as client:
        assert client.get(operators.http + "/ws", headers=headers).status_code == 404


async def test_it_answers_until_the_replica_has_drained(with_admin: tuple[Replica, Operators]) -> None:
    """The last scrape must see the drain."""
    replica, operators = with_admin
    async with raw_connect(replica.port) as client:  # which never answers the close, and so delays the end
        replica.signal(signal.SIGTERM)
        assert await client.close_code() == 1012
        for _ in range(3):
            text = (await asyncio.to_thread(operators.get, "/metrics")).text
            assert "gateway_draining 1.0" in text
            assert "gateway_drains_total 1.0" in text
            assert (await asyncio.to_thread(operators.get, "/readyz")).status_code == 503
            await asyncio.sleep(0.1)
    assert await asyncio.to_thread(replica.wait, "the end") == 0
    with pytest.raises(httpx.ConnectError):
        operators.get("/healthz")


@contextmanager
def unfinished(port: int) -> Iterator[socket.socket]:
    """A request whose body never comes; it is in progress when the context begins."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as plug:
        head = f"POST {PUBLISH} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {KEY}\r\nexpect: 100-continue\r\n"
        plug.sendall(f"{head}content-length: 9\r\n\r\n".encode())
        assert b" 100 " in plug.recv(1_024)
        yield plug


async def test_a_request_that_does_not_end_holds_nobody_up_and_is_one_line(launch: Launch) -> None:
    """Neither here nor on the public port, where the drain is."""
    for admin_port in (None, free_port()):
        replica = launch(publish_keys=KEY) if admin_port is None else launch(publish_keys=KEY, admin_port=admin_port)
        with unfinished(admin_port or replica.port) as plug:
            began = time.monotonic()
            replica.signal(signal.SIGTERM)
            assert await asyncio.to_thread(replica.wait, "the end in spite of a request") == 0
            assert time.monotonic() - began < END_SECONDS + STALL_SECONDS
            assert plug.recv(1_024).startswith(b"HTTP/1.1 503 ")
        lines = replica.log.partition("Listening: ws")[2].splitlines()[1:]
        assert [line for line in lines if "1 requests that did not end are cut off" in line]
        assert not [line for line in lines if "uvicorn" in line or "ERROR" in line or "Traceback" in line], lines


async def test_a_second_signal_is_not_held_up_by_a_request(launch: Launch) -> None:
    port = free_port()
    replica = launch(admin_port=port, publish_keys=KEY, patched="gateway.server.ADMIN_SECONDS=60")
    async with watching(replica.ws, "p") as client:
        with unfinished(port):
            replica.signal(signal.SIGTERM)
            await client.until_type("going_away")
            began = time.monotonic()
            replica.signal(signal.SIGTERM)
            assert await asyncio.to_thread(replica.wait, "the end", 50) == 0
            assert time.monotonic() - began < 30, "it waited for the request, as long as it may"


async def test_the_longest_end_is_within_its_bound(launch: Launch) -> None:
    """A client that never answers its close, and then requests that never end, on both ports."""
    port = free_port()
    replica = launch(admin_port=port, publish_keys=KEY, drain_seconds=0.4)
    async with raw_connect(replica.port):
        with unfinished(port):
            began = time.monotonic()
            replica.signal(signal.SIGTERM)
            assert await asyncio.to_thread(replica.wait, "the end") == 0
            took = time.monotonic() - began
    assert longest_seconds(0.4) - 0.5 < took < longest_seconds(0.4) + END_SECONDS + STALL_SECONDS


def test_what_is_asked_there_in_a_wrong_way_is_counted_and_not_logged(with_admin: tuple[Replica, Operators]) -> None:
    replica, operators = with_admin
    logged, port = replica.log, int(operators.http.rpartition(":")[2])
    for _ in range(3):
        assert status(ask(port, upgrade("/ws", "Connection: close"))) == 404
        assert status(ask(port, b"\x16\x03\x01\r\n\r\n")) == 400
    assert "gateway_bad_requests_total 3.0" in operators.get("/metrics").text
    assert replica.log == logged


async def test_the_operators_see_a_replica_that_waits_for_redis(launch: Launch) -> None:
    """Under an ASGI server the replica starts without Redis; what is missing is visible from the first moment."""
    app = create_app(Settings(admin_port=0, redis_url="redis://127.0.0.1:1"))
    transport = httpx.ASGITransport(app=app.state.admin)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/readyz")).status_code == 503


def test_a_taken_port_is_said_in_one_line(redis_server: RedisServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        env = environment(redis_server.url, GATEWAY_PORT=free_port(), GATEWAY_ADMIN_PORT=port)
        done = run_gateway("serve", env=env)
        as_json = run_gateway("serve", env=env | {"GATEWAY_LOG_FORMAT": "auto"})
    assert (done.returncode, as_json.returncode) == (1, 1)
    (line,) = done.stderr.splitlines()
    assert f"cannot listen on 127.0.0.1:{port}" in line
    assert "--admin-port" in line
    (record,) = map(json.loads, as_json.stderr.splitlines())
    assert (record["level"], record["status"]) == ("critical", 1)
    assert "--admin-port" in record["message"]
