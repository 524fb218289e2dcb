"""The feed of one primary of a Cluster: sharded pub/sub, and Redis channels that move to other shards."""

import asyncio
import re
from typing import Any, Protocol

import hiredis

from gateway.feed.interfaces import FeedObserver, FeedState, Remembered
from gateway.feed.link import MOVES, SHARDED, Expected, Load, pack, read_state
from gateway.feed.server_feed import PROBE_SECONDS, ServerFeed
from gateway.feed.slots import host_and_port
from publisher.transport.slot_map import NOWHERE, decoded
from publisher.transport.url import is_address

ASK_SECONDS = 1.0

_ADDRESS = re.compile(r"(\S*):(\d{1,5})$")  # at the end of an ASK


def _address_in(text: str) -> str:
    """The address that ASK names; '' for a node without a name yet (`?`), and for nonsense.

    The host is empty if it is that of the node which answered.
    """
    found = _ADDRESS.search(text)
    is_usable = found and found[1] != NOWHERE and is_address(found[1] or "localhost", int(found[2]))
    return found[0] if found and is_usable else ""


class ShardObserver(FeedObserver, Protocol):
    """The feed of the whole Cluster, as a shard sees it."""

    def on_asked_elsewhere(self, redis_channel: str, address: str) -> None:
        """The state is at this address already, and so are new events, while the Redis channel is still here.

        Its slot is half migrated.
        """

    def on_checked(self, redis_channel: str, remembered: Remembered, memory_id: bytes | None) -> None:
        """The state of a subscribed Redis channel is here after all."""


