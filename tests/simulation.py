"""A replica's hub and sessions between a simulated Redis and simulated sockets: every order of things can be played.

The Redis keeps what publish.lua keeps and puts answers and events on one wire, in the order of execution, as the real
one does on a connection; the test decides when the wire is read. A socket can be full; what was written to it is kept.
"""

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from gateway.clients.frames import payloads
from gateway.clients.session import Session
from gateway.feed.interfaces import FeedObserver, FeedState
from gateway.operations.counters import FeedCounters
from gateway.projects.channel import Channel
from gateway.projects.hub import Hub
from gateway.projects.readings import Readings
from gateway.settings import Settings
from publisher.events import Event, Progress, check_event, event_to_json
from publisher.job_rules import Verdict, judge
from publisher.names import job_field
from tests.job_cases import Last

Part = tuple[str, str | None]  # a job and a sentence
PROJECT = "p"
CHANNEL = "project:p"


def as_published(event: bytes) -> bytes:
    """With its seq where publish.lua writes it."""
    fields = json.loads(event)
    seq = fields.pop("seq", None)
    return event if seq is None else json.dumps({"seq": seq} | fields, separators=(",", ":")).encode()


class SimulatedRedis:
    """One project's hash and Redis channel, the memory's id, and the wires of the replicas that are connected."""

    def __init__(self) -> None:
        self.clock = time.time_ns() // 1_000
        self.hash: dict[bytes, bytes] = {}
        self.memory_id: bytes | None = None
        self._memories = 0
        self.parts: dict[Part, Event] = {}
        self.numbers: dict[str, int] = {}
        self.most_jobs = 1_000
        self.published: list[tuple[str, str]] = []  # (job, what) in order, without what was refused
        self.feeds: list[SimulatedFeed] = []

    def read_memory(self) -> bytes:
        """The memory's id, which is written where there is none, as a feed does when it connects."""
        if self.memory_id is None:
            self._memories += 1
            self.memory_id = b"memory %d" % self._memories
        return self.memory_id

    def flush(self) -> None:
        self.hash.clear()
        self.parts.clear()
        self.numbers.clear()
        self.memory_id = None

    def publish(
        self,
        job: str,
        what: str,
        *,
        raw: bool = False,
        sentence: str | None = None,
        attempt: int | str | None = None,
        progress: float = 1,
    ) -> None:
        """`what` is unique; it comes back in the event's text, so that a client's view can be compared."""
        fields: dict[str, Any] = {"jobId": job, "jobType": "audio", "sentenceId": sentence}
        number = self.numbers.get(job)
        fields["attempt"] = (
            0 if number is None and attempt == "next" else ((number or 0) + 1 if attempt == "next" else attempt)
        )
        if what.startswith("end"):
            fields |= {"type": "job_failed", "error": what}
        else:
            fields |= {"type": "progress", "progress": progress, "message": what}
        event: Event = check_event(fields)
        if not raw:
            known = self.parts.get((job, sentence))
            verdict = judge(number, None if known is None else Last(known), event)
            if not verdict.is_accepted:
                return
            self.clock += 1
            event = event.model_copy(update={"seq": self.clock})
            if verdict is Verdict.BEGINS:
                self._drop([part for part in self.parts if part[0] == job])
            self._remember(event)
        self.published.append((job, what))
        for feed in self.feeds:
            if feed.is_subscribed:
                feed.wire.append(("event", as_published(event_to_json(event))))

    def _remember(self, event: Event) -> None:
        job = event.job_id
        self.hash[b"seq"] = str(self.clock).encode()
        self.hash.setdefault(b"from", str(self.clock).encode())
        self.hash[job_field(job, event.sentence_id).encode()] = event_to_json(event)
        self.parts[job, event.sentence_id] = event
        if event.attempt is not None:
            self.numbers[job] = event.attempt
        number = self.numbers.get(job, "")
        sentences = sum(part[0] == job and part[1] is not None for part in self.parts)
        self.hash[f"\t{job}".encode()] = f"{number}:{sentences}".encode()
        while len({part[0] for part in self.parts}) > self.most_jobs:
            forgotten = [
                part for part in self.parts if part[0] == min({part[0] for part in self.parts}, key=self._rank)
            ]
            newest = max(self.parts[part].seq or 0 for part in forgotten)
            self.hash[b"from"] = str(max(newest, int(self.hash[b"from"]))).encode()
            self.hash[b"left"] = b"0"
            self.numbers.pop(forgotten[0][0], None)
            del self.hash[f"\t{forgotten[0][0]}".encode()]
            self._drop(forgotten)

    def _rank(self, job: str) -> tuple[bool, int]:
        """Which job is forgotten first: an ended one before those that run, and the one of the longest ago."""
        own = self.parts.get((job, None))
        events = [event for part, event in self.parts.items() if part[0] == job]
        runs = any(isinstance(event, Progress) for event in ([own] if own is not None else events))
        newest = max(event.seq or 0 for event in events)
        return runs, newest if runs or own is None else own.seq or 0

    def _drop(self, parts: list[Part]) -> None:
        for part in parts:
            del self.parts[part], self.hash[job_field(*part).encode()]

    def picture(self) -> dict[Part, str]:
        """What is remembered: the text of each part's last event."""
        return {part: text_of(event) for part, event in self.parts.items()}


