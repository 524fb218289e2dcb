"""One socket after its handshake: what is written to it, and the frames that come in.

A connection that keeps up gets the bytes that everybody gets, with one system call. A connection that is behind (its
socket is full) gets nothing and keeps nothing: the session remembers how far it got, and catches up later. It is not
read from either, so answers cannot pile up for a client that does not read.
"""

import asyncio
import os
from enum import Enum
from typing import Protocol

from gateway.counters import BROKEN_OFF
from gateway.frames import (
    PING,
    Fragments,
    Frame,
    FrameError,
    Opcode,
    close_frame,
    code_to_echo,
    pong_frame,
    read_frame,
)

FRAMES_AT_ONCE = 64
CLOSE_SECONDS = 5.0  # for a client to answer our close frame


class Conversation(Protocol):
    """A session, as its connection sees it. No method blocks."""

    def on_text(self, text: bytes) -> None: ...

    def on_binary(self) -> None: ...

    def on_behind(self) -> None:
        """The socket is full: write nothing more."""

    def on_writable(self) -> None:
        """The socket has drained: catch up."""

    def on_close(self, code: int) -> None:
        """The connection closes or is gone, on either side. Called once."""


class Outgoing(Protocol):
    """A connection, as sessions and the hub see it."""

    is_behind: bool
    """True while the socket is full."""
    was_heard: bool
    """True if anything came from the client since the last ping."""

    @property
    def is_closed(self) -> bool:
        """True once the connection is gone."""

    def write(self, frames: bytes) -> None:
        """Send whole frames, now, without waiting."""

    def ping(self) -> None:
        """Clear `was_heard`, and ask the client for a sign of life that sets it."""

    def close(self, code: int, reason: str = "") -> None:
        """Send a close frame. Nothing is written after it."""

    def abort(self) -> None:
        """End without a close frame."""


class ConnectionState(Enum):
    """How far a connection has closed (RFC 6455, 7.1)."""

    OPEN = "open"
    CLOSING = "closing"  # our close frame was sent; the client's has not come yet
    DEAF = "deaf"  # both close frames were sent, or the input is not frames; more input is read and dropped
    CLOSED = "closed"


