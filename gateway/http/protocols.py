"""uvicorn's two protocols, with limits and the hand-over added.

HTTP: a head has a limit in bytes, a request and the reading of its answer have limits in time, and connections have one
in number. WebSocket: after the handshake our own `Connection` takes the transport over.
"""

import asyncio
import base64
import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.datastructures import Headers
from websockets.http11 import Request

from gateway.app import HAND_OVER
from gateway.clients.allowance import Limits
from gateway.clients.connection import Connection
from gateway.clients.transports import Transports
from gateway.operations.counters import Counters
from gateway.settings import Settings

_RESET = struct.pack("ii", 1, 0)  # struct linger: on, no time
MAX_PIPELINED = 256  # requests of a connection that wait for the answer to an earlier one; each takes some kilobytes


def _last_answer(status: str, *headers: str) -> bytes:
    """A whole answer without a body, after which the connection closes."""
    lines = [
        f"HTTP/1.1 {status}",
        "content-length: 0",
        "x-content-type-options: nosniff",
        "connection: close",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


_HEAD_TOO_LONG = _last_answer("431 Request Header Fields Too Large")
_BAD_REQUEST = _last_answer("400 Bad Request")
_TOO_LATE = _last_answer("408 Request Timeout")
_WRONG_VERSION = _last_answer("426 Upgrade Required", "upgrade: websocket", "sec-websocket-version: 13")


def _has_key(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether there is one Sec-WebSocket-Key, of 16 bytes (RFC 6455, 4.2.1)."""
    keys = [value for name, value in headers if name == b"sec-websocket-key"]
    try:
        return len(keys) == 1 and len(base64.b64decode(keys[0], validate=True)) == 16
    except ValueError:
        return False


class HttpProtocol(HttpToolsProtocol):
    """Limits the bytes of a head, and the time until a request is complete and until its answer is read.

    Lives until the connection closes or becomes a WebSocket.
    """

    # Set by `protocols_for`.
    settings: Settings
    counters: Counters
    transports: Transports

    is_counted = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_bytes = 0  # of the head that is being read
        self._is_reading_head = True  # from the end of a request to the end of the next one's head
        self._deadline: asyncio.TimerHandle | None = None  # set while a request is incomplete
        self._last_read = b""
        self._unread_answer: asyncio.TimerHandle | None = None  # set while the client does not read
        self._answering: RequestResponseCycle | None = None  # the request that the application answers now
        self._is_upgrade_ignored = False  # from the end of a head that asks for one until this head is read again

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.transports.enter(self):
            self._expect_request()
        else:
            self.drop()

    def connection_lost(self, exc: Exception | None) -> None:
        """uvicorn's tells only the last of several pipelined requests. The application would go on answering the
        earlier one, into a closed transport, which raises: a traceback in the log for each such connection."""
        self._stop_waiting()
        self._stop_timing_answer()
        self.transports.leave(self)
        self.pipeline.clear()
        if self._answering is not None:
            self._answering.disconnected = True
            self._answering.message_event.set()
            self._answering = None
        super().connection_lost(exc)

    def drop(self) -> None:
        """Close at once, with a reset. Otherwise the kernel would keep an unread answer for minutes: megabytes."""
        plug = self.transport.get_extra_info("socket")
        if plug is not None:
            with contextlib.suppress(OSError):  # it is closed already
                plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stop_timing_answer()
        self._unread_answer = self.loop.call_later(self.settings.request_seconds, self.drop)
        self.transports.waits(self)

    def resume_writing(self) -> None:
        self._stop_timing_answer()
        if self._answering is not None:
            self.transports.is_served(self)
        super().resume_writing()

    def _stop_timing_answer(self) -> None:
        if self._unread_answer is not None:
            self._unread_answer.cancel()
            self._unread_answer = None

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        self._answering = None
        super().on_response_complete()
        if not self.pipeline:
            self.transports.waits(self)

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
            self._unset_keepalive_if_required()
            self._parse(data)

    def _parse(self, data: bytes) -> None:
        """Like uvicorn's `data_received`, which loses the body of a request whose upgrade is not followed."""
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserError:
                self.send_400_response("")
            except httptools.HttpParserUpgrade as upgrade:
                if self._is_upgrade_ignored:
                    data = self._head_without_upgrade() + data[upgrade.args[0] :]
                    continue
                if self._should_upgrade():
                    self.handle_websocket_upgrade()
            return

    def _head_without_upgrade(self) -> bytes:
        """What a new parser reads in place of a head that asks for an upgrade which is not followed.

        The JDK's HTTP client and `curl --http2` send `Upgrade: h2c` with ordinary requests. The parser stops after such
        a head: the rest could be another protocol.
        """
        self._is_upgrade_ignored = False
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        lines = [b"%b %b HTTP/%b" % (method, self.url, version)]
        lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        return b"\r\n".join([*lines, b"", b""])

    def _ends_in_time(self, data: bytes) -> bool:
        """Whether the head ends within its limit; the rest of this read is the body."""
        end = data.find(b"\r\n\r\n")
        return 0 <= end <= self.settings.max_header_bytes - (self._head_bytes - len(data))

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= MAX_PIPELINED:
            raise ValueError("too many requests at once")  # httptools ends parsing, and `send_400_response` follows
        self._is_reading_head = False
        self._head_bytes = 0
        self._unset_keepalive_if_required()  # set by an earlier request in the same read
        if self.parser.should_upgrade() and not self._should_upgrade() and self.parser.get_method() != b"CONNECT":
            self._is_upgrade_ignored = True
            return
        if not self.url.startswith(b"/"):
            self._take_host_from_target()
        super().on_headers_complete()

    def _take_host_from_target(self) -> None:
        """A target in absolute form (`GET http://host/ws`) names the host, and the Host header does not count (RFC
        9112, 3.2.2)."""
        target = httptools.parse_url(self.url)  # raises for what is not a URL; httptools then answers 400
        self.url = (target.path or b"/") + (b"?" + target.query if target.query else b"")
        name = b"[%b]" % target.host if b":" in target.host else target.host
        host = (b"host", name if target.port is None else b"%b:%d" % (name, target.port))
        self.headers[:] = [host if header[0] == b"host" else header for header in self.headers]

    def on_message_complete(self) -> None:
        if self._is_upgrade_ignored:  # the parser takes this message to end with its head
            return
        self._is_reading_head = True
        self._stop_waiting()
        super().on_message_complete()
        if self.cycle is None or not self.cycle.response_complete:
            self.transports.is_served(self)
        else:
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
        if [value for name, value in self.headers if name == b"sec-websocket-version"] != [b"13"]:
            self.counters.refused["version"] += 1
            self._end(_WRONG_VERSION)
            return
        if not _has_key(self.headers):  # here, because the library's own answer lacks some headers
            self._refuse(_BAD_REQUEST)
            return
        self.connections.discard(self)
        protocol = WebSocketProtocol(config=self.config, server_state=self.server_state, app_state=self.app_state)
        self.transports.hand_over(self)
        protocol.on_lost = self.transports.on_lost
        protocol.connection_made(self.transport)
        self.transport.set_protocol(protocol)
        headers = Headers((name.decode("latin-1"), value.decode("latin-1")) for name, value in self.headers)
        method, version = self.scope["method"], self.scope["http_version"]
        protocol.handle_connect(Request(self.url.decode("latin-1"), headers, method, f"HTTP/{version}"))

    def send_400_response(self, msg: str) -> None:
        self._refuse(_BAD_REQUEST)

    def _refuse(self, answer: bytes) -> None:
        self.counters.bad_requests += 1
        self._end(answer)

    def _end(self, answer: bytes) -> None:
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
            self._end(_TOO_LATE)


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """The handshake, until the application takes the connection over."""

    was_taken = False
    on_lost: Callable[[], None]
    """Told once when the connection is closed, also after it was taken. Set by `HttpProtocol`."""

    def connection_lost(self, exc: Exception | None) -> None:
        self.on_lost()
        super().connection_lost(exc)

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

    def take(self, *, limits: Limits, buffer_bytes: int, on_lost: Callable[[], None] | None = None) -> Connection:
        """Hand the transport over, in the same step as the 101 is written. `on_lost` is called once, at the end.

        No other callback runs in between, so nothing that the client sends can be read by the wrong protocol.
        """
        self.was_taken = True
        self.connections.discard(self)
        on_ours = self.on_lost

        def on_both() -> None:
            on_ours()
            if on_lost is not None:
                on_lost()

        # Without an `on_lost` all connections share one method: a function of its own would cost each of them memory.
        end = on_ours if on_lost is None else on_both
        return Connection(self.transport, limits=limits, buffer_bytes=buffer_bytes, on_lost=end)

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


def protocols_for(
    settings: Settings, counters: Counters, transports: Transports
) -> tuple[type[HttpProtocol], type[WebSocketProtocol]]:
    """Return both classes. uvicorn creates the instances itself, so what they share are class attributes."""
    shared = {"settings": settings, "counters": counters, "transports": transports}
    return type("HttpProtocol", (HttpProtocol,), shared), WebSocketProtocol
