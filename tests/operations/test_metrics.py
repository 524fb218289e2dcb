"""What `/metrics` shows of a hub."""

import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.auth.authority import RESULTS, authority_for
from gateway.auth.key_sources import FileSource
from gateway.codes import CloseCode, ErrorCode
from gateway.feed.interfaces import FeedState
from gateway.operations.counters import BROKEN_OFF, REFUSAL_REASONS
from gateway.operations.metrics import FRESH_BURST, FRESH_RATE, Exposition, registry
from gateway.projects.hub import Hub
from gateway.settings import Settings
from publisher.transport.advice import MEANINGS
from tests.fakes import FakeClient, FakeFeed, progress

ALL_ZERO = {
    "gateway_connections",
    "gateway_connections_behind",
    "gateway_subscriptions",
    "gateway_projects",
    "gateway_draining",
    "gateway_tls_certificate_expires_timestamp_seconds",
    "gateway_drain_overdue_seconds",
    "gateway_token_keys_failing",
    "gateway_revoked_users",
    "gateway_bad_requests_total",
    "gateway_requests_dropped_total",
    "gateway_throttled_total",
    "gateway_connections_opened_total",
    "gateway_events_received_total",
    "gateway_events_bad_total",
    "gateway_received_bytes_total",
    "gateway_deliveries_total",
    "gateway_deliveries_joined_total",
    "gateway_sent_bytes_total",
    "gateway_catch_ups_total",
    "gateway_moves_asked_total",
    "gateway_drains_total",
    "gateway_drain_forced_closes_total",
    *(f"gateway_errors_total{{code={code}}}" for code in ErrorCode),
    *(f"gateway_handshakes_total{{outcome={outcome}}}" for outcome in ("accepted", *REFUSAL_REASONS)),
    *(f"gateway_connections_closed_total{{code={int(code)}}}" for code in (*CloseCode, BROKEN_OFF)),
    "gateway_connections_closed_total{code=other}",
    *(f"gateway_redis_reconnects_total{{reason={reason}}}" for reason in MEANINGS),
    *(f"gateway_published_total{{result={result}}}" for result in ("accepted", "refused")),
    *(f"gateway_publish_requests_total{{status={status}}}" for status in (202, 401, 403, 405, 413, 422, 429, 503)),
    *(f"gateway_auth_total{{result={result}}}" for result in RESULTS),
}
HISTOGRAMS = {"gateway_delivery_seconds", "gateway_redis_probe_seconds", "gateway_event_loop_lag_seconds"}


@pytest.fixture
async def hub() -> Hub:
    """A hub with a feed that is down."""
    hub = Hub(Settings(max_connections=77), lambda hub: FakeFeed())
    hub.on_live()
    return hub


def feed_of(hub: Hub) -> FakeFeed:
    assert isinstance(hub.feed, FakeFeed)
    return hub.feed


