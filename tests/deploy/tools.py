"""The tools that check deploy/. They have an environment of their own: `make .venv/.deploy/.installed`."""

import functools
import json
import subprocess
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm" / "progress-gateway"
TOOLS = ROOT / ".venv" / ".deploy" / "bin"


def tool(name: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs a tool at the top of the repository."""
    program = TOOLS / name
    assert program.exists(), f"{program} is missing: make .venv/.deploy/.installed"
    words = (str(program), *map(str, words))
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


def passes(name: str, *words: str | Path) -> str:
    """What the tool prints; it has to exit with 0."""
    run = tool(name, *words)
    assert run.returncode == 0, f"{name}: {run.stdout}\n{run.stderr}"
    return run.stdout


def refused(**values: object) -> str:
    """What Helm says to values that it does not take."""
    run = tool("python", DEPLOY / "helm" / "render.py", "--values", json.dumps(values))
    assert run.returncode == 1, f"the chart takes {values}"
    return run.stderr


@functools.cache
def _refusals(every: str) -> list[str | None]:
    said: list[str | None] = json.loads(passes("python", DEPLOY / "helm" / "render.py", "--refusals", every))
    return said


def refusal_among(every: list[dict[str, Any]], values: dict[str, Any]) -> str:
    """As `refused`; asks once for all of them, since most of the time is the start of Helm."""
    said = _refusals(json.dumps(every))[every.index(values)]
    assert said is not None, f"the chart takes {values}"
    return said


def rendered(**values: object) -> dict[str, dict[str, Any]]:
    """The chart's objects, by their kind; the Service of the admin port is `admin`, the dashboard's map `dashboard`."""
    texts = json.loads(passes("python", DEPLOY / "helm" / "render.py", "--values", json.dumps(values)))
    objects = {}
    for name, text in texts.items():
        for document in yaml.safe_load_all(text) if name.endswith(".yaml") else []:
            if document:
                suffix = document["metadata"]["name"].removeprefix("progress-gateway").lstrip("-")
                objects[suffix if suffix in ("admin", "dashboard") else document["kind"]] = document
    return objects
