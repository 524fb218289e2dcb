"""The ASGI application of a replica: the upgrade at `/ws`, publishing, health, metrics, the dashboard."""

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
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from gateway.asgi_connection import AsgiConnection
from gateway.connection import Connection
from gateway.feed.observer import FeedState
from gateway.hub import Hub
from gateway.keepalive import Keepalive, watch_loop
from gateway.metrics import Exposition, registry
from gateway.openapi import document
from gateway.origins import is_allowed
from gateway.publishing import Post, Publishing
from gateway.session import Session
from gateway.settings import Settings
from publisher.settings import DEFAULT_REDIS_URL

# The ASGI extension by which gateway.protocols hands a connection over: a function that returns a `Connection`.
HAND_OVER = "progress_gateway.hand_over"

STATIC = Path(str(files("gateway").joinpath("static")))

SECURITY_HEADERS = {
    # The dashboard runs its own script and style only, and talks to gateways only.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' ws: wss:; "
    "img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class DashboardFiles(StaticFiles):
    """Static files that a browser asks for again after a deploy."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers.update(SECURITY_HEADERS | {"Cache-Control": "no-cache"})
        return response


class PublishEndpoint:
    """Publishing behind ASGI. Every method comes here, so that each refusal has the same form."""

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
        except ClientDisconnect:  # before its body was here: nothing was sent, and nobody waits for an answer
            return
        response = Response(answer.body, answer.status, answer.headers, media_type="application/json")
        await response(scope, receive, send)


def create_app(settings: Settings | None = None) -> Starlette:
    """A replica as an ASGI application. `gateway.server` runs it best; any ASGI server runs it.

    With a port for operators, what they alone are to see is another application: `app.state.admin`.
    """
    settings = settings or Settings()
    hub = Hub(settings, settings.redis_url or DEFAULT_REDIS_URL, secrets.token_hex(8))
    publishing = Publishing(settings, lambda: hub.is_draining) if settings.publish_keys else None
    exposition = Exposition(registry(hub, publishing))

    async def websocket_endpoint(websocket: WebSocket) -> None:
        if (refusal := _refusal(websocket, hub)) is not None:
            await websocket.send_denial_response(refusal)
            return
        await websocket.accept()
        limits = {"max_bytes": settings.max_message_bytes, "buffer_bytes": settings.buffer_bytes}
        hand_over = _hand_over(websocket.scope)
        if hand_over is not None:
            connection = hand_over(**limits)
            connection.start(Session(hub, connection))
        else:
            asgi_connection = AsgiConnection(websocket, **limits)
            await asgi_connection.run(Session(hub, asgi_connection))

    async def healthz(request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(request: Request) -> Response:
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

    async def metrics_endpoint(request: Request) -> Response:
        return Response(exposition.text(), media_type=CONTENT_TYPE_LATEST)

    async def dashboard(request: Request) -> Response:
        return FileResponse(STATIC / "index.html", headers=SECURITY_HEADERS | {"Cache-Control": "no-cache"})

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        forever = (hub.feed.run(), Keepalive(hub).run(), watch_loop(hub.counters.loop_lag))
        tasks = [asyncio.create_task(work) for work in forever]
        try:
            # Events can be had from the first connection on; a Redis that is away does not keep the replica from
            # starting here (the command line decides that), its clients are told `stale`. A signal ends the wait.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(settings.redis_wait_seconds):
                    while hub.feed.state is not FeedState.LIVE and not hub.is_draining:
                        await asyncio.sleep(0.01)
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    health = [Route("/healthz", healthz), Route("/readyz", readyz)]
    operators = [Route("/metrics", metrics_endpoint), *([] if publishing is None else _publish_routes(publishing))]
    has_admin_port = settings.admin_port is not None
    app = Starlette(
        routes=[
            WebSocketRoute("/ws", websocket_endpoint),
            Route("/", dashboard),
            Mount("/static", DashboardFiles(directory=STATIC)),
            *health,
            *([] if has_admin_port else operators),
        ],
        lifespan=lifespan,
    )
    app.state.hub = hub
    app.state.admin = Starlette(routes=[*health, *operators]) if has_admin_port else None
    if has_admin_port:
        app.state.admin.state.hub = hub
    return app


def _publish_routes(publishing: Publishing) -> list[BaseRoute]:
    description = document()

    async def openapi(request: Request) -> Response:
        return Response(description, media_type="application/json")

    return [Route("/projects/{project_id}/events", PublishEndpoint(publishing)), Route("/openapi.json", openapi)]


def _refusal(websocket: WebSocket, hub: Hub) -> Response | None:
    """Why this upgrade is refused, or None. A script cannot see the reason, but an operator's tools can."""
    refused = hub.counters.refused
    if hub.is_draining:
        refused["draining"] += 1
        return PlainTextResponse("This replica is shutting down; try again, another will answer.\n", 503)
    if len(hub.viewers) >= hub.settings.max_connections:
        refused["full"] += 1
        return PlainTextResponse("This replica has as many connections as it takes.\n", 503, {"Retry-After": "5"})
    origin = websocket.headers.get("origin")
    if not is_allowed(origin, websocket.headers.get("host"), hub.settings.origins):
        refused["origin"] += 1
        return PlainTextResponse("Pages of this origin may not connect; GATEWAY_ORIGINS names those that may.\n", 403)
    return None


def _hand_over(scope: Scope) -> Callable[..., Connection] | None:
    return cast(Callable[..., Connection] | None, scope.get("extensions", {}).get(HAND_OVER, {}).get("take"))
