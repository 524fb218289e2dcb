"""What `/metrics` shows of a hub."""

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.hub import Hub
from gateway.listener import FeedState
from gateway.metrics import exposition, registry
from gateway.settings import Settings
from tests.fakes import FakeClient, FakeFeed, progress


@pytest.fixture
async def hub() -> Hub:
    """A hub with a feed that is down."""
    hub = Hub(Settings(max_connections=77), "redis://unused", "test")
    hub.feed = FakeFeed()
    hub.on_live()
    return hub


def feed_of(hub: Hub) -> FakeFeed:
    assert isinstance(hub.feed, FakeFeed)
    return hub.feed


def shown(hub: Hub) -> dict[str, float]:
    text = exposition(registry(hub)).decode()
    return {sample.name: sample.value for family in text_string_to_metric_families(text) for sample in family.samples}


async def test_the_figures_are_those_of_the_hub(hub: Hub) -> None:
    clients = [FakeClient(hub) for _ in range(3)]
    for client in clients[:2]:
        client.subscribe("p")
    hub.on_loaded("project:p", {})
    hub.on_events({b"project:p": [progress("a", 1, 1), b"junk"]})
    clients[2].session.behind_since = 1.0
    feed_of(hub).reconnects = 4
    figures = shown(hub)
    expected: dict[str, Any] = {
        "gateway_connections": 3,
        "gateway_connections_limit": 77,
        "gateway_connections_behind": 1,
        "gateway_connections_opened_total": 3,
        "gateway_subscriptions": 2,
        "gateway_projects": 1,
        "gateway_events_received_total": 2,
        "gateway_events_bad_total": 1,
        "gateway_deliveries_total": 2,
        "gateway_catch_ups_total": 0,
        "gateway_redis_reconnects_total": 4,
        "gateway_redis_connected": 0,
    }
    assert {name: value for name, value in figures.items() if name.startswith("gateway_")} == expected


@pytest.mark.parametrize(("state", "value"), [(FeedState.LIVE, 1), (FeedState.LOADING, 0), (FeedState.DOWN, 0)])
async def test_redis_is_connected_while_every_event_arrives(hub: Hub, state: FeedState, value: float) -> None:
    feed_of(hub).state = state
    assert shown(hub)["gateway_redis_connected"] == value


async def test_connections_fall_when_clients_go_and_counters_do_not(hub: Hub) -> None:
    clients = [FakeClient(hub) for _ in range(3)]
    for client in clients:
        client.session.on_close()
    assert shown(hub)["gateway_connections"] == 0
    assert shown(hub)["gateway_connections_opened_total"] == 3


async def test_every_figure_has_a_text(hub: Hub) -> None:
    families = list(text_string_to_metric_families(exposition(registry(hub)).decode()))
    assert [family.name for family in families if not family.documentation] == []


async def test_two_replicas_in_one_process_do_not_share_figures(hub: Hub) -> None:
    other = Hub(Settings(), "redis://unused", "other")
    FakeClient(hub)
    assert shown(hub)["gateway_connections"] == 1
    assert shown(other)["gateway_connections"] == 0


async def test_the_process_itself_is_shown(hub: Hub) -> None:
    assert "python_info" in shown(hub)