class Connection(asyncio.Protocol):
    """A WebSocket on the transport that the ASGI server hands over after the handshake.

    Lives as long as the transport. An idle one has no task, no queue and no parser. Invariant: `is_behind` is true from
    `pause_writing` to `resume_writing`.
    """

    __slots__ = (
        "_close_timer", "_fd", "_fragments", "_is_buffering", "_max_bytes", "_session", "_state", "_transport",
        "_unread", "is_behind", "was_heard",
    )  # fmt: skip

    def __init__(self, transport: asyncio.Transport, *, max_bytes: int, buffer_bytes: int) -> None:
        self._transport = transport
        self._max_bytes = max_bytes
        self._session: Conversation | None = None
        self._state = ConnectionState.OPEN
        self._unread = b""
        """Bytes that came and are not handled yet: mostly none, or an unfinished frame."""
        self._fragments: Fragments | None = None
        """The unfinished message, if there is one."""
        self._close_timer: asyncio.TimerHandle | None = None
        """Aborts a close that the client does not answer."""
        self.is_behind = False
        self.was_heard = True
        self._fd = -1
        """The descriptor of the socket, to write to it directly; -1: write through the transport.

        With TLS only the transport can write, because it encrypts. The transport keeps the socket open until
        `connection_lost` has returned, so until then the descriptor cannot belong to another client.
        """
        if transport.get_extra_info("sslcontext") is None and (sock := transport.get_extra_info("socket")) is not None:
            self._fd = sock.fileno()
        self._is_buffering = True
        """True if the transport may hold bytes that must go first: in the beginning, those of the handshake."""
        transport.set_write_buffer_limits(high=buffer_bytes)
        transport.set_protocol(self)

    def start(self, session: Conversation) -> None:
        self._session = session

    @property
    def is_closed(self) -> bool:
        return self._state is ConnectionState.CLOSED

    # Outgoing

    def write(self, frames: bytes) -> None:
        """Write to the socket in one system call. The transport writes later what the socket does not take now.

        The transport's own `write` would add a tenth to the cost of a delivery (bench/README.md).
        """
        if self._is_buffering and not self._has_drained():
            self._transport.write(frames)
            return
        try:
            sent = os.write(self._fd, frames)
        except BlockingIOError:
            sent = 0
        except OSError:  # broken: the transport will call connection_lost
            return
        if sent != len(frames):
            self._is_buffering = True
            self._transport.write(memoryview(frames)[sent:])  # keeps a reference, not a copy

    def _has_drained(self) -> bool:
        if self._fd < 0 or self._transport.get_write_buffer_size():
            return False
        self._is_buffering = False
        return True

    def ping(self) -> None:
        self.was_heard = False
        self.write(PING)

    def close(self, code: int, reason: str = "") -> None:
        if self._state is not ConnectionState.OPEN:
            return
        self.write(close_frame(code, reason))
        self._end(ConnectionState.CLOSING, code)
        if not self._transport.is_closing():
            self._transport.resume_reading()  # paused if the client was behind; its close frame is still to come

    def _end(self, state: ConnectionState, code: int) -> None:
        """End the session. The timer aborts a client that never answers: its socket may be full."""
        self._state = state
        if self._close_timer is None and state is not ConnectionState.CLOSED:
            self._close_timer = asyncio.get_running_loop().call_later(CLOSE_SECONDS, self.abort)
        session, self._session = self._session, None
        if session is not None:
            session.on_close(code)

    def abort(self) -> None:
        self._leave_socket()
        self._transport.abort()

    def _leave_socket(self) -> None:
        """Write through the transport from now on; it writes nothing once it closes."""
        self._fd = -1
        self._is_buffering = True

    # asyncio.Protocol

    def pause_writing(self) -> None:
        self.is_behind = True
        if self._state is ConnectionState.OPEN:
            self._transport.pause_reading()
            if self._session is not None:
                self._session.on_behind()

    def resume_writing(self) -> None:
        self.is_behind = False
        if self._state is ConnectionState.OPEN:
            self._transport.resume_reading()
            if self._session is not None:
                self._session.on_writable()
            self._read()

    def data_received(self, data: bytes) -> None:
        self.was_heard = True
        if self._state is not ConnectionState.DEAF:
            self._unread = self._unread + data if self._unread else data
            self._read()

    def _read(self) -> None:
        """Handle what came, a few frames in a turn of the loop, so that one client cannot hold up the others.

        Nothing is handled while the client is behind: the answers would pile up.
        """
        data, position = self._unread, 0
        try:
            for _ in range(FRAMES_AT_ONCE):
                if position == len(data) or (self.is_behind and self._state is ConnectionState.OPEN):
                    break
                if self._state in (ConnectionState.DEAF, ConnectionState.CLOSED):
                    position = len(data)
                    break
                frame, position = read_frame(data, position, self._max_bytes)
                if frame is None:
                    break
                self._on_frame(frame)
            else:
                self._transport.pause_reading()
                asyncio.get_running_loop().call_soon(self._read_on)
        except FrameError as error:
            position = len(data)
            self.close(error.code, error.reason)
            self._state = ConnectionState.DEAF
        self._unread = data[position:]

    def _read_on(self) -> None:
        if not self.is_behind and not self._transport.is_closing():
            self._transport.resume_reading()
            self._read()

    def eof_received(self) -> None:
        """The client will send no more. The transport closes and calls `connection_lost`."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave_socket()
        self._end(ConnectionState.CLOSED, BROKEN_OFF)
        if self._close_timer is not None:
            self._close_timer.cancel()

    # Frames

    def _on_frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.CLOSE:
            self._on_close_frame(frame)
        elif self._state is not ConnectionState.OPEN:
            pass  # the client had not seen our close frame yet
        elif frame.opcode is Opcode.PING:
            self.write(pong_frame(bytes(frame.data)))
        elif frame.opcode is not Opcode.PONG:
            self._on_data_frame(frame)

    def _on_data_frame(self, frame: Frame) -> None:
        try:
            if self._fragments is None:
                self._fragments = Fragments(self._max_bytes)
            message = self._fragments.add(frame)
        except FrameError as error:
            self.close(error.code, error.reason)
            return
        if message is not None:
            is_text, self._fragments = self._fragments.is_text, None
            self._on_message(message, is_text=is_text)

    def _on_message(self, data: bytes, *, is_text: bool) -> None:
        if self._session is None:
            return
        if is_text:
            self._session.on_text(data)
        else:
            self._session.on_binary()

    def _on_close_frame(self, frame: Frame) -> None:
        code = code_to_echo(frame)
        if self._state is ConnectionState.OPEN:
            self.write(close_frame(code))
        self._end(ConnectionState.DEAF, code)
        self._transport.close()
