"""The Grafana dashboard: its form, and that Prometheus can read each of its queries."""

import json
from collections import Counter
from pathlib import Path

import yaml

from .metrics import DASHBOARD, ROOT, alerts, named, panels, queries
from .test_alerts import promtool

ROWS = [
    "Replicas and connections",
    "Events and delivery",
    "Slow clients and catch-up",
    "Redis",
    "The process",
    "Drains",
]


def readable(expression: str) -> str:
    """With what Grafana puts in the place of its variables."""
    return expression.replace("$__rate_interval", "1m")


def test_promtool_can_read_every_query(tmp_path: Path) -> None:
    rules = [{"record": f"query_{n}", "expr": readable(expr)} for n, expr in enumerate(queries().values())]
    assert len(rules) > 40
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    checked = promtool("check", "rules", file)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_panel_has_an_id_of_its_own_and_the_data_source_that_was_chosen() -> None:
    ids = Counter(panel["id"] for panel in panels())
    assert max(ids.values()) == 1
    for panel in panels():
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${datasource}", panel["title"]
            assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}, panel["title"]
            references = [target["refId"] for target in panel["targets"]]
            assert len(set(references)) == len(references), panel["title"]


def test_its_rows_and_panels_lie_beside_each_other() -> None:
    assert [panel["title"] for panel in panels() if panel["type"] == "row"] == ROWS
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_its_variables_are_those_that_the_queries_use() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    assert dashboard["uid"] == "progress-gateway", "the alerts lead to it"
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    assert variables == {"datasource", "job", "namespace", "instance"}
    for title, expression in queries().items():
        assert {"$job", "$namespace", "$instance"} <= set(expression.replace('"', " ").split()), title


def test_what_an_alert_looks_at_can_be_seen() -> None:
    seen = set().union(*map(named, queries().values()))
    for rule in alerts():
        assert named(rule["expr"]) <= seen, rule["alert"]


def test_grafana_is_given_it_with_the_data_source() -> None:
    folder = ROOT / "deploy" / "grafana" / "provisioning"
    [provider] = yaml.safe_load((folder / "dashboards" / "progress-gateway.yaml").read_text())["providers"]
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    volumes = dict(volume.split(":")[:2] for volume in compose["services"]["grafana"]["volumes"] if ":ro" in volume)
    assert volumes["./deploy/grafana/dashboard.json"].startswith(provider["options"]["path"] + "/")
    assert volumes["./deploy/grafana/provisioning"] == "/etc/grafana/provisioning"
    [source] = yaml.safe_load((folder / "datasources" / "prometheus.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in compose["services"]
