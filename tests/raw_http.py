"""HTTP by hand on a blocking socket, for what a well-behaved client never sends."""

import base64
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE = 60.0


@contextmanager
def tcp(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as plug:
        yield plug


def rest_of(plug: socket.socket) -> bytes:
    """Everything until the server ends the connection."""
    got = b""
    try:
        while piece := plug.recv(65_536):
            got += piece
    except ConnectionResetError:
        pass
    return got


def until(plug: socket.socket, mark: bytes) -> bytes:
    got = b""
    while mark not in got:
        piece = plug.recv(65_536)
        assert piece, f"ended before {mark!r}: {got!r}"
        got += piece
    return got


def ask(port: int, *pieces: bytes) -> bytes:
    """Send the pieces in writes of their own and read until the server ends the connection."""
    with tcp(port) as plug:
        try:
            for piece in pieces:
                plug.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the server had enough before we had said everything
        return rest_of(plug)


def get(
    path: bytes | str = "/healthz", *headers: str, method: str = "GET", version: str = "1.1", close: bool = True
) -> bytes:
    target = path.encode() if isinstance(path, str) else path
    lines = [f"HTTP/{version}", "Host: 127.0.0.1", *(["Connection: close"] if close else []), *headers, "", ""]
    return method.encode() + b" " + target + b" " + "\r\n".join(lines).encode("latin-1")


def upgrade(
    path: bytes | str = "/ws", *headers: str, method: str = "GET", version: str = "1.1", key: str | None = None
) -> bytes:
    words = [
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode() if key is None else key}",
    ]
    return get(path, *words, *headers, method=method, version=version, close=False)


def status(answer: bytes) -> int:
    assert answer.startswith(b"HTTP/1."), answer[:200]
    return int(answer.split(b" ", 2)[1])
