"""The ASGI application of a replica: `/ws`, publishing, health, metrics and the dashboard."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from gateway.asgi_connection import AsgiConnection
from gateway.connection import Connection
from gateway.feed.interfaces import FeedState
from gateway.feed.kinds import feed_for
from gateway.http_publishing import Post, Publishing
from gateway.hub import Hub
from gateway.keepalive import Keepalive, watch_loop
from gateway.metrics import Exposition, registry
from gateway.origins import is_allowed
from gateway.session import Session
from gateway.settings import Settings
from publisher.settings import DEFAULT_REDIS_URL

# The ASGI extension by which gateway.protocols hands a connection over: a function that returns a `Connection`.
HAND_OVER = "progress_gateway.hand_over"

STATIC = Path(str(files("gateway").joinpath("static")))
OPENAPI = Path(str(files("gateway").joinpath("openapi.json")))

# Browsers ask for the dashboard's files again after a deploy. The dashboard may run only its own script and style, and
# may connect only to gateways.
STATIC_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' ws: wss:; "
    "img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def create_app(settings: Settings | None = None) -> Starlette:
    """Return a replica as an ASGI application, for any ASGI server; `gateway.server` runs it best.

    `app.state.hub` is its hub. With an admin port, `app.state.admin` is the application for that port, else None.
    """
    settings = settings or Settings()
    replica = Replica(settings)
    health = [Route("/healthz", replica.healthz), Route("/readyz", replica.readyz)]
    operators = [Route("/metrics", replica.metrics)]
    if replica.publishing is not None:
        operators.append(Route("/projects/{project_id}/events", PublishEndpoint(replica.publishing)))
        operators.append(Route("/openapi.json", replica.openapi))
    has_admin_port = settings.admin_port is not None
    app = Starlette(
        routes=[
            WebSocketRoute("/ws", replica.websocket),
            Route("/", replica.dashboard),
            Mount("/static", DashboardFiles(directory=STATIC)),
            *health,
            *([] if has_admin_port else operators),
        ],
        lifespan=replica.lifespan,
    )
    app.state.hub = replica.hub
    app.state.admin = None
    if has_admin_port:
        app.state.admin = Starlette(routes=[*health, *operators])
        app.state.admin.state.hub = replica.hub
    return app


class Replica:
    """A replica's parts, and a method for each endpoint. Lives as long as its applications; used by one event loop."""

    def __init__(self, settings: Settings) -> None:
        redis_url, replica_id = settings.redis_url or DEFAULT_REDIS_URL, secrets.token_hex(8)
        self.hub = Hub(
            settings, lambda hub: feed_for(redis_url, hub, replica_id=replica_id, namespace=settings.namespace)
        )
        self.publishing = Publishing(settings, lambda: self.hub.is_draining) if settings.publish_keys else None
        self._exposition = Exposition(registry(self.hub, self.publishing))

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Run the feed and the periodic checks; begin to serve once Redis is here, or its time is up.

        A replica that is still without Redis serves, too: its clients are told `stale`. The command line decides
        whether it starts at all. A signal ends the wait.
        """
        hub = self.hub
        forever = (hub.feed.run(), Keepalive(hub).run(), watch_loop(hub.counters.loop_lag))
        tasks = [asyncio.create_task(work) for work in forever]
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(hub.settings.redis_wait_seconds):
                    while hub.feed.state is not FeedState.LIVE and not hub.is_draining:
                        await asyncio.sleep(0.01)
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def websocket(self, websocket: WebSocket) -> None:
        if (refusal := self._refusal(websocket)) is not None:
            await websocket.send_denial_response(refusal)
            return
        await websocket.accept()
        settings = self.hub.settings
        limits = {"max_bytes": settings.max_message_bytes, "buffer_bytes": settings.buffer_bytes}
        take = _hand_over(websocket.scope)
        if take is not None:
            connection = take(**limits)
            connection.start(Session(self.hub, connection))
        else:
            asgi_connection = AsgiConnection(websocket, **limits)
            await asgi_connection.run(Session(self.hub, asgi_connection))

    def _refusal(self, websocket: WebSocket) -> Response | None:
        """Why this upgrade is refused, or None. A page's script cannot read the reason; an operator's tools can."""
        hub, refused = self.hub, self.hub.counters.refused
        if hub.is_draining:
            refused["draining"] += 1
            return PlainTextResponse("This replica is shutting down; retry.\n", 503)
        if len(hub.viewers) >= hub.settings.max_connections:
            refused["full"] += 1
            return PlainTextResponse("This replica is full; retry later.\n", 503, {"Retry-After": "5"})
        origin = websocket.headers.get("origin")
        if not is_allowed(origin, websocket.headers.get("host"), hub.settings.origins):
            refused["origin"] += 1
            return PlainTextResponse("Pages of this origin may not connect; add it to GATEWAY_ORIGINS.\n", 403)
        return None

    async def healthz(self, request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(self, request: Request) -> Response:
        hub = self.hub
        status = {
            "ready": hub.is_ready,
            "draining": hub.is_draining,
            "redis": hub.feed.state.value,
            "clients": len(hub.viewers),
        }
        if (trouble := hub.feed.trouble) is not None:
            status |= {name: text for name, text in trouble._asdict().items() if text}
        if lost_seconds := hub.feed.lost_seconds:
            lost_at = datetime.now(UTC) - timedelta(seconds=lost_seconds)
            status["lostAt"] = lost_at.isoformat(timespec="seconds")
        return JSONResponse(status, 200 if hub.is_ready else 503, {"Cache-Control": "no-store"})

    async def metrics(self, request: Request) -> Response:
        return Response(self._exposition.text(), media_type=CONTENT_TYPE_LATEST)

    async def openapi(self, request: Request) -> Response:
        return FileResponse(OPENAPI, media_type="application/json")

    async def dashboard(self, request: Request) -> Response:
        return FileResponse(STATIC / "index.html", headers=STATIC_HEADERS)


class PublishEndpoint:
    """Publishing as an ASGI application: Starlette does not check methods for it, so we answer 405 ourselves."""

    def __init__(self, publishing: Publishing) -> None:
        self._publishing = publishing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        post = Post(
            method=request.method,
            project_id=request.path_params["project_id"],
            authorization=request.headers.getlist("authorization"),
            content_length=request.headers.get("content-length"),
            body=request.stream(),
        )
        try:
            answer = await self._publishing.answer(post)
        except ClientDisconnect:  # before the whole body was read: nothing was sent, and nobody waits for an answer
            return
        response = Response(answer.body, answer.status, answer.headers, media_type="application/json")
        await response(scope, receive, send)


class DashboardFiles(StaticFiles):
    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers.update(STATIC_HEADERS)
        return response


def _hand_over(scope: Scope) -> Callable[..., Connection] | None:
    return cast(Callable[..., Connection] | None, scope.get("extensions", {}).get(HAND_OVER, {}).get("take"))
