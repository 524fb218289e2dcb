"""A connection whose frames the ASGI server makes: for servers without the hand-over, and for tests."""

import asyncio
from collections import deque

from starlette.websockets import WebSocket

from gateway.codes import CloseCode
from gateway.connection import Conversation
from gateway.frames import payloads


class AsgiConnection:
    """The same for a server that does the framing itself: frames are unpacked and sent by one task a connection.

    For ASGI servers without the hand-over, and for tests. Costs a task and a queue, which `Connection` saves.
    """

    def __init__(self, websocket: WebSocket, *, max_bytes: int, buffer_bytes: int) -> None:
        self._websocket = websocket
        self._max_bytes = max_bytes
        self._buffer_bytes = buffer_bytes
        self._session: Conversation | None = None
        self._outbox: deque[bytes] = deque()
        self._outbox_bytes = 0
        self._filled = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._end: tuple[int, str] | None = None
        self.is_behind = False
        self.was_heard = True
        self.is_closed = False

    def write(self, frames: bytes) -> None:
        self._outbox.append(frames)
        self._outbox_bytes += len(frames)
        self._filled.set()
        if self._outbox_bytes > self._buffer_bytes and not self.is_behind:
            self.is_behind = True
            self._writable.clear()
            if self._session is not None:
                self._session.on_behind()

    def ping(self) -> None:
        """The server's task."""

    def close(self, code: int, reason: str = "") -> None:
        if self._end is None:
            self._end = (code, reason)
            self._end_session()
            self._filled.set()

    def abort(self) -> None:
        self.close(CloseCode.RESTART)

    async def run(self, session: Conversation) -> None:
        """Converse until either side closes."""
        self._session = session
        sender = asyncio.create_task(self._send())
        receiver = asyncio.create_task(self._receive())
        try:
            await asyncio.wait([sender, receiver], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.is_closed = True
            self._end_session()
            for task in (sender, receiver):
                task.cancel()
            await asyncio.gather(sender, receiver, return_exceptions=True)

    async def _receive(self) -> None:
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            await self._writable.wait()  # a client that does not read is not read from
            if self._session is None:
                continue
            text = message.get("text")
            if text is None:
                self._session.on_binary()
            elif len(data := text.encode(errors="surrogatepass")) > self._max_bytes:
                self.close(CloseCode.MESSAGE_TOO_BIG, f"a message has at most {self._max_bytes} bytes")
            else:
                self._session.on_text(data)

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
            session.on_close()
