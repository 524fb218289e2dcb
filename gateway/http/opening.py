"""The first read of a connection: the usual request for a WebSocket goes to its handshake, anything else to uvicorn's
protocol.

A page connects by one request, which fits into one read. A pattern recognises it. It may only be narrower than what
`HttpProtocol` takes for a WebSocket; tests/http/test_opening.py compares both. With uvicorn's protocol and its parser a
connection would cost a quarter more (bench/README.md).
"""

import asyncio
import re
from typing import Any, cast

from uvicorn import Config
from uvicorn.server import ServerState

from gateway.clients.transports import Transports
from gateway.http.front import RawHeaders, Scope
from gateway.http.handshake import Handshake, accept_key, websocket_scope
from gateway.http.protocols import TOO_LATE, HttpProtocol, protocols_for, reset
from gateway.operations.counters import Counters
from gateway.settings import Settings

_TARGET = rb"/[A-Za-z0-9\-._~!$&'()*+,;=:@%/?]*"  # RFC 3986, without a fragment
# RFC 9110, 5.1 and 5.5: words of ASCII. uvicorn's parser keeps spaces at the end, so a header with some is not usual.
_HEADER = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++: ?[!-~]++(?: [!-~]++)*+\r\n"
_REQUEST = re.compile(b"GET (" + _TARGET + rb") HTTP/1\.1\r\n((?:" + _HEADER + rb")++)\r\n")
_CONNECTION = (b"upgrade", b"keep-alive, upgrade")  # Chromium and Safari, Firefox


def read_request(data: bytes) -> tuple[bytes, RawHeaders, bytes] | None:
    """The target, the headers and what answers the key, if `data` is the usual request for a WebSocket."""
    request = _REQUEST.fullmatch(data)
    if request is None:
        return None
    lines = [line.partition(b":") for line in request[2][:-2].split(b"\r\n")]
    headers = [(name.lower(), value.lstrip()) for name, _, value in lines]
    by_name = dict(headers)
    is_usual = (
        len(by_name) == len(headers)
        and by_name.get(b"upgrade", b"").lower() == b"websocket"
        and by_name.get(b"connection", b"").lower() in _CONNECTION
        and by_name.get(b"sec-websocket-version") == b"13"
        and b"content-length" not in by_name
        and b"transfer-encoding" not in by_name
    )
    key = accept_key(by_name.get(b"sec-websocket-key", b"")) if is_usual else None
    return None if key is None else (request[1], headers, key)


class Opening(asyncio.Protocol):
    """A connection to the clients' port. Lives until its first read."""

    # Set by `openings_for`.
    settings: Settings
    transports: Transports
    http: type[HttpProtocol]

    is_counted = False

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any]) -> None:
        """uvicorn's arguments for a protocol."""
        self._config = config
        self._server_state = server_state
        self._app_state = app_state

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._server_state.connections.add(cast(Any, self))
        self._deadline = asyncio.get_running_loop().call_later(self.settings.request_seconds, self._end)
        if not self.transports.enter(self):
            self.drop()

    def data_received(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        self._leave()
        request = read_request(data) if len(data) <= self.settings.max_header_bytes else None
        if request is None:
            http = self.http(self._config, self._server_state, self._app_state)
            http.take_over(self._transport, self, self._deadline.when())
            http.data_received(data)
            return
        target, headers, key = request
        self.transports.hand_over(self)
        handshake = Handshake(
            self._transport,
            websocket_scope(self._scope(headers), target),
            key,
            connections=self._server_state.connections,
            tasks=self._server_state.tasks,
            on_lost=self.transports.on_lost,
        )
        self._transport.set_protocol(handshake)
        handshake.start(self._config.loaded_app)

    def _scope(self, headers: RawHeaders) -> Scope:
        """As uvicorn's, of a request that is not a WebSocket's yet, but for `server`: nobody here asks for it, and the
        system call for the socket's own name would be one more for each connection."""
        transport, config = self._transport, self._config
        return {
            "type": "http",
            "asgi": {"version": config.asgi_version, "spec_version": "2.3"},
            "http_version": "1.1",
            "server": None,
            "client": _address(transport.get_extra_info("peername")),
            "scheme": "https" if transport.get_extra_info("sslcontext") else "http",
            "root_path": config.root_path,
            "headers": headers,
            "state": self._app_state.copy(),
        }

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        self.transports.leave(self)

    def _leave(self) -> None:
        self._deadline.cancel()
        self._server_state.connections.discard(cast(Any, self))

    def _end(self) -> None:
        """No request has come in time."""
        if not self._transport.is_closing():
            self._transport.write(TOO_LATE)
            self._transport.close()

    def shutdown(self) -> None:
        """uvicorn ends."""
        self._transport.close()

    def drop(self) -> None:
        reset(self._transport)


def _address(name: object) -> tuple[str, int] | None:
    """None for a socket that is not of TCP."""
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) else None


def openings_for(
    settings: Settings, counters: Counters, transports: Transports
) -> tuple[type[Opening], type[Handshake]]:
    """The classes of the clients' port, as `protocols_for` returns those of another."""
    http, websocket = protocols_for(settings, counters, transports)
    shared = {"settings": settings, "transports": transports, "http": http}
    return type("Opening", (Opening,), shared), websocket
