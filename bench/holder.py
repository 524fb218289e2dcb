"""Holds idle connections for `python -m bench scale`: subscribes, answers pings, and obeys `going_away` or not.

    python -m bench.holder <port> <number of this process> <obey | stay>

It reads `open <count>` from stdin and answers `opened <count>` once all of them are subscribed. At the end of the
server, when the last connection is closed, it says `closed <by us> <by the server> <without a close frame>`.
"""

import contextlib
import heapq
import json
import random
import select
import socket
import sys
import time

IP_BIND_ADDRESS_NO_PORT = 24  # choose the port at connect(): a source address has its ports once for each server port
# One address has some 28,000 ports, of which connect() tries one half first. From 14,000 connections on it looks at
# thousands of taken ports each time, and takes 1.1 ms instead of 15 us.
CONNECTIONS_OF_AN_ADDRESS = 10_000
HANDSHAKES_AT_ONCE = 32
PROJECTS = 100
CLOSE, PING, PONG, TEXT = 8, 9, 10, 1
UPGRADE = (
    "GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def frame(opcode: int, payload: bytes) -> bytes:
    """A client's frame of at most 125 bytes; masked with zeros, which changes nothing."""
    return bytes([0x80 | opcode, 0x80 | len(payload), 0, 0, 0, 0]) + payload


def take_frame(data: bytes) -> tuple[int, bytes, bytes] | None:
    """The opcode and payload of the first frame, and what follows it; None: it is not complete."""
    if len(data) < 2:
        return None
    size, at = data[1] & 0x7F, 2
    if size >= 126:
        at = 4 if size == 126 else 10
        size = int.from_bytes(data[2:at])
    if len(data) < at + size:
        return None
    return data[0] & 0x0F, data[at : at + size], data[at + size :]


class Holder:
    """All connections of this process. Lives as long as it."""

    def __init__(self, port: int, number: int, *, obeys: bool) -> None:
        self._port, self._number, self._obeys = port, number, obeys
        self._upgrade = UPGRADE.format(port=port).encode()
        self._poller = select.epoll()
        self._poller.register(sys.stdin, select.EPOLLIN)
        self._held: dict[int, socket.socket] = {}
        self._unread: dict[int, bytes] = {}  # of those with half a message
        self._opening: dict[int, bool] = {}  # those without `subscribed`: is the upgrade answered?
        self._leaves: list[tuple[float, int]] = []  # when each has to leave, by `going_away`
        self._to_open = self._opened = self._open_now = 0
        self._left = self._told = self._cut = 0

    def run(self) -> None:
        while True:
            wait = min(1.0, max(0.0, self._leaves[0][0] - time.monotonic())) if self._leaves else -1
            for fd, _ in self._poller.poll(wait, 512):
                if fd == sys.stdin.fileno():
                    if not (line := sys.stdin.readline()):
                        return
                    self._to_open = self._open_now = int(line.split()[1])
                    self._opened = 0
                else:
                    self._on_readable(fd)
            while self._to_open and len(self._opening) < HANDSHAKES_AT_ONCE:
                self._open_one()
            while self._leaves and self._leaves[0][0] <= time.monotonic():
                self._leave(heapq.heappop(self._leaves)[1])

    def _open_one(self) -> None:
        plug = socket.socket()
        plug.setsockopt(socket.SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        plug.bind((f"127.0.{1 + self._number}.{1 + len(self._held) // CONNECTIONS_OF_AN_ADDRESS}", 0))
        plug.connect(("127.0.0.1", self._port))  # the kernel answers, so it does not wait for the server
        plug.setblocking(False)
        plug.send(self._upgrade)
        fd = plug.fileno()
        self._held[fd] = plug
        self._opening[fd] = False
        self._poller.register(fd, select.EPOLLIN)
        self._to_open -= 1

    def _on_readable(self, fd: int) -> None:
        data = b""
        with contextlib.suppress(ConnectionError):
            data = self._held[fd].recv(65_536)
        if not data:
            self._cut += 1
            self._forget(fd)
            return
        data = self._unread.pop(fd, b"") + data
        if self._opening.get(fd) is False:
            head, end, data = data.partition(b"\r\n\r\n")
            if not end:
                self._unread[fd] = head
                return
            if b" 101 " not in head:
                sys.exit(f"The upgrade was refused: {head[:200]!r}")
            self._opening[fd] = True
            subscribe = {"type": "subscribe", "projectId": f"idle-{fd % PROJECTS}"}
            self._send(fd, TEXT, json.dumps(subscribe).encode())
        while data and (taken := take_frame(data)) is not None:
            opcode, payload, data = taken
            self._on_frame(fd, opcode, payload)
            if fd not in self._held:
                return
        if data:
            self._unread[fd] = data

    def _on_frame(self, fd: int, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            self._send(fd, PONG, payload)
        elif opcode == CLOSE:
            self._told += 1
            self._send(fd, CLOSE, payload[:2])
            self._forget(fd)
        elif fd in self._opening and b'"subscribed"' in payload:
            del self._opening[fd]
            self._opened += 1
            if self._opened == self._open_now:
                print(f"opened {self._opened}", flush=True)
        elif self._obeys and b'"going_away"' in payload:
            earliest, latest = json.loads(payload)["reconnectIn"]
            heapq.heappush(self._leaves, (time.monotonic() + random.uniform(earliest, latest) / 1_000, fd))

    def _leave(self, fd: int) -> None:
        """As a page that has moved to another replica: it closes, and does not wait for the answer."""
        if fd in self._held:
            self._left += 1
            self._send(fd, CLOSE, (1_000).to_bytes(2))
            self._forget(fd)

    def _send(self, fd: int, opcode: int, payload: bytes) -> None:
        with contextlib.suppress(ConnectionError, BlockingIOError):
            self._held[fd].send(frame(opcode, payload))

    def _forget(self, fd: int) -> None:
        self._poller.unregister(fd)
        self._opening.pop(fd, None)
        self._unread.pop(fd, None)
        self._held.pop(fd).close()
        if not self._held:
            print(f"closed {self._left} {self._told} {self._cut}", flush=True)


if __name__ == "__main__":
    _, port, number, manner = sys.argv
    with contextlib.suppress(KeyboardInterrupt):
        Holder(int(port), int(number), obeys=manner == "obey").run()
