"""Runs a replica: uvicorn with our protocols, signals, and an orderly shutdown."""

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
from gateway.clients.connection import CLOSE_SECONDS
from gateway.clients.drain import Drain, longest_seconds
from gateway.clients.transports import SPARE_TRANSPORTS, Transports
from gateway.http.opening import openings_for
from gateway.http.protocols import protocols_for
from gateway.operations.ports import BACKLOG, CannotListen, address, listen
from gateway.operations.reload import Reload
from gateway.operations.signals import early_hangups, on_ending_signals
from gateway.operations.systemd import Systemd
from gateway.operations.tls import Certificate
from gateway.projects.hub import Hub
from gateway.settings import Settings

logger = logging.getLogger("gateway")

TERMINAL_DRAIN_SECONDS = 1.0  # longest drain after a signal that a person at a terminal sends
FORCE_SECONDS = 0.5  # after the second signal; if a third one comes later than that, it ends the process at once
TICK_SECONDS = 0.05
ANSWER_SECONDS = 0.2  # for a cancelled request to be answered with 503 by gateway.http.publishing
ADMIN_SECONDS = 1  # for requests on the admin port that are in progress at shutdown
HTTP_SECONDS = 2  # for requests that are in progress after the drain
END_SECONDS = HTTP_SECONDS + ADMIN_SECONDS + 2.0  # after the drain: both ports, one after the other, and leaving Redis

SPARE_DESCRIPTORS = 64  # for Redis, the listening sockets, files


def serve(
    settings: Settings,
    listener: socket.socket,
    admin_listener: socket.socket | None = None,
    *,
    ends_on_hangup: bool = False,
) -> None:
    """Serve clients on `listener`, and operators on `admin_listener` if given, until a signal.

    SIGHUP makes it read its files again, or ends it like SIGINT.
    """
    app = create_app(settings)
    hub: Hub = app.state.hub
    most = settings.max_connections + SPARE_TRANSPORTS
    http, websocket = openings_for(settings, hub.counters, Transports(most, hub.counters))
    config = _config(
        app,
        http=http,
        ws=websocket,
        ws_ping_interval=None,  # gateway.clients.keepalive pings
        ws_per_message_deflate=False,  # a frame is built once for all clients
        ws_max_size=settings.max_message_bytes,
        backlog=BACKLOG,
        lifespan="on",
    )
    admin = None
    if admin_listener is not None:
        admin_http, _ = protocols_for(settings, hub.counters, Transports(SPARE_TRANSPORTS, hub.counters))
        admin = admin_port(_config(app.state.admin, http=admin_http, ws="none", lifespan="off"), admin_listener)
    server = Server(config, hub, app.state.reload, admin, app.state.certificate)
    _raise_descriptor_limit(most)
    _tune_garbage_collection()
    # uvicorn handles signals only once its loop runs, and not SIGHUP.
    on_ending_signals(server.handle_exit, None if ends_on_hangup else server.handle_hangup)
    server.run(sockets=[listener])
    logger.info("Ended in order")


def _config(app: Any, **options: Any) -> uvicorn.Config:
    """Log only uvicorn's errors: its warnings are about requests, and any client can cause them without end."""
    # Without uvicorn's own proxy headers: whom a header may speak for is GATEWAY_TRUSTED_PROXIES' to say.
    return uvicorn.Config(
        app, access_log=False, server_header=False, proxy_headers=False, log_config=None, log_level="error", **options
    )


