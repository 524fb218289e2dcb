"""Times in different files that must fit: pings and idle timeouts, the drain and the time until a kill."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from gateway.clients.drain import longest_seconds
from gateway.server import END_SECONDS
from gateway.settings import Settings

ROOT = Path(__file__).parent.parent
DEFAULT = Settings.model_construct()  # the defaults, whatever the environment says
MARGIN_SECONDS = 10.0  # for a host that is slow because everything is being restarted
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "": 1.0}


def seconds(pattern: str, text: str) -> float:
    """The time behind the pattern, which is there once."""
    found = re.findall(pattern + r"[\"']?(\d+)(ms|s|m|)\b", text)
    assert len(found) == 1, f"{pattern}: {found}"
    number, unit = found[0]
    return int(number) * UNITS[unit]


def setting(name: str, text: str, default: float) -> float:
    """What a file sets, or else the default."""
    return seconds(rf"{name}: ", text) if f"{name}:" in text else default


class End(NamedTuple):
    """How a process is stopped: the time until it is killed, some of which passes before the drain."""

    place: str
    grace: float
    lame_duck: float = 0
    drain: float = DEFAULT.drain_seconds


class Idle(NamedTuple):
    """What stands between, and how long it keeps a silent connection."""

    place: str
    seconds: float


def read(path: str) -> str:
    return (ROOT / path).read_text()


def ends() -> Iterator[End]:
    yield End("systemd", seconds("TimeoutStopSec=", read("deploy/systemd/progress-gateway.service")))
    text = read("docker-compose.yml")
    drain = setting("GATEWAY_DRAIN_SECONDS", text, DEFAULT.drain_seconds)
    yield End("docker-compose.yml", seconds("stop_grace_period: ", text), drain=drain)
    text = read("deploy/k8s/deployment.yaml")
    yield End(
        "deploy/k8s",  # made from the chart's defaults
        seconds("terminationGracePeriodSeconds: ", text),
        setting("GATEWAY_LAME_DUCK_SECONDS", read("deploy/k8s/configmap.yaml"), DEFAULT.lame_duck_seconds),
        setting("GATEWAY_DRAIN_SECONDS", read("deploy/k8s/configmap.yaml"), DEFAULT.drain_seconds),
    )


def idles() -> Iterator[Idle]:
    nginx = read("deploy/nginx/progress-gateway.conf")
    for name in ("proxy_read_timeout", "proxy_send_timeout"):
        yield Idle(f"nginx, {name}", seconds(rf"{name}\s+", nginx))
    haproxy = read("deploy/haproxy/haproxy.cfg")
    for name in ("client", "server", "tunnel"):
        yield Idle(f"HAProxy, timeout {name}", seconds(rf"timeout {name}\s+", haproxy))
    text = read("deploy/k8s/examples/ingress.yaml")
    for name in ("proxy-read-timeout", "proxy-send-timeout"):
        yield Idle(f"ingress-nginx, {name}", seconds(rf"{name}: ", text))


def pings() -> Iterator[tuple[str, float]]:
    yield "the default", DEFAULT.ping_seconds
    for path in ("docker-compose.yml", "deploy/k8s/configmap.yaml"):
        yield path, setting("GATEWAY_PING_SECONDS", read(path), DEFAULT.ping_seconds)


@pytest.mark.parametrize("end", list(ends()), ids=lambda end: end.place)
def test_nobody_kills_a_replica_before_its_longest_drain_is_over(end: End) -> None:
    assert end.lame_duck + longest_seconds(end.drain) + END_SECONDS + MARGIN_SECONDS <= end.grace


def test_the_documents_name_the_longest_end() -> None:
    """The documents that say how long the drain and the rest of the shutdown take."""
    text = read("docs/operating.md")
    (short, long) = re.findall(r"`GATEWAY_LAME_DUCK_SECONDS \+ ([\d.]+) . GATEWAY_DRAIN_SECONDS \+ (\d+)`", text)
    for (factor, constant), drains in ((short, (1, 10, 20)), (long, (20, 60, 3_600))):
        for drain in drains:
            assert float(factor) * drain + float(constant) == longest_seconds(drain) + END_SECONDS
    longest = longest_seconds(DEFAULT.drain_seconds)
    default = f"{longest + END_SECONDS:g}"
    assert f"{default} seconds at most, {longest:g} for the drain and {END_SECONDS:g} for" in text
    assert f"5 + {default} with the defaults" in text
    assert f"takes {default} seconds at most" in read("deploy/systemd/progress-gateway.service")
    assert f"within {default} seconds at most" in read("docs/runbook.md")
    assert f"a drain of {longest:g} s at most (window 20 s), its end {END_SECONDS:g} s" in read("deploy/README.md")


def test_nobody_kills_a_replica_that_waits_for_redis_at_its_start() -> None:
    """At most twice: for Redis, and then for events. Before both are over nothing answers."""
    text = read("deploy/k8s/deployment.yaml")
    startup = text[text.index("startupProbe:") : text.index("livenessProbe:")]
    wait = setting("GATEWAY_REDIS_WAIT_SECONDS", read("deploy/k8s/configmap.yaml"), DEFAULT.redis_wait_seconds)
    patience = seconds("periodSeconds: ", startup) * seconds("failureThreshold: ", startup)
    assert 2 * wait + MARGIN_SECONDS <= patience
    (unit,) = re.findall(r"^TimeoutStartSec=(.*)$", read("deploy/systemd/progress-gateway.service"), re.MULTILINE)
    assert unit == "infinity", "GATEWAY_REDIS_WAIT_SECONDS may be any number"


@pytest.mark.parametrize("idle", list(idles()), ids=lambda idle: idle.place)
@pytest.mark.parametrize("ping", list(pings()), ids=lambda ping: ping[0])
def test_a_silent_connection_is_pinged_twice_before_anything_between_gives_it_up(
    idle: Idle, ping: tuple[str, float]
) -> None:
    assert 2 * ping[1] < idle.seconds


def test_pings_are_rarer_than_no_cloud_load_balancer_allows() -> None:
    """The shortest idle time of those that are in use: 30 seconds."""
    assert DEFAULT.ping_seconds < 30


def test_the_watchdog_is_patient_with_a_loop_that_is_busy_for_a_moment() -> None:
    assert seconds("WatchdogSec=", read("deploy/systemd/progress-gateway.service")) >= 10


def test_a_replica_that_is_back_takes_clients_faster_than_another_one_drains_them() -> None:
    """HAProxy raises its maxconn evenly from nothing over `slowstart`; beyond it clients would wait in a queue."""
    haproxy = read("deploy/haproxy/haproxy.cfg")
    (most,) = map(int, re.findall(r"default-server .*maxconn (\d+)", haproxy))
    assert most == DEFAULT.max_connections
    assert most / seconds(r"default-server .*slowstart ", haproxy) >= 2 * DEFAULT.drain_rate


def test_a_posted_event_has_room_in_nginx() -> None:
    (megabytes,) = map(int, re.findall(r"client_max_body_size (\d+)m;", read("deploy/nginx/progress-gateway.conf")))
    assert megabytes * 1_048_576 >= DEFAULT.publish_max_bytes
