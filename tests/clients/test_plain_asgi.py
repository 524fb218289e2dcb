"""The path of a server without our protocols: the same session, driven by a receive loop and `websocket.send`."""

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast

import anyio
import pytest
import redis
import uvicorn
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.sync.client import connect

from gateway.app import create_app
from gateway.clients import allowance
from gateway.clients.allowance import Limits
from gateway.clients.asgi_connection import AsgiConnection
from gateway.clients.frames import text_frame
from gateway.codes import CloseCode
from gateway.projects.hub import Hub
from gateway.settings import Settings
from publisher import broadcast_to_project
from tests.contract.deadlines import PATIENCE, eventually, wait_for
from tests.contract.processes import RedisServer
from tests.fakes import RecordingConversation
from tests.raw_http import until, upgrade

LIMITS = Limits(max_bytes=100, rate=50, burst=200)
EVENT = {"type": "progress", "jobId": "j", "jobType": "audio", "progress": 40}


# The connection alone


class FakeWebSocket:
    """Starlette's WebSocket; `reads` is cleared while the client does not read."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.closed_with: tuple[int, str] | None = None
        self.inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.reads = asyncio.Event()
        self.reads.set()
        self.is_gone = False

    async def send_text(self, text: str) -> None:
        await self.reads.wait()
        if self.is_gone:
            raise WebSocketDisconnect(1006)
        self.sent.append(text)

    async def receive(self) -> dict[str, Any]:
        return await self.inbox.get()

    async def close(self, code: int, reason: str) -> None:
        await self.reads.wait()
        self.closed_with = (code, reason)
        self.leave()  # as a server reports it

    def say(self, **message: Any) -> None:
        self.inbox.put_nowait({"type": "websocket.receive"} | message)

    def leave(self) -> None:
        self.inbox.put_nowait({"type": "websocket.disconnect", "code": 1001})


class Stage:
    def __init__(self) -> None:
        self.websocket = FakeWebSocket()
        self.connection = AsgiConnection(cast(WebSocket, self.websocket), limits=LIMITS, buffer_bytes=1_000)
        self.session = RecordingConversation()


@asynccontextmanager
async def conversing() -> AsyncIterator[tuple[Stage, asyncio.Task[None]]]:
    stage = Stage()
    task = asyncio.create_task(stage.connection.run(stage.session))
    await asyncio.sleep(0)
    try:
        yield stage, task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_frames_are_unpacked_and_sent_in_order() -> None:
    async with conversing() as (stage, _):
        stage.connection.write(text_frame(b"one") + text_frame("zwei ü".encode()))
        stage.connection.write(text_frame(b"three" * 30))
        await eventually(lambda: len(stage.websocket.sent) == 3, "three texts")
        assert stage.websocket.sent == ["one", "zwei ü", "three" * 30]
        assert stage.session.told == []


async def test_texts_and_binary_messages_reach_the_session() -> None:
    async with conversing() as (stage, _):
        stage.websocket.say(text="é")
        stage.websocket.say(bytes=b"x", text=None)
        stage.websocket.say(bytes=b"y")
        await eventually(lambda: len(stage.session.told) == 3, "three messages")
        assert stage.session.told == ["é".encode(), "binary", "binary"]


async def test_a_client_that_does_not_read_is_behind_and_not_read_from() -> None:
    async with conversing() as (stage, _):
        stage.websocket.reads.clear()
        stage.connection.write(text_frame(b"x" * 900))
        assert not stage.connection.is_behind
        stage.connection.write(text_frame(b"x" * 200))
        stage.connection.write(text_frame(b"x"))
        assert stage.connection.is_behind
        stage.websocket.say(text="unheard")
        await asyncio.sleep(0)
        assert stage.session.told == ["behind"]
        stage.websocket.reads.set()
        await eventually(lambda: len(stage.session.told) == 3, "the text that waited")
        assert stage.session.told == ["behind", "writable", b"unheard"]
        assert not stage.connection.is_behind
        assert len(stage.websocket.sent) == 3


async def test_a_message_that_is_too_long_ends_it() -> None:
    async with conversing() as (stage, task):
        stage.websocket.say(text="é" * 50)
        stage.websocket.say(text="é" * 50 + "!")
        stage.websocket.say(text="unheard")
        await task
        assert stage.websocket.closed_with is not None
        assert stage.websocket.closed_with[0] == CloseCode.MESSAGE_TOO_BIG
        assert stage.session.told == [b"\xc3\xa9" * 50, "close"]
        assert stage.session.code == CloseCode.MESSAGE_TOO_BIG


async def test_a_client_that_says_too_much_is_received_from_more_slowly() -> None:
    async with conversing() as (stage, _):
        for _ in range(LIMITS.burst + 5):
            stage.websocket.say(text="x")
        await eventually(lambda: "throttled" in stage.session.told, "the wait")
        assert stage.session.told.count(b"x") >= LIMITS.burst
        await eventually(lambda: stage.session.told.count(b"x") == LIMITS.burst + 5, "the rest")
        assert stage.websocket.closed_with is None


async def test_a_client_that_goes_on_saying_too_much_is_closed_with_4400(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allowance, "ABUSE_SECONDS", 0.01)
    async with conversing() as (stage, task):
        for _ in range(LIMITS.burst * 10):
            stage.websocket.say(text="x")
        await task
        assert stage.websocket.closed_with == (CloseCode.PROTOCOL_ABUSED, "too many messages")
        assert stage.session.code == CloseCode.PROTOCOL_ABUSED
        assert stage.session.told.count(b"x") < LIMITS.burst * 10


async def test_what_was_written_before_the_close_comes_before_it() -> None:
    async with conversing() as (stage, task):
        stage.connection.write(text_frame(b"last words"))
        stage.connection.close(CloseCode.RESTART, "bye")
        stage.connection.close(CloseCode.TOO_SLOW)
        await task
        assert stage.websocket.sent == ["last words"]
        assert stage.websocket.closed_with == (1012, "bye")
        assert stage.session.told == ["close"]
        assert stage.session.code == CloseCode.RESTART
        assert stage.connection.is_closed


async def test_a_client_that_leaves_ends_the_session() -> None:
    async with conversing() as (stage, task):
        stage.websocket.leave()
        await task
        assert stage.session.told == ["close"]
        assert stage.session.code == CloseCode.GOING_AWAY
        assert stage.connection.is_closed


async def test_a_client_that_vanishes_while_it_is_sent_to_ends_the_session() -> None:
    async with conversing() as (stage, task):
        stage.websocket.is_gone = True
        stage.connection.write(text_frame(b"into the void"))
        await task
        assert stage.session.told == ["close"]


async def test_a_client_that_never_reads_again_is_let_go_of_after_its_close(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that is sent to it ends: whoever waits for that keeps the task and the socket for ever."""
    monkeypatch.setattr("gateway.clients.asgi_connection.CLOSE_SECONDS", 0.01)
    async with conversing() as (stage, task):
        stage.websocket.reads.clear()
        stage.connection.write(text_frame(b"x" * 2_000))
        await asyncio.sleep(0)
        stage.connection.close(CloseCode.TOO_SLOW, "behind for too long")
        await asyncio.wait([task], timeout=PATIENCE)
        assert task.done()


