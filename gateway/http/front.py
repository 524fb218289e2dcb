"""What stands in front of the application: which hosts are answered, and all answers that need no waiting.

It is plain ASGI: a request for the dashboard or for health costs no router, no thread and no file.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, MutableMapping
from typing import Any, NamedTuple

from gateway.http.hosts import Hosts, is_loopback, read_host
from gateway.operations.counters import Counters

WEBSOCKET = "/ws"
# A proxy adds one of these. So a loopback peer that sends none is a person or a program of this machine.
_FORWARDING = {b"forwarded", b"via", b"x-real-ip"}
PROBES = frozenset({"/healthz", "/readyz", "/metrics"})

# ASGI's, without a framework.
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

RawHeaders = list[tuple[bytes, bytes]]

NOSNIFF = (b"x-content-type-options", b"nosniff")
_TEXT = (b"content-type", b"text/plain; charset=utf-8")


class Answer(NamedTuple):
    """A whole response, but for `NOSNIFF`, which all responses get."""

    status: int
    headers: RawHeaders
    body: bytes


def text(status: int, sentence: str, *headers: tuple[bytes, bytes]) -> Answer:
    return Answer(status, [_TEXT, *headers], f"{sentence}\n".encode())


Endpoint = Callable[[Scope], Answer]
"""Answers at once."""

NOT_FOUND = Answer(404, [_TEXT], b"Not Found")  # as the router's, so that nobody can tell what is switched off
_NOT_ALLOWED = text(405, "This is read-only; use GET.", (b"allow", b"GET, HEAD"))
_BAD_HOST = text(400, "A request must have one valid Host header.")
_WRONG_HOST = text(421, "This host name is not answered; add it to GATEWAY_HOSTS.")


class Front:
    """ASGI middleware, outside the router. Lives as long as its application, and has no state of its own."""

    def __init__(
        self,
        app: App,
        *,
        hosts: Hosts,
        counters: Counters,
        endpoints: Mapping[str, Endpoint],
        passed_on: Collection[str],
        websocket: App | None = None,
        subtrees: Mapping[str, Endpoint] | None = None,
    ) -> None:
        """`endpoints` are answered here, by path; `subtrees` too, by the beginning of the path, whatever the method.
        Paths that begin with one of `passed_on` go to `app`; handshakes at `/ws` go to `websocket` directly: the router
        would cost each a tenth. Others do not exist."""
        self._app = app
        self._websocket = websocket
        self._hosts = hosts
        self._refused = counters.refused
        self._endpoints = endpoints
        self._subtrees = dict(subtrees or {})
        self._passed_on = tuple(passed_on)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "http":
            answer = self._answer(scope)
            if answer is not None:
                await _send(answer, scope, send)
                return
            send = _with_nosniff(send)
        elif kind == "websocket":
            answer = self._refusal_of_handshake(scope)
            if answer is not None:
                await deny(answer, scope, send)
            elif self._websocket is not None:
                await self._websocket(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _answer(self, scope: Scope) -> Answer | None:
        """The answer to this request; None: the application has it."""
        path = path_of(scope)
        if (refusal := self._wrong_host(scope, is_probe=path in PROBES)) is not None:
            return refusal
        if (endpoint := self._endpoints.get(path)) is not None:
            return endpoint(scope) if scope["method"] in ("GET", "HEAD") else _NOT_ALLOWED
        for beginning, subtree in self._subtrees.items():
            if path.startswith(beginning):
                return subtree(scope)
        return None if path.startswith(self._passed_on) else NOT_FOUND

    def _refusal_of_handshake(self, scope: Scope) -> Answer | None:
        if (refusal := self._wrong_host(scope)) is not None:
            self._refused["host"] += 1
            return refusal
        if path_of(scope) != WEBSOCKET or self._websocket is None:
            self._refused["path"] += 1
            return NOT_FOUND
        return None

    def _wrong_host(self, scope: Scope, *, is_probe: bool = False) -> Answer | None:
        """HTTP/1.0 knows no `Host`, and load balancers check health in it. No browser speaks it, so it may pass."""
        named = headers_of(scope, b"host")
        if not named and scope.get("http_version") == "1.0":
            return None
        host = read_host(named[0]) if len(named) == 1 else None
        if host is None:
            return _BAD_HOST
        return None if self._hosts.answers(host.name, is_probe=is_probe) else _WRONG_HOST


def path_of(scope: Scope) -> str:
    """The path below the one at which this application is mounted."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def headers_of(scope: Scope, name: bytes) -> list[str]:
    """The value of each header of that name (in lower case)."""
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def is_from_this_machine(scope: Scope) -> bool:
    """Whether this request came from a process on this machine that is not a proxy."""
    client = scope.get("client")
    if client is None or not is_loopback(client[0]):
        return False
    return not any(name in _FORWARDING or name.startswith(b"x-forwarded-") for name, _ in scope["headers"])


async def _send(answer: Answer, scope: Scope, send: Send, prefix: str = "http.response") -> None:
    length = (b"content-length", str(len(answer.body)).encode())
    headers = [*answer.headers, NOSNIFF] if answer.status == 304 else [*answer.headers, length, NOSNIFF]
    await send({"type": f"{prefix}.start", "status": answer.status, "headers": headers})
    await send({"type": f"{prefix}.body", "body": b"" if scope.get("method") == "HEAD" else answer.body})


async def deny(answer: Answer, scope: Scope, send: Send) -> None:
    """Refuse a handshake. A page's script cannot read the reason; an operator's tools can."""
    if "websocket.http.response" in scope.get("extensions", {}):
        await _send(answer, scope, send, "websocket.http.response")
    else:
        await send({"type": "websocket.close"})  # the server answers 403


def _with_nosniff(send: Send) -> Send:
    async def send_with_nosniff(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), NOSNIFF]
        await send(message)

    return send_with_nosniff
