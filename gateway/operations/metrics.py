"""`/metrics`. Values are read from their owners at each scrape.

Every series exists from the start, at 0, and clients cannot add label values.
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

from gateway.auth.authority import RESULTS
from gateway.clients.rate_limit import TokenBucket
from gateway.feed.interfaces import FeedState
from gateway.http.publishing import STATUSES, Publishing
from gateway.operations.counters import Histogram
from gateway.operations.tls import Certificate
from gateway.projects.hub import Hub

# Fresh expositions per second, and at once: far more than the scrapers of a replica need.
FRESH_RATE, FRESH_BURST = 5.0, 100.0


class HubCollector(Collector):
    """The metrics of one hub."""

    def __init__(self, hub: Hub, certificate: Certificate | None = None) -> None:
        self._hub = hub
        self._certificate = certificate

    def collect(self) -> Iterator[Metric]:
        yield from self._gauges()
        yield from self._counters()
        yield from self._histograms()

    def _gauges(self) -> Iterator[Metric]:
        hub = self._hub
        authority = hub.authority
        behind = sum(viewer.behind_since is not None for viewer in list(hub.viewers))
        for name, text, gauge in (
            ("connections", "Open connections", len(hub.viewers)),
            ("connections_limit", "Most connections of this replica", hub.settings.max_connections),
            ("connections_behind", "Connections whose socket is full", behind),
            ("subscriptions", "Projects watched, counted for each connection", hub.subscriptions),
            ("projects", "Projects with a viewer on this replica", hub.projects),
            ("redis_connected", "1 while the feed is live, else 0", float(hub.feed.state is FeedState.LIVE)),
            (
                "tls_certificate_expires_timestamp_seconds",
                "When the first certificate of GATEWAY_TLS_CERT expires; 0 without one",
                0.0 if self._certificate is None else self._certificate.expires_at,
            ),
            ("draining", "1 while this replica is shutting down, else 0", float(hub.is_draining)),
            (
                "drain_overdue_seconds",
                "By how much the drain exceeds its longest time, else 0",
                hub.drain_overdue_seconds,
            ),
            (
                "token_keys_failing",
                "1 while the keys for tokens cannot be read anew, and those before stay in use, else 0",
                float(authority is not None and authority.are_keys_failing),
            ),
            (
                "revoked_users",
                "Users whose older tokens are refused",
                0 if authority is None else len(authority.revocations),
            ),
        ):
            yield GaugeMetricFamily(f"gateway_{name}", text, gauge)
        build = GaugeMetricFamily("gateway_build_info", "Always 1; see its labels", labels=["version", "python"])
        build.add_metric([_version(), platform.python_version()], 1)
        yield build

    def _counters(self) -> Iterator[Metric]:
        hub, counters = self._hub, self._hub.counters
        for name, text, counter in (
            ("bad_requests", "Requests that were not HTTP, or whose head was too long", counters.bad_requests),
            (
                "requests_dropped",
                "Connections without a whole request that were closed, because there were too many",
                counters.requests_dropped,
            ),
            ("connections_opened", "Accepted connections", hub.accepted),
            ("events_received", "Events received from Redis", hub.events_received),
            ("events_bad", "Payloads from Redis that were not events", hub.bad_payloads),
            ("throttled", "Times that a client said too much and was not read from for a moment", counters.throttled),
            ("received_bytes", "Bytes of the events received from Redis", counters.received_bytes),
            (
                "deliveries",
                "Writes of live events to a connection; events that arrive together are one write",
                counters.deliveries,
            ),
            (
                "deliveries_joined",
                "Live events written together with an earlier one, counted for each connection; "
                "plus gateway_deliveries_total: all live events delivered",
                counters.deliveries_joined,
            ),
            (
                "sent_bytes",
                "Bytes of messages to clients, with frame headers; without pings and closes",
                counters.sent_bytes,
            ),
            ("catch_ups", "Times that a connection or a project received what it had missed", hub.catch_ups),
            ("moves_asked", "Times that a client was told to move because of its age", hub.moves_asked),
            ("stale_seconds", "Seconds in which the feed was lost and clients were stale", hub.stale_seconds),
            ("drains", "Times that this replica began to drain", hub.drains),
            (
                "drain_forced_closes",
                "Connections that a drain cut off, because they did not answer the close",
                hub.drain_forced_closes,
            ),
        ):
            yield CounterMetricFamily(f"gateway_{name}", text, counter)
        closed = "Connections closed, by the code of the side that closed first; 1006: without a close"
        yield labelled("connections_closed", closed, "code", counters.closed)
        errors = "Messages of the type `error` to clients, by their code"
        yield labelled("errors", errors, "code", counters.errors)
        lost = "Times that the connection to Redis was lost, by the meaning of the last error"
        yield labelled("redis_reconnects", lost, "reason", hub.feed.counters.reconnects)
        authority = hub.authority
        results = dict.fromkeys(RESULTS, 0) if authority is None else authority.results
        yield labelled("auth", "Tokens, or the lack of one, by what came of it", "result", results)
        handshakes = {"accepted": hub.accepted} | counters.refused
        yield labelled("handshakes", "Requests to upgrade to a WebSocket", "outcome", handshakes)

    def _histograms(self) -> Iterator[Metric]:
        counters = self._hub.counters
        for name, text, histogram in (
            (
                "delivery",
                "From the publication of a batch's oldest event, by Redis' clock, to its last write; "
                "observed once for each batch and project",
                counters.delivery,
            ),
            (
                "redis_probe",
                "Round trip of a probe through the feed; one is sent when the feed is silent",
                self._hub.feed.counters.probe,
            ),
            ("event_loop_lag", "How late a timer was, measured ten times a second", counters.loop_lag),
        ):
            family = HistogramMetricFamily(f"gateway_{name}_seconds", text)
            family.add_metric([], buckets(histogram), histogram.sum)
            yield family


class PublishCollector(Collector):
    """The metrics of publishing over HTTP; all 0 if it is off."""

    def __init__(self, publishing: Publishing | None) -> None:
        self._publishing = publishing

    def collect(self) -> Iterator[Metric]:
        publishing = self._publishing
        published, requests = {"accepted": 0, "refused": 0}, dict.fromkeys(STATUSES, 0)
        if publishing is not None:
            published = {"accepted": publishing.accepted, "refused": publishing.refused}
            requests = publishing.requests
        yield labelled("published", "Events posted, by whether Redis took them", "result", published)
        yield labelled("publish_requests", "Requests to publish, by status", "status", requests)


def labelled(name: str, text: str, label: str, counts: Mapping[str, int] | Mapping[int, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(f"gateway_{name}", text, labels=[label])
    for value, count in counts.items():
        family.add_metric([str(value)], count)
    return family


def buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Cumulative, as Prometheus wants them."""
    bounds = [*map(repr, histogram.bounds), "+Inf"]
    return list(zip(bounds, accumulate(histogram.counts), strict=True))


def _version() -> str:
    try:
        return version("progress-gateway")
    except PackageNotFoundError:  # a checkout that is not installed
        return "unknown"


def registry(
    hub: Hub, publishing: Publishing | None = None, certificate: Certificate | None = None
) -> CollectorRegistry:
    """A registry for this replica alone: two apps in one process share nothing."""
    metrics = CollectorRegistry()
    metrics.register(HubCollector(hub, certificate))
    metrics.register(PublishCollector(publishing))
    ProcessCollector(registry=metrics)
    PlatformCollector(registry=metrics)
    return metrics


class Exposition:
    """The Prometheus text format, made anew for each scrape up to a rate, then repeated.

    Making it takes some milliseconds with thousands of clients (it counts open files, for one) and blocks the loop, so
    without a limit anyone who reaches `/metrics` could slow down all clients.
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
