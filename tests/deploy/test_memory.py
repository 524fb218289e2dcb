"""The limits of a replica fit the memory that the chart gives it, by the costs that docs/operating.md tells."""

import re
from pathlib import Path

import yaml

from gateway.settings import Settings

ROOT = Path(__file__).parents[2]
VALUES = ROOT / "deploy" / "helm" / "progress-gateway" / "values.yaml"
UNITS = {"bytes": 1, "KB": 1_000, "MB": 1_000_000}


def documented() -> dict[str, tuple[float, float]]:
    """The costs in bytes, each and at most, by the first words of their rows."""
    table = (ROOT / "docs" / "operating.md").read_text().split("### Memory")[1].split("## ")[0]
    number = r"([\d.,]+) (bytes|KB|MB)"
    rows = re.findall(rf"^\| (.+?) \| {number} \| {number} \|$", table, re.MULTILINE)
    return {
        what: (float(each.replace(",", "")) * UNITS[unit], float(most.replace(",", "")) * UNITS[of_most])
        for what, each, unit, most, of_most in rows
    }


def test_all_limits_together_are_below_the_memory_limit_of_the_chart() -> None:
    values = yaml.safe_load(VALUES.read_text())
    settings = Settings(max_connections=values["gateway"]["maxConnections"])
    memory = values["resources"]["limits"]["memory"]
    assert memory == values["resources"]["requests"]["memory"]
    process, connection, behind, project = documented().values()
    counts = (1, settings.max_connections, settings.max_connections, settings.max_watched_projects)
    for (each, most), count in zip((process, connection, behind, project), counts, strict=True):
        assert each * count == most or abs(each * count - most) < 1_000_000
    assert behind[0] == settings.buffer_bytes
    assert re.fullmatch(r"\d+Gi", memory)
    assert sum(most for _, most in (process, connection, behind, project)) < int(memory[:-2]) * 2**30
