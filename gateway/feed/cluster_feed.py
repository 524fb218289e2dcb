"""The feed of a Redis Cluster: a `Shard` for each primary, and Redis channels that move between them."""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Iterable, Mapping

from redis.exceptions import RedisError

from gateway.feed.interfaces import FeedObserver, FeedState, Remembered
from gateway.feed.link import end_if_cancelled
from gateway.feed.nodes import MAX_ASKED, migrated_states, views_of
from gateway.feed.shard import Shard
from gateway.feed.slots import host_and_port, owners
from gateway.feed.trouble_log import Trouble, TroubleLog
from gateway.operations.counters import FeedCounters
from publisher.transport.advice import error_text
from publisher.transport.slot_map import slot_of
from publisher.transport.url import RedisUrl

logger = logging.getLogger("gateway.feed")

LOOK_SECONDS = 2.0  # between two looks at the slot map, while nothing asks for one
LOOK_MIN_SECONDS = 0.1  # even if a look is asked for sooner: the channels of a moved slot ask one by one
LOOK_MAX_SECONDS = 1.0  # while something is wrong
MOVE_SECONDS = 2.0  # if a Redis channel needs longer to move, clients are told `stale`
MAX_NAME_TRIES = 1 << 18  # names until one lies in a shard's slots: a shard may own a single slot