def text_of(event: Event) -> str:
    return getattr(event, "message", None) or str(getattr(event, "error", ""))


class SimulatedFeed:
    """Stands in for gateway.feed.server_feed.ServerFeed."""

    lost_seconds, trouble = 0.0, None

    def __init__(self, redis: SimulatedRedis, hub: FeedObserver) -> None:
        self.redis = redis
        self.hub = hub
        self.is_connected = False
        self.is_wanted = False  # kept while there is no connection, as the real feed does
        self.is_subscribed = False
        self.memory_id: bytes | None = None  # as it was read at the last connect
        self.wire: list[tuple[str, Any]] = []
        self.state = FeedState.DOWN
        self.counters = FeedCounters()
        self.slices: list[Callable[[], None]] = []  # that the hub wants to run, where states are read in slices
        redis.feeds.append(self)

    def subscribe(self, redis_channel: str) -> None:
        self.is_wanted = True
        if self.is_connected:
            self.is_subscribed = True
            self.wire.append(("load", (dict(self.redis.hash), self.memory_id)))

    async def run(self) -> None: ...

    def unsubscribe(self, redis_channel: str) -> None:
        # The real feed ignores a load that was on its way.
        self.wire = [item for item in self.wire if item[0] != "load"]
        self.is_wanted = self.is_subscribed = False

    def after_round_trip(self, redis_channel: str, then: Callable[[], None]) -> None:
        if self.is_connected:
            self.wire.append(("pong", then))

    def lose(self) -> None:
        if self.is_connected:
            self.is_connected = self.is_subscribed = False
            self.wire.clear()
            self.hub.on_lost([CHANNEL] if self.is_wanted else [])

    def connect(self) -> None:
        if not self.is_connected:
            self.is_connected = True
            self.memory_id = self.redis.read_memory()
            if self.is_wanted:
                self.subscribe(CHANNEL)
            self.wire.append(("live", None))

    def slice(self, most: int) -> None:
        """What so many turns of the loop do of the states that are being read."""
        while self.slices and most:
            self.slices.pop(0)()
            most -= 1

    def read(self, items: int) -> None:
        """What one read from the socket brings: events that stand together are one batch."""
        taken, self.wire = self.wire[:items], self.wire[items:]
        events: list[bytes] = []
        for kind, value in [*taken, ("nothing", None)]:
            if kind == "event":
                events.append(value)
                continue
            if events:
                self.hub.on_events({CHANNEL.encode(): events})
                events = []
            if kind == "load":
                self.hub.on_loaded(CHANNEL, *value)
            elif kind == "pong":
                value()
            elif kind == "live":
                self.hub.on_live()


class SimulatedSocket:
    """Stands in for gateway.clients.connection.Connection; `capacity` writes fit before it is full."""

    def __init__(self) -> None:
        self.is_behind = False
        self.was_heard = True
        self.is_closed = False
        self.capacity: int | None = None
        self.written: list[dict[str, Any]] = []
        self.bytes_written = 0
        self.closed_with: int | None = None
        self.close_reason = ""
        self.session: Session | None = None
        self.peer: str | None = "192.0.2.7"
        self.unsent_bytes = 0

    def write(self, frames: bytes) -> None:
        assert self.closed_with is None, "written after the close"
        self.bytes_written += len(frames)
        self.written += [json.loads(payload) for payload in payloads(frames)]
        if self.capacity is not None:
            self.capacity -= 1
            if self.capacity <= 0 and not self.is_behind:
                self.is_behind = True
                if self.session is not None:
                    self.session.on_behind()

    def offer(self, frames: bytes, *, is_last: bool) -> None:
        self.write(frames)

    def fill(self, capacity: int) -> None:
        """Let only so many more writes fit."""
        self.capacity = capacity

    def drain(self) -> None:
        """The client reads everything."""
        self.capacity = None
        if self.is_behind:
            self.is_behind = False
            assert self.session is not None
            self.session.on_writable()

    def ping(self) -> None:
        self.was_heard = False

    def close(self, code: int, reason: str = "") -> None:
        self.closed_with, self.close_reason = code, reason
        if self.session is not None:
            self.session.on_close(code)

    def abort(self) -> None:
        self.close(1006)


