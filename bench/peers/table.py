"""The comparison as Markdown, from figures as --json writes them, so that it can be printed again without a run."""

from statistics import median
from typing import Any

KILO = 1024


def table(figures: list[dict[str, Any]]) -> str:
    """One row a figure, one column a server. Medians over the rounds, the lowest and the highest in brackets."""
    kinds = list(dict.fromkeys(kind for figure in figures for kind in figure["servers"]))
    rows = [["figure", *kinds], ["---"] * (1 + len(kinds))]
    for figure in figures:
        cells = [_cell(figure, kind) if kind in figure["servers"] else "" for kind in kinds]
        rows.append([f"{figure['name']}: {figure['title']}", *cells])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _cell(figure: dict[str, Any], kind: str) -> str:
    server, unit = figure["servers"][kind], figure["unit"]
    if server["lost"]:
        return "LOST"
    if not server["values"]:
        return ""
    if server["ratios_to_c"] and kind != "c":
        return f"**{_number(median(server['ratios_to_c']))}**{_span(server['ratios_to_c'])}"
    values = [value / KILO for value in server["values"]] if unit == "bytes" else server["values"]
    return f"{_number(median(values))} {'KB' if unit == 'bytes' else unit}{_span(values)}"


def _span(values: list[float]) -> str:
    return f" ({_number(min(values))}-{_number(max(values))})" if len(values) > 1 else ""


def _number(value: float) -> str:
    """Three digits are as many as a shared machine can tell."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}"
