"""The feed of one shard of a Cluster: sharded pub/sub, and channels that go over to other shards."""

import asyncio
import re
from collections.abc import Callable
from typing import Any

import hiredis

from gateway.feed.link import MOVES, SHARDED, Expected, pack
from gateway.feed.observer import FeedObserver
from gateway.feed.server_feed import PROBE_SECONDS, ServerFeed
from publisher.names import jobs_key
from publisher.transport.slot_map import NOWHERE, decoded
from publisher.transport.url import is_address

_PLACE = re.compile(r"(\S*):(\d{1,5})$")  # where ASK sends one to


def _place_of(text: str) -> str:
    """The address that ASK names; '' for none: a node that has no name yet (`?`), or nonsense.

    The host is empty where it is that of the node which was asked.
    """
    place = _PLACE.search(text)
    is_somewhere = place and place[1] != NOWHERE and is_address(place[1] or "localhost", int(place[2]))
    return place[0] if place and is_somewhere else ""


class ShardFeed(ServerFeed):
    """A feed that says of a channel that it moved, when its shard does not serve it any more.

    `on_ask` is told of a channel whose state is at another address already, and its events with it, while the channel
    itself is still here: its slot is half migrated.
    """

    def __init__(
        self, url: str, observer: FeedObserver, *, probe_channel: str, on_ask: Callable[[str, str], None]
    ) -> None:
        super().__init__(url, observer, probe_channel=probe_channel, verbs=SHARDED)
        self._on_ask = on_ask
        self._is_probe_gone = False  # its slot left, and may have come back since
        self._demoted_at: float | None = None
        self._leaving: dict[str, int] = {}  # how many SUNSUBSCRIBEs of a channel are not answered yet

    def use_probe(self, redis_channel: str) -> None:
        """Prove life by another channel from now on: the last one's slot moved to another shard."""
        if redis_channel != self.probe_channel or self._is_probe_gone:
            self._is_probe_gone = False
            self.probe_channel, self._probe_name = redis_channel, redis_channel.encode()
            if self._transport is not None:
                self._subscribe_to_probe()

    def check(self, redis_channel: str, then: Callable[[Any], None]) -> None:
        """Call `then` with the state of a channel that is subscribed; or `on_ask`, if it is elsewhere."""
        is_subscribed = (
            redis_channel in self._channels and redis_channel not in self._wanted and redis_channel not in self._loads
        )
        if is_subscribed and self._transport is not None:
            self._write(self._command(Expected("check", redis_channel, then), "HGETALL", jobs_key(redis_channel)))

    def ask(self, then: Callable[[Any], None], *words: str) -> None:
        """Call `then` with the answer, which may be an error; never, if the link is lost before."""
        if self._transport is not None:
            self._write(self._command(Expected("ask", then=then), *words))

    def close(self) -> None:
        """Hand on nothing more, from this very moment; the task of `run` is to be cancelled besides."""
        self._lost.set()
        self._disconnect()

    def _begin(self, transport: asyncio.Transport) -> None:
        self._leaving.clear()
        self._is_probe_gone, self._demoted_at = False, None
        super()._begin(transport)

    def _unsubscribe_commands(self) -> list[bytes]:
        # A shard also unsubscribes by itself, when a slot goes, and says so in the words in which it would answer; if
        # it does that just before it reads our SUNSUBSCRIBE, it answers with an error besides. So no answer is expected
        # of these: all that comes for them comes before the answer to a PING behind them.
        unwanted, self._unwanted = self._unwanted, []
        if not unwanted:
            return []
        for name in unwanted:
            self._leaving[name] = self._leaving.get(name, 0) + 1
        commands = [pack(self._verbs.unsubscribe, name) for name in unwanted]
        left = Expected("left", then=lambda _: self._on_left(unwanted))
        return [*commands, self._command(left, "PING")]

    def _on_push(self, push: list[Any]) -> None:
        if push[0] != b"sunsubscribe":
            super()._on_push(push)
        elif (redis_channel := decoded(push[1])) not in self._leaving:
            self._move(redis_channel)  # its slot went to another shard

    def _on_left(self, redis_channels: list[str]) -> None:
        for redis_channel in redis_channels:
            self._leaving[redis_channel] -= 1
            if not self._leaving[redis_channel]:
                del self._leaving[redis_channel]

    def _on_replica(self) -> None:
        """It was made one; who took over is found out by a look, as with any slot that moves, or it is given up."""
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
        elif code not in MOVES or (expected.kind == "publish" and code == "CLUSTERDOWN"):
            super()._on_error(expected, error)
        elif expected.kind == "left":
            self._expected.appendleft(expected)  # that was a SUNSUBSCRIBE; the answer to the PING behind it is owed yet
        elif expected.kind == "publish":
            self._move(expected.redis_channel)  # a new probe is given in time, or the link is given up
        elif code == "ASK" and (place := _place_of(rest)):
            self._on_elsewhere(expected, place)
        elif self._is_homeless(expected, code):
            self._move(expected.redis_channel)

    def _is_homeless(self, expected: Expected, code: str) -> bool:
        """Whether who serves its channel is to be looked up: a MOVED to a check is said of the channel as well."""
        is_load = self._loads.get(expected.redis_channel) is expected
        return is_load or expected.kind == self._verbs.subscribe or (expected.kind == "check" and code == "ASK")

    def _on_elsewhere(self, expected: Expected, address: str) -> None:
        is_load = self._loads.get(expected.redis_channel) is expected
        if is_load:
            del self._loads[expected.redis_channel]
        if is_load or (expected.kind == "check" and expected.redis_channel in self._channels):
            self._on_ask(expected.redis_channel, address)

    def _move(self, redis_channel: str) -> None:
        """Another shard serves this channel."""
        if redis_channel in self._channels:
            self.unsubscribe(
                redis_channel
            )  # even if the shard did that: a channel asked for twice has two answers coming
        elif redis_channel != self.probe_channel:
            return
        else:
            self._is_probe_gone = True
        self._observer.on_moved([redis_channel])
