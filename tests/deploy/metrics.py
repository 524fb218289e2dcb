"""Which metrics rules and dashboard name, and which ones a live replica has."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).parent.parent.parent
RULES = ROOT / "deploy" / "prometheus" / "alerts.yaml"
DASHBOARD = ROOT / "deploy" / "grafana" / "dashboard.json"
OURS = re.compile(r"\b(?:gateway|process|python)_[a-z_]+")
LABEL = re.compile(r'\b([a-z_]+)\s*(?:=~|!~|!=|=)\s*"')
BY_PROMETHEUS = {"up", "job", "instance", "namespace", "le"}


def alerts() -> list[dict[str, Any]]:
    [group] = yaml.safe_load(RULES.read_text())["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


def panels() -> Iterator[dict[str, Any]]:
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        yield panel
        yield from panel.get("panels", [])


def queries() -> dict[str, str]:
    """The expressions of the dashboard, by panel and legend."""
    dashboard = json.loads(DASHBOARD.read_text())
    found = {}
    for panel in panels():
        for target in panel.get("targets", []):
            found[f"{panel['title']}/{target['refId']}"] = target["expr"]
    for annotation in dashboard["annotations"]["list"]:
        if "expr" in annotation:
            found[f"annotation {annotation['name']}"] = annotation["expr"]
    return found


def expressions() -> dict[str, str]:
    """All of them, of rules and dashboard."""
    return {rule["alert"]: rule["expr"] for rule in alerts()} | queries()


def named(expression: str) -> set[str]:
    return set(OURS.findall(expression))


def scraped(exposition: str) -> dict[str, set[str]]:
    """The names of all series of a scrape, each with the labels that it has."""
    names: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            names.setdefault(sample.name, set()).update(sample.labels)
        # A family whose labels have been counted under no value yet has no series, but is there.
        ends = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
        for end in ends:
            names.setdefault(family.name + end, set())
    return names
