"""Who watches what on this replica, and the one step from Redis to their sockets."""

import asyncio
import logging
import math
import secrets
import time
from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Mapping
from functools import partial
from typing import Protocol

from gateway.auth.authority import Authority
from gateway.clients.connection import Outgoing
from gateway.feed.interfaces import Feed, FeedObserver, Remembered
from gateway.operations.counters import Counters
from gateway.operations.logs import Occasional
from gateway.operations.tracing import tracing
from gateway.projects.channel import Channel, ChannelState
from gateway.projects.memory import READ_AT_ONCE, Memory
from gateway.projects.readings import MOST_LATE, Reading, Readings
from gateway.projects.refusals import Refusals
from gateway.settings import Settings
from publisher.events import why_unreadable
from publisher.names import redis_channel_of
from publisher.revocation import revoked_channel

logger = logging.getLogger("gateway.hub")

# Cursors are timestamps. Around a failover, a cursor may belong to either primary. The new primary may have taken
# events for DOUBT_BEFORE_US already, and another replica may leave the old primary DOUBT_AFTER_US later.
DOUBT_BEFORE_US = 6_000_000
DOUBT_AFTER_US = 3_000_000
MAX_HANDOVERS = 64  # failovers that are kept in mind
TOLD_AT_ONCE, TOLD_IN_A_STEP = 500, 50  # clients, of `stale` and `live`: 5 us each
BATCHES_AT_ONCE = 32  # that are read before they are written: some 0.3 ms


class Viewer(Protocol):
    """A session, as the hub sees it."""

    connection: Outgoing
    behind_since: float | None
    ping_turn: int | None  # set and read by gateway.clients.keepalive
    move_turn: int | None  # set and read by gateway.clients.age
    number: int
    """When it came, in microseconds since the epoch: rises from one viewer to the next."""
    address: str | None
    """The client's address as a trusted proxy told it; None: the peer's."""

    @property
    def client_id(self) -> str:
        """What the client was told as its name; the log has it."""

    @property
    def sub(self) -> str | None:
        """The user of the token."""

    @property
    def project_ids(self) -> Collection[str]:
        """The projects that it watches or waits for."""

    @property
    def events_behind(self) -> int:
        """How many events arrived that it was not given yet."""

    def on_ready(self, project: "Project") -> None:
        """A project that this viewer waits for is loaded."""

    def on_refused(self, project: "Project") -> None:
        """A project that this viewer watches, or waits for, cannot be watched."""

    def on_feed_changed(self) -> None:
        """`Hub.is_stale` changed."""

    def check_access(self, now: float) -> None:
        """Close if the viewer's token has expired, or none has come in time. `now`: seconds since the epoch."""

    def check_revoked(self) -> None:
        """Close if the tokens of the viewer's user were revoked."""


class Project:
    """One project with local viewers. Lives from the first viewer to a little after the last (`linger`)."""

    __slots__ = ("channel", "linger", "reading", "redis_channel", "viewers", "waiting")

    def __init__(self, project_id: str, redis_channel: str) -> None:
        self.redis_channel = redis_channel
        """The name of its Redis channel."""
        self.channel = Channel(project_id)
        """Its last events."""
        self.viewers: dict[Outgoing, Viewer] = {}
        """Those who were told `subscribed`, by socket."""
        self.waiting: set[Viewer] = set()
        """Those who will be told `subscribed` once the project is loaded."""
        self.linger: asyncio.TimerHandle | None = None
        """The timer that unsubscribes the project in Redis. Set while nobody watches or waits."""
        self.reading: Reading[Memory] | None = None
        """The state that came from Redis and is still being read. Its channel is left alone until then."""

    @property
    def is_loaded(self) -> bool:
        return self.channel.state is ChannelState.LIVE and self.reading is None


Batch = tuple[Project, bytes, list[Outgoing], int, int | None, list[bytes], int]
"""A project, the joined frames of its events, the sockets that are given them, the number of the events, the seq of the
first, the payloads as they came, and when they came (for tracing)."""


