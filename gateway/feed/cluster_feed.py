"""The feed of a Redis Cluster: sharded pub/sub, one `Shard` for each primary, and channels that move between them."""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Iterable, Mapping

from redis.exceptions import RedisError

from gateway.counters import FeedCounters
from gateway.feed.link import end_if_cancelled
from gateway.feed.nodes import MOST_ASKED, migrated_states, views_of
from gateway.feed.observer import FeedObserver, FeedState, Remembered
from gateway.feed.outage_log import OutageLog, Trouble
from gateway.feed.shard import Shard
from gateway.feed.slots import host_and_port, owners
from publisher.transport.slot_map import slot_of
from publisher.transport.url import RedisUrl

logger = logging.getLogger("gateway.feed")

LOOK_SECONDS = 2.0  # between two looks at who owns which slots, where nothing asks for one
LOOK_MIN_SECONDS = 0.1  # also a look that was asked for waits a moment: the channels of a moved slot ask one by one
LOOK_MAX_SECONDS = 1.0  # while something is amiss
MOVE_SECONDS = 2.0  # a channel that is on its way between shards for longer is told as a loss
MOST_PROBE_TRIES = 1 << 18  # names of a probe until one lies in a shard's slots: a shard may own a single one


class ClusterFeed:
    """All shards as one feed. Lives as long as the replica; used by one event loop only.

    A channel belongs to the shard that owns its slot. Slots move: a shard that loses one unsubscribes its channels by
    itself, or answers MOVED; then, after a look at who owns what, the channel is subscribed and loaded at its new
    shard, and its viewers are caught up as after any other loss. While one shard is away, events of the others go on.
    """

    def __init__(self, url: RedisUrl, observer: FeedObserver, probe_channel: str) -> None:
        self._url = url
        self._observer = observer
        self._probe_channel = probe_channel
        self._shards: dict[str, Shard] = {}
        self._slots: Mapping[int, str] = {}
        self._migrating: frozenset[int] = frozenset()
        self._homes: dict[str, Shard | None] = {}  # the shard of each channel; None while that is looked for
        # Channels whose events may be missed at the moment, and since when; `live` is told when there are none.
        self._awaited: dict[str, float] = {}
        self._asked: dict[str, dict[str, None]] = {}  # by address: channels whose state is there before its slot is
        self._is_live = False  # as it was told
        self._lost_until: float | None = None  # when events of some shard last came for sure
        self._look = asyncio.Event()
        self._is_closed = False
        # Of the question who owns what; the shards have outages of their own.
        self._outage_log = OutageLog(url.url)
        self._is_answered = False
        self._is_overdue = False  # a channel is on its way for too long
        # Of channels in migration: what was handed on last, unless the observer waits for it anew.
        self._fetched: dict[str, Remembered] = {}
        self.counters = FeedCounters()  # of all shards, also of those that are gone

    # What the hub asks for

    def subscribe(self, redis_channel: str) -> None:
        self._homes[redis_channel] = None
        self._fetched.pop(redis_channel, None)
        self._settle(redis_channel)

    def unsubscribe(self, redis_channel: str) -> None:
        self._awaited.pop(redis_channel, None)
        if (shard := self._homes.pop(redis_channel, None)) is not None:
            shard.feed.unsubscribe(redis_channel)

    def after_round_trip(self, redis_channel: str, then: Callable[[], None]) -> None:
        if (shard := self._homes.get(redis_channel)) is not None:
            shard.feed.after_round_trip(redis_channel, then)

    @property
    def state(self) -> FeedState:
        """That of the shard that is worst off."""
        if self._is_closed:
            return FeedState.CLOSED
        states = {shard.feed.state for shard in self._shards.values()}
        if not states or FeedState.DOWN in states:
            return FeedState.DOWN
        return FeedState.LIVE if self._is_live and states == {FeedState.LIVE} else FeedState.LOADING

    @property
    def is_proven(self) -> bool:
        return self._is_live and all(shard.feed.is_proven for shard in self._shards.values())

    @property
    def lost_seconds(self) -> float | None:
        """Of the shard that is best off: who serves the viewers of the others is not to be taken out of service."""
        now = asyncio.get_running_loop().time()
        known = [lost for shard in self._shards.values() if (lost := shard.feed.lost_seconds) is not None]
        if known:
            self._lost_until = now - min(known)
            return min(known)
        return None if self._lost_until is None else now - self._lost_until

    @property
    def trouble(self) -> Trouble | None:
        for shard in self._shards.values():
            if (trouble := shard.feed.trouble) is not None:
                return Trouble(f"{shard.address}: {trouble.error}", trouble.hint)
        is_lost = not self._is_answered or self._is_overdue
        return self._outage_log.trouble(is_lost=is_lost, now=asyncio.get_running_loop().time())

    # What the shards tell

    def on_events(self, shard: Shard, events: Mapping[bytes, list[bytes]]) -> None:
        # What a shard still had to say of a channel that is settled elsewhere is older than what was loaded there.
        homes = self._homes
        self._observer.on_events({name: events[name] for name in events if homes.get(name.decode()) is shard})

    def on_loaded(self, redis_channel: str, remembered: Remembered) -> None:
        self._awaited.pop(redis_channel, None)
        self._observer.on_loaded(redis_channel, remembered)
        self.on_shard_live()

    def on_refused(self, redis_channel: str) -> None:
        self._awaited.pop(redis_channel, None)
        self._observer.on_refused(redis_channel)

    def on_shard_lost(self, redis_channels: Iterable[str]) -> None:
        redis_channels = list(redis_channels)
        self._await(redis_channels)
        self._lose(redis_channels)
        self._look.set()  # its replica may take over

    def _lose(self, redis_channels: list[str]) -> None:
        """Tell that events of these may be missed."""
        self._is_live = False
        self._forget_fetched(redis_channels)
        self._observer.on_lost(redis_channels)

    def on_shard_live(self) -> None:
        is_whole = bool(self._shards) and not self._awaited and all(shard.is_live for shard in self._shards.values())
        self._is_overdue &= bool(self._awaited)
        if is_whole and not self._is_live:
            self._is_live = True
            self._outage_log.live(asyncio.get_running_loop().time())
            self._observer.on_live()

    def on_moved(self, shard: Shard, redis_channels: Iterable[str]) -> None:
        self._unsettle([redis_channel for redis_channel in redis_channels if self._homes.get(redis_channel) is shard])
        self._look.set()

    def on_ask(self, redis_channel: str, address: str) -> None:
        if redis_channel in self._homes:
            self._await([redis_channel])
            self._asked.setdefault(address, {})[redis_channel] = None
            self._look.set()

    def on_checked(self, redis_channel: str, remembered: Remembered) -> None:
        if redis_channel in self._awaited:  # its state was elsewhere for a while
            self.on_loaded(redis_channel, remembered)

    def _unsettle(self, redis_channels: list[str]) -> None:
        self._homes.update(dict.fromkeys(redis_channels))
        self._forget_fetched(redis_channels)
        self._await(redis_channels)
        self._observer.on_moved(redis_channels)

    def _forget_fetched(self, redis_channels: Iterable[str]) -> None:
        """The observer holds back what comes of these until it is given their state, be it the same as before."""
        for redis_channel in redis_channels:
            self._fetched.pop(redis_channel, None)

    def _await(self, redis_channels: Iterable[str]) -> None:
        now = asyncio.get_running_loop().time()
        for redis_channel in redis_channels:
            self._awaited.setdefault(redis_channel, now)

    # Who owns what

    async def run(self) -> None:
        """Look who owns which slots, again and again, and have a feed for each shard; ends by cancellation."""
        rounds = 0
        try:
            while True:
                self._look.clear()
                try:
                    await self._look_around()
                    await self._fetch_asked()
                except Exception:  # a bug, or what no Redis says: the replica must go on
                    logger.debug("Unexpected", exc_info=True)
                end_if_cancelled()
                self._tell_what_takes_long()
                is_settled = self._is_well
                rounds = 0 if is_settled else rounds + 1
                bound = min(LOOK_MAX_SECONDS, LOOK_MIN_SECONDS * 2 ** min(rounds, 10))
                await asyncio.sleep(random.uniform(bound / 2, bound))  # noqa: S311
                if is_settled:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(LOOK_SECONDS):
                            await self._look.wait()
        finally:
            self._is_closed = True
            for shard in self._shards.values():
                shard.end()
            await asyncio.gather(*(shard.task for shard in self._shards.values()), return_exceptions=True)

    @property
    def _is_well(self) -> bool:
        return self._is_live and self._is_answered and not self._migrating and not self._awaited

    async def _look_around(self) -> None:
        try:
            most = MOST_ASKED if self._is_well else len(self._shards)
            views, migrating = await views_of(self._url, list(self._shards.values()), most)
            slots = owners(views)
            if not slots:
                raise RedisError("no node owns a slot")
        except Exception as error:  # also redis-py's, of a server that is no Redis
            self._is_answered = False
            self._outage_log.failed(error, asyncio.get_running_loop().time())
            return
        if not self._is_answered and self._is_live:
            self._outage_log.live(asyncio.get_running_loop().time())
        self._is_answered = True
        self._migrating = migrating
        self._arrange(slots)

    def _arrange(self, slots: Mapping[int, str]) -> None:
        """Begin, end and fill the feeds of the shards."""
        if slots != self._slots:
            self._slots = slots
            addresses = dict.fromkeys(slots.values())
            for address in [address for address in self._shards if address not in addresses]:
                self._end(self._shards.pop(address))
            for address in addresses:
                if address not in self._shards:
                    url = self._url.at(*host_and_port(address))
                    self._shards[address] = Shard(self, address, url, self._probe_in(address))
            for redis_channel in self._homes:
                self._settle(redis_channel)
        for address, shard in self._shards.items():  # its slot may have left, or left and come back
            shard.feed.use_probe(self._probe_in(address, shard.feed.probe_channel))
        for redis_channel in [redis_channel for redis_channel, home in self._homes.items() if home is None]:
            self._settle(redis_channel)
        if self._migrating or self._awaited:  # one that was on its way may have stayed where it was
            for redis_channel, home in self._homes.items():
                if home is not None and (redis_channel in self._awaited or slot_of(redis_channel) in self._migrating):
                    home.check(redis_channel)
        self.on_shard_live()

    def _probe_in(self, address: str, last: str = "") -> str:
        """A channel whose slot the shard owns; the last one, if that is still so."""
        if last and self._slots.get(slot_of(last)) == address:
            return last
        names = (f"{self._probe_channel}:{number}" for number in range(MOST_PROBE_TRIES))
        return next((name for name in names if self._slots.get(slot_of(name)) == address), self._probe_channel)

    def _settle(self, redis_channel: str) -> None:
        """Have the channel at the shard that owns it."""
        shard = self._shards.get(self._slots.get(slot_of(redis_channel), ""))
        before = self._homes[redis_channel]
        if shard is not before and before is not None:
            before.feed.unsubscribe(redis_channel)
            self._unsettle([redis_channel])
        if shard is None:
            self._await([redis_channel])  # nobody owns its slot, or that is not known yet
        elif shard is not before:
            self._homes[redis_channel] = shard
            shard.feed.subscribe(redis_channel)

    def _end(self, shard: Shard) -> None:
        """Its slots are others'."""
        shard.end()
        self._unsettle([redis_channel for redis_channel, home in self._homes.items() if home is shard])

    async def _fetch_asked(self) -> None:
        """Load states that are at a new shard already, while their slot, and with it the channel, is at the old one.

        Events are published where the state is, and are not heard here; so a slot that stays half migrated is looked at
        again and again, and its viewers get the last event of each job, a little later than others.
        """
        asked, self._asked = self._asked, {}
        fetched: dict[str, Remembered] = {}
        for address, redis_channels in asked.items():
            try:
                fetched |= await migrated_states(self._url, address, list(redis_channels))
            except Exception as error:
                logger.debug("%s, which was asked for channels in migration: %s", address, error)
        for redis_channel, state in fetched.items():
            if self._homes.get(redis_channel) is None:
                continue
            if state != self._fetched.get(redis_channel):
                self._observer.on_moved([redis_channel])  # what came from the old shard is older
                self.on_loaded(redis_channel, state)
            else:  # handed on already; handed on again, it might look like a gap
                self._awaited.pop(redis_channel, None)
        self._fetched = fetched
        self.on_shard_live()

    def _tell_what_takes_long(self) -> None:
        now = asyncio.get_running_loop().time()
        overdue = [redis_channel for redis_channel, since in self._awaited.items() if now - since > MOVE_SECONDS]
        away = [shard for shard in self._shards.values() if not shard.is_live and now - shard.began_at > MOVE_SECONDS]
        if (overdue or away) and self._is_live:
            self._lose([*overdue, *(redis_channel for redis_channel, home in self._homes.items() if home in away)])
        if overdue and not away and not self._is_overdue:
            self._is_overdue = True
            self._outage_log.failed(RedisError(f"no node of the Cluster owns the project's slot ({overdue[0]})"), now)
