"""Which pages may connect. A browser lets any page open a WebSocket to any host, but sends the page's Origin."""

import re
from collections.abc import Collection

from gateway.http.hosts import ANY, DEFAULT_PORTS, LONGEST_SHOWN, MAX_PORT, Host, is_loopback, read_host, read_origin

# As browsers send it: ASCII, no path, no default port.
_ORIGIN = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:(?P<port>[1-9]\d{0,4}))?")


def check_origin(origin: str) -> str:
    """Return `origin`, in lower case, if a browser may send it or it is `*`; raises `ValueError` otherwise."""
    match = _ORIGIN.fullmatch(origin)
    port = int(match["port"] or 0) if match else 0
    is_default = match is not None and port != 0 and port == DEFAULT_PORTS.get(match["scheme"])
    if origin != ANY and (match is None or is_default or port > MAX_PORT):
        raise ValueError(
            f"{origin[:LONGEST_SHOWN]!r} is not a valid origin; write scheme://host or scheme://host:port, such as "
            "https://app.example.com, without path and default port, or * for all"
        )
    return origin


def is_allowed(origin: str | None, host: str | None, allowed: Collection[str], *, scheme: str | None = None) -> bool:
    """True if a page of `origin` may connect to a gateway that was addressed as `host` (the Host header).

    Clients that send no Origin are not browsers and may connect. So may the origins in `allowed` (`*`: all) and the
    gateway's own origin. Where `allowed` is empty, loopback pages may connect to a loopback `host`. `scheme` is that of
    the page's request, `http` or `https`, where it is known (`scheme_of`).
    """
    if origin is None or ANY in allowed or origin.lower() in allowed:
        return True
    page, own = read_origin(origin), read_host(host or "")
    if page is None or own is None:
        return False
    if not allowed and is_loopback(page[1].name) and is_loopback(own.name):
        return True
    return _is_own(page, own, scheme)


def _is_own(page: tuple[str, Host], own: Host, scheme: str | None) -> bool:
    page_scheme, (name, port) = page
    if page_scheme not in DEFAULT_PORTS or name != own.name:
        return False
    if scheme is None and own.port is None:
        # Nothing says whether a proxy took TLS off. Both schemes' default ports look like this, so both pass.
        scheme = page_scheme
    elif scheme is None:
        scheme = "https" if own.port == DEFAULT_PORTS["https"] else "http"
    default = DEFAULT_PORTS[scheme]
    return page_scheme == scheme and (port or default) == (own.port or default)


def scheme_of(transport: str, forwarded: str | None) -> str | None:
    """The scheme that the page's browser used: `http`, `https`, or None if it cannot be told.

    `transport` is the scheme of this connection, `forwarded` the X-Forwarded-Proto header. No page can set that header
    on a handshake, so it needs no trust. The first value is the browser's.
    """
    said = {"ws": "http", "wss": "https"}
    first = (forwarded or "").partition(",")[0].strip().lower()
    first = said.get(first, first)
    if first in DEFAULT_PORTS:
        return first
    return "https" if transport in ("https", "wss") else None
