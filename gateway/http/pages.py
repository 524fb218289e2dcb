"""The dashboard's files, read and compressed once: an answer is bytes that are there already."""

import gzip
import hashlib
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from gateway.http.front import Answer, RawHeaders, Scope, headers_of

STATIC = Path(str(files("gateway").joinpath("static")))
OPENAPI = Path(str(files("gateway").joinpath("openapi.json")))

_TYPES = {
    ".html": b"text/html; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".json": b"application/json",
}
# Browsers ask for the files again after a deploy. The dashboard may run only its own script and style, and may connect
# only to the gateway that served it: 'self' covers its WebSocket too (Safari: from 15.4 on).
_HEADERS: RawHeaders = [
    (b"cache-control", b"no-cache"),
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        b"base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    (b"referrer-policy", b"no-referrer"),
    (b"vary", b"Accept-Encoding"),
]


class Page:
    """One file in memory, plain and compressed, each with its own `ETag`. Immutable."""

    def __init__(self, path: Path) -> None:
        self._plain = _Variant(path.read_bytes(), path.suffix, is_compressed=False)
        self._compressed = _Variant(path.read_bytes(), path.suffix, is_compressed=True)

    def __call__(self, scope: Scope) -> Answer:
        accepts = headers_of(scope, b"accept-encoding")
        variant = self._compressed if accepts and takes_gzip(",".join(accepts)) else self._plain
        known = headers_of(scope, b"if-none-match")
        return variant.unchanged if known and is_known(variant.etag, ",".join(known)) else variant.whole


class _Variant:
    def __init__(self, data: bytes, suffix: str, *, is_compressed: bool) -> None:
        body = gzip.compress(data, 9, mtime=0) if is_compressed else data
        self.etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        headers = [*_HEADERS, (b"etag", self.etag.encode())]
        self.unchanged = Answer(304, headers, b"")
        encoding = [(b"content-encoding", b"gzip")] if is_compressed else []
        self.whole = Answer(200, [*headers, (b"content-type", _TYPES[suffix]), *encoding], body)


def takes_gzip(accept_encoding: str) -> bool:
    """Whether an `Accept-Encoding` header allows gzip (RFC 9110, 12.5.3)."""
    qualities = dict(_qualities(accept_encoding))
    return qualities.get("gzip", qualities.get("x-gzip", qualities.get("*", 0.0))) > 0


def _qualities(accept_encoding: str) -> Iterator[tuple[str, float]]:
    for part in accept_encoding.lower().split(","):
        coding, _, quality = part.partition(";")
        try:
            yield coding.strip(), float(quality.partition("=")[2]) if quality.strip() else 1.0
        except ValueError:
            yield coding.strip(), 0.0


def is_known(etag: str, if_none_match: str) -> bool:
    """Whether an `If-None-Match` header names the tag. Proxies that compress or rename make it weak: `W/"..."`."""
    named = (tag.strip().removeprefix("W/") for tag in if_none_match.split(","))
    return any(tag in ("*", etag) for tag in named)


def dashboard() -> dict[str, Page]:
    """The dashboard's files by path."""
    return {"/": Page(STATIC / "index.html")} | {
        f"/static/{path.name}": Page(path) for path in sorted(STATIC.iterdir()) if path.suffix in (".css", ".js")
    }
