"""What `/metrics` shows: read from their owners when it is scraped, so that counting costs the hot path nothing."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from gateway.hub import Hub
from gateway.listener import FeedState
from gateway.publishing import Publishing


class HubCollector(Collector):
    """The figures of one hub."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def collect(self) -> Iterator[Metric]:
        hub = self._hub
        behind = sum(viewer.behind_since is not None for viewer in list(hub.viewers))
        for name, text, gauge in (
            ("connections", "Open connections", len(hub.viewers)),
            ("connections_limit", "Connections that this replica takes", hub.settings.max_connections),
            ("connections_behind", "Connections whose socket is full", behind),
            ("subscriptions", "Projects watched, counted for each connection", hub.subscriptions),
            ("projects", "Projects with a viewer on this replica", hub.projects),
            ("redis_connected", "1 while every event arrives, else 0", float(hub.feed.state is FeedState.LIVE)),
        ):
            yield GaugeMetricFamily(f"gateway_{name}", text, gauge)
        for name, text, counter in (
            ("connections_opened", "Accepted connections", hub.accepted),
            ("events_received", "Events received from Redis", hub.events_received),
            ("events_bad", "Payloads from Redis that were no events", hub.bad_payloads),
            ("deliveries", "Writes of live events to a connection; events that came together are one", hub.deliveries),
            ("catch_ups", "Times that a connection or a project was given what it had missed", hub.catch_ups),
            ("redis_reconnects", "Times that the connection to Redis was lost", hub.feed.reconnects),
        ):
            yield CounterMetricFamily(f"gateway_{name}", text, counter)


class PublishCollector(Collector):
    """The figures of what is published by HTTP. Every series is there from the start, and there are no others."""

    def __init__(self, publishing: Publishing) -> None:
        self._publishing = publishing

    def collect(self) -> Iterator[Metric]:
        publishing = self._publishing
        published = CounterMetricFamily("gateway_published", "Events posted, by what Redis did", labels=["result"])
        published.add_metric(["accepted"], publishing.accepted)
        published.add_metric(["refused"], publishing.refused)
        yield published
        requests = CounterMetricFamily("gateway_publish_requests", "Requests to publish, by answer", labels=["status"])
        for status, count in publishing.requests.items():
            requests.add_metric([str(status)], count)
        yield requests


def registry(hub: Hub, publishing: Publishing | None = None) -> CollectorRegistry:
    """A registry of this replica's own: nothing of it is shared between two apps in one process."""
    metrics = CollectorRegistry()
    metrics.register(HubCollector(hub))
    if publishing is not None:
        metrics.register(PublishCollector(publishing))
    ProcessCollector(registry=metrics)
    PlatformCollector(registry=metrics)
    return metrics


def exposition(metrics: CollectorRegistry) -> bytes:
    """The Prometheus text format."""
    return generate_latest(metrics)
