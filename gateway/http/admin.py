"""`/admin` on the operators' port: who is connected, what is watched, and closing a client."""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import parse_qsl

from gateway.codes import CloseCode
from gateway.http.bearers import matching
from gateway.http.front import NOT_FOUND, Answer, Scope, headers_of, is_from_this_machine, path_of, text
from gateway.http.hosts import is_address, is_loopback, read_host
from gateway.operations import listing
from gateway.operations.listing import DEFAULT_ROWS, MOST_ROWS
from gateway.projects.hub import Hub

logger = logging.getLogger("gateway.admin")

ADMIN = "/admin/"
_CLIENTS, _PROJECTS = "/admin/clients", "/admin/projects"

_ONE_CLIENT = text(405, "This takes DELETE only.", (b"allow", b"DELETE"))
_READ_ONLY = text(405, "This is read-only; use GET.", (b"allow", b"GET, HEAD"))
_GONE = text(404, "No client of this replica has this id; it may have left, or be on another replica.")
_CLOSED = Answer(204, [], b"")
_NO_KEYS = text(
    403, "This is answered to programs of this machine. For others set GATEWAY_ADMIN_KEYS, and send a key of it."
)
_WRONG_KEY = text(
    401,
    "This needs a key of GATEWAY_ADMIN_KEYS as `Authorization: Bearer <key>`, unless it is asked from this machine, "
    "by a loopback address and not through a proxy.",
    (b"www-authenticate", b"Bearer"),
)


class WrongQuery(Exception):
    """The message says which value is wrong, and what is expected."""


class Admin:
    """Lives as long as the replica; used by its event loop only."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._keys: list[bytes] = []
        self.replace_keys(key.get_secret_value() for key in hub.settings.admin_keys)

    def replace_keys(self, keys: Iterable[str]) -> None:
        """Let these keys count, and no others."""
        self._keys = [key.encode() for key in keys]

    def answer(self, scope: Scope) -> Answer:
        if (refusal := self._refusal(scope)) is not None:
            return refusal
        path, method = path_of(scope), scope["method"]
        if path.startswith(f"{_CLIENTS}/"):
            return self._close(path.removeprefix(f"{_CLIENTS}/")) if method == "DELETE" else _ONE_CLIENT
        if path not in (_CLIENTS, _PROJECTS):
            return NOT_FOUND
        if method not in ("GET", "HEAD"):
            return _READ_ONLY
        try:
            page = self._clients(scope) if path == _CLIENTS else self._projects(scope)
        except WrongQuery as wrong:
            return text(400, str(wrong))
        headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
        return Answer(200, headers, json.dumps(page, ensure_ascii=False, separators=(",", ":")).encode())

    def _refusal(self, scope: Scope) -> Answer | None:
        """A key that is given must be right, also from this machine."""
        authorization = headers_of(scope, b"authorization")
        if not authorization and is_local(scope):
            return None
        if matching(self._keys, authorization) is not None:
            return None
        return _WRONG_KEY if self._keys else _NO_KEYS

    def _clients(self, scope: Scope) -> listing.Page:
        after, limit = _page_of(scope)
        number = listing.number_of(after) if after else 0
        if number is None:
            raise WrongQuery("after: expected the clientId of a client, or `next` of the page before")
        return listing.clients(self._hub, after=number, limit=limit)

    def _projects(self, scope: Scope) -> listing.Page:
        after, limit = _page_of(scope)
        return listing.projects(self._hub, after=after, limit=limit)

    def _close(self, client_id: str) -> Answer:
        viewer = listing.client(self._hub, client_id)
        if viewer is None:
            return _GONE
        logger.info("Client %s: closed by an operator", viewer.client_id)
        viewer.connection.close(CloseCode.GOING_AWAY, "closed by an operator")
        return _CLOSED


def is_local(scope: Scope) -> bool:
    """Whether a person or a program of this machine asks.

    Not a proxy, which adds a header, passes on a name, or speaks HTTP/1.0 (as nginx did until version 1.29.7); and not
    a page in a browser, whose own name may lead here (DNS rebinding).
    """
    if not is_from_this_machine(scope) or scope.get("http_version") == "1.0" or headers_of(scope, b"origin"):
        return False
    hosts = list(map(read_host, headers_of(scope, b"host")))
    return all(host is not None and (is_loopback(host.name) or is_address(host.name)) for host in hosts)


def _page_of(scope: Scope) -> tuple[str, int]:
    """`after` and `limit`; raises `WrongQuery`."""
    query = _query_of(scope, ("after", "limit"))
    limit = query.get("limit", str(DEFAULT_ROWS))
    if not (limit.isascii() and limit.isdigit() and len(limit) <= 4 and 1 <= int(limit) <= MOST_ROWS):
        raise WrongQuery(f"limit: expected a whole number from 1 to {MOST_ROWS}")
    return query.get("after", ""), int(limit)


def _query_of(scope: Scope, known: Sequence[str]) -> Mapping[str, str]:
    try:
        pairs = parse_qsl(scope.get("query_string", b"").decode("ascii"), keep_blank_values=True, max_num_fields=8)
    except ValueError:
        raise WrongQuery("the query cannot be read; expected ?after=<id>&limit=<number>") from None
    found: dict[str, str] = {}
    for name, value in pairs:
        if name not in known:
            raise WrongQuery(f"{name[:40]!r} is not known; expected: {', '.join(known)}")
        if name in found:
            raise WrongQuery(f"{name}: given twice")
        found[name] = value
    return found
