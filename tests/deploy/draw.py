"""Draws the dashboard's panels as one page of HTML and SVG: for a picture where there is no Grafana."""

import html
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

COLORS = ["#73bf69", "#f2cc0c", "#5794f2", "#ff780a", "#b877d9", "#f2495c", "#8ab8ff", "#c0d8ff", "#ffa6b0", "#37872d"]
WIDTH, HEIGHT = 380, 120  # of a graph's plane, in SVG's units
GAP_SECONDS = 3
MANY = 6  # series; of more, those that are 0 all the time are left out
STYLE = """
body{margin:0;padding:12px;background:#111217;color:#ccccdc;font:12px sans-serif;width:1416px}
h1{font-size:18px;margin:0 0 2px}.note{color:#8e8ea0;margin-bottom:8px}
.grid{display:grid;grid-template-columns:repeat(24,1fr);gap:6px}
.row{grid-column:1/-1;font-size:14px;font-weight:bold;margin-top:6px}
.panel{background:#181b1f;border:1px solid #2c3235;padding:6px;overflow:hidden}
.title{font-weight:bold;margin-bottom:2px;white-space:nowrap}.big{font-size:30px;text-align:center;margin-top:6px}
.legend span{margin-right:8px;white-space:nowrap}.legend i{display:inline-block;width:10px;height:3px;margin-right:4px}
.legend{font-size:10px;max-height:26px;overflow:hidden}td{padding:0 12px 0 0}svg text{fill:#8e8ea0;font-size:9px}
"""


class Series(NamedTuple):
    """One line of a panel: its legend, and its values by time; what is not there is a gap."""

    legend: str
    values: dict[float, float]


def amount(value: float, unit: str) -> str:
    """A value as people read it."""
    if unit == "s" and 0 < abs(value) < 1:
        return f"{value * 1000:.3g} ms"
    if unit == "percentunit":
        return f"{value:.0%}"
    steps, names = (1024.0, ["B", "KiB", "MiB", "GiB"]) if unit in ("bytes", "Bps") else (1000.0, ["", "k", "M", "G"])
    power = 0
    while abs(value) >= steps and power < len(names) - 1:
        value, power = value / steps, power + 1
    end = {"s": " s", "ops": "/s", "Bps": "/s"}.get(unit, "")
    return f"{value:.4g} {names[power]}".strip() + end


def _stacked(series: Sequence[Series]) -> list[Series]:
    below: dict[float, float] = {}
    stacked = []
    for one in series:
        sums = {at: value + below.get(at, 0) for at, value in one.values.items()}
        below |= sums
        stacked.append(Series(one.legend, sums))
    return stacked


def _pieces(values: dict[float, float]) -> list[list[tuple[float, float]]]:
    """The values by time, cut where some are missing."""
    pieces: list[list[tuple[float, float]]] = []
    for at, value in sorted(values.items()):
        if math.isfinite(value):
            if not pieces or at - pieces[-1][-1][0] > GAP_SECONDS:
                pieces.append([])
            pieces[-1].append((at, value))
    return pieces


def graph(series: Sequence[Series], unit: str, span: tuple[float, float], *, stack: bool) -> str:
    """Lines, or areas on top of each other; a limit is a line in any case."""
    limits = [one for one in series if one.legend.startswith("limit")]
    series = [one for one in series if one not in limits and (len(series) < MANY or any(one.values.values()))] + limits
    lines = [*_stacked(series[: len(series) - len(limits)]), *limits] if stack else list(series)
    top = max((value for one in lines for value in one.values.values() if math.isfinite(value)), default=0) or 1
    begin, end = span
    drawn = []
    for number, one in reversed(list(enumerate(lines))):
        color = COLORS[number % len(COLORS)]
        for piece in _pieces(one.values):
            points = [(WIDTH * (at - begin) / (end - begin), HEIGHT * (1 - value / top / 1.05)) for at, value in piece]
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            if stack and one not in limits:
                area = f"{points[0][0]:.1f},{HEIGHT} {path} {points[-1][0]:.1f},{HEIGHT}"
                drawn.append(f'<polygon points="{area}" fill="{color}" fill-opacity=".35"/>')
            drawn.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.2"/>')
    texts = f'<text x="2" y="9">{amount(top, unit)}</text>'
    texts += f'<text x="{WIDTH - 30}" y="{HEIGHT - 3}">{end - begin:.0f} s</text>'
    frame = f'<rect width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#2c3235"/>'
    plane = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="100%">{frame}{"".join(drawn)}{texts}</svg>'
    legend = "".join(
        f'<span><i style="background:{COLORS[number % len(COLORS)]}"></i>{html.escape(one.legend)}</span>'
        for number, one in enumerate(series)
    )
    return f'{plane}<div class="legend">{legend}</div>'


def heatmap(series: Sequence[Series], span: tuple[float, float]) -> str:
    """A histogram over time: the buckets, from the shortest time up, and how many fell into each."""
    rows = sorted((float(one.legend.replace("+Inf", "inf")), one.values) for one in series)
    begin, end = span
    counts: list[tuple[float, int, float]] = []
    for number, (_, values) in enumerate(rows):
        below = rows[number - 1][1] if number else {}
        counts += [(at, number, value - below.get(at, 0)) for at, value in values.items()]
    most = max((count for _, _, count in counts), default=0) or 1
    height, step = HEIGHT / max(1, len(rows)), WIDTH / max(1, len({at for at, _, _ in counts}))
    cells = "".join(
        f'<rect x="{(WIDTH - step) * (at - begin) / (end - begin):.1f}" y="{HEIGHT - (number + 1) * height:.1f}" '
        f'width="{step + 0.3:.1f}" height="{height:.1f}" fill="#ff780a" fill-opacity="{(count / most) ** 0.5:.2f}"/>'
        for at, number, count in counts
        if count > 0
    )
    texts = "".join(
        f'<text x="2" y="{HEIGHT - number * height - 1:.0f}">{amount(bound, "s")}</text>'
        for number, (bound, _) in enumerate(rows)
        if number % 3 == 0
    )
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="100%">{cells}{texts}</svg>'


def panel(definition: dict[str, Any], series: Sequence[Series], span: tuple[float, float]) -> str:
    """One panel, in its kind."""
    kind, defaults = definition["type"], definition["fieldConfig"]["defaults"]
    if kind == "stat":
        last = [one.values[max(one.values)] for one in series if one.values]
        body = f'<div class="big">{amount(sum(last), defaults["unit"])}</div>'
    elif kind == "table":
        rows = sorted({one.legend for one in series})
        body = "<table>" + "".join(f"<tr><td>{html.escape(row)}</td></tr>" for row in rows) + "</table>"
    elif kind == "heatmap":
        body = heatmap(series, span)
    else:
        body = graph(series, defaults["unit"], span, stack=defaults["custom"]["stacking"]["mode"] == "normal")
    head = f'<div class="title">{definition["title"]}</div>'
    return f'<div class="panel" style="grid-column:span {definition["gridPos"]["w"]}">{head}{body}</div>'


def page(title: str, note: str, parts: Sequence[str]) -> str:
    head = f"<!doctype html><meta charset=utf-8><style>{STYLE}</style><h1>{title}</h1><div class=note>{note}</div>"
    return f'{head}<div class="grid">{"".join(parts)}</div>'
