"""Which pages may connect: browsers let any page open a WebSocket to any host, and tell its origin."""

import re
from collections.abc import Collection
from ipaddress import ip_address
from urllib.parse import urlsplit

from gateway.ports import MOST_OF_A_PORT

LONGEST_SHOWN = 80  # characters of a wrong one

# As browsers send it: ASCII, no path, no port that its scheme has anyway.
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:(?P<port>[1-9]\d{0,4}))?")
_NEEDLESS = {"http": ":80", "https": ":443"}


def check_origin(origin: str) -> str:
    """Return `origin`, in lower case: one that a browser may send, or `*`. Raises `ValueError`."""
    scheme, _, place = origin.partition("://")
    is_needless = scheme in _NEEDLESS and place.endswith(_NEEDLESS[scheme]) and not place.endswith("]")
    match = _ORIGIN.fullmatch(origin)
    is_one = match is not None and int(match["port"] or 0) <= MOST_OF_A_PORT and not is_needless
    if origin != "*" and not is_one:
        raise ValueError(
            f"{origin[:LONGEST_SHOWN]!r} is no origin, as a browser sends it; write scheme://host or "
            "scheme://host:port, such as https://app.example.com: each host by itself, no path, no port that its "
            "scheme has anyway; or * for all"
        )
    return origin


def is_allowed(origin: str | None, host: str | None, allowed: Collection[str]) -> bool:
    """True if a page of `origin` may connect to a gateway that was addressed as `host` (the Host header).

    Clients that send no Origin are no browsers and pass; so do the gateway's own host, loopback, and whom `allowed`
    names (`*`: everybody).
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
