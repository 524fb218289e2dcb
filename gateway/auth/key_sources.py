"""Where keys come from: the settings and files, or the URL of a JWKS. A rotation needs no restart."""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Protocol
from urllib.request import HTTPRedirectHandler, Request, build_opener

from gateway.auth.keys import KeySet, public_keys
from publisher.redaction import redacted_web_url

logger = logging.getLogger("gateway.auth")

LOOK_SECONDS = 30.0  # between two looks at a file

REFRESH_SECONDS = 600.0  # between two fetches of a JWKS
UNKNOWN_KID_SECONDS = 30.0  # between two fetches for a `kid` that is not known, and after one that failed
KEEP_SECONDS = 86_400.0  # for which the last good set counts
ANSWER_SECONDS = 5.0  # for each step of the server's answer
FETCH_SECONDS = 10.0  # for all of it
WAIT_SECONDS = 3.0  # for which tokens wait for a fetch
LOST_SECONDS = 30.0  # after which a fetch counts as lost: the look-up of a name knows no time limit
MAX_JWKS_BYTES = 1 << 20
MAX_WAITING = 256  # tokens; each is checked again, so more of them would hold up the loop
CHECKED_AT_ONCE = 16
LOG_SECONDS = 600.0  # between two lines on a JWKS that cannot be fetched


class KeySource(Protocol):
    """Keys, as the authority sees them. Used by one event loop."""

    @property
    def keys(self) -> KeySet | None:
        """None: not known yet, or not any more."""

    @property
    def is_unsure(self) -> bool:
        """True if there may be newer keys: they are on their way, or the last try to get them failed."""

    @property
    def is_failing(self) -> bool:
        """True if the last try to read them anew failed."""

    def ask(self, then: Callable[[], None]) -> bool:
        """Get newer keys for a token that these cannot check, and then call. False if that is not possible now."""

    async def run(self) -> None:
        """Keep the keys up to date, until cancelled."""

    def read_again(self) -> Callable[[], str]:
        """Read newer keys now, in any thread; raises `ValueError` if they cannot be used. What it returns makes them
        count, in the loop, and says what they are; '' if there is nothing to read."""


