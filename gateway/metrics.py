"""What `/metrics` shows: read from their owners when it is scraped, so that counting costs the hot path nothing.

Every series is there from the start, at 0, and no label has a value that somebody else may choose.
"""

import platform
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from gateway.counters import Histogram
from gateway.feed.observer import FeedState
from gateway.hub import Hub
from gateway.publishing import STATUSES, Publishing
from gateway.rate_limit import TokenBucket

FRESH_RATE, FRESH_BURST = (
    5.0,
    100.0,
)  # expositions a second, and at once: far more than all scrapers of a replica ask for


class HubCollector(Collector):
    """The metrics of one hub."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def collect(self) -> Iterator[Metric]:
        yield from self._gauges()
        yield from self._counters()
        yield from self._histograms()

    def _gauges(self) -> Iterator[Metric]:
        hub = self._hub
        behind = sum(viewer.behind_since is not None for viewer in list(hub.viewers))
        for name, text, gauge in (
            ("connections", "Open connections", len(hub.viewers)),
            ("connections_limit", "Connections that this replica takes", hub.settings.max_connections),
            ("connections_behind", "Connections whose socket is full", behind),
            ("subscriptions", "Projects watched, counted for each connection", hub.subscriptions),
            ("projects", "Projects with a viewer on this replica", hub.projects),
            ("redis_connected", "1 while every event arrives, else 0", float(hub.feed.state is FeedState.LIVE)),
            ("draining", "1 while this replica ends, else 0", float(hub.is_draining)),
            (
                "drain_overdue_seconds",
                "By how much this replica's drain is beyond the longest that one takes, else 0",
                hub.drain_overdue_seconds,
            ),
        ):
            yield GaugeMetricFamily(f"gateway_{name}", text, gauge)
        build = GaugeMetricFamily("gateway_build_info", "Always 1; its labels tell", labels=["version", "python"])
        build.add_metric([_version(), platform.python_version()], 1)
        yield build

    def _counters(self) -> Iterator[Metric]:
        hub, counters = self._hub, self._hub.counters
        for name, text, counter in (
            ("bad_requests", "Requests that were no HTTP, or whose head was too long", counters.bad_requests),
            ("connections_opened", "Accepted connections", hub.accepted),
            ("events_received", "Events received from Redis", hub.events_received),
            ("events_bad", "Payloads from Redis that were no events", hub.bad_payloads),
            ("received_bytes", "Bytes of the events received from Redis", counters.received_bytes),
            (
                "deliveries",
                "Writes of live events to a connection; events that came together are one write",
                counters.deliveries,
            ),
            (
                "deliveries_joined",
                "Live events that went along in the write of another, counted for each connection; "
                "with gateway_deliveries_total: all live events delivered",
                counters.deliveries_joined,
            ),
            (
                "sent_bytes",
                "Bytes of messages sent to clients, with the heads of their frames; pings and closes are not counted",
                counters.sent_bytes,
            ),
            ("catch_ups", "Times that a connection or a project was given what it had missed", hub.catch_ups),
            ("stale_seconds", "Seconds in which clients were told that the feed is lost", hub.stale_seconds),
            ("drains", "Times that this replica began to drain", hub.drains),
            ("drain_forced_closes", "Connections that a drain closed by force", hub.drain_forced_closes),
        ):
            yield CounterMetricFamily(f"gateway_{name}", text, counter)
        closed = "Connections closed, by the code of whoever closed first; 1006: it broke off"
        yield labelled("connections_closed", closed, "code", counters.closed)
        lost = "Times that the connection to Redis was lost, by what its last error means"
        yield labelled("redis_reconnects", lost, "reason", hub.feed.counters.reconnects)
        handshakes = {"accepted": hub.accepted} | counters.refused
        yield labelled("handshakes", "Upgrades to a WebSocket that were asked for", "outcome", handshakes)

    def _histograms(self) -> Iterator[Metric]:
        counters = self._hub.counters
        for name, text, histogram in (
            (
                "delivery",
                "From the publication of a batch's oldest event, by Redis' clock, to its write to the last connection; "
                "once for a batch and project",
                counters.delivery,
            ),
            (
                "redis_probe",
                "From a probe that is published to its return on the feed, which is asked for in silence",
                self._hub.feed.counters.probe,
            ),
            ("event_loop_lag", "By how much a timer came too late, ten times a second", counters.loop_lag),
        ):
            family = HistogramMetricFamily(f"gateway_{name}_seconds", text)
            family.add_metric([], buckets(histogram), histogram.sum)
            yield family


class PublishCollector(Collector):
    """The metrics of what is published by HTTP; all 0 where it is off."""

    def __init__(self, publishing: Publishing | None) -> None:
        self._publishing = publishing

    def collect(self) -> Iterator[Metric]:
        publishing = self._publishing
        published, requests = {"accepted": 0, "refused": 0}, dict.fromkeys(STATUSES, 0)
        if publishing is not None:
            published = {"accepted": publishing.accepted, "refused": publishing.refused}
            requests = publishing.requests
        yield labelled("published", "Events posted, by what Redis did", "result", published)
        yield labelled("publish_requests", "Requests to publish, by answer", "status", requests)


def labelled(name: str, text: str, label: str, counts: Mapping[str, int] | Mapping[int, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(f"gateway_{name}", text, labels=[label])
    for value, count in counts.items():
        family.add_metric([str(value)], count)
    return family


def buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """As Prometheus wants them: each counts what the smaller ones do, too."""
    bounds = [*map(repr, histogram.bounds), "+Inf"]
    return list(zip(bounds, accumulate(histogram.counts), strict=True))


def _version() -> str:
    try:
        return version("progress-gateway")
    except PackageNotFoundError:  # run from a checkout that was not installed
        return "unknown"


def registry(hub: Hub, publishing: Publishing | None = None) -> CollectorRegistry:
    """A registry of this replica's own: nothing of it is shared between two apps in one process."""
    metrics = CollectorRegistry()
    metrics.register(HubCollector(hub))
    metrics.register(PublishCollector(publishing))
    ProcessCollector(registry=metrics)
    PlatformCollector(registry=metrics)
    return metrics


class Exposition:
    """The Prometheus text format, made anew for each scrape, unless somebody asks again and again.

    It takes some milliseconds with thousands of clients (the open files are counted, for one), in which none of them is
    served: without a bound whoever reaches `/metrics` could slow them all down.
    """

    def __init__(self, metrics: CollectorRegistry, clock: Callable[[], float] = time.monotonic) -> None:
        self._metrics = metrics
        self._clock = clock
        self._bucket = TokenBucket(FRESH_BURST, clock())
        self._text = b""

    def text(self) -> bytes:
        if self._bucket.take(rate=FRESH_RATE, burst=FRESH_BURST, now=self._clock()):
            self._text = generate_latest(self._metrics)
        return self._text