def shown(hub: Hub) -> dict[str, float]:
    """Each series by its name and labels, buckets left out."""
    text = Exposition(registry(hub)).text().decode()
    return {
        sample.name + "".join(f"{{{name}={value}}}" for name, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if "le" not in sample.labels
    }


def now_us() -> int:
    return time.time_ns() // 1_000


async def test_every_series_is_there_from_the_start(hub: Hub) -> None:
    metrics = {name: value for name, value in shown(hub).items() if name.startswith("gateway_")}
    python, ours = platform.python_version(), version("progress-gateway")
    assert metrics.pop(f"gateway_build_info{{python={python}}}{{version={ours}}}") == 1
    assert metrics.pop("gateway_connections_limit") == 77
    assert metrics.pop("gateway_redis_connected") == 0
    assert 0 <= metrics.pop("gateway_stale_seconds_total") < 1
    zero = ALL_ZERO | {f"{name}_{part}" for name in HISTOGRAMS for part in ("sum", "count")}
    assert metrics == dict.fromkeys(zero, 0)


async def test_the_metrics_are_those_of_the_hub(hub: Hub) -> None:
    clients = [FakeClient(hub) for _ in range(3)]
    for client in clients[:2]:
        client.subscribe("p")
    hub.on_loaded("project:p", {})
    events = [progress("a", 1, now_us() - 2_000_000), b"junk", progress("b", 1, now_us()), progress("c", 1)]
    sent, written = hub.counters.sent_bytes, sum(client.socket.bytes_written for client in clients)
    hub.on_events({b"project:p": events})
    sent = hub.counters.sent_bytes - sent
    written = sum(client.socket.bytes_written for client in clients) - written
    clients[2].session.behind_since = 1.0
    feed_of(hub).counters.reconnects["closed"] = 4
    feed_of(hub).counters.probe.observe(0.5)
    hub.drains, hub.drain_forced_closes, hub.is_draining = 1, 2, True
    hub.drain_due_at = time.monotonic() - 7
    metrics = shown(hub)
    expected: dict[str, Any] = {
        "gateway_connections": 3,
        "gateway_connections_behind": 1,
        "gateway_connections_opened_total": 3,
        "gateway_handshakes_total{outcome=accepted}": 3,
        "gateway_subscriptions": 2,
        "gateway_projects": 1,
        "gateway_events_received_total": 4,
        "gateway_events_bad_total": 1,
        "gateway_received_bytes_total": sum(map(len, events)),
        "gateway_deliveries_total": 2,
        "gateway_deliveries_joined_total": 4,
        "gateway_catch_ups_total": 0,
        "gateway_redis_reconnects_total{reason=closed}": 4,
        "gateway_redis_reconnects_total{reason=away}": 0,
        "gateway_redis_probe_seconds_count": 1,
        "gateway_redis_probe_seconds_sum": 0.5,
        "gateway_draining": 1,
        "gateway_drains_total": 1,
        "gateway_drain_forced_closes_total": 2,
        "gateway_delivery_seconds_count": 1,
    }
    assert {name: metrics[name] for name in expected} == expected
    assert sent == written > sum(map(len, events))
    assert 2 <= metrics["gateway_delivery_seconds_sum"] < 3, "the oldest of the batch counts"
    assert 7 <= metrics["gateway_drain_overdue_seconds"] < 8


async def test_keys_that_cannot_be_read_anew_and_revoked_users_are_shown(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("s" * 32)
    settings = Settings(auth="jwt", jwt_secret_file=path)
    hub = Hub(settings, lambda hub: FakeFeed(), authority := authority_for(settings))
    assert authority is not None
    assert shown(hub)["gateway_token_keys_failing"] == 0
    path.unlink()
    source = authority._source
    assert isinstance(source, FileSource)
    source.look()
    authority.on_events([b"%d somebody" % now_us()])
    metrics = shown(hub)
    assert (metrics["gateway_token_keys_failing"], metrics["gateway_revoked_users"]) == (1, 1)


async def test_errors_are_counted_by_their_code(hub: Hub) -> None:
    client = FakeClient(hub)
    for _ in range(3):
        client.session.on_text(b"junk")
    client.session.on_binary()
    client.subscribe("p")
    hub.on_refused("project:p")
    client.subscribe("p")
    errors = {name: value for name, value in shown(hub).items() if name.startswith("gateway_errors") and value}
    assert errors == {
        "gateway_errors_total{code=not_json}": 3,
        "gateway_errors_total{code=not_text}": 1,
        "gateway_errors_total{code=unavailable}": 2,
    }


async def test_sent_bytes_are_all_that_is_said_to_clients(hub: Hub) -> None:
    client = FakeClient(hub)
    client.subscribe("p")
    hub.on_loaded("project:p", {})
    client.say("ping")
    client.say("nonsense")
    client.say("unsubscribe", projectId="p")
    hub.on_lost([])
    hub.on_live()
    assert client.kinds() == ["connected", "subscribed", "pong", "error", "unsubscribed", "stale", "live"]
    assert hub.counters.sent_bytes == client.socket.bytes_written


@pytest.mark.parametrize(
    ("seq", "counted", "seconds"),
    [(None, 0, 0), (1, 0, 0), ("future", 1, 0)],
)
async def test_a_delivery_is_timed_by_a_seq_that_is_a_clock(
    hub: Hub, seq: object, counted: int, seconds: float
) -> None:
    """No seq (a plain PUBLISH), a made-up seq, and one of a server whose clock is ahead of ours."""
    FakeClient(hub).subscribe("p")
    hub.on_loaded("project:p", {})
    hub.on_events({b"project:p": [progress("a", 1, now_us() + 9_000_000 if seq == "future" else seq)]})  # type: ignore[arg-type]
    metrics = shown(hub)
    assert metrics["gateway_deliveries_total"] == 1
    assert metrics["gateway_delivery_seconds_count"] == counted
    assert metrics["gateway_delivery_seconds_sum"] == seconds


async def test_what_nobody_is_there_to_receive_is_no_delivery(hub: Hub) -> None:
    client = FakeClient(hub)
    client.subscribe("p")
    hub.on_loaded("project:p", {})
    client.session.on_close()
    hub.on_events({b"project:p": [progress("a", 1, now_us())]})
    metrics = shown(hub)
    assert metrics["gateway_events_received_total"] == 1
    assert metrics["gateway_deliveries_total"] == metrics["gateway_delivery_seconds_count"] == 0


@pytest.mark.parametrize(
    ("code", "label"),
    [(1000, "1000"), (1012, "1012"), (4508, "4508"), (1006, "1006"), (4999, "other"), (3000, "other")],
)
async def test_a_close_is_counted_once_by_a_known_code(hub: Hub, code: int, label: str) -> None:
    client = FakeClient(hub)
    for _ in range(2):
        client.session.on_close(code)
    metrics = shown(hub)
    assert metrics[f"gateway_connections_closed_total{{code={label}}}"] == 1
    assert sum(value for name, value in metrics.items() if name.startswith("gateway_connections_closed_total")) == 1


async def test_a_close_code_of_ours_is_counted_as_its_number(hub: Hub) -> None:
    FakeClient(hub).session.on_close(CloseCode.TOO_SLOW)
    assert shown(hub)["gateway_connections_closed_total{code=4508}"] == 1


async def test_stale_seconds_grow_while_the_feed_is_lost_only(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    start, clock = hub.stale_seconds, time.monotonic()
    monkeypatch.setattr("gateway.projects.hub.time.monotonic", lambda: clock)
    clock += 10
    assert hub.stale_seconds == start
    hub.on_lost([])
    clock += 3
    hub.on_lost([])  # connected, and lost again before all was loaded
    clock += 4
    assert hub.stale_seconds == pytest.approx(start + 7)
    hub.on_live()
    clock += 10
    assert shown(hub)["gateway_stale_seconds_total"] == pytest.approx(start + 7)


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
    families = list(text_string_to_metric_families(Exposition(registry(hub)).text().decode()))
    assert [family.name for family in families if not family.documentation] == []


async def test_prometheus_itself_finds_nothing_to_mend(hub: Hub) -> None:
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=Exposition(registry(hub)).text(), capture_output=True
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


async def test_who_asks_again_and_again_is_shown_what_was_made_a_moment_ago(hub: Hub) -> None:
    """Each one takes milliseconds, in which no client is served."""
    now = 0.0
    exposition = Exposition(registry(hub), lambda: now)

    def connections() -> str:
        FakeClient(hub)
        (line,) = (line for line in exposition.text().decode().splitlines() if line.startswith("gateway_connections "))
        return line

    made = [connections() for _ in range(int(FRESH_BURST) + 50)]
    assert len(set(made[: int(FRESH_BURST)])) == FRESH_BURST, "nobody who asks as scrapers do is shown anything old"
    assert set(made[int(FRESH_BURST) :]) == {made[int(FRESH_BURST) - 1]}
    now += 1 / FRESH_RATE
    assert connections() not in made


async def test_two_replicas_in_one_process_do_not_share_figures(hub: Hub) -> None:
    other = Hub(Settings(), lambda hub: FakeFeed())
    FakeClient(hub)
    assert shown(hub)["gateway_connections"] == 1
    assert shown(other)["gateway_connections"] == 0


async def test_the_process_itself_is_shown(hub: Hub) -> None:
    assert any(name.startswith("python_info") for name in shown(hub))
