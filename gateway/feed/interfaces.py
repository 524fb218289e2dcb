"""What the hub asks of a feed, and what a feed tells the hub: the protocols between them."""

from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Protocol

from gateway.feed.trouble_log import Trouble
from gateway.operations.counters import FeedCounters

Remembered = Mapping[bytes, bytes]
"""The hash of a project, as publish.lua keeps it."""


class FeedState(Enum):
    """Whether events arrive."""

    DOWN = "down"  # no connection; the next try is under way or waits
    LOADING = "loading"  # connected; projects are being subscribed and loaded again
    LIVE = "live"  # every event of every watched project arrives
    CLOSED = "closed"


class FeedObserver(Protocol):
    """The hub, as a feed sees it. All calls come from the event loop; none may block."""

    def on_events(self, events: Mapping[bytes, list[bytes]]) -> None:
        """One read from Redis brought these payloads, by Redis channel."""

    def on_loaded(self, redis_channel: str, remembered: Remembered, memory_id: bytes | None = None) -> None:
        """Redis confirmed the subscription, and remembered this at that moment.

        `memory_id` is a random value that Redis keeps without expiry, so another value means that Redis was emptied, or
        that this is another Redis. None: unknown.
        """

    def on_refused(self, redis_channel: str) -> None:
        """Redis does not let this replica subscribe."""

    def on_lost(self, redis_channels: Iterable[str]) -> None:
        """The feed is lost: events of these may be missed until they are loaded again."""

    def on_moved(self, redis_channels: Iterable[str]) -> None:
        """These go to another connection and are loaded again there. The feed as a whole goes on."""

    def on_live(self) -> None:
        """Everything is loaded; what viewers see is current again."""

    def on_replaced(self, first: float, last: float) -> None:
        """Another server became the primary `first` seconds ago; this replica left the old one `last` seconds ago.

        Both may have taken events for a moment.
        """


class Feed(Protocol):
    """A feed, as the hub sees it."""

    @property
    def state(self) -> FeedState: ...
    @property
    def counters(self) -> FeedCounters: ...
    @property
    def lost_seconds(self) -> float | None:
        """How long events have surely not arrived: 0 while they arrive, None if they never did."""

    @property
    def trouble(self) -> Trouble | None:
        """What an operator should know now; None if all is well."""

    def subscribe(self, redis_channel: str) -> None:
        """Subscribe and load. `on_loaded` or `on_refused` follows; if the feed is down, once it is back."""

    def unsubscribe(self, redis_channel: str) -> None:
        """Unsubscribe from a Redis channel. Nothing more of it is handed on."""

    def after_round_trip(self, redis_channel: str, then: Callable[[], None]) -> None:
        """Call `then` once all that was published before now has been handed on; never, if the link is lost first."""

    async def run(self) -> None:
        """Run until it is cancelled."""
