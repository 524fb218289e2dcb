"""What the chart renders for Prometheus' operator, the Gateway API and KEDA, by their own schemas and types."""

import json
import subprocess
from pathlib import Path
from typing import Any

import yaml

from .tools import DEPLOY, rendered

FOLDER = Path(__file__).parent / "kinds"
FILES = [*sorted((DEPLOY / "k8s" / "monitoring").glob("*.yaml")), *sorted((DEPLOY / "k8s" / "examples").glob("*.yaml"))]
OF_KUBERNETES = {"Ingress"}  # tests/deploy/test_chart.py checks it
# Each of a kind, what is in its manifest, and what is put in its place.
MISTAKES = [
    ("ServiceMonitor", '"targetLabel"', '"targetLable"'),
    ("ServiceMonitor", '"action": "replace"', '"action": "rename"'),
    ("ServiceMonitor", "monitoring.coreos.com/v1", "monitoring.coreos.com/v2"),
    ("ServiceMonitor", '"EndpointSlice"', '"EndpointSlices"'),
    ("PrometheusRule", '"for"', '"since"'),
    ("HTTPRoute", '"backendRefs"', '"backends"'),
    ("HTTPRoute", '"port": 3001', '"port": 300001'),
    ("ScaledObject", '"maxReplicaCount": 30', '"maxReplicaCount": "30"'),
    ("ScaledObject", '"triggers"', '"trigger"'),
]


def complaints(objects: dict[str, Any]) -> dict[str, str]:
    """What check.mjs (its schemas, and typescript) says of each; its libraries are installed by make."""
    assert (FOLDER / "node_modules").exists(), "make tests/deploy/kinds/node_modules/.installed"
    words = ["node", str(FOLDER / "check.mjs")]
    run = subprocess.run(words, input=json.dumps(objects), capture_output=True, text=True, check=False, timeout=120)
    assert run.stderr == ""
    said = dict(line.split(": ", 1) for line in run.stdout.splitlines() if line)
    assert run.returncode == bool(said)
    return said


def manifests() -> dict[str, Any]:
    documents = [document for path in FILES for document in yaml.safe_load_all(path.read_text())]
    return {document["kind"]: document for document in documents if document["kind"] not in OF_KUBERNETES}


def test_each_kind_knows_every_field_that_is_in_the_manifests() -> None:
    objects = manifests()
    assert objects.keys() == {"ServiceMonitor", "PrometheusRule", "HTTPRoute", "ScaledObject"}
    assert complaints(objects) == {}


def test_each_kind_knows_every_field_that_the_chart_can_render() -> None:
    rule = {"enabled": True, "labels": {"release": "a"}, "runbookUrl": "https://wiki.example.com/runbook"}
    monitor = {"enabled": True, "labels": {"release": "a"}, "interval": "30s"}
    parents = [{"name": "public", "namespace": "edge", "sectionName": "https"}]
    objects = rendered(
        monitoring={"serviceMonitor": monitor, "prometheusRule": rule},
        httpRoute={"enabled": True, "parentRefs": parents, "hostnames": ["a.example.com"]},
    )
    assert complaints({kind: objects[kind] for kind in ("ServiceMonitor", "PrometheusRule", "HTTPRoute")}) == {}


def test_a_misspelt_field_or_a_wrong_value_would_be_found() -> None:
    objects = {kind: json.dumps(document) for kind, document in manifests().items()}
    for kind, right, _ in MISTAKES:
        assert right in objects[kind]
    wrong = [json.loads(objects[kind].replace(right, mistake)) for kind, right, mistake in MISTAKES]
    assert complaints({f"mistake_{number}": document for number, document in enumerate(wrong)}).keys() == {
        f"mistake_{number}" for number in range(len(MISTAKES))
    }