class Shard(ServerFeed):
    """One primary: a feed that tells when it no longer serves a Redis channel. Lives while its address owns slots."""

    def __init__(
        self, address: str, url: str, observer: ShardObserver, *, probe_channel: str, memory_channel: str
    ) -> None:
        super().__init__(url, observer, probe_channel=probe_channel, memory_channel=memory_channel, verbs=SHARDED)
        self.address = address
        self.began_at = asyncio.get_running_loop().time()
        """When it was met, by the loop's clock."""
        self._shard_observer = observer
        self._leaving: dict[str, int] = {}
        """How many SUNSUBSCRIBEs of a Redis channel are not answered yet."""
        self._is_probe_gone = False
        """True if the slot of the probe left; it may have come back since."""
        self._is_memory_gone = False
        """True if the slot of the memory's id was elsewhere when it was read."""
        self._demoted_at: float | None = None
        """When it first said that it is a replica now."""
        self.task = asyncio.get_running_loop().create_task(self.run())

    @property
    def is_live(self) -> bool:
        return self.state is FeedState.LIVE

    def end(self) -> None:
        """Hand on nothing from now on. The task ends in a moment."""
        self._lost.set()
        self._disconnect()
        self.task.cancel()

    # What the feed of the Cluster asks for

    def use_names(self, *, probe_channel: str, memory_channel: str) -> None:
        """Use these Redis channels of our own from now on: the slots of the old ones may belong to another shard."""
        if probe_channel != self.probe_channel or self._is_probe_gone:
            self._is_probe_gone = False
            self.probe_channel, self._probe_name = probe_channel, probe_channel.encode()
            if self._transport is not None:
                self._subscribe_to_probe()
        if memory_channel != self.memory_channel or self._is_memory_gone:
            self._is_memory_gone = False
            self.memory_channel = memory_channel
            if self._transport is not None:
                self._read_memory()

    def check(self, redis_channel: str) -> None:
        """Find out whether the state of a subscribed Redis channel is still here, while its slot migrates."""
        is_wanted = redis_channel in self._wanted or redis_channel in self._loads
        if redis_channel in self._channels and not is_wanted and self._transport is not None:
            self._write(b"".join([*self._measure(Load("check", redis_channel)), *self._measured_commands()]))

    async def ask(self, *words: str) -> Any:
        """Return the answer, which may be an error. Raises `TimeoutError` if none comes."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def take(given: Any) -> None:
            if not answer.done():
                answer.set_result(given)

        if self._transport is not None:
            self._write(self._command(Expected("ask", then=take), *words))
        async with asyncio.timeout(ASK_SECONDS):
            return await answer

    # What differs from a server of its own

    def _begin(self, transport: asyncio.Transport) -> None:
        self._leaving.clear()
        self._is_probe_gone, self._is_memory_gone, self._demoted_at = False, False, None
        super()._begin(transport)

    def _hand_on(self, events: dict[bytes, list[bytes]]) -> None:
        # An event here for a Redis channel that has moved is older than the state that was loaded at its new shard.
        wanted = self._channels
        super()._hand_on({name: events[name] for name in events if name.decode() in wanted or name == self._probe_name})

    def _unsubscribe_commands(self) -> list[bytes]:
        # A shard that loses a slot unsubscribes by itself, with the same push that answers our SUNSUBSCRIBE. If it does
        # that just before it reads ours, it also answers ours with an error. So we expect no answer to SUNSUBSCRIBE:
        # whatever it causes comes before the answer to the PING behind it.
        unwanted, self._unwanted = self._unwanted, []
        if not unwanted:
            return []
        for name in unwanted:
            self._leaving[name] = self._leaving.get(name, 0) + 1
        commands = [pack(self._verbs.unsubscribe, name) for name in unwanted]
        left = Expected("left", then=lambda _: self._on_left(unwanted))
        return [*commands, self._command(left, "PING")]

    def _on_left(self, redis_channels: list[str]) -> None:
        for redis_channel in redis_channels:
            self._leaving[redis_channel] -= 1
            if not self._leaving[redis_channel]:
                del self._leaving[redis_channel]

    def _on_push(self, push: list[Any]) -> None:
        if push[0] != b"sunsubscribe":
            super()._on_push(push)
        elif (redis_channel := decoded(push[1])) not in self._leaving:
            self._move(redis_channel)  # its slot went to another shard

    def _on_replica(self) -> None:
        """Treat all slots as moved at first: a look finds out who took over. Give up the link if that takes long."""
        now = asyncio.get_running_loop().time()
        if self._demoted_at is None:
            self._demoted_at = now
            for redis_channel in list(self._channels):
                self._move(redis_channel)
        elif now - self._demoted_at > PROBE_SECONDS:
            super()._on_replica()

    def _on_error(self, expected: Expected, error: hiredis.ReplyError) -> None:
        code, _, rest = str(error).partition(" ")
        if expected.kind == "ask" and expected.then is not None:
            expected.then(error)
        elif code not in MOVES or (expected.kind == "probe" and code == "CLUSTERDOWN"):
            super()._on_error(expected, error)
        elif expected.kind == "left":
            self._expected.appendleft(expected)  # this answers a SUNSUBSCRIBE; the PING behind it is still to come
        elif expected.kind == "probe":
            self._move(expected.redis_channel)  # the next look brings another probe, or the link is given up
        elif expected.kind in ("write memory", "memory"):
            self._is_memory_gone = True  # the next look brings another name
        elif code == "ASK" and (address := _address_in(rest)):
            self._on_asked_elsewhere(expected, address)
        elif self._is_homeless(expected, code):
            self._move(expected.redis_channel)

    def _is_homeless(self, expected: Expected, code: str) -> bool:
        """Whether to look up who serves the Redis channel. Not if a check got MOVED: the shard will unsubscribe it."""
        return (
            self._is_load(expected)
            or expected.kind == self._verbs.subscribe
            or (expected.kind == "check" and code == "ASK")
        )

    def _is_load(self, expected: Expected) -> bool:
        return expected.load is not None and self._loads.get(expected.redis_channel) is expected.load

    def _on_state(self, load: Load, answer: Any) -> None:
        if load.kind == "check":
            self._shard_observer.on_checked(load.redis_channel, read_state(answer), self.memory_id)
        else:
            super()._on_state(load, answer)

    def _on_asked_elsewhere(self, expected: Expected, address: str) -> None:
        redis_channel = expected.redis_channel
        is_load = self._is_load(expected)
        if is_load:
            del self._loads[redis_channel]
        if is_load or (expected.kind == "check" and redis_channel in self._channels):
            host, port = host_and_port(address)
            self._shard_observer.on_asked_elsewhere(redis_channel, f"{host or host_and_port(self.address)[0]}:{port}")

    def _move(self, redis_channel: str) -> None:
        """Let go of a Redis channel that another shard serves."""
        if redis_channel in self._channels:
            # The shard may have done that already; if the channel comes back, its old answer must not count.
            self.unsubscribe(redis_channel)
            self._observer.on_moved([redis_channel])
        elif redis_channel == self.probe_channel:
            self._is_probe_gone = True
            self._observer.on_moved([])  # so that it looks for another one
