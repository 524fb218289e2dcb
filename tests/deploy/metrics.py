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
BY_PROMETHEUS = {"job", "instance", "namespace", "le"}


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
    """The metrics of an expression."""
    return set(OURS.findall(expression))


def selections(expression: str) -> Iterator[tuple[str, str, str, str]]:
    """What is chosen by label: the metric, the label, the operator and the value; not what Prometheus itself adds."""
    for metric, labels in re.findall(r"\b([a-z_]+)\{([^}]*)\}", expression):
        for label, operator, value in re.findall(r'([a-z_]+)\s*(=~|!~|!=|=)\s*"([^"]*)"', labels):
            if label not in BY_PROMETHEUS:
                yield metric, label, operator, value


def grouped(expression: str) -> set[str]:
    """The labels of all `by (...)`, less what Prometheus itself adds."""
    found = re.findall(r"\bby \(([^)]*)\)", expression)
    return {label.strip() for labels in found for label in labels.split(",")} - BY_PROMETHEUS


def scraped(exposition: str) -> dict[str, dict[str, set[str]]]:
    """The series of a scrape by name, with the values that each label has."""
    names: dict[str, dict[str, set[str]]] = {}
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            labels = names.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return names
