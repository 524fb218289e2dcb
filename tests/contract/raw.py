"""A WebSocket client made by hand, for what a well-behaved library never sends, and for sockets that stop reading."""

import asyncio
import base64
import os
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from .deadlines import PATIENCE

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
SEQ = re.compile(rb'"seq":\s*(\d+)')
SMALL_BUFFER_BYTES = 4_096


class Frame(NamedTuple):
    opcode: int
    payload: bytes


def request(
    port: int, path: str = "/ws", *, host: str | None = None, origin: str | None = None, more: tuple[str, ...] = ()
) -> bytes:
    """The upgrade's request, header by header."""
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {host or f'127.0.0.1:{port}'}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
        *([] if origin is None else [f"Origin: {origin}"]),
        *more,
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def frame(opcode: int, payload: bytes, *, final: bool = True, masked: bool = True, reserved: int = 0) -> bytes:
    head = bytes([(0x80 if final else 0) | reserved | opcode])
    mask_bit = 0x80 if masked else 0
    if len(payload) < 126:
        head += bytes([mask_bit | len(payload)])
    elif len(payload) < 65_536:
        head += bytes([mask_bit | 126]) + len(payload).to_bytes(2, "big")
    else:
        head += bytes([mask_bit | 127]) + len(payload).to_bytes(8, "big")
    if not masked:
        return head + payload
    mask = b"\x01\x02\x03\x04"
    return head + mask + bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))


class RawClient:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        async with asyncio.timeout(PATIENCE):
            self.writer.write(data)
            await self.writer.drain()

    async def status(self) -> int:
        """The status of the HTTP answer, its header read to the end."""
        async with asyncio.timeout(PATIENCE):
            head = await self.reader.readuntil(b"\r\n\r\n")
        return int(head.split(b" ", 2)[1])

    async def frame(self, what: str, within: float = PATIENCE) -> Frame:
        try:
            async with asyncio.timeout(within):
                first, second = await self.reader.readexactly(2)
                assert not second & 0x80, "a server's frames are not masked"
                length = second & 0x7F
                if length >= 126:
                    length = int.from_bytes(await self.reader.readexactly(2 if length == 126 else 8), "big")
                return Frame(first & 0x0F, await self.reader.readexactly(length))
        except TimeoutError:
            raise AssertionError(f"waited {within} s for {what}") from None

    async def text(self, what: str) -> bytes:
        """The next text frame; pings of the server's in between are nobody's business."""
        while (received := await self.frame(what)).opcode == PING:
            pass
        assert received.opcode == TEXT, f"{what} was due, this came: {received}"
        return received.payload

    async def close_code(self) -> int | None:
        """Reads on to the close frame; None where the connection ends without one."""
        try:
            while (received := await self.frame("the close frame")).opcode != CLOSE:
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        return int.from_bytes(received.payload[:2], "big") if received.payload else 1005

    async def ended(self, within: float = PATIENCE) -> bytes:
        """What still comes until the server ends the connection."""
        try:
            async with asyncio.timeout(within):
                return await self.reader.read(-1)
        except ConnectionError:
            return b""
        except TimeoutError:
            raise AssertionError(f"the server still holds the connection after {within} s") from None


@asynccontextmanager
async def raw_socket(port: int) -> AsyncIterator[RawClient]:
    """A TCP connection on which nothing was said yet."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield RawClient(reader, writer)
    finally:
        writer.transport.abort()


@asynccontextmanager
async def raw_connect(port: int) -> AsyncIterator[RawClient]:
    """A WebSocket that has been told `connected`."""
    async with raw_socket(port) as client:
        await client.send(request(port))
        assert await client.status() == 101
        assert b'"connected"' in await client.text("connected")
        yield client


class Reader(asyncio.Protocol):
    """Counts the events that reach it, at a price that lets one process play many viewers; or stops reading."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.closed = asyncio.get_running_loop().create_future()
        self.seqs: list[int] = []
        self.texts = 0  # frames, with those that are no events
        self.last_texts: list[bytes] = []  # payloads since the reader was told to keep them
        self.keep = False
        self.close_code: int | None = None
        self._rest = b""
        self._upgraded = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        data = self._rest + data if self._rest else data
        position = 0
        if not self._upgraded:
            position = data.find(b"\r\n\r\n") + 4
            if position < 4:
                self._rest = data
                return
            assert data.startswith(b"HTTP/1.1 101"), data[:position]
            self._upgraded = True
        end = len(data)
        while end - position >= 2:
            length, start = data[position + 1], position + 2
            if length >= 126:
                size = 2 if length == 126 else 8
                if end - start < size:
                    break
                length = int.from_bytes(data[start : start + size], "big")
                start += size
            if end - start < length:
                break
            self._frame(data[position] & 0x0F, data, start, start + length)
            position = start + length
        self._rest = data[position:]

    def _frame(self, opcode: int, data: bytes, start: int, end: int) -> None:
        if opcode == TEXT:
            self.texts += 1
            seq = SEQ.search(data, start, end)
            if seq is not None and not data.startswith(b'{"type":"subscribed"', start):
                self.seqs.append(int(seq[1]))
            if self.keep:
                self.last_texts.append(data[start:end])
        elif opcode == CLOSE:
            self.close_code = int.from_bytes(data[start : start + 2], "big")
            if self.transport is not None:
                self.transport.write(frame(CLOSE, data[start : start + 2]))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)

    def send(self, text: str) -> None:
        assert self.transport is not None
        self.transport.write(frame(TEXT, text.encode()))

    def stop_reading(self) -> None:
        assert self.transport is not None
        self.transport.pause_reading()

    def read_again(self) -> None:
        assert self.transport is not None
        self.keep = True
        self.transport.resume_reading()


@asynccontextmanager
async def reader(port: int, *, small: bool = False) -> AsyncIterator[Reader]:
    """An upgraded connection; `small` has a receive buffer that is full at once."""
    loop = asyncio.get_running_loop()
    plug = socket.socket()
    if small:
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER_BYTES)
    plug.setblocking(False)
    await loop.sock_connect(plug, ("127.0.0.1", port))
    transport, protocol = await loop.create_connection(Reader, sock=plug)
    try:
        transport.write(request(port))
        yield protocol
    finally:
        transport.abort()
        await protocol.closed
