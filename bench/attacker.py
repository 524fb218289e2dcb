"""A client that attacks a server at a rate of bytes: `python -m bench.attacker PORT ATTACK SECONDS BYTES_A_SECOND`.

It opens another connection when those it has do not take more, or were closed. Prints what it did as JSON.
"""

import contextlib
import json
import os
import selectors
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from bench.servers import LOOPBACK

MOST_CONNECTIONS = 200
OPENED_A_SECOND = 100  # more would measure handshakes
TICK_SECONDS = 0.01
HOST = f"Host: {LOOPBACK}\r\n".encode()
HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


def masked(head: int, payload: bytes = b"") -> bytes:
    """A client's frame; a mask of zeros leaves the payload as it is."""
    assert len(payload) < 126
    return bytes([head, 0x80 | len(payload)]) + bytes(4) + payload


def text(**fields: str) -> bytes:
    return masked(0x81, json.dumps(fields, separators=(",", ":")).encode())


@dataclass(frozen=True)
class Attack:
    title: str
    unit: bytes
    """Sent again and again."""
    greeting: bytes = HANDSHAKE
    """Sent first, and answered by 101 if it is a handshake."""
    begins: bytes = b""
    """Sent once, after the greeting."""
    piece: int = 8_192
    """Bytes in a write."""


ATTACKS: dict[str, Attack] = {
    "http": Attack("`GET /`, pipelined", b"GET / HTTP/1.1\r\n" + HOST + b"\r\n", greeting=b""),
    "half": Attack("endless head of a request", b"x", greeting=b"GET / HTTP/1.1\r\n" + HOST + b"X: "),
    "pings": Attack("pings", masked(0x89)),
    "pongs": Attack("pongs", masked(0x8A)),
    "fragments": Attack("empty fragments", masked(0x00), begins=masked(0x01)),
    "garbage": Attack("texts that are not JSON", masked(0x81, b"{garbage")),
    "noise": Attack("bytes that are no frames", b"\xff" * 100),
    "subscribes": Attack("subscribes to one project", text(type="subscribe", projectId="victim")),
    "unsubscribes": Attack("unsubscribes", text(type="unsubscribe", projectId="p")),
    "dribble": Attack("pings, a byte in each write", masked(0x89), piece=1),
}


class Plug:
    """One connection of the attacker. Lives until the server closes it."""

    def __init__(self, port: int, attack: Attack) -> None:
        self.socket = socket.create_connection((LOOPBACK, port), timeout=5)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if attack.greeting:
            self.socket.sendall(attack.greeting)
        if attack.greeting == HANDSHAKE:
            self.socket.recv(4_096)
        self.socket.sendall(attack.begins)
        self.socket.setblocking(False)
        self._data = attack.unit * (65_536 // len(attack.unit))
        self._position = 0
        self._piece = attack.piece

    def send(self, most: int) -> int:
        """Send up to so many bytes; 0 if the socket takes none now."""
        end = min(self._position + min(most, self._piece), len(self._data))
        try:
            sent = self.socket.send(self._data[self._position : end])
        except BlockingIOError:
            return 0
        self._position = (self._position + sent) % len(self._data)
        return sent


class Attacker:
    """Holds the connections, and spends bytes on them at the given rate."""

    def __init__(self, port: int, attack: Attack) -> None:
        self._new: Callable[[], Plug] = lambda: Plug(port, attack)
        self._plugs: list[Plug] = []
        self._selector = selectors.DefaultSelector()
        self.sent = self.received = self.opened = self.closed = 0

    def run(self, seconds: float, rate: float) -> None:
        began = now = time.monotonic()
        while now < began + seconds:
            self._read()
            budget = int(min((now - began) * rate - self.sent, rate * 0.1))  # what could not be sent is lost
            while budget > 0 and (sent := self._send(budget)):
                budget -= sent
            if budget > 0 and len(self._plugs) < MOST_CONNECTIONS and self.opened < (now - began) * OPENED_A_SECOND + 1:
                self._open()
            time.sleep(TICK_SECONDS)
            now = time.monotonic()

    def _send(self, budget: int) -> int:
        for plug in list(self._plugs):
            try:
                if sent := plug.send(budget):
                    self.sent += sent
                    return sent
            except OSError:
                self._drop(plug)
        return 0

    def _open(self) -> None:
        with contextlib.suppress(OSError):  # refused: try again in the next tick
            plug = self._new()
            self._plugs.append(plug)
            self._selector.register(plug.socket, selectors.EVENT_READ, plug)
            self.opened += 1

    def _read(self) -> None:
        for key, _ in self._selector.select(0):
            try:
                got = len(key.data.socket.recv(1 << 18))
            except OSError:
                got = 0
            self.received += got
            if not got:
                self._drop(key.data)

    def _drop(self, plug: Plug) -> None:
        self._selector.unregister(plug.socket)
        self._plugs.remove(plug)
        plug.socket.close()
        self.closed += 1


def main(port: str, attack: str, seconds: str, rate: str) -> None:
    attacker = Attacker(int(port), ATTACKS[attack])
    os.nice(5)  # the server, and not the attacker, is measured
    attacker.run(float(seconds), float(rate))
    names = ("sent", "received", "opened", "closed")
    print(json.dumps({name: getattr(attacker, name) for name in names}))


if __name__ == "__main__":
    main(*sys.argv[1:])
