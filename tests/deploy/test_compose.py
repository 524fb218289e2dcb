"""docker-compose.yml, by Docker Compose itself; and that its parts fit each other and the files that they are given."""

import json
import re
import tomllib
from functools import cache
from typing import Any

import pytest
import yaml

from tests.contract.processes import environment, run_gateway

from .tools import DEPLOY, ROOT, passes, tool

FILE = ROOT / "docker-compose.yml"
REPLICAS = ["gateway-1", "gateway-2", "gateway-3"]
SERVICES = sorted([*REPLICAS, "redis", "nginx", "jobs", "prometheus", "grafana"])


@cache
def services() -> dict[str, Any]:
    """As Compose understands them."""
    found: dict[str, Any] = json.loads(passes("docker-compose", "-f", FILE, "config", "--format", "json"))["services"]
    return found


def sources(service: str) -> dict[str, str]:
    """The files that a service is given: where they are in it, and where here."""
    volumes = services()[service].get("volumes", [])
    return {volume["target"]: volume["source"] for volume in volumes if volume["type"] == "bind"}


def test_compose_takes_it_and_it_has_the_form_of_the_specification() -> None:
    assert sorted(services()) == SERVICES
    passes("check-jsonschema", "--builtin-schema", "vendor.compose-spec", FILE)


def test_a_misspelt_key_would_be_found() -> None:
    wrong = ROOT / "docker-compose.wrong.yml"
    try:
        wrong.write_text(FILE.read_text().replace("stop_grace_period", "stop_grace"))
        assert tool("docker-compose", "-f", wrong, "config", "-q").returncode != 0
    finally:
        wrong.unlink()


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_locked_in(name: str) -> None:
    service = services()[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service.get("cap_add", []) == ([] if name != "nginx" else ["CHOWN", "SETGID", "SETUID", "NET_BIND_SERVICE"])
    assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+[\w.-]*", service["image"]), "an image with its full version"
    assert service["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", SERVICES)
def test_what_it_is_given_is_there_and_cannot_be_changed(name: str) -> None:
    for volume in services()[name].get("volumes", []):
        if volume["type"] == "bind":
            assert volume["read_only"] is True
    for source in sources(name).values():
        # deploy/nginx comes with its own tests.
        assert source.startswith(str(DEPLOY))
        assert DEPLOY.joinpath(source.removeprefix(f"{DEPLOY}/")).exists(), source


def test_only_the_load_balancer_can_be_reached_from_outside() -> None:
    for name, service in services().items():
        for port in service.get("ports", []):
            assert name == "nginx" or port["host_ip"] == "127.0.0.1", name


def test_the_replicas_are_of_one_kind_and_end_in_their_time() -> None:
    one, two, three = (services()[name] for name in REPLICAS)
    assert one == two == three
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert one["image"] == services()["jobs"]["image"] == f"progress-gateway:{version}"
    assert one["ulimits"]["nofile"]["soft"] > 2 * int(one["environment"]["GATEWAY_MAX_CONNECTIONS"])
    assert one["stop_grace_period"] == "1m15s"
    assert "healthcheck" not in one, "the image has one"


def test_a_replica_takes_every_setting_that_it_gives() -> None:
    env = environment(None, **services()["gateway-1"]["environment"])
    checked = run_gateway("serve", "--check-config", env=env)
    assert checked.returncode == 0, checked.stderr


def test_each_waits_for_what_it_needs() -> None:
    needs = {name: service.get("depends_on", {}) for name, service in services().items()}
    assert needs["nginx"].keys() == set(REPLICAS), "it looks their addresses up when it starts"
    assert all("redis" in needs[name] for name in [*REPLICAS, "jobs"])
    for name, needed in needs.items():
        for other, how in needed.items():
            assert how["condition"] == "service_healthy", (name, other)
            assert other in REPLICAS or "test" in services()[other]["healthcheck"], other


def test_who_speaks_to_redis_is_a_user_that_its_file_knows() -> None:
    assert sources("redis")["/usr/local/etc/redis/redis.conf"] == str(DEPLOY / "redis" / "redis.conf")
    users = dict(re.findall(r"^user (\S+) on >(\S+)", (DEPLOY / "redis" / "redis.conf").read_text(), re.MULTILINE))
    for name, user in [("gateway-1", "gateway"), ("jobs", "jobs")]:
        assert services()[name]["environment"]["REDIS_URL"] == f"redis://{user}:{users[user]}@redis:6379/0"


def test_prometheus_asks_every_replica_on_its_admin_port() -> None:
    assert sources("prometheus")["/etc/prometheus/alerts.yaml"] == str(DEPLOY / "prometheus" / "alerts.yaml")
    [job] = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    port = services()["gateway-1"]["environment"]["GATEWAY_ADMIN_PORT"]
    assert job["job_name"] == "progress-gateway"
    assert job["static_configs"][0]["targets"] == [f"{name}:{port}" for name in REPLICAS]


def test_nginx_knows_every_replica() -> None:
    text = (DEPLOY / "nginx" / "progress-gateway.conf").read_text()
    assert re.findall(r"^\s+server (\S+) ", text, re.MULTILINE) == [f"{name}:3001" for name in REPLICAS]
    assert sources("nginx")["/etc/nginx/progress-gateway.conf"] == str(DEPLOY / "nginx" / "progress-gateway.conf")


def test_the_jobs_are_all_kinds_of_the_demonstration() -> None:
    from gateway.commands.demo import KINDS

    [script] = services()["jobs"]["command"]
    assert re.search(r"for kind in ([\w ]+);", script).group(1).split() == list(KINDS)  # type: ignore[union-attr]
