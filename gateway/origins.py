"""Which pages may connect. A browser lets any page open a WebSocket to any host, but sends the page's Origin."""

import re
from collections.abc import Collection
from ipaddress import ip_address
from urllib.parse import urlsplit

from gateway.ports import MAX_PORT

LONGEST_SHOWN = 80  # characters of an invalid origin in an error

# As browsers send it: ASCII, no path, no default port.
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:(?P<port>[1-9]\d{0,4}))?")
_DEFAULT_PORTS = {"http": "80", "https": "443"}


def check_origin(origin: str) -> str:
    """Return `origin`, in lower case, if a browser may send it or it is `*`; raises `ValueError` otherwise."""
    match = _ORIGIN.fullmatch(origin)
    port = match["port"] if match else None
    is_default = port is not None and port == _DEFAULT_PORTS.get(origin.partition("://")[0])
    if origin != "*" and (match is None or is_default or int(port or 0) > MAX_PORT):
        raise ValueError(
            f"{origin[:LONGEST_SHOWN]!r} is not a valid origin; write scheme://host or scheme://host:port, such as "
            "https://app.example.com, without path and default port, or * for all"
        )
    return origin


def is_allowed(origin: str | None, host: str | None, allowed: Collection[str]) -> bool:
    """True if a page of `origin` may connect to a gateway that was addressed as `host` (the Host header).

    Clients that send no Origin are not browsers and may connect. So may pages of the gateway's own host, of loopback,
    and of the origins in `allowed` (`*`: all).
    """
    if origin is None or "*" in allowed or origin.lower() in allowed:
        return True
    name = _host_name(origin)
    return name is not None and (_is_loopback(name) or (host is not None and name == _host_name(f"//{host}")))


def _host_name(url: str) -> str | None:
    try:
        return urlsplit(url).hostname  # in lower case, without port and brackets
    except ValueError:
        return None


def _is_loopback(name: str) -> bool:
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")
