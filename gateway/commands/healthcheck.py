"""Asks a replica for its health. Uses http.client, which loads fast: Docker runs this every few seconds."""

import ssl
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

from publisher.redaction import escaped, redacted_web_url

MAX_ANSWER = 300  # characters of an answer that are shown

_PORTS = {"http": 80, "https": 443}
# The address to call, by the address to listen on.
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104


class Unhealthy(Exception):
    """The replica is not healthy or does not answer; the message says which."""


def address_of(host: str, port: int, scheme: str = "http") -> str:
    """The URL of a replica that listens on `host` and `port`; raises `Unhealthy` for port 0."""
    if port == 0:
        raise Unhealthy("the configured port is 0, which means any free port; name the replica with --url")
    return _join(scheme, _ANY.get(host, host), port)


def _join(scheme: str, host: str, port: int) -> str:
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def check(url: str, path: str, seconds: float, *, is_own: bool = False) -> None:
    """Raise `Unhealthy` unless GET `path` is answered with 200 in time, without proxies and redirects.

    `is_own`: the replica of this environment, whose certificate names another host than its loopback address. Nothing
    secret is sent to it, and an expired certificate does not make it dead.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:  # its text repeats the URL
        host = None
    if not host or parts.scheme not in _PORTS:
        raise Unhealthy(f"{redacted_web_url(url)} is not an HTTP URL; use one such as http://127.0.0.1:3001")
    # Without a port, http.client would take the end of an IPv6 address for one.
    port = _PORTS[parts.scheme] if port is None else port
    connection = HTTPConnection(host, port, timeout=seconds)
    if parts.scheme == "https":
        context = ssl._create_unverified_context() if is_own else ssl.create_default_context()  # noqa: S323
        connection = HTTPSConnection(host, port, timeout=seconds, context=context)
    where = escaped(f"{_join(parts.scheme, host, port)}{path}")
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        answer = connection.getresponse()
        text = answer.read(MAX_ANSWER).decode(errors="replace").strip()
    except (OSError, HTTPException, UnicodeError) as error:  # UnicodeError: a host that cannot be looked up
        said = escaped(str(error).strip() or type(error).__name__)[:MAX_ANSWER]
        raise Unhealthy(f"{where} does not answer ({said})") from None
    finally:
        connection.close()
    if answer.status != 200:
        raise Unhealthy(f"{where} answers {answer.status}: {escaped(text)}")
