"""People behind a load balancer: half of their clients obey `going_away`, half wait for the close and come back."""

import asyncio
import json
import random
from collections.abc import Iterable
from typing import Any

from tests.chaos.link import Link, open_link
from tests.chaos.verdict import Remembered
from tests.chaos.viewers import Read, read

ENDS = ("job_complete", "job_failed")
EVENTS = ("progress", *ENDS)
LEAST_BACKOFF_SECONDS, MOST_BACKOFF_SECONDS = 0.1, 4.0
SUBSCRIBE_SECONDS = 10.0
PER_ADDRESS = 6  # connections, with those to which people move: the load balancers count each address


class Viewer:
    """One person, who watches one project over one connection after another. Lives as long as the test.

    The rules are a page's: the cursor is the last seq that arrived; of a job, the event with the highest seq is held.
    """

    def __init__(self, number: int, port: int, project: str, *, obeys: bool) -> None:
        self.project = project
        self.obeys = obeys
        self.port = port  # of the next connection
        self.picture: dict[str, Read] = {}
        self.ends: set[str] = set()
        self.refused: list[float] = []  # handshakes, by the loop's clock
        self.closed: list[tuple[float, int]] = []  # connections that ended, by the other side
        self.gaps: list[float] = []  # how long it was without a subscribed connection
        self.moves = 0
        self._source = f"127.0.0.{2 + number // PER_ADDRESS}"
        self._cursor: int | None = None
        self._subscribed: dict[Link, asyncio.Event] = {}
        self._serving: set[Link] = set()  # those that are subscribed
        self._alone_since: float | None = None
        self._failures = 0
        self._move: asyncio.Task[None] | None = None
        self._next: Link | None = None

    @property
    def _is_moving(self) -> bool:
        return self._move is not None or self._next is not None

    @property
    def is_watching(self) -> bool:
        return bool(self._serving)

    async def run(self) -> None:
        try:
            while True:
                link, self._next = self._next or await self._connect(), None
                await link.closed
                if self._next is None:
                    self._stop_moving()
                    await asyncio.sleep(self._backoff())
        finally:
            self._stop_moving()

    async def leave(self) -> None:
        """Ends its connections; after `run`."""
        links = list(self._subscribed)
        for link in links:
            link.close()
        await asyncio.gather(*(link.closed for link in links))

    async def _connect(self) -> Link:
        while (link := await self._open()) is None:
            await asyncio.sleep(self._backoff())
        self._failures = 0
        return link

    async def _open(self) -> Link | None:
        """A connection that is subscribed, or None."""
        try:
            link = await open_link(self.port, self._on_message, source=self._source)
        except OSError:
            self.refused.append(asyncio.get_running_loop().time())
            return None
        subscribed = self._subscribed[link] = asyncio.Event()
        link.closed.add_done_callback(lambda _: self._on_closed(link))
        waiting = asyncio.create_task(subscribed.wait())
        either: list[asyncio.Future[Any]] = [waiting, link.closed]
        try:
            await asyncio.wait(either, timeout=SUBSCRIBE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            if link not in self._serving:
                link.close()
        if link.status != 101:
            self.refused.append(asyncio.get_running_loop().time())
        return link if link in self._serving else None

    def _backoff(self) -> float:
        """Full jitter, as the real clients have it."""
        most = min(MOST_BACKOFF_SECONDS, 2**self._failures)
        self._failures += 1
        return random.uniform(LEAST_BACKOFF_SECONDS, most)

    def _stop_moving(self) -> None:
        if self._move is not None:
            self._move.cancel()
            self._move = None

    async def _move_within(self, old: Link, least_ms: float, most_ms: float) -> None:
        """Make before break."""
        await asyncio.sleep(random.uniform(least_ms, most_ms) / 1_000)
        self._next = await self._connect()
        self._move = None
        self.moves += 1
        old.is_left = True
        old.close()

    # What the connections bring

    def _on_message(self, link: Link, payload: bytes) -> None:
        received = read(payload)
        if received.type in EVENTS:
            self._on_event(received)
        elif received.type == "connected":
            since = {} if self._cursor is None else {"since": self._cursor}
            link.say(json.dumps({"type": "subscribe", "projectId": self.project, **since}).encode())
        elif received.type == "subscribed":
            self._serving.add(link)
            if (subscribed := self._subscribed.get(link)) is not None:
                subscribed.set()
            if self._alone_since is not None:
                self.gaps.append(asyncio.get_running_loop().time() - self._alone_since)
                self._alone_since = None
        elif received.type == "going_away" and self.obeys and link in self._serving and not self._is_moving:
            self._move = asyncio.create_task(self._move_within(link, *received.message["reconnectIn"]))

    def _on_event(self, event: Read) -> None:
        before = self.picture.get(event.job)
        if before is None or event.seq >= before.seq:
            self.picture[event.job] = event
        self._cursor = event.seq
        if event.type in ENDS:
            self.ends.add(event.message["jobId"])

    def _on_closed(self, link: Link) -> None:
        now = asyncio.get_running_loop().time()
        self._subscribed.pop(link, None)
        if link in self._serving:
            self._serving.remove(link)
            if not link.is_left:
                self.closed.append((now, link.close_code))
            if not self._serving:
                self._alone_since = now


def differences(viewers: Iterable[Viewer], remembered: Remembered) -> int:
    """Jobs that somebody sees otherwise than Redis remembers them."""
    wrong = 0
    for viewer in viewers:
        seen = {job: event.message for job, event in viewer.picture.items()}
        picture = remembered[viewer.project]
        wrong += sum(seen.get(job) != event for job, event in picture.items()) + len(seen.keys() - picture.keys())
    return wrong
