"""Renders the chart with Helm's own code, without a cluster and without the `helm` program.

`render.py` writes deploy/k8s/. `--values` and `--manifests` print what is rendered, as JSON, `--refusals` what is said
to wrong values, and `--lint` what Helm's lint finds. `make manifests` and `make deploy-check` run it in .venv/.deploy.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

import helm_python

CHART = Path(__file__).parent / "progress-gateway"
MANIFESTS = Path(__file__).parent.parent / "k8s"
NAME = "progress-gateway"

# For each plain manifest its template, and the values that enable it.
ON = {"enabled": True}
PLAIN: dict[str, tuple[str, dict[str, Any]]] = {
    "configmap.yaml": ("configmap", {}),
    "deployment.yaml": ("deployment", {}),
    "service.yaml": ("service", {}),
    "poddisruptionbudget.yaml": ("poddisruptionbudget", {}),
    "horizontalpodautoscaler.yaml": ("horizontalpodautoscaler", {}),
    "networkpolicy.yaml": ("networkpolicy", {}),
    "monitoring/servicemonitor.yaml": ("servicemonitor", {"monitoring": {"serviceMonitor": ON}}),
    "monitoring/prometheusrule.yaml": ("prometheusrule", {"monitoring": {"prometheusRule": ON}}),
    "examples/ingress.yaml": ("ingress", {"ingress": ON}),
    "examples/httproute.yaml": ("httproute", {"httpRoute": ON | {"parentRefs": [{"name": "gateway"}]}}),
}
HEAD = "# Made from the chart by `make manifests`: change deploy/helm/progress-gateway, not this file.\n"
ABOUT_HELM = re.compile(r"^ *(app\.kubernetes\.io/managed-by|helm\.sh/[a-z-]+): .*\n", re.MULTILINE)
# Annotations of which nothing is left, with their comments.
EMPTY = re.compile(r"^( *)annotations:\n(\1 +#.*\n)*(?!\1 )", re.MULTILINE)


def render(values: dict[str, Any]) -> dict[str, str]:
    """The text of each template, by its name."""
    with helm_python.Chart.load(str(CHART)) as chart:
        rendered = chart.render(values, name=NAME, namespace="default")
    return {name.removeprefix(f"{NAME}/templates/"): text for name, text in rendered.items()}


def manifests() -> dict[str, str]:
    """The plain manifests, by their path below deploy/k8s/."""
    made = {}
    for path, (template, values) in PLAIN.items():
        text = render(values)[f"{template}.yaml"].strip("\n")
        made[path] = HEAD + EMPTY.sub("", ABOUT_HELM.sub("", text + "\n"))
    return made


def refusal(values: dict[str, Any]) -> str | None:
    """What Helm says to values that it does not take; None if it takes them."""
    try:
        render(values)
    except helm_python.HelmError as error:
        return str(error)
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--values", metavar="JSON", help="print the templates with these values")
    parser.add_argument("--refusals", metavar="JSON", help="of a list of values, print what Helm says to each, or null")
    parser.add_argument("--lint", metavar="JSON", help="lint the chart with these values")
    parser.add_argument("--manifests", action="store_true", help="print the plain manifests, and write nothing")
    arguments = parser.parse_args()
    try:
        if arguments.values:
            json.dump(render(json.loads(arguments.values)), sys.stdout)
        elif arguments.refusals:
            json.dump([refusal(values) for values in json.loads(arguments.refusals)], sys.stdout)
        elif arguments.lint:
            json.dump(helm_python.lint(str(CHART), json.loads(arguments.lint), strict=True), sys.stdout)
        elif arguments.manifests:
            json.dump(manifests(), sys.stdout)
        else:
            for path, text in manifests().items():
                (MANIFESTS / path).parent.mkdir(parents=True, exist_ok=True)
                (MANIFESTS / path).write_text(text)
    except helm_python.HelmError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
