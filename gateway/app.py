"""The ASGI application of a replica: `/ws`, publishing, health, metrics and the dashboard."""

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketState

from gateway.auth.authority import authority_for
from gateway.auth.restorer import Restorer
from gateway.clients.allowance import Limits
from gateway.clients.asgi_connection import AsgiConnection
from gateway.clients.connection import Connection
from gateway.clients.keepalive import Keepalive, watch_loop
from gateway.clients.session import Session, close_of
from gateway.feed.interfaces import FeedState
from gateway.feed.kinds import feed_for
from gateway.http.addresses import Addresses
from gateway.http.admin import ADMIN, Admin
from gateway.http.admission import admit
from gateway.http.front import Answer, Endpoint, Front, deny, headers_of, is_from_this_machine, text
from gateway.http.handshake import HAND_OVER
from gateway.http.hosts import Hosts
from gateway.http.origins import is_allowed, scheme_of
from gateway.http.pages import OPENAPI, Page, dashboard
from gateway.http.publishing import Post, Publishing
from gateway.operations.metrics import Exposition, registry
from gateway.operations.reload import Part, Reload, keys_from, log_level
from gateway.operations.tls import Certificate
from gateway.projects.hub import Hub
from gateway.settings import Settings
from publisher.settings import DEFAULT_REDIS_URL

PROJECTS, VIEWERS = "/projects/", "/viewers/"


def create_app(settings: Settings | None = None) -> Starlette:
    """Return a replica as an ASGI application, for any ASGI server; `gateway.server` runs it best.

    `app.state.hub` is its hub. With an admin port, `app.state.admin` is the application for that port, else None.
    `app.state.reload.run()` reads keys and the log level from their files again.
    """
    settings = settings or Settings()
    replica = Replica(settings)
    of_clients: dict[str, Endpoint] = {**dashboard(), "/healthz": replica.healthz, "/readyz": replica.readyz}
    of_operators: dict[str, Endpoint] = {"/metrics": replica.metrics}
    publishing: list[BaseRoute] = []
    if replica.publishing is not None or settings.admin_port is not None:
        of_operators["/openapi.json"] = Page(OPENAPI)
    if replica.publishing is not None:
        publishing.append(Route(f"{PROJECTS}{{project_id}}/events", PublishEndpoint(replica.publishing)))
        publishing.append(Route(f"{VIEWERS}{{sub:path}}/revoke", RevokeEndpoint(replica.publishing)))
    if settings.admin_port is None:
        endpoints = of_clients | of_operators | {"/readyz": replica.readyz_by_peer}
        return _application(replica, settings.host, endpoints, publishing, is_clients=True)
    app = _application(replica, settings.host, of_clients, [], is_clients=True)
    endpoints = of_operators | {"/healthz": replica.healthz, "/readyz": replica.readyz_in_full}
    admin = {ADMIN: replica.admin.answer}
    app.state.admin = _application(replica, settings.admin_host or settings.host, endpoints, publishing, subtrees=admin)
    return app


def _application(
    replica: "Replica",
    listens_on: str,
    endpoints: Mapping[str, Endpoint],
    routes: Sequence[BaseRoute],
    *,
    subtrees: Mapping[str, Endpoint] | None = None,
    is_clients: bool = False,
) -> Starlette:
    """`is_clients`: the application of the clients' port, with `/ws`; its life is the replica's."""
    settings = replica.hub.settings
    front = Middleware(
        Front,
        hosts=Hosts(listens_on, settings.hosts, settings.origins),
        counters=replica.hub.counters,
        endpoints=endpoints,
        passed_on=[PROJECTS, VIEWERS] if routes else [],
        websocket=replica.websocket if is_clients else None,
        subtrees=subtrees,
    )
    app = Starlette(routes=routes, middleware=[front], lifespan=replica.lifespan if is_clients else None)
    app.router.redirect_slashes = False
    app.state.hub, app.state.admin, app.state.reload = replica.hub, None, replica.reload
    app.state.certificate = replica.certificate
    return app