class Hub:
    """All projects and viewers of this replica. Lives as long as the replica; used by one event loop only.

    It is the observer of its feed. No method awaits anything: between `subscribed` and the first live event nothing
    else can run, so no event can fall between.
    """

    def __init__(
        self, settings: Settings, new_feed: Callable[[FeedObserver], Feed], authority: Authority | None = None
    ) -> None:
        self.settings = settings
        self.authority = authority
        """Who may watch; None: anybody."""
        self.revoked_channel = revoked_channel(settings.namespace)
        """The Redis channel of revocations. The feed treats it as a project's: a hash, and what is published."""
        self.feed = new_feed(self)
        """What brings the events; made once, with this hub as its observer."""
        self.is_stale = True
        """True while events may be missed; each client is told `stale` and `live`."""
        self.is_draining = False
        """True from the signal to end on: /readyz is 503, and what begins now may not last."""
        self.lame_duck_until = 0.0
        """Until this moment a draining replica takes newcomers, by the monotonic clock: load balancers may not know."""
        self.viewers: dict[Viewer, None] = {}
        """All sessions, whatever they watch, in order of their numbers."""
        self.id_suffix = secrets.token_hex(4)
        """What ends the id of each client of this replica: two replicas never give the same id."""
        self._last_number = 0
        """The number of the newest session."""
        self._projects: dict[bytes, Project] = {}
        """All projects that somebody watches, waits for, or left a moment ago; by Redis channel, as Redis sends it."""
        self._project_ids: list[str] = []
        """The same, sorted: a page of a listing begins anywhere, and costs no look at the others."""
        self._refusals = Refusals()
        self._readings = Readings()
        self.fields_at_once = 4 * READ_AT_ONCE
        """A state with more fields is read in slices."""
        self._live_after: Reading[None] | None = None
        """What tells `live`, once the states are read that came before. None while nothing is to be told."""
        self._handovers: deque[tuple[int, int]] = deque(maxlen=MAX_HANDOVERS)
        """For each failover, the first and the last cursor that may belong to either primary."""
        self._tracing = tracing()
        self.occasional = Occasional("gateway.hub")
        """Logs what clients, strangers and other programs cause: at most one line a minute and kind."""
        # Counted for each batch, never for each delivery.
        self.counters = Counters()
        self.accepted = 0
        """The number of sessions so far."""
        self.events_received = 0
        """The number of payloads that Redis brought for watched projects."""
        self.payloads_dropped = 0
        """The number of bad payloads of projects that were let go."""
        self.catch_ups = 0
        """The number of times that a project or a client was given what it had missed."""
        self.moves_asked = 0
        """The number of times that a client was told to move because of its age."""
        self._stale_seconds = 0.0
        """The total length of the past periods in which the feed was stale."""
        self._stale_since = time.monotonic()
        """When the current stale period began."""

        # Counted by gateway.clients.drain.
        self.drains = 0
        """1 once this replica drains."""
        self.drain_due_at = math.inf
        """When the drain must have ended, by the monotonic clock."""
        self.drain_forced_closes = 0
        """The number of clients that did not answer the drain's close frame."""

    def watch_revocations(self) -> None:
        """Hear of revocations, for as long as the feed runs."""
        if self.authority is not None:
            self.feed.subscribe(self.revoked_channel)

    # What sessions ask for

    def new_number(self) -> int:
        """The number of a new session: its time, or one more than the last where the clock does not tell them apart."""
        self._last_number = max(self._last_number + 1, _now())
        return self._last_number

    def is_refused(self, project_id: str) -> bool:
        """Whether a project could not be served a moment ago, or is one too many. Redis is not asked for it now."""
        if len(self._projects) >= self.settings.max_watched_projects and not self._knows(project_id):
            return True
        return self._refusals.holds(project_id, time.monotonic())

    def _knows(self, project_id: str) -> bool:
        return self._project_of(project_id) is not None

    def watch(self, project_id: str) -> Project:
        """Return the project. One that is new here begins to load."""
        redis_channel = redis_channel_of(project_id, self.settings.namespace)
        project = self._project_at(redis_channel)
        if project is None:
            project = self._projects[redis_channel.encode()] = Project(project_id, redis_channel)
            insort(self._project_ids, project_id)
            self.feed.subscribe(redis_channel)
        elif project.linger is not None:
            project.linger.cancel()
            project.linger = None
        return project

    def _project_at(self, redis_channel: str) -> Project | None:
        return self._projects.get(redis_channel.encode())

    def leave(self, project: Project, viewer: Viewer) -> None:
        """Forget the viewer in this project. Some seconds after the last one has left, let go of Redis."""
        project.viewers.pop(viewer.connection, None)
        project.waiting.discard(viewer)
        if not project.viewers and not project.waiting and project.linger is None:
            loop = asyncio.get_running_loop()
            project.linger = loop.call_later(self.settings.linger_seconds, self._let_go, project)

    def _let_go(self, project: Project) -> None:
        # `watch` cancels this timer, so the project is still unwatched here.
        del self._projects[project.redis_channel.encode()]
        del self._project_ids[bisect_left(self._project_ids, project.channel.project_id)]
        if project.reading is not None:
            project.reading.let_go()
        self.payloads_dropped += project.channel.bad_payloads
        self.feed.unsubscribe(project.redis_channel)

    # What the feed brings

    def on_events(self, events: Mapping[bytes, list[bytes]]) -> None:
        """The hot path: frame the events of one read from Redis once, and write them to each socket in one call.

        The writes for several projects follow each other directly: waking a client costs more than a write, and one
        that is still awake from the last write needs no waking (bench/README.md).
        """
        due: list[Batch] = []
        for redis_channel, payloads in events.items():
            project = self._projects.get(redis_channel)
            try:
                if project is None:
                    self._on_other_events(redis_channel, payloads, due)
                elif project.reading is None:
                    self._receive(project, payloads, due)
                else:
                    self._write_all(due)
                    self._keep(project.reading, payloads)
            except Exception as error:
                self._write_all(due)
                if project is not None:
                    self.give_up(project, error)
            if len(due) >= BATCHES_AT_ONCE:
                self._write_all(due)
        self._write_all(due)

    def _on_other_events(self, redis_channel: bytes, payloads: list[bytes], due: list[Batch]) -> None:
        if self.authority is not None and redis_channel == self.revoked_channel.encode():
            self._write_all(due)  # nothing may follow a close frame
            self._on_revocations(partial(self.authority.on_events, payloads))

    @staticmethod
    def _keep(reading: Reading[Memory], payloads: list[bytes]) -> None:
        """Keep events that Redis sent after a state until that is merged."""
        reading.late += payloads
        if len(reading.late) > MOST_LATE:
            reading.finish()

    def _deliver(self, project: Project, payloads: list[bytes]) -> None:
        due: list[Batch] = []
        self._receive(project, payloads, due)
        self._write_all(due)

    def _receive(self, project: Project, payloads: list[bytes], due: list[Batch]) -> None:
        """Frame a project's events, and add what is to be written to `due`.

        From here on a socket counts as given them, so it is written to even if it falls behind before its turn.
        """
        counters = self.counters
        self.events_received += len(payloads)
        counters.received_bytes += len(payloads[0]) if len(payloads) == 1 else sum(map(len, payloads))
        channel = project.channel
        position = channel.position
        started_ns = 0 if self._tracing is None else time.time_ns()
        frames = channel.receive(payloads)
        if channel.bad_payload_error is not None:
            self._log_bad_payload(channel, channel.bad_payload_error)
        if frames and (sockets := [socket for socket in project.viewers if not socket.is_behind]):
            count = channel.position - position
            due.append((project, frames, sockets, count, channel.batch_seq, payloads, started_ns))

    def _write_all(self, due: list[Batch]) -> None:
        """Write what is due, before a client is told anything else."""
        for project, frames, sockets, count, seq, payloads, started_ns in due:
            try:
                for socket in sockets:
                    socket.write(frames)
            except Exception as error:
                self.give_up(project, error)
            age = None if seq is None else time.time() - seq / 1_000_000
            self.counters.on_delivered(len(frames), len(sockets), count, age)
            if self._tracing is not None:
                self._tracing.on_delivered(payloads, len(sockets), started_ns)
        due.clear()

    def on_loaded(self, redis_channel: str, remembered: Remembered, memory_id: bytes | None = None) -> None:
        if self.authority is not None and redis_channel == self.revoked_channel:
            self._on_revocations(partial(self.authority.on_loaded, remembered))
        elif (project := self._project_at(redis_channel)) is not None:
            try:
                self._read(project, remembered, memory_id)
            except Exception as error:
                self.give_up(project, error)

    def _read(self, project: Project, remembered: Remembered, memory_id: bytes | None) -> None:
        """Read a state: a small one at once, a large one in slices."""
        self._stop_reading(project)  # this state is newer
        take = partial(self._on_read, project, memory_id)
        reading = Reading(project.channel.read(remembered), take, partial(self.give_up, project))
        if len(remembered) <= self.fields_at_once:
            reading.finish()
        else:
            project.reading = self._readings.begin(reading)

    def _on_read(self, project: Project, memory_id: bytes | None, memory: Memory) -> None:
        reading, project.reading = project.reading, None
        self._load(project, memory, memory_id)
        if reading is not None and reading.late:
            self._deliver(project, reading.late)

    def _stop_reading(self, project: Project) -> None:
        """Another state will come: it is as if the one that is being read had not, and its events came before that."""
        reading, project.reading = project.reading, None
        if reading is not None:
            reading.let_go()
            if reading.late:
                self._deliver(project, reading.late)

    def _load(self, project: Project, memory: Memory, memory_id: bytes | None) -> None:
        channel = project.channel
        before = channel.end
        channel.merge(memory, memory_id=memory_id, now=_now())
        if channel.bad_payload_error is not None:
            self._log_bad_payload(channel, channel.bad_payload_error)
        if project.viewers and (frames := channel.catch_up(before)[0]):
            self.catch_ups += 1
            for socket in project.viewers:
                if not socket.is_behind:
                    self.counters.sent_bytes += len(frames)
                    socket.write(frames)
        self._refusals.drop(channel.project_id)
        for viewer in list(project.waiting):
            viewer.on_ready(project)

    def _log_bad_payload(self, channel: Channel, error: ValueError) -> None:
        """Say why an event was not delivered, a newer publisher's say."""
        channel.bad_payload_error = None
        text = "Project %s: an event cannot be read and is not delivered: %.300s"
        self.occasional.warning("bad payload", text, channel.project_id, why_unreadable(error))

    def _on_revocations(self, take: Callable[[], set[str]]) -> None:
        """One look at all viewers, for all users that one read from Redis revokes. A bug must not stop the feed."""
        try:
            if take():
                for viewer in list(self.viewers):
                    viewer.check_revoked()
        except Exception as error:
            self.occasional.error("revocations", "Revocations cannot be taken: %s", type(error).__name__)
            logger.debug("Unexpected", exc_info=error)

    def on_refused(self, redis_channel: str) -> None:
        if (project := self._project_at(redis_channel)) is not None:
            self._refuse(project)

    def _refuse(self, project: Project) -> None:
        self._refusals.add(project.channel.project_id, time.monotonic())
        for viewer in {*project.waiting, *project.viewers.values()}:
            try:
                viewer.on_refused(project)
            except Exception:  # this viewer has left the project already, and the others must be told
                logger.debug("Unexpected", exc_info=True)
        if project.linger is not None:  # so that a later subscribe asks Redis again
            project.linger.cancel()
            self._let_go(project)

    def give_up(self, project: Project, error: Exception) -> None:
        """Refuse a project that met a bug. The bug must not stop the feed, which all projects share."""
        # pydantic's own text would quote the event.
        text = " ".join((why_unreadable(error) if isinstance(error, ValueError) else str(error)).split())
        name = type(error).__name__
        line = "Project %s is given up, its viewers are told: %s: %.200s"
        if self.occasional.error("given up", line, project.channel.project_id, name, text):
            logger.debug("Unexpected", exc_info=error)
        self._refuse(project)

    def on_lost(self, redis_channels: Iterable[str]) -> None:
        self._begin_load(redis_channels, lost_at=_now())
        if not self.is_stale:
            self._stale_since = time.monotonic()
        self.is_stale = True
        self._cancel_live()
        self._tell_all()

    def on_moved(self, redis_channels: Iterable[str]) -> None:
        self._begin_load(redis_channels, lost_at=None)

    def _begin_load(self, redis_channels: Iterable[str], *, lost_at: int | None) -> None:
        for redis_channel in redis_channels:
            if (project := self._project_at(redis_channel)) is not None:
                self._stop_reading(project)
                project.channel.begin_load(lost_at=lost_at)

    def on_live(self) -> None:
        """Tell `live`: not before what was missed, which may still be read."""
        self._cancel_live()
        self._live_after = self._readings.after_these(self._go_live)

    def _cancel_live(self) -> None:
        if self._live_after is not None:
            self._live_after.let_go()

    def _go_live(self) -> None:
        self._stale_seconds = self.stale_seconds
        self.is_stale = False
        self._tell_all()

    def _tell_all(self) -> None:
        """Tell `stale` or `live`: a few hundred clients at once, more of them in slices.

        A feed that changes again meanwhile does no harm: a session tells what is news then.
        """
        telling = Reading(self._tell(list(self.viewers)), lambda _: None, self._log_untold)
        if len(self.viewers) <= TOLD_AT_ONCE:
            telling.finish()
        else:
            self._readings.begin(telling)

    def _tell(self, viewers: list[Viewer]) -> Generator[None, None, None]:
        """Tell those that are still here, some in each step."""
        for index, viewer in enumerate(viewers, 1):
            if viewer in self.viewers:
                viewer.on_feed_changed()
            if index % TOLD_IN_A_STEP == 0:
                yield

    def _log_untold(self, error: Exception) -> None:
        self.occasional.error("stale", "Not all clients are told `stale` or `live`: %s", type(error).__name__)
        logger.debug("Unexpected", exc_info=error)

    # A failover, as cursors see it

    def on_replaced(self, first: float, last: float) -> None:
        begin, end = _now() - int(first * 1_000_000), _now() - int(last * 1_000_000)
        self._handovers.append((begin - DOUBT_BEFORE_US, end + DOUBT_AFTER_US))

    def is_doubtful(self, cursor: int) -> bool:
        """Whether a cursor may belong to either primary of a failover.

        For a moment both take events, and replicas leave the old one a little before or after each other. Such a
        cursor does not tell which events of the other primary its client has seen.
        """
        return any(begin < cursor < end for begin, end in self._handovers)

    def is_before_handover(self, cursor: int) -> bool:
        """Whether a cursor is older than a failover. Its client is given the whole picture.

        There may have been more failovers than this replica knows: Sentinels tell of the last one only.
        """
        return bool(self._handovers) and cursor < max(end for _, end in self._handovers)

    # What operators see

    @property
    def is_ready(self) -> bool:
        """False while draining, and when the feed has been lost for longer than the grace.

        All replicas lose a Redis at the same moment. Without the grace, a load balancer would take all of them out of
        service after a very short outage.
        """
        lost = self.feed.lost_seconds
        return not self.is_draining and lost is not None and lost <= self.settings.redis_grace_seconds

    @property
    def takes_newcomers(self) -> bool:
        """Whether handshakes and posted events are taken. False while draining, but for a lame duck's time."""
        return not self.is_draining or time.monotonic() < self.lame_duck_until

    @property
    def stale_seconds(self) -> float:
        """How long, in all, clients have been told `stale`. The time before the first `live` counts."""
        return self._stale_seconds + (time.monotonic() - self._stale_since if self.is_stale else 0.0)

    @property
    def drain_overdue_seconds(self) -> float:
        """By how much a drain exceeds its bound. It rises until the process has ended."""
        return max(0.0, time.monotonic() - self.drain_due_at)

    def projects_after(self, project_id: str, count: int) -> list[Project]:
        """The watched projects in order of their ids, from the first id above the given one."""
        first = bisect_right(self._project_ids, project_id)
        found = map(self._project_of, self._project_ids[first : first + count])
        return [project for project in found if project is not None]

    def _project_of(self, project_id: str) -> Project | None:
        return self._project_at(redis_channel_of(project_id, self.settings.namespace))

    @property
    def projects(self) -> int:
        return len(self._projects)

    @property
    def subscriptions(self) -> int:
        return sum(len(project.viewers) for project in self._projects.values())

    @property
    def bad_payloads(self) -> int:
        return self.payloads_dropped + sum(project.channel.bad_payloads for project in self._projects.values())


def _now() -> int:
    """The clock as a seq: microseconds since the epoch."""
    return time.time_ns() // 1_000
