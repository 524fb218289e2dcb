"""Is the replica of this environment alive? For a container's health check: `python -I -S probe.py`.

As `progress-gateway healthcheck`, at a fraction of its cost: Docker runs it every few seconds in each container. So it
is a script without imports of this project, and of the standard library only with what starts fast.
"""

import os
import sys

try:
    import _socket as socket  # `socket` around it takes as long to load as the interpreter
except ImportError:
    import socket  # type: ignore[no-redef]

TYPE_CHECKING = False  # that of `typing`, which takes long to load
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

SECONDS = 3.0  # for the connection, and for the answer
# The address to call, by the address to listen on.
ANY = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104


def address_of(settings: "Mapping[str, str]") -> tuple[str, int]:
    """The host and port to call: the admin port's, if there is one. Raises `ValueError` for a port that is not one."""
    host = settings.get("GATEWAY_HOST", "")
    port = settings.get("GATEWAY_ADMIN_PORT", "")
    if port:
        host = settings.get("GATEWAY_ADMIN_HOST", "") or host
    else:
        port = settings.get("GATEWAY_PORT", "3001")
    if not 0 < int(port) < 65_536:
        raise ValueError(f"port {port} cannot be called")
    return ANY.get(host, host), int(port)


def has_tls(settings: "Mapping[str, str]") -> bool:
    """The admin port has none."""
    return bool(settings.get("GATEWAY_TLS_CERT")) and not settings.get("GATEWAY_ADMIN_PORT")


def status_line(host: str, port: int, *, tls: bool = False) -> str:
    """The first line of the answer to GET /healthz. Raises `OSError` if there is none in time."""
    # As bytes: for a text Python would load its tables of international names, which takes longer than all the rest.
    name = host.encode() if host.isascii() else host.encode("idna")
    family, kind, protocol, _, address = socket.getaddrinfo(name, port, 0, socket.SOCK_STREAM)[0]
    plug: Any = socket.socket(family, kind, protocol)
    try:
        plug.settimeout(SECONDS)
        plug.connect(address)
        plug = secured(plug) if tls else plug
        where = b"[%s]" % name if b":" in name else name
        plug.sendall(b"GET /healthz HTTP/1.1\r\nHost: %s:%d\r\nConnection: close\r\n\r\n" % (where, port))
        answer = b""
        while b"\n" not in answer and len(answer) < 4_096 and (piece := plug.recv(4_096)):
            answer += piece
    finally:
        plug.close()
    return answer.split(b"\n")[0].decode("ascii", "replace").strip()


def secured(plug: "Any") -> "Any":
    """TLS on a connection to this machine. The certificate is for the name that clients use, so it is not checked."""
    import socket as of_python
    import ssl  # both take longer to load than the interpreter

    context = ssl._create_unverified_context()  # noqa: S323
    return context.wrap_socket(of_python.socket(fileno=plug.detach()))


def main() -> None:
    """Exit with 0 if the answer is 200, else with 1 and a line that says why."""
    try:
        host, port = address_of(os.environ)
        line = status_line(host, port, tls=has_tls(os.environ))
    except (OSError, ValueError) as error:
        sys.exit(f"no answer: {error}")
    if line.split(" ")[1:2] != ["200"]:
        sys.exit(f"{host}:{port}/healthz answers {line!r}")


if __name__ == "__main__":
    main()