def _raise_descriptor_limit(connections: int) -> None:
    """Each connection needs a descriptor. Beyond the limit the kernel would hold connections that nobody answers."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < connections + SPARE_DESCRIPTORS:
        logger.warning("This process may open %d files, too few for %d connections: raise nofile", hard, connections)


def _tune_garbage_collection() -> None:
    """Never collect objects that exist now, and collect the others a few at a time: everybody waits meanwhile.

    Reference counts free almost all garbage. A collection looks at the 1,000 newest containers, every second one at
    2,000: 0.4 ms at most (bench/README.md). A full one looks at all, 5 ms for each 1,000 connections, so it comes after
    some 8 million.
    """
    gc.freeze()
    gc.set_threshold(1_000, 1, 4_000)


class BoundedServer(uvicorn.Server):
    """uvicorn's server, but its wait for requests at the end is bounded and `force_exit` cuts it short."""

    def __init__(self, config: uvicorn.Config, end_seconds: float) -> None:
        super().__init__(config)
        self._end_seconds = end_seconds

    async def _wait_tasks_to_complete(self) -> None:
        """Replaces uvicorn's, which logs an error when it gives up and does not look at `force_exit` here."""
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
    """The server of the clients. A signal ends it in order, with status 0; a second signal ends it at once.

    Its life: `serve` opens the admin port, then `startup`, the main loop, `shutdown`. `handle_exit` may run between any
    two bytecodes of these.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        hub: Hub,
        reload: Reload,
        admin: AbstractAsyncContextManager[BoundedServer] | None = None,
        certificate: Certificate | None = None,
    ) -> None:
        super().__init__(config, HTTP_SECONDS)
        self._hub = hub
        self._reload = reload
        self._tls: dict[str, Any] = {}
        """How the port speaks TLS; empty: it does not."""
        if certificate is not None:
            self._tls = {
                "ssl": certificate.context,
                "ssl_handshake_timeout": hub.settings.request_seconds,
                "ssl_shutdown_timeout": CLOSE_SECONDS,
            }
        self._is_reload_due = bool(early_hangups)  # set by SIGHUP
        self._reloading: asyncio.Task[None] | None = None
        self._admin = admin or nullcontext()
        self._admin_server: uvicorn.Server | None = None  # while the admin port is open
        self._drain_seconds = hub.settings.drain_seconds
        self._lame_duck_seconds = hub.settings.lame_duck_seconds
        self._forced_at = 0.0  # when the second signal came, by the monotonic clock
        self._systemd = Systemd()
        self._watchdog: asyncio.Task[None] | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Replaces uvicorn's, which raises the signal again at the end, so that an orderly end looks like a crash."""
        if self.force_exit and time.monotonic() - self._forced_at > FORCE_SECONDS:  # even the loop hangs
            os._exit(1)
        if sig != signal.SIGTERM:
            self._drain_seconds = min(self._drain_seconds, TERMINAL_DRAIN_SECONDS)
            self._lame_duck_seconds = 0.0
        if self.should_exit and not self.force_exit:
            self.force_exit = True
            self._forced_at = time.monotonic()
            if self._admin_server is not None:
                self._admin_server.force_exit = True
        is_first, self.should_exit = not self.should_exit, True
        # Before `is_draining`, so that no handshake falls between the two.
        self._hub.lame_duck_until = time.monotonic() + self._lame_duck_seconds if is_first else 0.0
        self._hub.is_draining = True  # now, not at the loop's next look: load balancers must stop sending clients

    def handle_hangup(self, sig: int, frame: FrameType | None) -> None:
        self._is_reload_due = True  # the next tick sees it: the handler may run between any two bytecodes of a callback

    async def on_tick(self, counter: int) -> bool:
        """uvicorn calls it ten times a second."""
        if self._is_reload_due and (self._reloading is None or self._reloading.done()):
            self._is_reload_due = False
            self._reloading = asyncio.create_task(self._read_again())
        return await super().on_tick(counter)

    async def _read_again(self) -> None:
        """Read the files again, and tell systemd, so that `systemctl reload` waits for it."""
        self._systemd.tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1_000}")
        try:
            await self._reload.run()
        except Exception:
            logger.exception("SIGHUP: not everything was read again")
        self._systemd.tell("READY=1")

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """The admin port, if there is one, opens first and closes last."""
        async with self._admin as self._admin_server:
            await super().serve(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Replaces uvicorn's: listen once the application is ready, and not at all after a signal."""
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            sys.exit(STARTUP_FAILURE)
        self.servers = []
        self.started = True
        if self.should_exit:
            self._hub.lame_duck_until = 0.0  # nobody can come
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

        listen(listener)  # ourselves: uvloop's create_server hides errors of listen()
        self.servers.append(
            await asyncio.get_running_loop().create_server(protocol, sock=listener, backlog=BACKLOG, **self._tls)
        )
        where, s = address(listener), "s" if self._tls else ""
        logger.info("Listening: ws%s://%s/ws for clients, http%s://%s/ for people", s, where, s, where)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain while everything is still served; then uvicorn closes the sockets and ends what is left."""
        bound_seconds = self._lame_duck_seconds + longest_seconds(self._drain_seconds) + END_SECONDS
        self._systemd.tell("STOPPING=1", f"EXTEND_TIMEOUT_USEC={round(bound_seconds * 1_000_000)}")
        await Drain(self._hub, seconds=self._drain_seconds, is_cut_short=lambda: self.force_exit).run()
        await super().shutdown(sockets)
        if self.force_exit:  # uvicorn skips this then, and the lifespan task would end with a traceback
            await self.lifespan.shutdown()
        if self._watchdog is not None:
            self._watchdog.cancel()


class AdminServer(BoundedServer):
    """The server of the admin port; `Server` handles the signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def admin_port(config: uvicorn.Config, listener: socket.socket) -> AsyncIterator[BoundedServer]:
    """Serve operators while the context lasts: from before the start until after the drain, for a last scrape."""
    listen(listener, "admin-")
    server = AdminServer(config, ADMIN_SECONDS)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    logger.info("Listening: http://%s/ for operators", address(listener))
    try:
        yield server
    finally:
        server.should_exit = True
        await serving
