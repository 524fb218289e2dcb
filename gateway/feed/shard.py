"""One shard of a Cluster, as the feed of the whole Cluster has it."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from gateway.counters import FeedCounters
from gateway.feed.link import read_state
from gateway.feed.observer import FeedState, Remembered
from gateway.feed.shard_feed import ShardFeed
from gateway.feed.slots import host_and_port

ASK_SECONDS = 1.0


class Owner(Protocol):
    """The feed of the Cluster, as a shard sees it."""

    @property
    def counters(self) -> FeedCounters: ...
    def on_events(self, shard: "Shard", events: Mapping[bytes, list[bytes]]) -> None: ...
    def on_loaded(self, redis_channel: str, remembered: Remembered) -> None: ...
    def on_refused(self, redis_channel: str) -> None: ...
    def on_shard_lost(self, redis_channels: Iterable[str]) -> None: ...
    def on_shard_live(self) -> None: ...
    def on_moved(self, shard: "Shard", redis_channels: Iterable[str]) -> None: ...
    def on_ask(self, redis_channel: str, address: str) -> None: ...
    def on_checked(self, redis_channel: str, remembered: Remembered) -> None: ...


class Shard:
    """One primary: its feed, and what it tells. Lives while its address owns slots."""

    def __init__(self, owner: Owner, address: str, url: str, probe_channel: str) -> None:
        self.address = address
        self._owner = owner
        self.began_at = asyncio.get_running_loop().time()
        self.feed = ShardFeed(url, self, probe_channel=probe_channel, on_ask=self._on_ask)
        self.feed.counters = owner.counters
        self.task = asyncio.get_running_loop().create_task(self.feed.run())

    @property
    def is_live(self) -> bool:
        return self.feed.state is FeedState.LIVE

    def end(self) -> None:
        """Nothing of it is handed on from now; its task ends in a moment."""
        self.feed.close()
        self.task.cancel()

    async def ask(self, *words: str) -> Any:
        """The answer, which may be an error; raises `TimeoutError` where none comes."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def take(given: Any) -> None:
            if not answer.done():
                answer.set_result(given)

        self.feed.ask(take, *words)
        async with asyncio.timeout(ASK_SECONDS):
            return await answer

    def check(self, redis_channel: str) -> None:
        """Find out whether the state of a channel is still here, where its slot is being migrated."""

        def take(state: Any) -> None:
            self._owner.on_checked(redis_channel, read_state(state))

        self.feed.check(redis_channel, take)

    # What the feed tells

    def _on_ask(self, redis_channel: str, address: str) -> None:
        host, port = host_and_port(address)
        # A node that does not say who the others are means: at the host where it was reached itself.
        self._owner.on_ask(redis_channel, f"{host or host_and_port(self.address)[0]}:{port}")

    def on_events(self, events: Mapping[bytes, list[bytes]]) -> None:
        self._owner.on_events(self, events)

    def on_loaded(self, redis_channel: str, remembered: Remembered) -> None:
        self._owner.on_loaded(redis_channel, remembered)

    def on_refused(self, redis_channel: str) -> None:
        self._owner.on_refused(redis_channel)

    def on_lost(self, redis_channels: Iterable[str]) -> None:
        self._owner.on_shard_lost(redis_channels)

    def on_moved(self, redis_channels: Iterable[str]) -> None:
        self._owner.on_moved(self, redis_channels)

    def on_replaced(self, first: float, last: float) -> None: ...  # a shard's feed stays with its server

    def on_live(self) -> None:
        self._owner.on_shard_live()
