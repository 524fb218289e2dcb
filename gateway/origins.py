"""Which pages may connect: browsers let any page open a WebSocket to any host, and tell its origin."""

from collections.abc import Collection
from ipaddress import ip_address
from urllib.parse import urlsplit


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