async def test_a_server_that_cancels_it_ends_the_session() -> None:
    async with conversing() as (stage, task):
        task.cancel()
        await asyncio.wait([task], timeout=PATIENCE)
        assert task.cancelled()
        assert stage.session.told == ["close"]


@pytest.mark.parametrize("turns", range(6))
async def test_a_cancellation_is_passed_on_as_it_was_also_after_the_client_left(turns: int) -> None:
    """anyio, and so Starlette's test client, knows its own cancellations by their message; gather makes new ones."""
    stage = Stage()
    with anyio.CancelScope() as scope:

        async def end() -> None:
            stage.websocket.leave()
            for _ in range(turns):
                await asyncio.sleep(0)
            scope.cancel()

        ending = asyncio.create_task(end())
        await stage.connection.run(stage.session)
        await ending
        await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert stage.session.told == ["close"]


# Under stock uvicorn


class StockServer(uvicorn.Server):
    """uvicorn with its own protocols, in a thread."""

    def __init__(self, redis_url: str, **settings: Any) -> None:
        self.app = create_app(Settings(redis_url=redis_url, **settings))
        super().__init__(uvicorn.Config(self.app, log_config=None, lifespan="on", timeout_graceful_shutdown=1))
        self.listener = socket.socket()
        # Every accepted socket gets it too: a client that does not read is noticed after a few kilobytes.
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
        self.listener.bind(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]

    @property
    def hub(self) -> Hub:
        hub: Hub = self.app.state.hub
        return hub

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"


