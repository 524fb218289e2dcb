"""Which `Host` a request may name. A page can point a name of its own at this machine (DNS rebinding), and then reads
whatever is answered under that name. So a replica on loopback answers only names that no stranger can own."""

import re
from collections.abc import Collection
from functools import lru_cache
from ipaddress import ip_address
from typing import NamedTuple

MAX_PORT = 65_535
LONGEST_SHOWN = 80  # characters of an invalid name in an error
ANY = "*"
DEFAULT_PORTS = {"http": 80, "https": 443}

_NAME = r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?"
_HOST = re.compile(rf"(?P<name>{_NAME}\.?|\[[0-9a-f:.]+\]|)(:(?P<port>\d{{0,5}}))?")
_ORIGIN = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>[^/?#@]+)")


class Host(NamedTuple):
    """A host as a request or an origin names it."""

    name: str
    """In lower case, without brackets and final dot."""
    port: int | None
    """None: the default port of the scheme."""


@lru_cache(1_024)
def read_host(text: str) -> Host | None:
    """Read the value of a `Host` header; None if it is not valid."""
    match = _HOST.fullmatch(text.strip().lower())
    if match is None or int(match["port"] or 0) > MAX_PORT:
        return None
    name = match["name"].strip("[]").removesuffix(".")
    if match["name"].startswith("["):
        try:
            name = str(ip_address(name))
        except ValueError:
            return None
    return Host(name, int(match["port"]) if match["port"] else None)


@lru_cache(1_024)
def read_origin(text: str) -> tuple[str, Host] | None:
    """Read an `Origin` header into its scheme and host; None for `null` and whatever else has no host."""
    match = _ORIGIN.fullmatch(text.lower())
    host = read_host(match["host"]) if match else None
    return None if match is None or host is None or not host.name else (match["scheme"], host)


@lru_cache(1_024)
def is_address(name: str) -> bool:
    """Whether `name` is an IP address: no DNS is asked for it, so no page can own it."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


@lru_cache(1_024)
def is_loopback(name: str) -> bool:
    """Whether `name` is a name or an address of loopback, also as a socket of `::` shows an IPv4 peer."""
    try:
        return ip_address(name.removeprefix("::ffff:")).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")


def check_name(name: str) -> str:
    """Return a name of GATEWAY_HOSTS as `Host.name` has it; raises `ValueError` if no `Host` can match it."""
    if name == ANY:
        return name
    host = read_host(f"[{name}]" if name.count(":") > 1 and not name.startswith("[") else name)
    if host is None or not host.name or host.port is not None or name.endswith(":"):
        raise ValueError(
            f"{name[:LONGEST_SHOWN]!r} is not a host; write a name or an address without scheme and port, such as "
            "progress.example.com, or * for all"
        )
    return host.name


class Hosts:
    """The names that a port answers. Immutable."""

    def __init__(self, listens_on: str, named: Collection[str] = (), origins: Collection[str] = ()) -> None:
        """`named` is GATEWAY_HOSTS. If it is empty, `listens_on` decides: a loopback address answers loopback names,
        addresses and the hosts of `origins`; any other answers all names."""
        self._has_default = not named
        self._is_open = ANY in named or (not named and not is_loopback(listens_on))
        of_origins = {origin[1].name for text in origins if (origin := read_origin(text)) is not None}
        self._names = frozenset(named) or frozenset(of_origins)

    def answers(self, name: str, *, is_probe: bool = False) -> bool:
        """Whether a request for this name is answered. `is_probe`: it asks for health or metrics, which kubelet and
        Prometheus do by address; an address cannot be rebound."""
        if self._is_open or name in self._names:
            return True
        return (self._has_default or is_probe) and (is_address(name) or is_loopback(name))
