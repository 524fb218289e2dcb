"""What a replica counts: plain numbers, updated once per batch, so that counting costs next to nothing. No I/O."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

from gateway.codes import CloseCode, ErrorCode
from publisher.transport.advice import MEANINGS

# Upper bounds of the buckets.
DELIVERY_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
LAG_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

LONGEST_DELIVERY_SECONDS = 3_600.0  # Redis remembers nothing older: a seq before that is not a timestamp

BROKEN_OFF = 1006  # closed without a close frame; cannot be sent
OTHER = "other"  # a client may send any code, and a label must have few values
CLOSE_CODES = (*(str(int(code)) for code in CloseCode), str(BROKEN_OFF), OTHER)
REFUSAL_REASONS = (
    "draining", "full", "origin", "host", "path", "version", "address", "not_authorised", "cannot_decide",
)  # fmt: skip


class Histogram:
    """Counts by bucket. The Prometheus client's own takes a lock and five times as long."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds: Final = bounds
        self.counts = [0] * (len(bounds) + 1)
        """Count of each bucket alone; the last one is above all bounds."""
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class FeedCounters:
    """The counts of a feed; a Cluster's shards share one."""

    __slots__ = ("probe", "reconnects")

    def __init__(self) -> None:
        self.probe = Histogram(LAG_SECONDS)
        self.reconnects = dict.fromkeys(MEANINGS, 0)


class Counters:
    """The counts of one replica. Lives as long as the hub; used by one event loop only.

    gateway.operations.metrics shows each count under the same name, and documents it.
    """

    __slots__ = (
        "bad_requests", "closed", "deliveries", "deliveries_joined", "delivery", "errors", "loop_lag", "received_bytes",
        "refused", "requests_dropped", "sent_bytes", "throttled",
    )  # fmt: skip

    def __init__(self) -> None:
        self.closed = dict.fromkeys(CLOSE_CODES, 0)
        self.refused = dict.fromkeys(REFUSAL_REASONS, 0)  # handshakes, by reason
        self.errors = dict.fromkeys(map(str, ErrorCode), 0)  # messages `error` to clients, by code
        self.bad_requests = 0
        self.throttled = 0
        self.requests_dropped = 0
        self.received_bytes = 0
        self.sent_bytes = 0
        self.deliveries = 0
        self.deliveries_joined = 0
        self.delivery = Histogram(DELIVERY_SECONDS)
        self.loop_lag = Histogram(LAG_SECONDS)

    def on_closed(self, code: int) -> None:
        label = str(int(code))
        self.closed[label if label in self.closed else OTHER] += 1

    def on_delivered(self, size: int, sockets: int, events: int, age: float | None) -> None:
        """Count a batch of one project's events: `size` bytes, written to each of `sockets` sockets.

        Its oldest event was published `age` seconds ago by Redis' clock, which may be ahead of ours. Arguments are
        positional: names would add a tenth to the 1 us that a batch costs (bench/README.md).
        """
        self.deliveries += sockets
        self.sent_bytes += size * sockets
        if events > 1:
            self.deliveries_joined += (events - 1) * sockets
        if age is not None and age < LONGEST_DELIVERY_SECONDS:
            self.delivery.observe(age if age > 0 else 0.0)