class Replica:
    """A replica's parts, and a method for each endpoint. Lives as long as its applications; used by one event loop."""

    def __init__(self, settings: Settings) -> None:
        redis_url, replica_id = settings.redis_url or DEFAULT_REDIS_URL, secrets.token_hex(8)
        authority = authority_for(settings)
        self.hub = Hub(
            settings,
            lambda hub: feed_for(redis_url, hub, replica_id=replica_id, namespace=settings.namespace),
            authority,
        )
        takes_events = bool(settings.publish_keys) or authority is not None
        self.publishing = Publishing(settings, self._refuses_events, authority) if takes_events else None
        self.admin = Admin(self.hub)
        self.certificate = certificate_of(settings)
        self.reload = Reload([*self._reloadable()])
        self._limits = Limits(settings.max_message_bytes, settings.message_rate, settings.message_burst)
        self._addresses = Addresses(settings.max_connections_per_address, settings.trusted_proxies)
        self._exposition = Exposition(registry(self.hub, self.publishing, self.certificate))

    def _reloadable(self) -> Iterator[Part]:
        settings, publishing, authority = self.hub.settings, self.publishing, self.hub.authority
        yield from log_level(settings)
        yield from keys_from("GATEWAY_ADMIN_KEYS_FILE", settings.admin_keys_file, self.admin.replace_keys, "admin keys")
        if publishing is not None:
            replace = publishing.posters.replace_keys
            yield from keys_from("GATEWAY_PUBLISH_KEYS_FILE", settings.publish_keys_file, replace, "publish keys")
        if self.certificate is not None:
            yield Part("The certificate", self.certificate.read_again)
        if authority is not None:
            yield Part("Keys for tokens", authority.read_again)

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Run the feed and the periodic checks; begin to serve once Redis is here, or its time is up.

        A replica that is still without Redis serves, too: its clients are told `stale`. The command line decides
        whether it starts at all. A signal ends the wait.
        """
        hub = self.hub
        forever = [hub.feed.run(), Keepalive(hub).run(), watch_loop(hub.counters.loop_lag)]
        if hub.authority is not None:
            hub.watch_revocations()
            restorer = Restorer(hub.settings)
            hub.authority.restore = restorer.restore
            forever += [hub.authority.run(), restorer.run()]
        tasks = [asyncio.create_task(work) for work in forever]
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(hub.settings.redis_wait_seconds):
                    while not self._has_begun and not hub.is_draining:
                        await asyncio.sleep(0.01)
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def _has_begun(self) -> bool:
        """Whether events arrive, and the keys of a JWKS are known."""
        authority = self.hub.authority
        return self.hub.feed.state is FeedState.LIVE and (authority is None or authority.has_keys)

    def _refuses_events(self) -> bool:
        return not self.hub.takes_newcomers

    async def websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The endpoint `/ws`, as an ASGI application."""
        address = self._address_of(scope)
        if (refusal := self._refusal(scope, address)) is not None:
            await deny(refusal, scope, send)
            return
        self._addresses.enter(address)  # no `await` since the check: others cannot take the place meanwhile
        leave = partial(self._addresses.leave, address)
        try:
            admission = await admit(self.hub, scope)
            if admission.answer is not None:
                await deny(admission.answer, scope, send)
                leave()
                return
            await receive()  # "websocket.connect"
            await send({"type": "websocket.accept"})
        except BaseException:
            leave()
            raise
        buffer_bytes = self.hub.settings.buffer_bytes
        if (take := _hand_over(scope)) is not None:
            connection = take(
                limits=self._limits, buffer_bytes=buffer_bytes, on_lost=None if address is None else leave
            )
            if admission.refusal is None:
                connection.start(Session(self.hub, connection, admission.grant, address=self._told_by_proxy(scope)))
            else:
                connection.close(*close_of(admission.refusal))
            return
        websocket = WebSocket(scope, receive, send)
        websocket.client_state = websocket.application_state = WebSocketState.CONNECTED
        try:
            if admission.refusal is None:
                asgi_connection = AsgiConnection(websocket, limits=self._limits, buffer_bytes=buffer_bytes)
                session = Session(self.hub, asgi_connection, admission.grant, address=self._told_by_proxy(scope))
                await asgi_connection.run(session)
            else:
                await websocket.close(*close_of(admission.refusal))
        finally:
            leave()

    def _address_of(self, scope: Scope) -> str | None:
        """What the limit of an address counts this client as; None: it has no limit."""
        if not self.hub.settings.max_connections_per_address:
            return None
        client = scope.get("client")
        return self._addresses.key_of(
            client[0] if client else None, headers_of(scope, b"x-forwarded-for"), headers_of(scope, b"forwarded")
        )

    def _told_by_proxy(self, scope: Scope) -> str | None:
        """The client's address for operators; None: the socket tells it, and no connection need remember it."""
        if not self.hub.settings.trusted_proxies or (client := scope.get("client")) is None:
            return None
        forwarded_for, forwarded = headers_of(scope, b"x-forwarded-for"), headers_of(scope, b"forwarded")
        if not forwarded_for and not forwarded:
            return None
        return str(self._addresses.client_of(client[0], forwarded_for, forwarded))

    def _refusal(self, scope: Scope, address: str | None) -> Answer | None:
        hub, refused = self.hub, self.hub.counters.refused
        if not hub.takes_newcomers:
            refused["draining"] += 1
            return text(503, "This replica is shutting down; retry.")
        if len(hub.viewers) >= hub.settings.max_connections:
            refused["full"] += 1
            return text(503, "This replica is full; retry later.", (b"retry-after", b"5"))
        if not self._is_page_allowed(scope):
            refused["origin"] += 1
            return text(403, "Pages of this origin may not connect; add it to GATEWAY_ORIGINS.")
        if self._addresses.is_full(address):
            refused["address"] += 1
            return text(429, "Too many connections from this address; close some first.", (b"retry-after", b"30"))
        return None

    def _is_page_allowed(self, scope: Scope) -> bool:
        origin, host = headers_of(scope, b"origin"), headers_of(scope, b"host")
        if not origin:
            return True
        forwarded = headers_of(scope, b"x-forwarded-proto")
        scheme = scheme_of(scope["scheme"], forwarded[0] if forwarded else None)
        return is_allowed(", ".join(origin), host[0], self.hub.settings.origins, scheme=scheme)

    def healthz(self, scope: Scope) -> Answer:
        return text(200, "ok")

    def readyz(self, scope: Scope) -> Answer:
        """What strangers are told."""
        return self._readiness({"ready": self.hub.is_ready, "draining": self.hub.is_draining})

    def readyz_in_full(self, scope: Scope) -> Answer:
        """What operators are told: also what is wrong with Redis, and what to do."""
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
        return self._readiness(status)

    def readyz_by_peer(self, scope: Scope) -> Answer:
        """Without an admin port, this machine's own people and programs are the operators."""
        return self.readyz_in_full(scope) if is_from_this_machine(scope) else self.readyz(scope)

    def _readiness(self, status: Mapping[str, object]) -> Answer:
        headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
        body = json.dumps(status, ensure_ascii=False, separators=(",", ":")).encode()
        return Answer(200 if self.hub.is_ready else 503, headers, body)

    def metrics(self, scope: Scope) -> Answer:
        return Answer(200, [(b"content-type", CONTENT_TYPE_LATEST.encode())], self._exposition.text())


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


class RevokeEndpoint:
    """Revocation as an ASGI application, as `PublishEndpoint`."""

    def __init__(self, publishing: Publishing) -> None:
        self._publishing = publishing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        authorization = request.headers.getlist("authorization")
        answer = await self._publishing.revoke(request.method, request.path_params["sub"], authorization)
        response = Response(answer.body, answer.status, answer.headers, media_type="application/json")
        await response(scope, receive, send)


def certificate_of(settings: Settings) -> Certificate | None:
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return Certificate(settings.tls_cert, settings.tls_key)


def _hand_over(scope: Scope) -> Callable[..., Connection] | None:
    extension: dict[str, Callable[..., Connection]] = scope.get("extensions", {}).get(HAND_OVER, {})
    return extension.get("take")
