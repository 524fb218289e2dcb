"""People who watch: what each holds of its projects, over all its connections, as a page would."""

import asyncio
import json
import random
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from publisher.names import job_field
from tests.chaos.link import Link, open_link

EVENT_TYPES = ("progress", "job_complete", "job_failed")
RETURN_SECONDS = (0.02, 0.3)  # before the next connection
Event = dict[str, Any]


class Read(NamedTuple):
    """A message, read."""

    type: str
    project: str
    job: str
    seq: int
    message: Event


@lru_cache(maxsize=20_000)
def read(payload: bytes) -> Read:
    """Most messages come to many viewers: each is read once."""
    message = json.loads(payload)
    kind, project = message["type"], message.pop("projectId", "")
    job = job_field(message["jobId"], message.get("sentenceId")) if kind in EVENT_TYPES else ""
    return Read(kind, project, job, message.get("seq", 0), message)


class Viewer:
    """One person. Lives as long as a run, over many connections.

    The rules are a page's (frontend/src/project.ts): the cursor is the last seq that arrived, and of a job the event
    with the highest seq is held.
    """

    def __init__(self, number: int, projects: Sequence[str], ports: Sequence[int], *, is_slow: bool) -> None:
        self.number = number
        self.projects = projects
        self.is_slow = is_slow
        self.replica = number % len(ports)
        self.link: Link | None = None
        self.pictures: dict[str, dict[str, Read]] = {project: {} for project in projects}
        self.cursors: dict[str, int] = {}
        # When it was last told that something may be missing: as a seq, which is a clock in microseconds.
        self.doubt_since = dict.fromkeys(projects, 0)
        self.markers = dict.fromkeys(projects, "")
        self.marker_at: dict[str, dict[str, float]] = {}  # by the text's last word, then by project
        self.connections = 0
        self.backward = 0  # times that an older event of a job came after a newer one, something having been lost
        self.longest_answer = 0.0  # the longest wait for `subscribed`, or else for `stale`
        self.complaints: list[Event] = []  # what no replica has a reason to say
        self._subscribed: set[str] = set()
        self._unsure: set[str] = set()  # the last `subscribed` to them said `recovered: false`
        self._asked_at = 0.0
        self._ports = ports

    async def run(self, dice: random.Random) -> None:
        """Connect, again and again, to the other replica if the one does not answer."""
        while True:
            self._subscribed = set()
            try:
                link = await open_link(self._ports[self.replica], self._on_message, is_slow=self.is_slow)
            except OSError:
                self.move()
            else:
                self.connections += 1
                self.link = link
                await link.closed
                self.link = None
                if not link.is_left and dice.random() < 0.5:
                    self.move()
            await asyncio.sleep(dice.uniform(*RETURN_SECONDS))

    def move(self) -> None:
        """The next connection is to the other replica."""
        self.replica = (self.replica + 1) % len(self._ports)

    def leave(self) -> None:
        """Go to the other replica, now."""
        if self.link is not None:
            self.link.is_left = True
            self.move()
            self.link.close()

    @property
    def is_connected(self) -> bool:
        """Every project is subscribed, and the replica says that it is live."""
        return self.link is not None and not self.link.is_stale and len(self._subscribed) == len(self.projects)

    def has_seen(self, marker: str) -> bool:
        return self.is_connected and all(text == marker for text in self.markers.values())

    def _on_message(self, link: Link, payload: bytes) -> None:
        received = read(payload)
        if received.type in EVENT_TYPES:
            self._on_event(received)
        elif received.type == "connected":
            self._asked_at = asyncio.get_running_loop().time()
            for project in self.projects:
                since = {"since": self.cursors[project]} if project in self.cursors else {}
                link.say(json.dumps({"type": "subscribe", "projectId": project, **since}).encode())
        elif received.type == "subscribed":
            if received.project not in self._subscribed:  # said again, unasked, it tells of a gap
                self._subscribed.add(received.project)
                self._note_wait(link)
            if not received.message["recovered"]:
                self.doubt_since[received.project] = time.time_ns() // 1_000
                self._unsure.add(received.project)
            else:
                self._unsure.discard(received.project)
        elif received.type == "stale":
            if len(self._subscribed) < len(self.projects):
                self._note_wait(link)
            link.is_stale = True
            link.stale_at.append(asyncio.get_running_loop().time())
        elif received.type == "live":
            link.is_stale = False
            link.live_at.append(asyncio.get_running_loop().time())
        else:
            self.complaints.append(received.message)

    def _note_wait(self, link: Link) -> None:
        if not link.was_paused and not link.is_stale:
            waited = asyncio.get_running_loop().time() - max([self._asked_at, *link.live_at[-1:]])
            self.longest_answer = max(self.longest_answer, waited)

    def _on_event(self, event: Read) -> None:
        picture = self.pictures[event.project]
        before = picture.get(event.job)
        if before is not None and event.seq < before.seq:
            if event.project in self._unsure:
                self.backward += 1
            else:
                self.complaints.append({"older": event.message, "newer": before.message})
        else:
            picture[event.job] = event
        self.cursors[event.project] = event.seq
        if event.message["jobId"] == "marker":
            text = self.markers[event.project] = event.message["message"]
            self.marker_at.setdefault(text.rpartition(" ")[2], {}).setdefault(
                event.project, asyncio.get_running_loop().time()
            )
