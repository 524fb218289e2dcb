"""Who watches what on this replica, and the one step from Redis to their sockets."""

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Protocol

from gateway.channel import Channel, ChannelState
from gateway.connection import Outgoing
from gateway.counters import Counters
from gateway.feed.kinds import feed_for
from gateway.feed.observer import Remembered
from gateway.settings import Settings
from gateway.tracing import tracing
from publisher.names import redis_channel_of

logger = logging.getLogger("gateway.hub")

# Of cursors, which are clocks: from the earliest moment that the new server may have taken events, to the latest at
# which another replica has left the old one.
DOUBT_BEFORE_US = 6_000_000
DOUBT_AFTER_US = 3_000_000
MOST_HANDOVERS = 64  # that are remembered


class Viewer(Protocol):
    """A session, as the hub sees it."""

    connection: Outgoing
    behind_since: float | None
    ping_turn: int | None  # set and read by gateway.keepalive
    client_id: str

    def on_ready(self, project: "Project") -> None:
        """A project that was waited for is loaded."""

    def on_refused(self, project: "Project") -> None:
        """A project that is waited for, or was watched until the feed was lost, cannot be watched."""

    def on_feed_changed(self) -> None:
        """`Hub.is_stale` changed."""


class Project:
    """One project with local viewers: its channel, their sockets, and who waits for it to be loaded.

    Lives from the first viewer to a little after the last (`linger`).
    """

    __slots__ = ("channel", "linger", "name", "viewers", "waiting")

    def __init__(self, project_id: str, name: str) -> None:
        self.name = name  # of the Redis channel
        self.channel = Channel(project_id)
        self.viewers: dict[Outgoing, Viewer] = {}  # by socket: those who were told `subscribed`
        self.waiting: set[Viewer] = set()  # those who will be
        self.linger: asyncio.TimerHandle | None = None

    @property
    def is_loaded(self) -> bool:
        return self.channel.state is ChannelState.LIVE


