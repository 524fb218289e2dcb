"""A replica's hub and sessions between a simulated Redis and simulated sockets: every order of things can be played.

The Redis keeps what publish.lua keeps and puts answers and events on one wire, in the order of execution, as the real
one does on a connection; the test decides when the wire is read. A socket can be full; what was written to it is kept.
"""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

from gateway.counters import FeedCounters
from gateway.feed.interfaces import FeedObserver, FeedState
from gateway.frames import payloads
from gateway.hub import Hub
from gateway.session import Session
from gateway.settings import Settings
from publisher.events import Event, check_event, event_to_json
from publisher.names import job_field

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
        self.published: list[tuple[str, str]] = []  # (job, what) in order
        self.feeds: list[SimulatedFeed] = []

    def read_memory(self) -> bytes:
        """The memory's id, which is written where there is none, as a feed does when it connects."""
        if self.memory_id is None:
            self._memories += 1
            self.memory_id = b"memory %d" % self._memories
        return self.memory_id

    def flush(self) -> None:
        self.hash.clear()
        self.memory_id = None

    def publish(self, job: str, what: str, *, raw: bool = False) -> None:
        """`what` is unique; it comes back in the event's text, so that a client's view can be compared."""
        self.clock += 1
        fields: dict[str, Any] = {"jobId": job, "jobType": "audio"}
        if what.startswith("end"):
            fields |= {"type": "job_failed", "error": what}
        else:
            fields |= {"type": "progress", "progress": 1, "message": what}
        event: Event = check_event(fields)
        if not raw:
            event = event.model_copy(update={"seq": self.clock})
            self.hash[b"seq"] = str(self.clock).encode()
            self.hash.setdefault(b"from", str(self.clock).encode())
            self.hash[job_field(job, None).encode()] = event_to_json(event)
        self.published.append((job, what))
        for feed in self.feeds:
            if feed.is_subscribed:
                feed.wire.append(("event", as_published(event_to_json(event))))


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
    """Stands in for gateway.connection.Connection; `capacity` writes fit before it is full."""

    def __init__(self) -> None:
        self.is_behind = False
        self.was_heard = True
        self.is_closed = False
        self.capacity: int | None = None
        self.written: list[dict[str, Any]] = []
        self.bytes_written = 0
        self.closed_with: int | None = None
        self.session: Session | None = None

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
        self.closed_with = code
        if self.session is not None:
            self.session.on_close(code)

    def abort(self) -> None:
        self.close(1006)


class Client:
    """A client that keeps its picture across connections, as the protocol asks: the cursor is the last seq it saw."""

    def __init__(self) -> None:
        self.socket: SimulatedSocket | None = None
        self.seen: list[tuple[str, str]] = []
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
            if kind == "subscribed":
                self.recovered.append(message["recovered"])
                if not any(earlier["type"] == "subscribed" for earlier in self.socket.written[: self._read]):
                    self.subscribed_at = len(self.seen)
            elif kind in ("progress", "job_complete", "job_failed"):
                self.seen.append((message["jobId"], message.get("message") or message["error"]))
                self.since = message.get("seq", self.since)
            self._read += 1

    def last(self) -> dict[str, str]:
        """The newest event of each job, in this client's picture."""
        self.read()
        return dict(self.seen)


def new_replica(redis: SimulatedRedis, **settings: Any) -> tuple[Hub, SimulatedFeed]:
    hub = Hub(Settings(linger_seconds=0, **settings), lambda hub: SimulatedFeed(redis, hub))
    assert isinstance(hub.feed, SimulatedFeed)
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
