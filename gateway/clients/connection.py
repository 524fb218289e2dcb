"""One socket after its handshake: what is written to it, and the frames that come in.

A connection that keeps up gets the bytes that everybody gets, with one system call. A connection that is behind (its
socket is full) gets nothing and keeps nothing: the session remembers how far it got, and catches up later. It is not
read from either, so answers cannot pile up for a client that does not read. A client that says more than it may is
not read from for moments, so what it floods us with stays in the kernel.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from enum import Enum
from typing import Protocol

from gateway.clients.allowance import Allowance, Limits, Verdict
from gateway.clients.frames import (
    PING,
    Fragments,
    Frame,
    FrameError,
    Opcode,
    check_text,
    close_frame,
    code_to_echo,
    pong_frame,
    read_frame,
)
from gateway.codes import CloseCode
from gateway.operations.counters import BROKEN_OFF
from gateway.operations.ports import UNSENT_BYTES, set_most_unsent

FRAMES_AT_ONCE = 64
LEAN_BYTES = 8_192  # that the kernel takes, beyond what is on its way, while a client catches up
CLOSE_SECONDS = 5.0  # for a client to answer our close frame
LINGER_SECONDS = 1.0  # for a client to read our close frame, where we do not wait for its answer


class Conversation(Protocol):
    """A session, as its connection sees it. No method blocks."""

    def on_text(self, text: bytes) -> None: ...

    def on_binary(self) -> None: ...

    def on_throttled(self) -> None:
        """The client says too much, and is not read from for a moment."""

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

    @property
    def was_heard(self) -> bool:
        """True if anything came from the client since the last ping."""

    @property
    def is_closed(self) -> bool:
        """True once the connection is gone."""

    @property
    def peer(self) -> str | None:
        """The address of the other end of the socket; None if that is not known."""

    @property
    def unsent_bytes(self) -> int:
        """What this process holds that the socket has not taken yet."""

    def write(self, frames: bytes) -> None:
        """Send whole frames, now, without waiting."""

    def offer(self, frames: bytes, *, is_last: bool) -> None:
        """Like `write`, for a piece of what is owed: `is_behind` is true afterwards unless more may follow now."""

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
    DEAF = "deaf"  # both close frames were sent, or the client is not listened to any more; input is read and dropped
    CLOSED = "closed"


class Connection(asyncio.Protocol):
    """A WebSocket on the transport that the ASGI server hands over after the handshake.

    Lives as long as the transport. An idle one has no task, no queue and no parser. Invariant: `is_behind` is true from
    `pause_writing` to `resume_writing`.
    """

    __slots__ = (
        "_allowance", "_buffer_bytes", "_close_timer", "_fd", "_first", "_fragments", "_is_buffering", "_is_lean",
        "_limits", "_on_lost", "_said", "_session", "_state", "_transport", "_unread", "is_behind",
    )  # fmt: skip

    def __init__(
        self,
        transport: asyncio.Transport,
        *,
        limits: Limits,
        buffer_bytes: int,
        on_lost: Callable[[], None] | None = None,
        first: bytes = b"",
    ) -> None:
        """`on_lost` is called once, when the transport is closed. `first` goes out with what is written first."""
        self._transport = transport
        self._on_lost = on_lost
        self._limits = limits
        self._buffer_bytes = buffer_bytes
        self._session: Conversation | None = None
        self._state = ConnectionState.OPEN
        self._unread = b""
        """Bytes that came and are not handled yet: mostly none, or an unfinished frame."""
        self._fragments: Fragments | None = None
        """The unfinished message, if there is one."""
        self._said = 1
        """0 if nothing came since the last ping; else 1 more than the messages (see `Limits`) without an allowance."""
        self._allowance: Allowance | None = None
        """Made when a client says much between two pings, and dropped at a later ping: a quiet client has none."""
        self._close_timer: asyncio.TimerHandle | None = None
        """Aborts a close that the client does not answer."""
        self.is_behind = False
        self._fd = -1
        """The descriptor of the socket, to write to it directly; -1: write through the transport.

        With TLS only the transport can write, because it encrypts. The transport keeps the socket open until
        `connection_lost` has returned, so until then the descriptor cannot belong to another client.
        """
        if transport.get_extra_info("sslcontext") is None and (sock := transport.get_extra_info("socket")) is not None:
            self._fd = sock.fileno()
        self._first = first
        self._is_buffering = True
        """True if the transport may hold bytes that must go first, and in the beginning."""
        self._is_lean = False
        """True while a replay or a catch-up of several pieces is under way."""
        transport.set_write_buffer_limits(high=buffer_bytes)
        transport.set_protocol(self)

    def start(self, session: Conversation) -> None:
        self._session = session

    @property
    def was_heard(self) -> bool:
        return self._said > 0

    @property
    def is_closed(self) -> bool:
        return self._state is ConnectionState.CLOSED

    @property
    def peer(self) -> str | None:
        found = self._transport.get_extra_info("peername")
        return str(found[0]) if isinstance(found, tuple) and found else None

    @property
    def unsent_bytes(self) -> int:
        return self._transport.get_write_buffer_size()

    # Outgoing

    def write(self, frames: bytes) -> None:
        """Write to the socket in one system call. The transport writes later what the socket does not take now.

        The transport's own `write` would add a tenth to the cost of a delivery (bench/README.md).
        """
        if self._is_buffering:
            if self._first:
                frames, self._first = self._first + frames, b""
            if not self._has_drained():
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

    def offer(self, frames: bytes, *, is_last: bool) -> None:
        """Write, and count as behind as soon as the socket does not take everything: no second piece piles up here.

        Nor in the kernel, which would keep more for a burst of live events than is due to a client that never reads.
        """
        if not is_last and not self._is_lean:
            self._be_lean(True)
        self.write(frames)
        if self.is_behind:
            return
        if self._transport.get_write_buffer_size():
            self._transport.set_write_buffer_limits(high=0)  # calls pause_writing
        elif is_last and self._is_lean:
            self._be_lean(False)

    def _be_lean(self, is_lean: bool) -> None:
        self._is_lean = is_lean
        if (sock := self._transport.get_extra_info("socket")) is not None:
            with contextlib.suppress(OSError):  # not TCP, or broken
                set_most_unsent(sock, LEAN_BYTES if is_lean else UNSENT_BYTES)

    def _has_drained(self) -> bool:
        if self._fd < 0 or self._transport.get_write_buffer_size():
            return False
        self._is_buffering = False
        return True

    def ping(self) -> None:
        self._said = 0
        if self._allowance is not None and self._allowance.has_recovered(time.monotonic()):
            self._allowance = None
        self.write(PING)

    def close(self, code: int, reason: str = "") -> None:
        if self._state is not ConnectionState.OPEN:
            return
        self.write(close_frame(code, reason))
        self._end(ConnectionState.CLOSING, code, CLOSE_SECONDS)
        self._resume_reading()  # paused if the client was behind; its close frame is still to come

    def _fail(self, code: int, reason: str) -> None:
        """Close without waiting for an answer: more input would be wrong, or more of what was too much.

        If the socket were closed now, unread input would make the kernel send a reset, and the client might lose our
        close frame to it. So only our direction ends. Input is dropped until the client ends its direction, too.
        """
        if self._state is ConnectionState.OPEN:
            self.write(close_frame(code, reason))
        self._end(ConnectionState.DEAF, code, LINGER_SECONDS)
        if self._transport.is_closing():
            return
        self._transport.resume_reading()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:  # TLS: its own end is a message, and needs no open socket
            self._transport.close()

    def _end(self, state: ConnectionState, code: int, seconds: float = 0.0) -> None:
        """End the session. After so many seconds a client that does not end the connection is aborted.

        It may never answer; its socket may be full.
        """
        self._state = state
        if self._close_timer is None and seconds:
            self._close_timer = asyncio.get_running_loop().call_later(seconds, self.abort)
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
        self._transport.set_write_buffer_limits(high=self._buffer_bytes)  # `offer` may have lowered it
        if self._state is ConnectionState.OPEN:
            self._resume_reading()
            if self._session is not None:
                self._session.on_writable()
            if self._is_lean and not self.is_behind:
                self._be_lean(False)
            self._read()

    def data_received(self, data: bytes) -> None:
        self._said = self._said or 1
        if self._state is not ConnectionState.DEAF:
            self._unread = self._unread + data if self._unread else data
            self._read()

    def _read(self) -> None:
        """Handle what came, a few frames in a turn of the loop, so that one client cannot hold up the others."""
        data, position = self._unread, 0
        try:
            for _ in range(FRAMES_AT_ONCE):
                if position == len(data) or self._is_waiting or not self._take_allowance():
                    break
                frame, position = read_frame(data, position, self._limits.max_bytes)
                if frame is None:
                    self._check_begun(data, position)
                    break
                self._on_frame(frame)
                if self._state in (ConnectionState.DEAF, ConnectionState.CLOSED):
                    break
            else:
                self._transport.pause_reading()
                asyncio.get_running_loop().call_soon(self._read_on)
        except FrameError as error:
            self._fail(error.code, error.reason)
        is_over = self._state in (ConnectionState.DEAF, ConnectionState.CLOSED)
        self._unread = b"" if is_over else data[position:]

    @property
    def _is_waiting(self) -> bool:
        """True while nothing may be read: the answers would pile up, or the client says too much."""
        if self._allowance is not None and self._allowance.is_waiting:
            return True
        return self.is_behind and self._state is ConnectionState.OPEN

    def _take_allowance(self) -> bool:
        """Count a frame, or a read without a whole one. False: the client has to wait, or the connection has failed."""
        if self._allowance is None and self._said <= self._limits.uncounted:
            self._said += 1
            return True
        now = time.monotonic()
        if self._allowance is None:  # we take the worst case: all since the last ping was said just now
            self._allowance = Allowance(self._limits, now, spent=self._limits.uncounted)
        verdict = self._allowance.take(now)
        if verdict is Verdict.WAIT:
            self._throttle(self._allowance)
        elif verdict is Verdict.CLOSE:
            self._fail(CloseCode.PROTOCOL_ABUSED, "too many messages")
        return verdict is Verdict.HEAR

    def _throttle(self, allowance: Allowance) -> None:
        allowance.is_waiting = True
        self._transport.pause_reading()
        asyncio.get_running_loop().call_later(allowance.seconds_to_wait, self._on_waited, allowance)
        if self._session is not None:
            self._session.on_throttled()

    def _on_waited(self, allowance: Allowance) -> None:
        allowance.is_waiting = False
        self._read_on()

    def _read_on(self) -> None:
        if not self._is_waiting and not self._transport.is_closing():
            self._transport.resume_reading()
            self._read()

    def _resume_reading(self) -> None:
        if not self._is_waiting and not self._transport.is_closing():
            self._transport.resume_reading()

    def eof_received(self) -> None:
        """The client will send no more. The transport closes and calls `connection_lost`."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave_socket()
        self._end(ConnectionState.CLOSED, BROKEN_OFF)
        if self._close_timer is not None:
            self._close_timer.cancel()
        if self._on_lost is not None:
            self._on_lost()

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

    def _check_begun(self, data: bytes, position: int) -> None:
        """Refuse a text that is not UTF-8 before its frame is whole: the rest may be long, or never come."""
        if self._state is ConnectionState.OPEN:
            (self._fragments or Fragments(self._limits.max_bytes)).check_begun(data, position)

    def _on_data_frame(self, frame: Frame) -> None:
        try:
            message, is_text = self._add(frame)
        except FrameError as error:
            self._fail(error.code, error.reason)
            return
        if message is not None:
            self._on_message(message, is_text=is_text)

    def _add(self, frame: Frame) -> tuple[bytes | None, bool]:
        """The message, if this frame ends one, and whether it is a text. Raises `FrameError`."""
        if self._fragments is None and frame.fin and frame.opcode is Opcode.TEXT:  # nearly every message
            text = bytes(frame.data)
            check_text(text, is_whole=True)
            return text, True
        fragments = self._fragments = self._fragments or Fragments(self._limits.max_bytes)
        if (message := fragments.add(frame)) is not None:
            self._fragments = None
        return message, fragments.is_text

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
        self._end(ConnectionState.DEAF, code, CLOSE_SECONDS)
        self._transport.close()
