"""The ports of a replica. They are bound first, so that a port in use is reported at once, and listen last.

A port that listened while the replica waits for Redis would make callers hang. One that does not listen refuses them,
which load balancers and probes understand.
"""

import re
import socket
from ipaddress import ip_address

from gateway.operations.signals import ExitStatus

_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"({_LABEL}\.)*{_LABEL}\.?", re.IGNORECASE)
UNSENT_BYTES = 262_144  # that the kernel takes for a client beyond what is on its way to it: a burst of live events
_TCP_NOTSENT_LOWAT = getattr(socket, "TCP_NOTSENT_LOWAT", 25)  # the constant came with Python 3.12
BACKLOG = 4_096  # handshakes that the kernel queues while the loop is busy: a whole other replica's clients may come


class CannotListen(Exception):
    """The port is taken or not allowed; the message says which, why, and what to do."""

    status = ExitStatus.FAILURE

    def __init__(self, where: str, error: OSError, flags: str = "") -> None:
        reason = error.strerror or str(error)
        super().__init__(f"cannot listen on {where} ({reason}); choose another with --{flags}host and --{flags}port")


def check_host(host: str) -> str:
    """Return `host`, an address without brackets; raises `ValueError` if it is not a valid name or address."""
    address = host[1:-1] if host.startswith("[") and host.endswith("]") and ":" in host else host
    try:
        ip_address(address)
    except ValueError:
        if not _may_be_looked_up(host):
            hint = "; the port is a separate setting" if re.search(r"[^:]:\d+$", host) else ""
            raise ValueError(f"not a valid host name or address{hint}") from None
    return address


def _may_be_looked_up(name: str) -> bool:
    try:
        if re.fullmatch(r"[\d.]+", name):  # the kernel takes `0` and `127.1` for addresses
            socket.inet_aton(name)
        return bool(_NAME.fullmatch(name.encode("idna").decode()))
    except (OSError, UnicodeError):
        return False


def bind(host: str, port: int, flags: str = "") -> socket.socket:
    """A socket bound to that address, not listening yet; raises `CannotListen`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:  # `::` serves IPv4, too, whatever the system's default
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise CannotListen(f"{host}:{port}", error, flags) from None
    # Each connection inherits it. Without it the kernel keeps megabytes for a client that does not read.
    set_most_unsent(listener, UNSENT_BYTES)
    listener.setblocking(False)
    return listener


def set_most_unsent(connection: socket.socket, size: int) -> None:
    """Bound what the kernel takes beyond what is on its way to the client. Its buffer, and so the speed, stays free."""
    connection.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, size)


def listen(listener: socket.socket, flags: str = "") -> None:
    """Take connections from now on; raises `CannotListen` if another process bound the port at the same moment."""
    try:
        listener.listen(BACKLOG)
    except OSError as error:
        raise CannotListen(address(listener), error, flags) from None


def address(listener: socket.socket) -> str:
    """`host:port` as in a URL."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
