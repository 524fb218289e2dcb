"""The server's side of a WebSocket handshake (RFC 6455, 4.2), while the ASGI application decides on it.

By hand, because a library's handshake costs more than everything else of a connection's beginning: bench/README.md.
"""

import asyncio
import binascii
import hashlib
import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

from gateway.clients.allowance import Limits
from gateway.clients.connection import Connection
from gateway.http.front import NOSNIFF, App, Message, RawHeaders, Scope

# The ASGI extension by which a connection is handed over: a function that returns a `Connection`.
HAND_OVER = "progress_gateway.hand_over"

_KEY_SUFFIX = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
_SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: %b\r\n"
)

_EMPTY = [(b"content-length", b"0"), NOSNIFF]

logger = logging.getLogger("gateway")


def answer_head(status: int, headers: RawHeaders) -> bytes:
    """The head of an answer after which the connection closes."""
    lines = [b"HTTP/1.1 %d %b" % (status, HTTPStatus(status).phrase.encode())]
    lines += [b"%b: %b" % header for header in headers]
    return b"\r\n".join([*lines, b"connection: close", b"", b""])


def accept_key(key: bytes) -> bytes | None:
    """What answers this Sec-WebSocket-Key; None unless it has 16 bytes (RFC 6455, 4.2.1)."""
    try:
        if len(binascii.a2b_base64(key, strict_mode=True)) != 16:
            return None
    except ValueError:
        return None
    return binascii.b2a_base64(hashlib.sha1(key + _KEY_SUFFIX, usedforsecurity=False).digest(), newline=False)


def websocket_scope(scope: Scope, target: bytes) -> Scope:
    """Make the scope of a handshake out of that of its request; `target` is the request's, in ASCII."""
    raw_path, _, query = target.partition(b"?")
    path = raw_path.decode("ascii")
    root_path: str = scope["root_path"]
    scope.pop("method", None)
    scope["type"] = "websocket"
    scope["scheme"] = "wss" if scope["scheme"] == "https" else "ws"
    scope["path"] = root_path + (unquote(path) if "%" in path else path)
    scope["raw_path"] = root_path.encode("ascii") + raw_path
    scope["query_string"] = query
    scope["subprotocols"] = [
        word.strip()
        for name, value in scope["headers"]
        if name == b"sec-websocket-protocol"
        for word in value.decode("latin-1").split(",")
    ]
    return scope


class ClientIsGone(OSError):
    """The client went away before its answer; ASGI wants an OSError for it."""


class Handshake(asyncio.Protocol):
    """A valid request for a WebSocket. Lives until the application takes the connection over, or refuses it.

    The application has to do one of both before it returns; a WebSocket that nobody took is closed.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        scope: Scope,
        key: bytes,
        *,
        connections: set[Any],
        tasks: set[asyncio.Task[None]],
        on_lost: Callable[[], None],
    ) -> None:
        """`key` answers the client's. `on_lost` is called once when the connection is closed, taken or not.

        `connections` and `tasks` are what uvicorn ends with and waits for: this one, until it is taken.
        """
        self.transport = transport
        self.on_lost = on_lost
        self._scope: Scope | None = scope
        self._key = key
        self._connections = connections
        self._tasks = tasks
        self._acceptance = b""  # the 101, until the connection is taken
        self._refusal = b""  # the head of an answer whose body is still to come
        self._is_answered = False
        self._was_taken = False
        self._lost: asyncio.Future[None] | None = None  # what waits for the end of the connection
        self._was_told = False  # of the client's wish to connect
        scope["extensions"] = {"websocket.http.response": {}, HAND_OVER: {"take": self.take}}
        connections.add(self)

    def start(self, app: App) -> None:
        """Ask the application, in a task of its own that uvicorn waits for when it ends."""
        task = asyncio.get_running_loop().create_task(self.run(app))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def run(self, app: App) -> None:
        scope, self._scope = self._scope, None  # it refers to this object: a cycle would wait for the collector
        assert scope is not None
        try:
            await app(scope, self._receive, self._send)
        except ClientIsGone:
            pass
        except Exception:
            logger.exception("The WebSocket handshake failed")
            if self._was_taken:  # half a session: the client is to come back
                self.transport.abort()
            self._answer(answer_head(500, _EMPTY))
        finally:
            scope["extensions"].clear()
        if not self._was_taken:
            self.transport.close()

    async def _receive(self) -> Message:
        if not self._was_told:
            self._was_told = True
            return {"type": "websocket.connect"}
        if self._lost is None:
            self._lost = asyncio.get_running_loop().create_future()
        await self._lost
        return {"type": "websocket.disconnect", "code": 1006}

    async def _send(self, message: Message) -> None:
        """Raises `ClientIsGone` if the client is gone, `RuntimeError` for what does not belong here."""
        if self.transport.is_closing() and not self._is_answered:
            raise ClientIsGone
        kind = message["type"]
        if kind == "websocket.accept":
            self._acceptance = self._accepting(message)
        elif kind == "websocket.close":
            self._answer(answer_head(403, _EMPTY))
        elif kind == "websocket.http.response.start":
            self._refusal = answer_head(message["status"], message.get("headers", []))
        elif kind == "websocket.http.response.body" and self._refusal:
            self._answer(self._refusal + message.get("body", b""))
        else:
            raise RuntimeError(f"A handshake takes no {kind}: accept it and take the connection over, or refuse it.")

    def _accepting(self, message: Message) -> bytes:
        head = _SWITCHING % self._key
        if (subprotocol := message.get("subprotocol")) is not None:
            head += b"sec-websocket-protocol: %b\r\n" % subprotocol.encode()
        for header in message.get("headers", ()):
            head += b"%b: %b\r\n" % header
        return head + b"\r\n"

    def _answer(self, answer: bytes) -> None:
        """Write the answer, unless there is one or the client has gone: uvloop raises for a closed transport."""
        if not self._is_answered and not self.transport.is_closing():
            self._is_answered = True
            self.transport.write(answer)

    def take(self, *, limits: Limits, buffer_bytes: int, on_lost: Callable[[], None] | None = None) -> Connection:
        """Hand the transport over. `on_lost` is called once, at the end.

        The 101 goes out with what the connection writes first, in one system call. So nothing that the client sends
        after it can be read by the wrong protocol.
        """
        self._was_taken = True
        self._connections.discard(self)
        on_ours = self.on_lost

        def on_both() -> None:
            on_ours()
            if on_lost is not None:
                on_lost()

        # Without an `on_lost` all connections share one method: a function of its own would cost each of them memory.
        end = on_ours if on_lost is None else on_both
        return Connection(self.transport, limits=limits, buffer_bytes=buffer_bytes, on_lost=end, first=self._acceptance)

    def shutdown(self) -> None:
        """uvicorn ends, and the application has not decided."""
        self._answer(answer_head(503, _EMPTY))
        self.transport.close()

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        """Bytes before the answer to the upgrade: RFC 6455, 4.1 forbids them."""
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self.on_lost()
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(None)
