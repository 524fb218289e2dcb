"""A connection whose frames the ASGI server writes: for servers without the hand-over, and for tests."""

import asyncio
import time
from collections import deque

from starlette.websockets import WebSocket

from gateway.clients.allowance import Allowance, Limits, Verdict
from gateway.clients.connection import CLOSE_SECONDS, Conversation
from gateway.clients.frames import payloads
from gateway.codes import CloseCode
from gateway.operations.counters import BROKEN_OFF


class AsgiConnection:
    """Like `Connection`, but a task of its own unpacks the frames and sends their payloads by ASGI.

    Lives as long as the ASGI task of the connection. Costs a task and a queue, which `Connection` saves.
    """

    def __init__(self, websocket: WebSocket, *, limits: Limits, buffer_bytes: int) -> None:
        self._websocket = websocket
        self._max_bytes = limits.max_bytes
        self._allowance = Allowance(limits, time.monotonic())
        self._buffer_bytes = buffer_bytes
        self._session: Conversation | None = None
        # What is to be sent.
        self._outbox: deque[bytes] = deque()
        """Joined frames that wait for the sender."""
        self._outbox_bytes = 0
        """The size of the outbox, with the frames that are being sent."""
        self._filled = asyncio.Event()
        """Wakes the sender."""
        self._writable = asyncio.Event()
        """Set unless the connection is behind."""
        self._writable.set()

        # The end.
        self._end: tuple[int, str] | None = None
        """The code and reason of our close frame, once it is due."""
        self._code = BROKEN_OFF
        """The code that the session is told."""
        self._receiver: asyncio.Task[None] | None = None
        """The task of `run`."""
        self._close_timer: asyncio.TimerHandle | None = None
        """Aborts a close that does not end."""
        self._was_aborted = False
        """True if `abort` cancelled the receiver, rather than somebody from outside."""
        self.is_behind = False
        self.was_heard = True
        self.is_closed = False

    @property
    def peer(self) -> str | None:
        client = self._websocket.client
        return None if client is None else client.host

    @property
    def unsent_bytes(self) -> int:
        return self._outbox_bytes

    def write(self, frames: bytes) -> None:
        self._outbox.append(frames)
        self._outbox_bytes += len(frames)
        self._filled.set()
        if self._outbox_bytes > self._buffer_bytes and not self.is_behind:
            self.is_behind = True
            self._writable.clear()
            if self._session is not None:
                self._session.on_behind()

    def offer(self, frames: bytes, *, is_last: bool) -> None:
        """The same: only the sender's task learns what the socket takes."""
        self.write(frames)

    def ping(self) -> None:
        """Nothing: the ASGI server pings."""

    def close(self, code: int, reason: str = "") -> None:
        if self._end is None:
            self._end = (code, reason)
            self._code = code
            self._end_session()
            self._filled.set()
            # The sender may be waiting for a client that never reads again.
            self._close_timer = asyncio.get_running_loop().call_later(CLOSE_SECONDS, self.abort)

    def abort(self) -> None:
        self._was_aborted = True
        if self._receiver is not None:
            self._receiver.cancel()

    async def run(self, session: Conversation) -> None:
        """Run until either side closes. Receives in the caller's task, sends in another."""
        self._session = session
        self._receiver = asyncio.current_task()
        sender = asyncio.create_task(self._send())
        sender.add_done_callback(self._on_sent)
        try:
            await self._receive()
        except asyncio.CancelledError:
            if not self._was_aborted:
                raise
        finally:
            self._receiver = None
            sender.cancel()
            if self._close_timer is not None:
                self._close_timer.cancel()
            self.is_closed = True
            self._end_session()

    def _on_sent(self, sender: asyncio.Task[None]) -> None:
        """If sending failed, end: the server may never report the disconnect to the receiver."""
        self._writable.set()
        if not sender.cancelled() and sender.exception() is not None:
            self.abort()

    async def _receive(self) -> None:
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                self._code = message.get("code", BROKEN_OFF)
                return
            await self._until_allowed()
            await self._writable.wait()  # do not read from a client that does not read
            if self._session is None:
                continue
            text = message.get("text")
            if text is None:
                self._session.on_binary()
            elif len(data := text.encode(errors="surrogatepass")) > self._max_bytes:
                self.close(CloseCode.MESSAGE_TOO_BIG, f"a message has at most {self._max_bytes} bytes")
            else:
                self._session.on_text(data)

    async def _until_allowed(self) -> None:
        """Receive nothing more while the client says too much. The server reads control frames: they do not count."""
        while (verdict := self._allowance.take(time.monotonic())) is not Verdict.HEAR:
            if verdict is Verdict.CLOSE:
                self.close(CloseCode.PROTOCOL_ABUSED, "too many messages")
            if self._session is not None:
                self._session.on_throttled()
            await asyncio.sleep(self._allowance.seconds_to_wait)

    async def _send(self) -> None:
        while self._outbox or self._end is None:
            await self._filled.wait()
            while self._outbox:
                frames = self._outbox.popleft()
                for payload in payloads(frames):
                    await self._websocket.send_text(payload.decode())
                self._outbox_bytes -= len(frames)
            self._filled.clear()
            if self.is_behind:
                self.is_behind = False
                self._writable.set()
                if self._session is not None:
                    self._session.on_writable()
        await self._websocket.close(*self._end)

    def _end_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.on_close(self._code)
