"""`progress-gateway top`: asks replicas on their admin ports who is connected and what is watched."""

import json
import re
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import quote, urlsplit

from publisher.redaction import escaped, redacted_web_url

PAGE_ROWS = 500  # a page blocks the replica's loop for some milliseconds
MOST_ROWS = 5_000  # clients, and projects, of a replica that are looked at in a round
MAX_ANSWER = 16 << 20  # bytes
ANSWER_SECONDS = 5.0

_SERIES = re.compile(r"^gateway_(\w+) (\S+)$", re.MULTILINE)
# What is shown as a rate per second, and the counters that make it.
RATES = {
    "events": ("events_received_total",),
    "deliveries": ("deliveries_total", "deliveries_joined_total"),
    "bytes": ("sent_bytes_total",),
}


class NoAnswer(Exception):
    """A replica cannot be asked; the message says why, and what to do."""


@dataclass
class Look:
    """What one replica said in one round."""

    url: str
    at: float
    """When it was asked, by the monotonic clock."""
    error: str = ""
    """Why there is nothing else."""
    clients: list[dict[str, Any]] = field(default_factory=list)
    projects: list[dict[str, Any]] = field(default_factory=list)
    total_clients: int = 0
    total_projects: int = 0
    behind: int = 0
    counters: Mapping[str, float] = field(default_factory=dict)
    rates: Mapping[str, float | None] = field(default_factory=lambda: dict.fromkeys(RATES))
    """Per second since the look before; None: there was none."""


class Replicas:
    """Lives as long as the command."""

    def __init__(self, urls: Sequence[str], key: str | None) -> None:
        self._urls = [url.rstrip("/") for url in urls]
        self._key = key
        self._last: dict[str, Look] = {}

    def look(self) -> list[Look]:
        """Ask all of them, at the same time."""
        with ThreadPoolExecutor(len(self._urls)) as threads:
            return list(threads.map(self._look_at, self._urls))

    def _look_at(self, url: str) -> Look:
        look = Look(url, time.monotonic())
        try:
            replica = _Replica(url, self._key)
        except NoAnswer as error:
            look.error = str(error)
            return look
        try:
            look.clients, look.total_clients = replica.all_rows("clients", "clientId")
            look.projects, look.total_projects = replica.all_rows("projects", "projectId")
            look.counters = {name: float(value) for name, value in _SERIES.findall(replica.get("/metrics").decode())}
        except NoAnswer as error:
            look.error = str(error)
            return look
        finally:
            replica.close()
        look.behind = int(look.counters.get("connections_behind", 0))
        if (before := self._last.get(url)) is not None:
            seconds = max(look.at - before.at, 0.001)
            look.rates = {
                rate: _grown(names, before.counters, look.counters) / seconds for rate, names in RATES.items()
            }
        self._last[url] = look
        return look


def _grown(names: Sequence[str], before: Mapping[str, float], now: Mapping[str, float]) -> float:
    """By how much the counters grew; a replica that began anew counts from 0."""
    return sum(max(0.0, now.get(name, 0) - before.get(name, 0)) for name in names)


class _Replica:
    """One replica, for one round."""

    def __init__(self, url: str, key: str | None) -> None:
        """Raises `NoAnswer` for what is not a URL of a replica."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:  # its text repeats the URL
            host = None
        if not host or parts.scheme not in ("http", "https") or parts.path:
            raise NoAnswer(
                f"{redacted_web_url(url)} is not the address of a replica; use one such as http://127.0.0.1:3002"
            )
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        # Without a port, http.client would take the end of an IPv6 address for one.
        self._connection = kind(host, port or kind.default_port, timeout=ANSWER_SECONDS)
        self._where = escaped(url)
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}

    def close(self) -> None:
        self._connection.close()

    def all_rows(self, kind: str, name: str) -> tuple[list[dict[str, Any]], int]:
        """The rows of all pages, up to a bound, and the number of all that there are."""
        rows: list[dict[str, Any]] = []
        after = ""
        while True:
            page = json.loads(self.get(f"/admin/{kind}?limit={PAGE_ROWS}&after={quote(after, safe='')}"))
            rows += page[kind]
            after = page["next"] or ""
            if not after or len(rows) >= MOST_ROWS:
                return rows, page["total"]

    def get(self, path: str) -> bytes:
        try:
            self._connection.request("GET", path, headers=self._headers)
            answer = self._connection.getresponse()
            body = answer.read(MAX_ANSWER)
        except (OSError, HTTPException, UnicodeError) as error:  # UnicodeError: a host that cannot be looked up
            said = escaped(str(error).strip() or type(error).__name__)[:200]
            raise NoAnswer(f"{self._where} does not answer ({said})") from None
        if answer.status != 200:
            raise NoAnswer(f"{self._where} {_advice(answer.status, body)}")
        return body


def _advice(status: int, body: bytes) -> str:
    if status == 401:
        return "wants a key of GATEWAY_ADMIN_KEYS: name a file that holds one with --key-file"
    if status == 403:
        return "answers programs of its own machine only: set GATEWAY_ADMIN_KEYS there, and use --key-file here"
    if status == 404:
        return "is not an admin port: name that of GATEWAY_ADMIN_PORT"
    return f"answers {status}: {escaped(body[:200].decode(errors='replace').strip())}"
