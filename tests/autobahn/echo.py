"""A server that echoes every message, on the gateway's own handshake, connection and frames.

    python -m tests.autobahn.echo PORT

The gateway echoes nothing and refuses binary messages, so the Autobahn test suite needs this. Only the limits are
wider: the suite sends messages of 16 MiB and as many fragments and pings as it can.
"""

import sys

import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from gateway.clients import frames
from gateway.clients.allowance import Limits
from gateway.clients.connection import Connection
from gateway.clients.frames import text_frame
from gateway.clients.transports import Transports
from gateway.http.handshake import HAND_OVER
from gateway.http.protocols import protocols_for
from gateway.operations.counters import Counters
from gateway.settings import Settings

LIMITS = Limits(max_bytes=64 * 2**20, rate=1e9, burst=10_000_000)
MAX_FRAGMENTS = 1_000_000
BUFFER_BYTES = 2**20


class Echo(Connection):
    """Answers each message with itself."""

    __slots__ = ()

    def _on_message(self, data: bytes, *, is_text: bool) -> None:
        frame = text_frame(data)
        self.write(frame if is_text else b"\x82" + frame[1:])


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    taken: Connection = websocket.scope["extensions"][HAND_OVER]["take"](limits=LIMITS, buffer_bytes=BUFFER_BYTES)
    connection = Echo(taken._transport, limits=LIMITS, buffer_bytes=BUFFER_BYTES, first=taken._first)
    connection.write(
        b""
    )  # the answer to the handshake goes out with what is written first, and the client speaks first


def main(port: int) -> None:
    frames.MAX_FRAGMENTS = MAX_FRAGMENTS
    counters = Counters()
    http, websocket = protocols_for(Settings(), counters, Transports(1_000, counters))
    app = Starlette(routes=[WebSocketRoute("/", echo)])
    uvicorn.run(
        app,
        port=port,
        http=http,
        ws=websocket,
        ws_ping_interval=None,
        ws_per_message_deflate=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main(int(sys.argv[1]))