class Hub:
    """All projects and viewers of this replica. Lives as long as the replica; used by one event loop only.

    It is the feed's observer. Each method runs in one step, with no `await` in it: between `subscribed` and the first
    live event nothing else can run, so nothing can fall between.
    """

    def __init__(self, settings: Settings, redis_url: str, replica_id: str) -> None:
        self.settings = settings
        # `~` begins no project id, and a user with rights to `project:*` has them to this channel too.
        probe_channel = redis_channel_of(f"~probe:{replica_id}", settings.namespace)
        self.feed = feed_for(redis_url, self, probe_channel)
        self.is_stale = True
        self.is_draining = False
        self.viewers: set[Viewer] = set()
        self._projects: dict[bytes, Project] = {}  # by Redis channel, as Redis names it
        self._handovers: deque[tuple[int, int]] = deque(maxlen=MOST_HANDOVERS)  # as cursors, which are clocks
        self._tracing = tracing()
        # Counted for each batch, never for each delivery.
        self.counters = Counters()
        self.accepted = 0
        self.events_received = 0
        self.payloads_dropped = 0
        self.catch_ups = 0
        # Since the feed was lost: when that was, and whether projects that were loaded again were whole.
        self._lost_us = time.time_ns() // 1_000
        self._kept: set[bool | None] = set()
        self._stale_seconds = 0.0  # that are over
        self._stale_since = time.monotonic()
        # Counted by gateway.drain.
        self.drains = 0
        self.drain_due_at = math.inf  # by the monotonic clock; no drain takes longer
        self.drain_closes = 0  # clients that had not moved when their time was over: told 1012
        self.drain_forced_closes = 0  # of those, the ones that did not answer

    # What sessions ask for

    def watch(self, project_id: str) -> Project:
        """The project, which begins to be loaded if it is new here."""
        name = redis_channel_of(project_id, self.settings.namespace)
        project = self._projects.get(name.encode())
        if project is None:
            project = self._projects[name.encode()] = Project(project_id, name)
            self.feed.subscribe(name)
        elif project.linger is not None:
            project.linger.cancel()
            project.linger = None
        return project

    def leave(self, project: Project, viewer: Viewer) -> None:
        """Forget the viewer in this project; after the last one, and a linger, let go of Redis."""
        project.viewers.pop(viewer.connection, None)
        project.waiting.discard(viewer)
        if not project.viewers and not project.waiting and project.linger is None:
            loop = asyncio.get_running_loop()
            project.linger = loop.call_later(self.settings.linger_seconds, self._let_go, project)

    def _let_go(self, project: Project) -> None:
        # `watch` cancels this timer, so the project is still unwatched here.
        del self._projects[project.name.encode()]
        self.payloads_dropped += project.channel.bad_payloads
        self.feed.unsubscribe(project.name)

    # What the feed brings

    def on_events(self, events: Mapping[bytes, list[bytes]]) -> None:
        """The hot path: what one read from Redis brought is framed once, and each socket is given it in one write."""
        for name, payloads in events.items():
            project = self._projects.get(name)
            if project is None:
                continue
            try:
                self._deliver(project, payloads)
            except Exception as error:
                self.give_up(project, error)

    def _deliver(self, project: Project, payloads: list[bytes]) -> None:
        counters = self.counters
        self.events_received += len(payloads)
        counters.received_bytes += len(payloads[0]) if len(payloads) == 1 else sum(map(len, payloads))
        channel = project.channel
        position = channel.position
        started_ns = 0 if self._tracing is None else time.time_ns()
        frames = channel.receive(payloads)
        if frames and (keeping_up := [socket for socket in project.viewers if not socket.is_behind]):
            for socket in keeping_up:
                socket.write(frames)
            seq = channel.batch_seq
            age = None if seq is None else time.time() - seq / 1_000_000
            counters.on_delivered(len(frames), len(keeping_up), channel.position - position, age)
            if self._tracing is not None:
                self._tracing.on_delivered(payloads, len(keeping_up), started_ns)

    def on_loaded(self, name: str, remembered: Remembered) -> None:
        project = self._projects.get(name.encode())
        if project is None:
            return
        try:
            self._load(project, remembered)
        except Exception as error:
            self.give_up(project, error)

    def _load(self, project: Project, remembered: Remembered) -> None:
        channel = project.channel
        position = channel.position
        now_us = time.time_ns() // 1_000
        channel.load(remembered, now=now_us, outage=now_us - self._lost_us if self.is_stale else 0)
        self._kept.add(channel.is_kept)
        self._catch_up(project, position)
        for viewer in list(project.waiting):
            viewer.on_ready(project)

    def _catch_up(self, project: Project, position: int) -> None:
        """Give those who keep up, and have everything up to `position`, what follows."""
        if project.viewers and (frames := project.channel.catch_up(position)):
            self.catch_ups += 1
            for socket in project.viewers:
                if not socket.is_behind:
                    self.counters.sent_bytes += len(frames)
                    socket.write(frames)

    def on_refused(self, name: str) -> None:
        if (project := self._projects.get(name.encode())) is not None:
            self._refuse(project)

    def _refuse(self, project: Project) -> None:
        for viewer in {*project.waiting, *project.viewers.values()}:
            try:
                viewer.on_refused(project)
            except Exception:  # it has left the project by then, and the others are to be told
                logger.debug("Unexpected", exc_info=True)
        if project.linger is not None:  # a later subscribe is to ask Redis again, not to wait for this one
            project.linger.cancel()
            self._let_go(project)

    def give_up(self, project: Project, error: Exception) -> None:
        """A bug, met by what one project brought: it costs that project, not the feed, which is everybody's."""
        text = " ".join(str(error).split())
        name = type(error).__name__
        logger.error("Project %s is given up, its viewers are told: %s: %.200s", project.channel.project_id, name, text)
        logger.debug("Unexpected", exc_info=error)
        self._refuse(project)

    def on_lost(self, names: Iterable[str]) -> None:
        if not self.is_stale:
            self._stale_since = time.monotonic()
            self._lost_us = time.time_ns() // 1_000
            self._kept.clear()
        self.is_stale = True
        self.on_moved(names)
        self._tell_all()

    def on_moved(self, names: Iterable[str]) -> None:
        for name in names:
            if (project := self._projects.get(name.encode())) is not None:
                project.channel.begin_load()

    def on_replaced(self, first: float, last: float) -> None:
        now_us = time.time_ns() // 1_000
        begin, end = now_us - int(first * 1_000_000), now_us - int(last * 1_000_000)
        self._handovers.append((begin - DOUBT_BEFORE_US, end + DOUBT_AFTER_US))

    def is_doubtful(self, cursor: int) -> bool:
        """Whether a client's cursor may be of a server that another one was replacing.

        For a moment both take events, replicas leave the old one a little before or after each other, and seq says
        nothing of what the client has seen of the other server's.
        """
        return any(begin < cursor < end for begin, end in self._handovers)

    def is_before_handover(self, cursor: int) -> bool:
        """Whether a client's cursor is older than that a server was replaced: then it is given the whole picture.

        There may have been more such moments than are known here: Sentinels tell of the last only.
        """
        return bool(self._handovers) and cursor < max(end for _, end in self._handovers)

    def on_live(self) -> None:
        self._stale_seconds = self.stale_seconds
        self.is_stale = False
        if False in self._kept or True not in self._kept:
            self._doubt_the_rest()
        self._tell_all()

    def _doubt_the_rest(self) -> None:
        """Redis was emptied, or lost something, or nobody can tell: so may it have of projects that were idle long."""
        for project in self._projects.values():
            position = project.channel.position
            if project.channel.doubt(is_sure=False in self._kept):
                self._catch_up(project, position)

    def _tell_all(self) -> None:
        for viewer in list(self.viewers):
            viewer.on_feed_changed()

    # What operators see

    @property
    def is_ready(self) -> bool:
        """Not so when the feed was lost longer ago than the grace: all replicas lose a Redis at the same moment, and a
        load balancer that takes all of them out for a blip would end the service for it."""
        lost = self.feed.lost_seconds
        return not self.is_draining and lost is not None and lost <= self.settings.redis_grace_seconds

    @property
    def stale_seconds(self) -> float:
        """For how long, in all, clients were told `stale`; also before the first `live`."""
        return self._stale_seconds + (time.monotonic() - self._stale_since if self.is_stale else 0.0)

    @property
    def drain_overdue_seconds(self) -> float:
        """By how much a drain is beyond its bound; it goes on rising until the process has ended."""
        return max(0.0, time.monotonic() - self.drain_due_at)

    @property
    def projects(self) -> int:
        return len(self._projects)

    @property
    def subscriptions(self) -> int:
        return sum(len(project.viewers) for project in self._projects.values())

    @property
    def bad_payloads(self) -> int:
        return self.payloads_dropped + sum(project.channel.bad_payloads for project in self._projects.values())
