"""uvicorn's HTTP protocol, with limits: a head has one in bytes, a request and the reading of its answer have limits in
time, and connections have one in number. A valid handshake goes on in `Handshake`.
"""

import asyncio
import contextlib
import socket
import struct
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from gateway.clients.transports import Transports, Waiting
from gateway.http.front import Scope
from gateway.http.handshake import Handshake, accept_key, websocket_scope
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
TOO_LATE = _last_answer("408 Request Timeout")
_WRONG_VERSION = _last_answer("426 Upgrade Required", "upgrade: websocket", "sec-websocket-version: 13")


def reset(transport: asyncio.Transport) -> None:
    """Close at once, with a reset. Otherwise the kernel would keep an unread answer for minutes: megabytes."""
    plug = transport.get_extra_info("socket")
    if plug is not None:
        with contextlib.suppress(OSError):  # it is closed already
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()


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
        self._wants_websocket = False  # from the end of a head until that of the next one
        self._is_upgrade_ignored = False  # from the end of a head that asks for one until this head is read again

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.transports.enter(self):
            self._expect_request()
        else:
            self.drop()

    def take_over(self, transport: asyncio.Transport, place: Waiting, due: float) -> None:
        """Go on with a connection that `place` has begun. Its first request is due at this time of the loop."""
        super().connection_made(transport)
        self.transports.replace(place, self)
        self._deadline = self.loop.call_at(due, self._drop)
        transport.set_protocol(self)

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
        reset(self.transport)

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
        is_upgrade = self.parser.should_upgrade()
        self._wants_websocket = is_upgrade and super()._should_upgrade()
        if is_upgrade and not self._wants_websocket and self.parser.get_method() != b"CONNECT":
            self._is_upgrade_ignored = True
            return
        if not self.url.startswith(b"/"):
            self._take_host_from_target()
        super().on_headers_complete()

    def _should_upgrade(self) -> bool:
        """uvicorn asks four times for each request, and reads all headers each time."""
        return self._wants_websocket

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
        keys = [value for name, value in self.headers if name == b"sec-websocket-key"]
        key = accept_key(keys[0]) if len(keys) == 1 else None
        is_usual = (self.scope["method"], self.scope["http_version"]) == ("GET", "1.1")
        if key is None or not is_usual or not self.url.isascii():
            self._refuse(_BAD_REQUEST)
            return
        self.connections.discard(self)
        self.transports.hand_over(self)
        scope = websocket_scope(cast(Scope, self.scope), self.url)
        handshake = Handshake(
            self.transport,
            scope,
            key,
            connections=self.connections,
            tasks=self.tasks,
            on_lost=self.transports.on_lost,
        )
        self.transport.set_protocol(handshake)
        handshake.start(self.app)
        self.parser = self.flow = cast(Any, None)  # they refer to this object: a cycle would wait for the collector

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
            self._end(TOO_LATE)


def protocols_for(
    settings: Settings, counters: Counters, transports: Transports
) -> tuple[type[HttpProtocol], type[Handshake]]:
    """Return both classes. uvicorn creates the instances itself, so what they share are class attributes."""
    shared = {"settings": settings, "counters": counters, "transports": transports}
    return type("HttpProtocol", (HttpProtocol,), shared), Handshake
