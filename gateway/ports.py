"""The ports of a replica: taken first, so that one that is in use is known at once, and silent until somebody answers.

A port that listened while the replica waits for Redis would hold whoever calls; one that does not is refused, and load
balancers and probes know what that means.
"""

import re
import socket
from ipaddress import ip_address

from gateway.process import ExitStatus

MOST_OF_A_PORT = 65_535
_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"({_LABEL}\.)*{_LABEL}\.?", re.IGNORECASE)
BACKLOG = 4_096  # handshakes that the kernel holds while the loop is busy: all clients of another replica may come


class CannotListen(Exception):
    """The message says where, why, and what to do."""

    status = ExitStatus.FAILURE

    def __init__(self, where: str, error: OSError, flags: str = "") -> None:
        reason = error.strerror or str(error)
        super().__init__(f"cannot listen on {where} ({reason}); choose another with --{flags}host and --{flags}port")


def check_host(host: str) -> str:
    """Return `host`, a name, or an address without the brackets of URLs; raises `ValueError` if it can be neither."""
    address = host[1:-1] if host.startswith("[") and host.endswith("]") and ":" in host else host
    try:
        ip_address(address)
    except ValueError:
        if not _may_be_looked_up(host):
            hint = "; the port is a setting of its own" if re.search(r"[^:]:\d+$", host) else ""
            raise ValueError(f"it is no address and no name of a host{hint}") from None
    return address


def _may_be_looked_up(name: str) -> bool:
    try:
        if re.fullmatch(r"[\d.]+", name):  # `0` and `127.1` are addresses to the kernel
            socket.inet_aton(name)
        return bool(_NAME.fullmatch(name.encode("idna").decode()))
    except (OSError, UnicodeError):
        return False


def bind(host: str, port: int, flags: str = "") -> socket.socket:
    """A socket at that address, which does not listen yet; raises `CannotListen`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:  # :: is both families, whatever the host's default is
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise CannotListen(f"{host}:{port}", error, flags) from None
    listener.setblocking(False)
    return listener


def listen(listener: socket.socket, flags: str = "") -> None:
    """From now on it takes connections. Of two that bound a port at one moment, the second learns it here, by
    `CannotListen`."""
    try:
        listener.listen(BACKLOG)
    except OSError as error:
        raise CannotListen(address(listener), error, flags) from None


def address(listener: socket.socket) -> str:
    """As it is written in a URL."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
