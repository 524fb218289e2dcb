"""Asks a replica for its health, as Docker's HEALTHCHECK and people do; with nothing but the standard library."""

from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

from publisher.redaction import escaped, redacted_web_url

LONGEST_ANSWER = 300  # characters of it that are shown

_PORTS = {"http": 80, "https": 443}
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 addresses to listen on, and to call


class Unhealthy(Exception):
    """The replica is not well, or nobody is there; the message says which."""


def address_of(host: str, port: int, scheme: str = "http") -> str:
    """The URL of a replica that listens there; raises `Unhealthy` for any free port."""
    if port == 0:
        raise Unhealthy("its port is 0, any free one: say which with --url")
    return _join(scheme, _ANY.get(host, host), port)


def _join(scheme: str, host: str, port: int) -> str:
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def check(url: str, path: str, seconds: float) -> None:
    """Raise `Unhealthy` unless the path is answered with 200 in time. No proxy is asked, and no redirect followed."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:  # its words repeat what is in the URL
        host = None
    if not host or parts.scheme not in _PORTS:
        raise Unhealthy(f"{redacted_web_url(url)} is no URL; use http://127.0.0.1:3001")
    # Without a port http.client would read one from the end of an IPv6 address.
    port = _PORTS[parts.scheme] if port is None else port
    connection = (HTTPSConnection if parts.scheme == "https" else HTTPConnection)(host, port, timeout=seconds)
    where = escaped(f"{_join(parts.scheme, host, port)}{path}")
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        answer = connection.getresponse()
        text = answer.read(LONGEST_ANSWER).decode(errors="replace").strip()
    except (OSError, HTTPException, UnicodeError) as error:  # the last: a host that no look-up takes
        said = escaped(str(error).strip() or type(error).__name__)[:LONGEST_ANSWER]
        raise Unhealthy(f"{where} does not answer ({said})") from None
    finally:
        connection.close()
    if answer.status != 200:
        raise Unhealthy(f"{where} answers {answer.status}: {escaped(text)}")
