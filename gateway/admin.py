"""The operators' port: health, metrics and publishing on a listener of their own, in the replica's process and loop."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import uvicorn

from gateway.bounded import BoundedServer
from gateway.ports import address, listen
from gateway.protocols import protocols_for
from gateway.settings import Settings

logger = logging.getLogger("gateway")

END_SECONDS = 1  # for requests that are under way when the replica ends


class _Server(BoundedServer):
    """uvicorn's, without signals: those are the replica's business."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def admin_port(app: Any, settings: Settings, listener: socket.socket) -> AsyncIterator[BoundedServer]:
    """Answer there for as long as the context lasts: from before the replica serves until it has drained, so that
    the last scrape sees the drain."""
    http, _ = protocols_for(settings, app.state.hub.figures)
    config = uvicorn.Config(
        app,
        http=http,
        ws="none",
        lifespan="off",
        access_log=False,
        server_header=False,
        log_config=None,
        log_level="error",  # see gateway.server
    )
    listen(listener, "admin-")
    server = _Server(config, END_SECONDS)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    logger.info("Listening: http://%s/ for operators", address(listener))
    try:
        yield server
    finally:
        server.should_exit = True
        await serving
