"""uvicorn's two protocols, with limits and the hand-over added.

HTTP: a request's head has a limit in bytes, and a request a limit in time. WebSocket: after the handshake our own
`Connection` takes the transport over.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.datastructures import Headers
from websockets.http11 import Request

from gateway.allowance import Limits
from gateway.app import HAND_OVER
from gateway.connection import Connection
from gateway.counters import Counters
from gateway.settings import Settings

_HEAD_TOO_LONG = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_TOO_LATE = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class HttpProtocol(HttpToolsProtocol):
    """Limits the bytes of a head and the time until a request is complete.

    Lives until the connection closes or becomes a WebSocket.
    """

    # Set by `protocols_for`.
    settings: Settings
    counters: Counters

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_bytes = 0  # of the head that is being read
        self._is_reading_head = True  # from the end of a request to the end of the next one's head
        self._deadline: asyncio.TimerHandle | None = None  # set while a request is incomplete
        self._last_read = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        # Count here: httptools buffers a long header before it calls on_header.
        if self._is_reading_head:
            self._head_bytes += len(data)
            if self._head_bytes > self.settings.max_header_bytes and not self._ends_in_time(data):
                self._refuse(_HEAD_TOO_LONG)
                return
            if self._deadline is None:  # also after bytes that do not begin a request, such as empty lines
                self._expect_request()
        if not self.transport.is_closing():
            self._last_read = data
            super().data_received(data)

    def _ends_in_time(self, data: bytes) -> bool:
        """Whether the head ends within its limit; the rest of this read is the body."""
        end = data.find(b"\r\n\r\n")
        return 0 <= end <= self.settings.max_header_bytes - (self._head_bytes - len(data))

    def on_headers_complete(self) -> None:
        self._is_reading_head = False
        self._head_bytes = 0
        self._unset_keepalive_if_required()  # set by an earlier request in the same read
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._is_reading_head = True
        self._stop_waiting()
        super().on_message_complete()
        if self.cycle is not None and self.cycle.response_complete:
            # The request was answered before its body came. uvicorn then started the timer for the next request, and
            # the body stopped that timer. Start it again.
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def handle_websocket_upgrade(self) -> None:
        """Pass on the parsed request. uvicorn's method would serialise it and parse it a second time."""
        self._stop_waiting()
        self._unset_keepalive_if_required()
        is_busy = self.cycle is not None and not self.cycle.response_complete
        if is_busy or not self._last_read.endswith(b"\r\n\r\n"):
            # The upgrade is pipelined behind an unanswered request, or more bytes follow it before the answer, which
            # RFC 6455, 4.1 forbids: we could only guess to which request these bytes belong.
            self._refuse(_BAD_REQUEST)
            return
        self.connections.discard(self)
        protocol = WebSocketProtocol(config=self.config, server_state=self.server_state, app_state=self.app_state)
        protocol.connection_made(self.transport)
        self.transport.set_protocol(protocol)
        headers = Headers((name.decode("latin-1"), value.decode("latin-1")) for name, value in self.headers)
        method, version = self.scope["method"], self.scope["http_version"]
        protocol.handle_connect(Request(self.url.decode("latin-1"), headers, method, f"HTTP/{version}"))

    def send_400_response(self, msg: str) -> None:
        self.counters.bad_requests += 1
        super().send_400_response(msg)

    def _refuse(self, answer: bytes) -> None:
        self.counters.bad_requests += 1
        self.transport.write(answer)
        self.transport.close()

    def _expect_request(self) -> None:
        self._deadline = self.loop.call_later(self.settings.request_seconds, self._drop)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _drop(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self.transport.write(_TOO_LATE)
            self.transport.close()


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """The handshake, until the application takes the connection over."""

    was_taken = False

    def handle_connect(self, event: Request) -> None:
        if not event.path.isascii():
            self.transport.write(_BAD_REQUEST)
            self.transport.close()
            return
        super().handle_connect(event)
        if self.response.status_code == 101:
            self.scope["extensions"][HAND_OVER] = {"take": self.take}

    def data_received(self, data: bytes) -> None:
        """Bytes before the answer to the upgrade: RFC 6455, 4.1 forbids them."""
        self.transport.close()

    def take(self, *, limits: Limits, buffer_bytes: int) -> Connection:
        """Hand the transport over, in the same step as the 101 is written.

        No other callback runs in between, so nothing that the client sends can be read by the wrong protocol.
        """
        self.was_taken = True
        self.connections.discard(self)
        return Connection(self.transport, limits=limits, buffer_bytes=buffer_bytes)

    async def run_asgi(self) -> None:
        """Like uvicorn's. But when the application returns, a connection that was taken over stays open."""
        try:
            await self.app(self.scope, self.receive, self.send)
        except ClientDisconnected:
            pass
        except Exception:
            self.logger.exception("The WebSocket handshake failed")
            self.send_500_response()
        if not self.was_taken and self.close_timer is None:
            self.transport.close()


def protocols_for(settings: Settings, counters: Counters) -> tuple[type[HttpProtocol], type[WebSocketProtocol]]:
    """Return both classes. uvicorn creates the instances itself, so settings and counters are class attributes."""
    return type("HttpProtocol", (HttpProtocol,), {"settings": settings, "counters": counters}), WebSocketProtocol
