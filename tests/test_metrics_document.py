"""docs/operating.md lists the metrics as a replica shows them; `python -m tests.test_metrics_document` updates it."""

from pathlib import Path

from prometheus_client.metrics_core import Metric

from gateway.operations.metrics import registry
from gateway.projects.hub import Hub
from gateway.settings import Settings
from tests.fakes import FakeFeed

DOCUMENT = Path(__file__).parent.parent / "docs" / "operating.md"
BEGIN, END = (
    "<!-- metrics: made from gateway/operations/metrics.py, checked by tests/test_metrics_document.py -->\n",
    "<!-- end of m",
)
MANY = 9  # values of a label that are still listed


def labels(family: Metric) -> str:
    values: dict[str, dict[str, None]] = {}
    for sample in family.samples:
        for name, value in sample.labels.items():
            if name != "le":
                values.setdefault(name, {})[value] = None
    shown = []
    for name, known in values.items():
        is_listed = family.name != "gateway_build" and len(known) <= MANY and len(known) > 1
        shown.append(f"`{name}`" + (f": {', '.join(f'`{value}`' for value in known)}" if is_listed else ""))
    return "; ".join(shown)


def table() -> str:
    lines = ["| metric | kind | labels | meaning |", "|---|---|---|---|"]
    for family in registry(Hub(Settings(), lambda hub: FakeFeed())).collect():
        if family.name.startswith("gateway_"):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            lines.append(f"| `{name}` | {family.type} | {labels(family)} | {family.documentation} |")
    return "\n".join(lines) + "\n"


def parts() -> tuple[str, str, str]:
    before, rest = DOCUMENT.read_text().split(BEGIN)
    written, after = rest.split(END)
    return before, written, after


def test_the_list_of_metrics_is_current() -> None:
    assert parts()[1] == table()


if __name__ == "__main__":
    before, _, after = parts()
    DOCUMENT.write_text(before + BEGIN + table() + END + after)
