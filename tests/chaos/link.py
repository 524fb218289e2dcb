"""One WebSocket connection of a viewer: no library, so that 200 of them leave the machine to the replicas."""

import asyncio
import socket
from collections.abc import Callable

from tests.contract.raw import CLOSE, PING, PONG, TEXT, frame, request

CONNECT_SECONDS = 5.0
SMALL_BUFFER_BYTES = 4_096


class Link(asyncio.Protocol):
    """Lives from the connect to the close. Moments are of the loop's clock."""

    def __init__(self, port: int, on_message: Callable[["Link", bytes], None]) -> None:
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport | None = None
        self.is_stale = False
        self.stale_at: list[float] = []
        self.live_at: list[float] = []
        self.is_left = False  # by its viewer, for the other replica
        self.is_paused = self.was_paused = False
        self._port = port
        self._on_message = on_message
        self.status = 0  # of the HTTP answer
        self.close_code = 1006
        self._is_upgraded = False
        self._unread = bytearray()

    def say(self, message: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(frame(TEXT, message))

    def close(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    async def pause(self, seconds: float) -> None:
        """Read nothing for a while."""
        self.is_paused = self.was_paused = True
        if self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()
            try:
                await asyncio.wait([self.closed], timeout=seconds)
            finally:
                self.is_paused = False
                if not self.transport.is_closing():
                    self.transport.resume_reading()

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(request(self._port))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._unread += data
        if not self._is_upgraded:
            head, separator, rest = self._unread.partition(b"\r\n\r\n")
            if not separator:
                return
            self.status = int(head.split(b" ", 2)[1])
            if self.status != 101:
                self.close()
                return
            self._is_upgraded, self._unread = True, rest
        self._read_frames()

    def _read_frames(self) -> None:
        """A server's frames are whole messages, and not masked."""
        data, at = self._unread, 0
        while len(data) - at >= 2:
            length, head = data[at + 1], 2
            if length >= 126:
                head = 4 if length == 126 else 10
                length = int.from_bytes(data[at + 2 : at + head], "big")
            end = at + head + length
            if len(data) < at + head or len(data) < end:
                break
            self._on_frame(data[at] & 0x0F, bytes(data[at + head : end]))
            at = end
        del data[:at]

    def _on_frame(self, opcode: int, payload: bytes) -> None:
        if opcode == TEXT:
            self._on_message(self, payload)
        elif opcode == PING and self.transport is not None:
            self.transport.write(frame(PONG, payload))
        elif opcode == CLOSE:
            self.close_code = int.from_bytes(payload[:2], "big") if payload else 1005
            self.close()


async def open_link(
    port: int, on_message: Callable[[Link, bytes], None], *, is_slow: bool = False, source: str = ""
) -> Link:
    """Raises `OSError`, `TimeoutError` too. A slow reader's buffers are small, so that it is behind soon.

    `source`: an address of this machine, from which the connection comes.
    """
    loop = asyncio.get_running_loop()
    plug = socket.socket()
    try:
        plug.setblocking(False)
        if is_slow:
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER_BYTES)
        if source:
            plug.bind((source, 0))
        async with asyncio.timeout(CONNECT_SECONDS):
            await loop.sock_connect(plug, ("127.0.0.1", port))
            _, link = await loop.create_connection(lambda: Link(port, on_message), sock=plug)
    except BaseException:
        plug.close()
        raise
    return link