class Client:
    """A client that keeps its picture across connections, as the protocol asks: the cursor is the last seq it saw."""

    def __init__(self) -> None:
        self.socket: SimulatedSocket | None = None
        self.seen: list[tuple[str, str]] = []
        self.received: list[dict[str, Any]] = []  # events and `subscribed`, over all connections
        self.since: int | None = None
        self.recovered: list[bool] = []
        self._read = 0

    def connect(self, hub: Hub) -> None:
        self.socket = SimulatedSocket()
        self.socket.session = Session(hub, self.socket)
        self._read = 0
        self.say({"type": "subscribe", "projectId": PROJECT} | ({"since": self.since} if self.since else {}))

    @property
    def is_subscribed(self) -> bool:
        assert self.socket is not None
        return any(message["type"] == "subscribed" for message in self.socket.written)

    def say(self, message: dict[str, Any]) -> None:
        assert self.socket is not None
        assert self.socket.session is not None
        if not self.socket.is_behind:  # a connection that is behind is not read from
            self.socket.session.on_text(json.dumps(message).encode())

    def disconnect(self) -> None:
        if self.socket is not None:
            self.read()
            assert self.socket.session is not None
            self.socket.session.on_close()
            self.socket = None

    def read(self) -> None:
        """Take in what was written so far."""
        if self.socket is None:
            return
        for message in self.socket.written[self._read :]:
            kind = message["type"]
            if kind in ("subscribed", "progress", "job_complete", "job_failed"):
                self.received.append(message)
            if kind == "subscribed":
                self.recovered.append(message["recovered"])
                if not any(earlier["type"] == "subscribed" for earlier in self.socket.written[: self._read]):
                    self.subscribed_at = len(self.seen)
            elif kind in ("progress", "job_complete", "job_failed"):
                self.seen.append((message["jobId"], message.get("message") or message["error"]))
                self.since = message.get("seq", self.since)
            self._read += 1

    def picture(self) -> dict[Part, str]:
        """What a page shows: live events by the rules, and each replay as one step."""
        self.read()
        page = Page()
        for message in self.received:
            page.take(message)
        page.end_replay()
        return {
            (job_id, sentence): text_of(last.event)
            for job_id, job in page.jobs.items()
            for sentence, last in job.parts.items()
        }

    def last(self) -> dict[str, str]:
        """The newest event of each job, in this client's picture."""
        self.read()
        return dict(self.seen)


class PageJob:
    def __init__(self) -> None:
        self.number: int | None = None
        self.parts: dict[str | None, Last] = {}


class Page:
    """A client by docs/protocol.md: the rules of publisher.job_rules, and replay in one step."""

    def __init__(self) -> None:
        self.jobs: dict[str, PageJob] = {}
        self.replay: list[Event] = []
        self.replay_to = 0

    def take(self, message: dict[str, Any]) -> None:
        if message["type"] == "subscribed":
            self.end_replay()
            self.replay_to = message["seq"]
            return
        event = check_event(message)
        if 0 < (event.seq or 0) <= self.replay_to:
            self.replay.append(event)
            return
        self.end_replay()
        job = self.jobs.setdefault(event.job_id, PageJob())
        verdict = judge(job.number, job.parts.get(event.sentence_id), event)
        if verdict.is_accepted:
            if verdict is Verdict.BEGINS:
                job.parts.clear()
            self.put(job, event)

    def put(self, job: PageJob, event: Event) -> None:
        job.parts[event.sentence_id] = Last(event)
        if event.attempt is not None:
            job.number = max(job.number or 0, event.attempt)

    def end_replay(self) -> None:
        replay, self.replay, self.replay_to = self.replay, [], 0
        for job_id in {event.job_id for event in replay}:
            job = self.jobs.setdefault(job_id, PageJob())
            before = job.number
            events = [event for event in replay if event.job_id == job_id]
            for event in events:
                self.put(job, event)
            new = {event.sentence_id for event in events}
            for part, last in list(job.parts.items()):
                is_of_earlier = last.attempt is not None and last.attempt < (job.number or 0)
                if is_of_earlier or (job.number != before and part not in new):
                    del job.parts[part]


def load(channel: Channel, remembered: Mapping[bytes, bytes], *, memory_id: bytes | None = None, now: int = 0) -> None:
    """Read and merge what Redis remembers of a project, at once."""
    steps = channel.read(remembered)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return channel.merge(end.value, memory_id=memory_id, now=now)


def new_replica(redis: SimulatedRedis, *, in_slices: bool = False, **settings: Any) -> tuple[Hub, SimulatedFeed]:
    """With `in_slices` each state is read in slices, one for each `slice` of the feed."""
    hub = Hub(Settings(linger_seconds=0, **settings), lambda hub: SimulatedFeed(redis, hub))
    assert isinstance(hub.feed, SimulatedFeed)
    if in_slices:
        hub._readings = Readings(hub.feed.slices.append)
        hub.fields_at_once = 0
    return hub, hub.feed


def in_a_loop(test: Callable[[], None]) -> None:
    """Run a plain function in an event loop: the hub's timers need one, nothing waits for them."""

    async def run() -> None:
        test()

    asyncio.run(run())


def names() -> Iterator[int]:
    number = 0
    while True:
        number += 1
        yield number
