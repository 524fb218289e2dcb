"""The hub's place, taken by a list: what a feed told, in order."""

from collections.abc import Iterable, Mapping
from typing import Any

from gateway.feed.interfaces import Remembered


class RecordingObserver:
    """Writes down what a feed tells."""

    def __init__(self) -> None:
        self.lost: list[list[str]] = []  # the channels of each loss
        self.batches: list[dict[bytes, list[bytes]]] = []
        self.told: list[str] = []
        self.states: dict[str, Remembered] = {}
        self.memory_ids: list[bytes | None] = []  # of all loads, in order
        self.log: list[tuple[str, Any]] = []  # events and states of one channel in order

    def on_events(self, events: Mapping[bytes, list[bytes]]) -> None:
        if events:
            self.batches.append(dict(events))
            self.log += [("event", payload) for payloads in events.values() for payload in payloads]

    def on_loaded(self, redis_channel: str, remembered: Remembered, memory_id: bytes | None = None) -> None:
        self.memory_ids.append(memory_id)
        self.told.append(f"loaded {redis_channel}")
        self.states[redis_channel] = remembered
        self.log.append(("state", remembered))

    def on_refused(self, redis_channel: str) -> None:
        self.told.append(f"refused {redis_channel}")

    def on_lost(self, redis_channels: Iterable[str]) -> None:
        self.lost.append(list(redis_channels))
        self.told.append("lost")

    def on_moved(self, redis_channels: Iterable[str]) -> None:
        self.told += [f"moved {redis_channel}" for redis_channel in redis_channels]

    def on_replaced(self, first: float, last: float) -> None:
        self.told.append(f"replaced {first:g} to {last:g} s ago")

    def on_live(self) -> None:
        self.told.append("live")

    def payloads(self, redis_channel: str) -> list[bytes]:
        return [payload for batch in self.batches for payload in batch.get(redis_channel.encode(), [])]

    def count(self, what: str) -> int:
        return self.told.count(what)
