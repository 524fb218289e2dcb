"""The usual request for a WebSocket, read at a glance: everywhere the same as what uvicorn's protocol makes of it."""

import asyncio
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import uvicorn
from hypothesis import example, given
from hypothesis import strategies as st
from uvicorn.server import ServerState

from gateway.clients.transports import Transports
from gateway.http import opening as module
from gateway.http.front import App, Receive, Scope, Send
from gateway.http.handshake import Handshake
from gateway.http.opening import _REQUEST, Opening, openings_for, read_request
from gateway.http.protocols import HttpProtocol, protocols_for
from gateway.operations.counters import Counters
from gateway.settings import Settings
from tests.contract.deadlines import eventually
from tests.fakes import FakeTransport
from tests.raw_http import status, upgrade

BROWSER = ("User-Agent: Mozilla/5.0 (X11; Linux x86_64)", "Origin: https://app.example", "Cookie: a=b; c=d")


async def refuses(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "websocket.close"})


class Port:
    """The clients' port without a socket. `short` is whether a connection begins with the short way."""

    def __init__(self, *, short: bool = True, app: App = refuses, limit: int = 10, **settings: Any) -> None:
        self.transports = Transports(limit, Counters())
        make = openings_for if short else protocols_for
        http, websocket = make(Settings(**settings), Counters(), self.transports)
        self._http: Any = http
        self._config = uvicorn.Config(app, http=self._http, ws=websocket, lifespan="off", log_config=None)
        self._config.load()
        self.state = ServerState()

    def connect(self) -> FakeTransport:
        transport = FakeTransport()
        transport.protocol = protocol = self._http(config=self._config, server_state=self.state, app_state={})
        protocol.connection_made(transport)
        return transport

    def scope_after(self, data: bytes) -> Scope | None:
        """The scope of the handshake that these bytes begin."""
        transport = self.connect()
        say(transport, data)
        scope = transport.protocol._scope if isinstance(transport.protocol, Handshake) else None
        transport.close()
        lose(transport)
        return None if scope is None else {name: scope[name] for name in scope if name != "extensions"}


@cache
def port_with(*, short: bool) -> Port:
    return Port(short=short)


def say(transport: FakeTransport, data: bytes) -> None:
    assert isinstance(transport.protocol, asyncio.Protocol)
    transport.protocol.data_received(data)


def lose(transport: FakeTransport) -> None:
    assert transport.protocol is not None
    transport.protocol.connection_lost(None)


@given(st.from_regex(_REQUEST, fullmatch=True), st.booleans())
@example(upgrade("/ws?token=a%20b"), False)
@example(upgrade("/ws", *BROWSER), False)
@example(b"GET / HTTP/1.1\r\n!:! \r\n\r\n", True)
@example(upgrade("/ws", "Sec-WebSocket-Protocol: a, b", "X-Padded:  y  "), False)
def test_whatever_is_usual_begins_the_same_handshake_by_uvicorn_s_protocol(data: bytes, is_upgrade: bool) -> None:
    if is_upgrade:  # the pattern alone rarely makes one
        data = data[:-2] + upgrade()[upgrade().index(b"\r\n") + 2 :]

    async def scopes() -> list[Scope | None]:
        return [port_with(short=short).scope_after(data) for short in (True, False)]

    short, long = asyncio.run(scopes())
    if read_request(data) is not None:
        assert short is not None
    assert short == long


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.replace(b"GET", b"POST"),
        lambda data: data.replace(b"1.1", b"1.0"),
        lambda data: data.replace(b"/ws", b"http://localhost/ws"),
        lambda data: data.replace(b"/ws", b"/\xc3\xa4"),
        lambda data: data.replace(b": 13", b": 12"),
        lambda data: data.replace(b"websocket", b"h2c"),
        lambda data: data.replace(b"==", b"="),
        lambda data: data[:-2] + b"Content-Length: 0\r\n\r\n",
        lambda data: data[:-2] + b"Transfer-Encoding: chunked\r\n\r\n",
        lambda data: data[:-2] + b"Host: again\r\n\r\n",
        lambda data: data[:-2] + b" folded\r\n\r\n",
        lambda data: data[:-2] + b"X: \x00\r\n\r\n",
        lambda data: data[:-2] + b"X: \xff\r\n\r\n",
        lambda data: data[:-2] + b"X y: z\r\n\r\n",
        lambda data: data[:-2] + b"X:\r\n\r\n",
        lambda data: data + b"more",
        lambda data: data[:-1],
        lambda data: data.replace(b"\r\n", b"\n"),
    ],
)
async def test_anything_else_is_for_uvicorn_s_protocol(change: Callable[[bytes], bytes]) -> None:
    assert read_request(upgrade()) is not None
    assert read_request(change(upgrade())) is None
    port = Port()
    transport = port.connect()
    say(transport, change(upgrade())[:20])
    assert isinstance(transport.protocol, HttpProtocol)
    assert port.state.connections == {transport.protocol}
    assert port.transports.open == 1
    lose(transport)
    assert (port.transports.open, port.state.connections) == (0, set())


async def test_a_head_above_the_limit_is_refused_as_ever() -> None:
    transport = Port(max_header_bytes=256).connect()
    say(transport, upgrade("/ws", "X: " + "x" * 256))
    assert status(transport.take()) == 431


async def test_the_time_of_a_request_goes_on_when_its_first_bytes_come() -> None:
    port = Port(request_seconds=0.2)
    silent, begun = port.connect(), port.connect()
    due = begun.protocol._deadline.when()  # type: ignore[union-attr]
    await asyncio.sleep(0.05)
    say(begun, b"GET / HT")
    assert begun.protocol._deadline.when() == due  # type: ignore[union-attr]
    await eventually(lambda: silent.is_closing() and begun.is_closing(), "both to be closed")
    assert [status(transport.take()) for transport in (silent, begun)] == [408, 408]


async def test_the_oldest_that_waits_gives_way_to_a_new_one() -> None:
    port = Port(limit=2)
    first, second, third = port.connect(), port.connect(), port.connect()
    assert (first.was_aborted, second.was_aborted, third.was_aborted) == (True, False, False)
    say(first, upgrade())
    assert isinstance(first.protocol, Opening), "it is closing"
    assert port.transports.open == 2


async def test_a_server_that_ends_closes_who_has_said_nothing() -> None:
    port = Port()
    transport = port.connect()
    (connection,) = port.state.connections
    connection.shutdown()
    assert transport.is_closing()
    lose(transport)
    assert (port.transports.open, port.state.connections) == (0, set())


async def test_control_without_the_short_way_the_handshake_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    data = upgrade()
    short = Port().scope_after(data)
    monkeypatch.setattr(module, "read_request", lambda data: None)
    assert short is not None
    assert Port().scope_after(data) == short