class ClusterFeed:
    """All shards as one feed. Lives as long as the replica; used by one event loop only.

    A Redis channel belongs to the shard that owns its slot. Slots move: a shard that loses one unsubscribes its Redis
    channels by itself, or answers MOVED. Then we look at the slot map, subscribe and load at the new shard, and viewers
    are caught up as after any loss. While one shard is away, events of the others go on.
    """

    def __init__(self, url: RedisUrl, observer: FeedObserver, *, probe_channel: str, memory_channel: str) -> None:
        self._url = url
        self._observer = observer
        self._probe_channel = probe_channel
        """Names of probes begin with it; each shard needs one in a slot of its own."""
        self._memory_channel = memory_channel
        """The same for the id of a shard's memory."""
        self.counters = FeedCounters()
        """The counts of all shards, also of shards that are gone."""
        self._trouble_log = TroubleLog(url.url)
        """For the slot map only; each shard has a log of its own."""
        self._is_closed = False

        # The slot map.
        self._shards: dict[str, Shard] = {}
        """The shards by address."""
        self._slots: Mapping[int, str] = {}
        """The address of the owner of each slot."""
        self._migrating: frozenset[int] = frozenset()
        """The slots that are half moved."""
        self._look = asyncio.Event()
        """Set when the slot map should be looked at now."""
        self._is_answered = False
        """True if the last look found a map."""

        # Where each Redis channel is.
        self._homes: dict[str, Shard | None] = {}
        """Its shard; None while that is looked for."""
        self._awaited: dict[str, float] = {}
        """The Redis channels whose events may be missed at the moment, and since when."""
        self._asked: dict[str, dict[str, None]] = {}
        """By the address of a node: the Redis channels whose state is there already, but whose slot is not."""
        self._fetched: dict[str, Remembered | str] = {}
        """The last states of such channels that were handed on; not of channels that the observer waits for."""

        # What the observer was told.
        self._is_live = False
        self._is_overdue = False
        """True while a Redis channel needs longer than MOVE_SECONDS to move."""
        self._lost_until: float | None = None
        """The last time at which events of at least one shard surely arrived."""

    # What the hub asks for

    def subscribe(self, redis_channel: str) -> None:
        """Subscribe and load. `on_loaded` or `on_refused` follows, once a shard that owns the slot is there."""
        self._homes[redis_channel] = None
        self._fetched.pop(redis_channel, None)
        self._settle(redis_channel)

    def unsubscribe(self, redis_channel: str) -> None:
        """Unsubscribe from a Redis channel. Nothing more of it is handed on."""
        self._awaited.pop(redis_channel, None)
        if (shard := self._homes.pop(redis_channel, None)) is not None:
            shard.unsubscribe(redis_channel)

    def after_round_trip(self, redis_channel: str, then: Callable[[], None]) -> None:
        """Call `then` after a round trip to the shard; never, if its link is lost or the Redis channel moves first."""
        if (shard := self._homes.get(redis_channel)) is not None:
            shard.after_round_trip(redis_channel, then)

    @property
    def state(self) -> FeedState:
        """The worst state of all shards."""
        if self._is_closed:
            return FeedState.CLOSED
        states = {shard.state for shard in self._shards.values()}
        if not states or FeedState.DOWN in states:
            return FeedState.DOWN
        return FeedState.LIVE if self._is_live and states == {FeedState.LIVE} else FeedState.LOADING

    @property
    def lost_seconds(self) -> float | None:
        """The smallest value of all shards: a replica that can serve some viewers should stay in service."""
        now = asyncio.get_running_loop().time()
        known = [lost for shard in self._shards.values() if (lost := shard.lost_seconds) is not None]
        if known:
            self._lost_until = now - min(known)
            return min(known)
        return None if self._lost_until is None else now - self._lost_until

    @property
    def trouble(self) -> Trouble | None:
        """What an operator should know now, of the first shard in trouble or of the slot map; None if all is well."""
        for shard in self._shards.values():
            if (trouble := shard.trouble) is not None:
                return Trouble(f"{shard.address}: {trouble.error}", trouble.hint)
        is_lost = not self._is_answered or self._is_overdue
        return self._trouble_log.trouble(is_lost=is_lost, now=asyncio.get_running_loop().time())

    # What the shards tell (this is their observer)

    def on_events(self, events: Mapping[bytes, list[bytes]]) -> None:
        self._observer.on_events(events)

    def on_loaded(self, redis_channel: str, remembered: Remembered, memory_id: bytes | None = None) -> None:
        self._awaited.pop(redis_channel, None)
        self._observer.on_loaded(redis_channel, remembered, memory_id)
        self.on_live()

    def on_checked(self, redis_channel: str, remembered: Remembered, memory_id: bytes | None) -> None:
        if redis_channel in self._awaited:  # its state was elsewhere for a while
            self.on_loaded(redis_channel, remembered, memory_id)

    def on_refused(self, redis_channel: str) -> None:
        self._awaited.pop(redis_channel, None)
        self._observer.on_refused(redis_channel)

    def on_lost(self, redis_channels: Iterable[str]) -> None:
        redis_channels = list(redis_channels)
        self._await(redis_channels)
        self._lose(redis_channels)
        self._look.set()  # a replica may take over from the shard

    def on_moved(self, redis_channels: Iterable[str]) -> None:
        self._unsettle(list(redis_channels))
        self._look.set()

    def on_asked_elsewhere(self, redis_channel: str, address: str) -> None:
        if redis_channel in self._homes:
            self._await([redis_channel])
            self._asked.setdefault(address, {})[redis_channel] = None
            self._look.set()

    def on_replaced(self, first: float, last: float) -> None: ...  # a shard stays with its server

    def on_live(self) -> None:
        """A shard is live, or a Redis channel is loaded: tell `live` if nothing else is missing."""
        is_whole = bool(self._shards) and not self._awaited and all(shard.is_live for shard in self._shards.values())
        self._is_overdue &= bool(self._awaited)
        if is_whole and not self._is_live:
            self._is_live = True
            self._trouble_log.live(asyncio.get_running_loop().time())
            self._observer.on_live()

    def _lose(self, redis_channels: list[str]) -> None:
        """Tell that events of these may be missed."""
        self._is_live = False
        self._forget_fetched(redis_channels)
        self._observer.on_lost(redis_channels)

    def _unsettle(self, redis_channels: list[str]) -> None:
        self._homes.update(dict.fromkeys(redis_channels))
        self._forget_fetched(redis_channels)
        self._await(redis_channels)
        self._observer.on_moved(redis_channels)

    def _forget_fetched(self, redis_channels: Iterable[str]) -> None:
        """The observer waits for the state of these: hand it on even if it is the same as before."""
        for redis_channel in redis_channels:
            self._fetched.pop(redis_channel, None)

    def _await(self, redis_channels: Iterable[str]) -> None:
        now = asyncio.get_running_loop().time()
        for redis_channel in redis_channels:
            self._awaited.setdefault(redis_channel, now)

    # The slot map

    async def run(self) -> None:
        """Look at the slot map again and again, and keep a shard for each owner, until cancelled."""
        rounds = 0
        try:
            while True:
                self._look.clear()
                try:
                    await self._look_around()
                    await self._fetch_asked()
                except Exception:  # a bug, or an odd answer: the replica must go on
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
            most = MAX_ASKED if self._is_well else len(self._shards)
            views, migrating = await views_of(self._url, list(self._shards.values()), most)
            slots = owners(views)
            if not slots:
                raise RedisError("no node owns a slot")
        except Exception as error:  # also redis-py's, about a server that is not a Redis
            self._is_answered = False
            self._trouble_log.failed(error, asyncio.get_running_loop().time())
            return
        if not self._is_answered and self._is_live:
            self._trouble_log.live(asyncio.get_running_loop().time())
        self._is_answered = True
        self._migrating = migrating
        self._arrange(slots)

    def _arrange(self, slots: Mapping[int, str]) -> None:
        """Begin and end shards, and settle each Redis channel at the owner of its slot."""
        if slots != self._slots:
            self._slots = slots
            addresses = dict.fromkeys(slots.values())
            for address in [address for address in self._shards if address not in addresses]:
                self._end(self._shards.pop(address))
            for address in addresses:
                if address not in self._shards:
                    self._shards[address] = self._begin(address)
            for redis_channel in self._homes:
                self._settle(redis_channel)
        for address, shard in self._shards.items():  # a slot may have left, or left and come back
            shard.use_names(
                probe_channel=self._name_in(address, self._probe_channel, shard.probe_channel),
                memory_channel=self._name_in(address, self._memory_channel, shard.memory_channel),
            )
        for redis_channel in [redis_channel for redis_channel, home in self._homes.items() if home is None]:
            self._settle(redis_channel)
        if self._migrating or self._awaited:  # a Redis channel that was to move may have stayed
            for redis_channel, home in self._homes.items():
                if home is not None and (redis_channel in self._awaited or slot_of(redis_channel) in self._migrating):
                    home.check(redis_channel)
        self.on_live()

    def _begin(self, address: str) -> Shard:
        shard = Shard(
            address,
            self._url.at(*host_and_port(address)),
            self,
            probe_channel=self._name_in(address, self._probe_channel),
            memory_channel=self._name_in(address, self._memory_channel),
        )
        shard.counters = self.counters
        return shard

    def _end(self, shard: Shard) -> None:
        shard.end()
        self._unsettle([redis_channel for redis_channel, home in self._homes.items() if home is shard])

    def _name_in(self, address: str, prefix: str, last: str = "") -> str:
        """A name in a slot of this shard: `last` if it is still in one, else the first, which all replicas find."""
        if last and self._slots.get(slot_of(last)) == address:
            return last
        names = (f"{prefix}:{number}" for number in range(MAX_NAME_TRIES))
        return next((name for name in names if self._slots.get(slot_of(name)) == address), prefix)

    def _settle(self, redis_channel: str) -> None:
        """Subscribe at the shard that owns the slot."""
        shard = self._shards.get(self._slots.get(slot_of(redis_channel), ""))
        before = self._homes[redis_channel]
        if shard is not before and before is not None:
            before.unsubscribe(redis_channel)
            self._unsettle([redis_channel])
        if shard is None:
            self._await([redis_channel])  # nobody owns its slot, or the map is not known yet
        elif shard is not before:
            self._homes[redis_channel] = shard
            shard.subscribe(redis_channel)

    async def _fetch_asked(self) -> None:
        """Load states that are at a new shard already, while their slot, and the Redis channel, are at the old one.

        Events are published where the state is, so we do not hear them. As long as a slot stays half moved, each look
        reads the state again, and viewers get the last event of each job a little later than others.
        """
        asked, self._asked = self._asked, {}
        fetched: dict[str, Remembered | str] = {}
        for address, redis_channels in asked.items():
            try:
                fetched |= await migrated_states(self._url, address, list(redis_channels))
            except Exception as error:
                logger.debug("%s, which was asked for half moved slots: %s", address, error_text(error))
        for redis_channel, state in fetched.items():
            if self._homes.get(redis_channel) is None:
                continue
            if isinstance(state, str):
                self._trouble_log.left_out(redis_channel, ValueError(state), asyncio.get_running_loop().time())
                self.on_refused(redis_channel)
            elif state != self._fetched.get(redis_channel):
                self._observer.on_moved([redis_channel])  # events from the old shard are older
                self.on_loaded(redis_channel, state)
            else:  # handed on already; a second time it could look like a gap
                self._awaited.pop(redis_channel, None)
        self._fetched = fetched
        self.on_live()

    def _tell_what_takes_long(self) -> None:
        now = asyncio.get_running_loop().time()
        overdue = [redis_channel for redis_channel, since in self._awaited.items() if now - since > MOVE_SECONDS]
        away = [shard for shard in self._shards.values() if not shard.is_live and now - shard.began_at > MOVE_SECONDS]
        if (overdue or away) and self._is_live:
            self._lose([*overdue, *(redis_channel for redis_channel, home in self._homes.items() if home in away)])
        if overdue and not away and not self._is_overdue:
            self._is_overdue = True
            self._trouble_log.failed(RedisError(f"no node of the Cluster owns the project's slot ({overdue[0]})"), now)