@contextmanager
def serving(redis_url: str, **settings: Any) -> Iterator[StockServer]:
    server = StockServer(redis_url, **settings)
    thread = threading.Thread(target=server.run, args=([server.listener],))
    thread.start()
    try:
        wait_for(lambda: server.started, "uvicorn to start")
        yield server
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        assert not thread.is_alive()


@pytest.fixture
def server(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[StockServer]:
    monkeypatch.setenv("REDIS_URL", redis_server.url)
    with serving(redis_server.url, buffer_bytes=20_000) as server:
        yield server


def next_message(receive: Callable[..., Any]) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(receive(timeout=PATIENCE))
    return message


def test_a_client_sees_the_events_of_its_project(server: StockServer, project: str) -> None:
    first = broadcast_to_project(project, EVENT)
    with connect(server.url, proxy=None) as client:
        assert next_message(client.recv)["type"] == "connected"
        client.send(json.dumps({"type": "subscribe", "projectId": project}))
        assert next_message(client.recv) == {
            "type": "subscribed",
            "projectId": project,
            "seq": first,
            "recovered": True,
        }
        assert next_message(client.recv)["seq"] == first
        second = broadcast_to_project(project, EVENT | {"progress": 41})
        assert next_message(client.recv)["seq"] == second
        client.send("{")
        assert next_message(client.recv)["code"] == "not_json"
        client.send(json.dumps({"type": "unsubscribe", "projectId": project}))
        assert next_message(client.recv)["type"] == "unsubscribed"
    wait_for(lambda: not server.hub.viewers, "the viewer to be forgotten")


@contextmanager
def client_that_does_not_read(server: StockServer, project: str) -> Iterator[socket.socket]:
    """One that watches the project, and whose receive buffer is small."""
    with socket.socket() as plug:
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        plug.settimeout(PATIENCE)
        plug.connect(("127.0.0.1", server.port))
        plug.sendall(upgrade())
        until(plug, b"}")
        text = json.dumps({"type": "subscribe", "projectId": project}).encode()
        mask = bytes(4)
        plug.sendall(bytes([0x81, 0x80 | len(text)]) + mask + text)
        until(plug, b"}")
        yield plug


def flood(url: str, project: str, *, count: int = 1_000) -> None:
    """Two megabytes of events of three jobs; the last of each says so."""
    with redis.Redis.from_url(url) as client:
        pipeline = client.pipeline(transaction=False)
        for number in range(count):
            last = "last" if number >= count - 3 else "x" * 1_900
            event = EVENT | {"jobId": f"job_{number % 3}", "message": last, "seq": number + 1}
            pipeline.publish(f"project:{project}", json.dumps(event))
        pipeline.execute()


def test_a_client_that_does_not_read_gets_each_jobs_last_event_when_it_does(
    server: StockServer, redis_server: RedisServer, project: str
) -> None:
    with client_that_does_not_read(server, project) as plug:
        flood(redis_server.url, project)
        wait_for(lambda: server.hub.events_received == 1_000, "the flood")
        assert [viewer.behind_since is not None for viewer in server.hub.viewers] == [True]
        got = b""
        while got.count(b'"last"') < 3:
            piece = plug.recv(65_536)
            assert piece
            got += piece
    assert got.count(b'"progress",') < 1_000, "it was given less than everything"


def test_a_client_that_stays_behind_is_let_go(redis_server: RedisServer, project: str) -> None:
    with (
        serving(redis_server.url, buffer_bytes=20_000, slow_seconds=0.3) as server,
        client_that_does_not_read(server, project),
    ):
        flood(redis_server.url, project)
        wait_for(lambda: not server.hub.viewers, "the session to end")
        wait_for(lambda: not server.server_state.tasks, "its task to end, though the client never reads", within=8)