class FileSource:
    """Keys of the settings; with a path, they are read again where the file has changed."""

    is_unsure = False

    def __init__(self, keys: KeySet, path: Path | None, read: Callable[[Path], KeySet]) -> None:
        self.keys: KeySet | None = keys
        self._path = path
        self._read = read
        self._seen = self._stamp()
        self._complaint = ""

    @property
    def is_failing(self) -> bool:
        return bool(self._complaint)

    def ask(self, then: Callable[[], None]) -> bool:
        return False

    async def run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self._path is not None:
                await asyncio.to_thread(self.look)

    def look(self) -> None:
        """Read the file if it has changed. What cannot be read does not count: the keys before it stay."""
        stamp = self._stamp()
        if self._path is None or (stamp == self._seen and not self._complaint):
            return
        self._seen = stamp
        try:
            self.keys = self._read(self._path)
        except ValueError as error:
            if self._complaint != str(error):
                self._complaint = str(error)
                logger.error("The keys of %s cannot be used, the keys before stay in use: %s", self._path, error)
        else:
            self._complaint = ""
            logger.info("The keys of %s were read again: %d", self._path, len(self.keys))

    def read_again(self) -> Callable[[], str]:
        path, stamp = self._path, self._stamp()
        if path is None:
            return str
        keys = self._read(path)

        def take() -> str:
            self.keys, self._seen, self._complaint = keys, stamp, ""
            return f"keys for tokens: {len(keys)}"

        return take

    def _stamp(self) -> tuple[int, ...] | None:
        """What changes when the file is written or replaced. A mounted Secret is a link that leads elsewhere then."""
        try:
            found = self._path.stat() if self._path is not None else None
        except OSError:
            return None
        return None if found is None else (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


class JwksSource:
    """The keys at a URL, fetched by a thread. Lives as long as the replica.

    The thread only fetches and reads; everything here is changed by the event loop.
    """

    def __init__(self, url: str, fetch: Callable[[str], KeySet] | None = None) -> None:
        self._url = url
        self._fetch = fetch or fetch_jwks
        self._keys: KeySet | None = None
        self._good_at = 0.0
        """When the keys were fetched, by the loop's clock."""
        self._has_failed = False
        """True if the last fetch failed."""
        self._began_at: float | None = None
        """When the fetch on its way began; None if there is none."""
        self._asked_at = float("-inf")
        """When a token last caused a fetch."""
        self._waiting: deque[Callable[[], None]] = deque()
        """The tokens that wait for the fetch."""
        self._fetched = asyncio.Event()
        self._logged_at = float("-inf")

    @property
    def keys(self) -> KeySet | None:
        if self._keys is not None and asyncio.get_running_loop().time() - self._good_at > KEEP_SECONDS:
            self._keys = None
        return self._keys

    @property
    def is_fetching(self) -> bool:
        began_at = self._began_at
        return began_at is not None and asyncio.get_running_loop().time() - began_at < LOST_SECONDS

    @property
    def is_failing(self) -> bool:
        return self._has_failed

    @property
    def is_unsure(self) -> bool:
        return self._has_failed or self.is_fetching

    async def run(self) -> None:
        while True:
            if not self.is_fetching:
                self._begin()
            self._fetched.clear()
            try:
                async with asyncio.timeout(LOST_SECONDS):
                    await self._fetched.wait()
            except TimeoutError:
                self._has_failed = True
            await asyncio.sleep(UNKNOWN_KID_SECONDS if self._has_failed else REFRESH_SECONDS)

    def ask(self, then: Callable[[], None]) -> bool:
        now = asyncio.get_running_loop().time()
        if not self.is_fetching:
            if now - self._asked_at < UNKNOWN_KID_SECONDS:
                return False
            self._asked_at = now
            self._begin()
        if len(self._waiting) >= MAX_WAITING:
            return False
        self._waiting.append(then)
        return True

    def read_again(self) -> Callable[[], str]:
        def take() -> str:
            if not self.is_fetching:
                self._begin()
            return "the JWKS (being fetched)"

        return take

    def _begin(self) -> None:
        loop = asyncio.get_running_loop()
        self._began_at = loop.time()
        # A daemon of its own: the executor's threads would be waited for when the replica ends.
        threading.Thread(target=self._run_thread, args=(loop,), name="jwks", daemon=True).start()
        loop.call_later(WAIT_SECONDS, self._give_up, self._began_at)

    def _run_thread(self, loop: asyncio.AbstractEventLoop) -> None:
        result: KeySet | Exception
        try:
            result = self._fetch(self._url)
        except Exception as error:  # a server may answer anything
            result = error
        try:
            loop.call_soon_threadsafe(self._end, result)
        except RuntimeError:  # the replica has ended
            return

    def _end(self, result: KeySet | Exception) -> None:
        self._began_at = None
        now = asyncio.get_running_loop().time()
        self._has_failed = isinstance(result, Exception)
        if isinstance(result, KeySet):
            self._keys, self._good_at = result, now
            self._logged_at = float("-inf")
        elif now - self._logged_at > LOG_SECONDS:
            self._logged_at = now
            left = "" if self.keys is not None else "; until then every token is answered with 4503"
            where = redacted_web_url(self._url)
            logger.error("No keys from %s (tried again every 30 s%s): %.200s", where, left, result or type(result))
        self._fetched.set()
        self._release()

    def _give_up(self, began_at: float) -> None:
        """Let the tokens that wait for this fetch go on without it."""
        if self._began_at == began_at:
            self._release()

    def _release(self) -> None:
        """Let the tokens go on, a few in a turn of the loop."""
        loop = asyncio.get_running_loop()
        for _ in range(min(CHECKED_AT_ONCE, len(self._waiting))):
            loop.call_soon(self._waiting.popleft())
        if self._waiting:
            loop.call_soon(self._release)


class _NoRedirects(HTTPRedirectHandler):
    """The URL is the operator's word; where else it leads is not."""

    def redirect_request(self, *args: object) -> None:
        return None


def fetch_jwks(url: str) -> KeySet:
    """Fetch and read a JWKS; raises `OSError`, `ValueError` and what a broken server makes the library raise."""
    until = time.monotonic() + FETCH_SECONDS
    request = Request(url, headers={"Accept": "application/json", "User-Agent": "progress-gateway"})  # noqa: S310 the setting
    data = bytearray()
    with build_opener(_NoRedirects).open(request, timeout=ANSWER_SECONDS) as response:
        while piece := response.read1(65_536):
            data += piece
            if len(data) > MAX_JWKS_BYTES:
                raise ValueError(f"the answer is longer than {MAX_JWKS_BYTES} bytes")
            if time.monotonic() > until:
                raise TimeoutError(f"the answer took longer than {FETCH_SECONDS:g} s")
    return public_keys(data.decode())
