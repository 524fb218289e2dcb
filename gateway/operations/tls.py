"""The certificate of the clients' port, for a replica without a proxy."""

import re
import ssl
from base64 import b64decode
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)
_UTC_TIME, _VERSION = 0x17, 0xA0  # tags of DER


class Certificate:
    """Lives as long as the replica. `context` is the one of the listening socket, and stays; the connections that come
    after a renewal show the newer certificate."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Raises `ValueError` if the files cannot be used."""
        self._paths = certificate, key
        self.context, self.expires_at = _load(certificate, key)
        self._newest = self.context
        # A new context for each renewal, instead of `load_cert_chain` on the one in use: a certificate whose key has
        # not been replaced yet would spoil that.
        self.context.sni_callback = self._show_newest  # also called for a client that names no server

    def _show_newest(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        if self._newest is not context:
            connection.context = self._newest

    def read_again(self) -> Callable[[], str]:
        """Read the files, in any thread; raises `ValueError`. What it returns makes them count, and says until when."""
        newest, expires_at = _load(*self._paths)

        def take() -> str:
            self._newest, self.expires_at = newest, expires_at
            return f"certificate: until {datetime.fromtimestamp(expires_at, UTC):%Y-%m-%d}"

        return take


def check(certificate: Path, key: Path) -> None:
    """Raise `ValueError` that says which file cannot be used, and why."""
    _load(certificate, key)


def _load(certificate: Path, key: Path) -> tuple[ssl.SSLContext, float]:
    """A context for a server, and when the first certificate of the chain expires, in seconds since the epoch."""
    chain, private = _text(certificate, "GATEWAY_TLS_CERT"), _text(key, "GATEWAY_TLS_KEY")
    if not _CERTIFICATE.search(chain):
        raise ValueError(f"GATEWAY_TLS_CERT: the file {certificate} holds no certificate in PEM form")
    if "PRIVATE KEY-----" not in private:
        raise ValueError(f"GATEWAY_TLS_KEY: the file {key} holds no private key in PEM form")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])  # a WebSocket needs it, and browsers would rather speak HTTP/2
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (ssl.SSLError, OSError) as error:
        raise ValueError(_why(error, certificate, key)) from None
    return context, min(map(_expires_at, _ders_of(chain, certificate)))


def _no_password() -> str:
    """Instead of the question at the terminal."""
    raise ValueError("GATEWAY_TLS_KEY: the key has a passphrase; remove it, for example with openssl pkey")


def _text(path: Path, setting: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{setting}: cannot read the file {path} ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ValueError(f"{setting}: the file {path} is not in PEM form") from None


def _why(error: Exception, certificate: Path, key: Path) -> str:
    if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
        return f"GATEWAY_TLS_KEY: the key {key} is not that of the certificate {certificate}"
    return f"GATEWAY_TLS_CERT and GATEWAY_TLS_KEY: {certificate} and {key} cannot be used ({error})"


def _ders_of(chain: str, path: Path) -> Iterator[bytes]:
    for found in _CERTIFICATE.finditer(chain):
        try:
            yield b64decode(found[1])
        except ValueError:
            raise ValueError(f"GATEWAY_TLS_CERT: the file {path} holds a certificate that cannot be read") from None


def _expires_at(der: bytes) -> float:
    """`notAfter` of a certificate (RFC 5280, 4.1). The library for it would cost 10 MB."""
    _, certificate, _ = _element(der)
    _, fields, _ = _element(certificate)
    tag, _, rest = _element(fields)
    if tag == _VERSION:
        _, _, rest = _element(rest)
    for _ in range(2):  # the serial number was read; the algorithm and the issuer follow
        _, _, rest = _element(rest)
    _, validity, _ = _element(rest)
    _, _, rest = _element(validity)  # notBefore
    tag, text, _ = _element(rest)
    form = "%y%m%d%H%M%SZ" if tag == _UTC_TIME else "%Y%m%d%H%M%SZ"
    return datetime.strptime(text.decode("ascii"), form).replace(tzinfo=UTC).timestamp()


def _element(der: bytes) -> tuple[int, bytes, bytes]:
    """The tag and the content of the first element, and what follows it."""
    length, start = der[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(der[2:start], "big")
    return der[0], der[start : start + length], der[start + length :]
