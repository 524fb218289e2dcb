"""Runs a replica: its socket, uvicorn with our protocols, signals, the end in order."""

import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, nullcontext
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.config import STARTUP_FAILURE

from gateway.app import create_app
from gateway.drain import Drain, longest_seconds
from gateway.hub import Hub
from gateway.ports import BACKLOG, CannotListen, address, listen
from gateway.process import on_ending_signals
from gateway.protocols import protocols_for
from gateway.settings import Settings
from gateway.systemd import Systemd

logger = logging.getLogger("gateway")

TERMINAL_DRAIN_SECONDS = 1.0
FORCE_SECONDS = 0.5  # that the second signal is given, before a third one ends the process as it is
TICK_SECONDS = 0.05
ANSWER_SECONDS = 0.2  # for what is cut off: gateway.publishing answers with 503 then
ADMIN_SECONDS = 1  # for requests to the operators' port that are under way when the replica ends
HTTP_SECONDS = 2  # for requests that are under way after the drain
END_SECONDS = HTTP_SECONDS + ADMIN_SECONDS + 2.0  # for them on both ports, one after the other, and for leaving Redis

SPARE_DESCRIPTORS = 64  # for Redis, the listening socket, files


class BoundedServer(uvicorn.Server):
    """uvicorn itself would log an error, and look at `force_exit` no more while it waits for its sockets."""

    def __init__(self, config: uvicorn.Config, end_seconds: float) -> None:
        super().__init__(config)
        self._end_seconds = end_seconds

    async def _wait_tasks_to_complete(self) -> None:
        """What uvicorn waits for when it no longer takes connections."""
        loop, state = asyncio.get_running_loop(), self.server_state
        until = loop.time() + self._end_seconds
        while (state.connections or state.tasks) and loop.time() < until and not self.force_exit:
            await asyncio.sleep(TICK_SECONDS)
        if late := list(state.tasks):
            logger.warning("%d requests that did not end are cut off", len(late))
            for task in late:
                task.cancel()
            await asyncio.wait(late, timeout=ANSWER_SECONDS)
        for connection in list(state.connections):
            connection.transport.close()


class Server(BoundedServer):
    """uvicorn's server, ended in order by a signal, with status 0; a second signal ends it at once."""

    def __init__(
        self, config: uvicorn.Config, hub: Hub, admin: AbstractAsyncContextManager[BoundedServer] | None = None
    ) -> None:
        super().__init__(config, HTTP_SECONDS)
        self._hub = hub
        self._admin = admin or nullcontext()
        self._admin_server: uvicorn.Server | None = None
        self._drain_seconds = hub.settings.drain_seconds
        self._forced_at = 0.0
        self._systemd = Systemd()
        self._watchdog: asyncio.Task[None] | None = None

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's; the operators' port, if there is one, is open before and after."""
        async with self._admin as self._admin_server:
            await super().serve(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """uvicorn's would raise the signal again after the end, which makes an orderly end look like a death."""
        if self.force_exit and time.monotonic() - self._forced_at > FORCE_SECONDS:  # even the loop does not answer
            os._exit(1)
        if sig != signal.SIGTERM:  # somebody at a terminal waits for it
            self._drain_seconds = min(self._drain_seconds, TERMINAL_DRAIN_SECONDS)
        if self.should_exit and not self.force_exit:
            self.force_exit = True
            self._forced_at = time.monotonic()
            if self._admin_server is not None:
                self._admin_server.force_exit = True
        self.should_exit = True
        self._hub.is_draining = True  # now, not when the loop next looks: no load balancer is to send anybody here

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, but a socket does not listen before the application is ready. After a signal none ever does."""
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            sys.exit(STARTUP_FAILURE)
        self.servers = []
        self.started = True
        if self.should_exit:
            return
        try:
            for listener in sockets or ():
                await self._answer(listener)
        except CannotListen:
            await self.lifespan.shutdown()
            raise
        self._systemd.tell("READY=1")
        self._watchdog = asyncio.create_task(self._systemd.feed_watchdog())

    async def _answer(self, listener: socket.socket) -> None:
        def protocol() -> asyncio.Protocol:
            kind: Any = self.config.http_protocol_class
            made: asyncio.Protocol = kind(
                config=self.config, server_state=self.server_state, app_state=self.lifespan.state
            )
            return made

        listen(listener)  # not the loop: uvloop would not raise what goes wrong
        self.servers.append(await asyncio.get_running_loop().create_server(protocol, sock=listener, backlog=BACKLOG))
        where = address(listener)
        logger.info("Listening: ws://%s/ws for clients, http://%s/ for people", where, where)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain while the socket is open and all is served; then let uvicorn end the rest, which it does at once."""
        bound_seconds = longest_seconds(self._drain_seconds) + END_SECONDS
        self._systemd.tell("STOPPING=1", f"EXTEND_TIMEOUT_USEC={round(bound_seconds * 1_000_000)}")
        await Drain(self._hub, seconds=self._drain_seconds, is_cut_short=lambda: self.force_exit).run()
        await super().shutdown(sockets)
        if self.force_exit:  # uvicorn leaves this out then, and its task would die with a traceback
            await self.lifespan.shutdown()
        if self._watchdog is not None:
            self._watchdog.cancel()


class AdminServer(BoundedServer):
    """uvicorn's, without signals: those are the replica's business."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def admin_port(app: Any, settings: Settings, listener: socket.socket) -> AsyncIterator[BoundedServer]:
    """Answer there for as long as the context lasts: from before the replica serves until it has drained, so that
    the last scrape sees the drain."""
    http, _ = protocols_for(settings, app.state.hub.counters)
    config = uvicorn.Config(
        app,
        http=http,
        ws="none",
        lifespan="off",
        access_log=False,
        server_header=False,
        log_config=None,
        log_level="error",  # as of the server of the clients
    )
    listen(listener, "admin-")
    server = AdminServer(config, ADMIN_SECONDS)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    logger.info("Listening: http://%s/ for operators", address(listener))
    try:
        yield server
    finally:
        server.should_exit = True
        await serving


def _raise_descriptor_limit(connections: int) -> None:
    """A connection is a descriptor; above the limit the kernel would hold connections that nobody answers."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < connections + SPARE_DESCRIPTORS:
        logger.warning("This process may open %d files, too few for %d connections: raise nofile", hard, connections)


def serve(settings: Settings, listener: socket.socket, admin_listener: socket.socket | None = None) -> None:
    """Serve until a signal; with a second listener, operators there."""
    app = create_app(settings)
    http, websocket = protocols_for(settings, app.state.hub.counters)
    config = uvicorn.Config(
        app,
        http=http,
        ws=websocket,
        ws_ping_interval=None,  # gateway.keepalive
        ws_per_message_deflate=False,  # a frame is built once for everybody
        ws_max_size=settings.max_message_bytes,
        backlog=BACKLOG,
        lifespan="on",
        access_log=False,
        server_header=False,
        log_config=None,
        log_level="error",  # its warnings are about requests, which any client can send without end
    )
    _raise_descriptor_limit(settings.max_connections)
    # What was made until now stays: the collector need not look at it again. Later it looks less often than by default,
    # since every event replaces an older one: garbage that reference counts do not free hardly exists.
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    admin = None if admin_listener is None else admin_port(app.state.admin, settings, admin_listener)
    server = Server(config, app.state.hub, admin)
    # Not only once the loop runs, as uvicorn does; and SIGHUP, too: the terminal was closed.
    on_ending_signals(server.handle_exit)
    server.run(sockets=[listener])
    logger.info("Ended in order")
