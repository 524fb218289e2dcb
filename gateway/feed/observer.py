"""What a feed tells, and whom: the words that the hub and every kind of feed share."""

from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Protocol

from gateway.counters import FeedCounters
from gateway.feed.outage_log import Trouble

Remembered = Mapping[bytes, bytes]
"""The hash of a project, as publish.lua keeps it."""


class FeedState(Enum):
    """Where a feed stands."""

    DOWN = "down"  # no connection; the next try is waited for or under way
    LOADING = "loading"  # connected; projects are being subscribed and loaded again
    LIVE = "live"  # every event of every watched project arrives
    CLOSED = "closed"


class FeedObserver(Protocol):
    """Who is told what the feed brings; all calls come from the event loop, none may block."""

    def on_events(self, events: Mapping[bytes, list[bytes]]) -> None:
        """All payloads that one read from Redis brought, by Redis channel."""

    def on_loaded(self, redis_channel: str, remembered: Remembered) -> None:
        """Redis confirmed the subscription, and this was remembered at that moment."""

    def on_refused(self, redis_channel: str) -> None:
        """Redis will not let this replica subscribe to the channel."""

    def on_lost(self, redis_channels: Iterable[str]) -> None:
        """The feed is lost: events of these channels may be missed, until they are loaded again."""

    def on_moved(self, redis_channels: Iterable[str]) -> None:
        """These channels go over to another connection, and are loaded again; the feed as a whole goes on."""

    def on_live(self) -> None:
        """All channels were loaded; what is shown is current again."""

    def on_replaced(self, first: float, last: float) -> None:
        """The server that is listened to took over from another one, `first` seconds ago; both may have taken events
        for a moment, and this replica may have heard those of the other one until `last` seconds ago."""


class Feed(Protocol):
    """A feed, as the hub sees it."""

    @property
    def state(self) -> FeedState: ...
    @property
    def is_proven(self) -> bool:
        """True if an event or a probe was received within the last few seconds."""

    @property
    def counters(self) -> FeedCounters: ...
    @property
    def lost_seconds(self) -> float | None:
        """For how long it is not sure that events arrive: 0 while it is, None if they never did."""

    @property
    def trouble(self) -> Trouble | None:
        """What an operator is to know now; None if all is well."""

    def subscribe(self, redis_channel: str) -> None:
        """Subscribe and load; `on_loaded` or `on_refused` follows, from a feed that is down later."""

    def unsubscribe(self, redis_channel: str) -> None:
        """Let go of a channel."""

    def after_round_trip(self, redis_channel: str, then: Callable[[], None]) -> None:
        """Call `then` once all that was published to the channel before now has been handed on; never, if it is loaded
        anew before that."""

    async def run(self) -> None:
        """Until it is cancelled."""
