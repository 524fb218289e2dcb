"""Draws docs/latency.svg: latency by percentile, a panel for each figure, a line for each server.

    python -m bench latency --json figures.json
    python -m bench.latency_picture docs/latency.svg figures.json [more.json ...]

Files of several runs are put together, for instance one of `python -m bench peers P7a P7b`. If several have the same
server in the same figure, the median of each percentile is drawn.
"""

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from statistics import median

PANELS_IN_A_ROW = 3
PANEL_WIDTH, PANEL_HEIGHT = 300, 250
LEFT, TOP, GAP = 50, 76, 18
HEAD = 44  # of a panel: its title
FOOT = 30  # of a panel: the labels of its percentiles
PERCENTS = (50.0, 90.0, 99.0, 99.9, 99.99)
# A colour of its own for each, on the light ground that the picture brings along for dark pages.
COLOURS = {"gateway": "#4f6df5", "c": "#1b2030", "plain": "#8a93a6"}
OTHER_COLOURS = ("#d25454", "#2f9e6e", "#c98a1b", "#8e5bd0", "#1f9bb5")
NAMES = {
    "gateway": "Progress Gateway",
    "c": "C, the limit",
    "plain": "plain Starlette",
    "centrifugo": "Centrifugo",
    "centrifugo-history": "Centrifugo, history",
    "nchan": "Nchan",
    "socketio": "Socket.IO",
}

Curve = dict[float, float]  # ms by percent


@dataclass(frozen=True)
class Panel:
    """One figure."""

    name: str
    title: str
    curves: Mapping[str, Curve]  # by server


def read_panels(paths: list[Path]) -> list[Panel]:
    """The figures with latencies, in the order of their names."""
    titles: dict[str, str] = {}
    found: dict[str, dict[str, list[Curve]]] = {}
    for path in paths:
        for figure in json.loads(path.read_text())["figures"]:
            for server, samples in figure.get("servers", {}).items():
                if samples.get("latency_ms"):
                    curve = {float(percent): ms for percent, ms in samples["latency_ms"].items()}
                    titles[figure["name"]] = figure["title"]
                    found.setdefault(figure["name"], {}).setdefault(server, []).append(curve)
    panels = []
    for name, servers in sorted(found.items()):
        panels.append(Panel(name, titles[name], {server: _median(curves) for server, curves in servers.items()}))
    return panels


def _median(curves: list[Curve]) -> Curve:
    """Of the percentiles that all of them have."""
    shared = [percent for percent in curves[0] if all(percent in curve for curve in curves)]
    return {percent: median(curve[percent] for curve in curves) for percent in shared}


def across(percent: float) -> float:
    """0 to 1 from the first of PERCENTS to the last: each further nine takes as much room."""
    return _nines(percent) / _nines(PERCENTS[-1])


def _nines(percent: float) -> float:
    return math.log10((100 - PERCENTS[0]) / (100 - percent))


def colours(servers: list[str]) -> dict[str, str]:
    others = [server for server in servers if server not in COLOURS]
    return COLOURS | {server: OTHER_COLOURS[number % len(OTHER_COLOURS)] for number, server in enumerate(others)}


def draw(panels: list[Panel]) -> str:
    """The picture as SVG. All panels have the same axes, so that they can be compared."""
    servers = list(dict.fromkeys(server for panel in panels for server in panel.curves))
    ink = colours(servers)
    shown = [ms for panel in panels for curve in panel.curves.values() for ms in _shown(curve).values()]
    low, high = math.floor(math.log10(min(shown))), math.ceil(math.log10(max(shown)))
    rows = -(-len(panels) // PANELS_IN_A_ROW)
    width = LEFT + PANELS_IN_A_ROW * (PANEL_WIDTH + GAP)
    height = TOP + rows * (HEAD + PANEL_HEIGHT + FOOT)
    title = "Latency from publish to socket, by percentile"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="system-ui, sans-serif"'
        ' font-size="13" role="img" aria-labelledby="title">',
        f'  <title id="title">{title}</title>',
        "  <style>",
        "    .name { font-weight: 600; fill: #1b2030 }",
        "    .small { font-size: 11.5px; fill: #5b6478 }",
        "    .frame { fill: #fff; stroke: #c9cfdb }",
        "    .grid { stroke: #e6e9f0 }",
        "    .curve { fill: none; stroke-width: 1.8; stroke-linejoin: round; stroke-linecap: round }",
        "    .ours { stroke-width: 3 }",
        "    .limit { stroke-dasharray: 5 4 }",
        "  </style>",
        f'  <rect width="{width}" height="{height}" rx="12" fill="#f5f6f8"/>',
        f'  <text class="name" x="{LEFT}" y="28" font-size="15">{title} (ms)</text>',
        *_legend(servers, ink),
    ]
    for number, panel in enumerate(panels):
        row, column = divmod(number, PANELS_IN_A_ROW)
        x, y = LEFT + column * (PANEL_WIDTH + GAP), TOP + row * (HEAD + PANEL_HEIGHT + FOOT) + HEAD
        parts += _panel(panel, ink, x, y, low, high, has_scale=column == 0)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _legend(servers: list[str], ink: Mapping[str, str]) -> list[str]:
    parts, x = [], float(LEFT)
    for server in servers:
        name = NAMES.get(server, server)
        parts.append(f'  <path class="{_line_class(server)}" stroke="{ink[server]}" d="M{x:.0f} 50h24"/>')
        parts.append(f'  <text class="small" x="{x + 30:.0f}" y="54">{escape(name)}</text>')
        x += 30 + 6.2 * len(name) + 14
    return parts


def _line_class(server: str) -> str:
    return "curve" + {"gateway": " ours", "c": " limit"}.get(server, "")


def _panel(
    panel: Panel, ink: Mapping[str, str], x: float, y: float, low: int, high: int, *, has_scale: bool
) -> list[str]:
    def down(ms: float) -> float:
        return y + PANEL_HEIGHT * (high - math.log10(ms)) / (high - low)

    right, bottom = x + PANEL_WIDTH, y + PANEL_HEIGHT
    what, _, how = panel.title.removeprefix("p99: ").removeprefix("largest latency ").partition(", ")
    parts = [
        f'  <text class="name" x="{x}" y="{y - 24}">{escape(panel.name)}: {escape(what)}</text>',
        f'  <text class="small" x="{x}" y="{y - 8}">{escape(how)}</text>',
        f'  <rect class="frame" x="{x}" y="{y}" width="{PANEL_WIDTH}" height="{PANEL_HEIGHT}"/>',
    ]
    for exponent in range(low, high + 1):
        level = down(10.0**exponent)
        parts.append(f'  <line class="grid" x1="{x}" y1="{level:.1f}" x2="{right}" y2="{level:.1f}"/>')
        if has_scale:
            label = f"{10.0**exponent:,g}"
            parts.append(f'  <text class="small" x="{x - 8}" y="{level + 4:.1f}" text-anchor="end">{label}</text>')
    for percent in PERCENTS:
        at = x + PANEL_WIDTH * across(percent)
        anchor = "start" if percent == PERCENTS[0] else "end" if percent == PERCENTS[-1] else "middle"
        parts.append(f'  <line class="grid" x1="{at:.1f}" y1="{y}" x2="{at:.1f}" y2="{bottom}"/>')
        parts.append(f'  <text class="small" x="{at:.1f}" y="{bottom + 16}" text-anchor="{anchor}">p{percent:g}</text>')
    for server, curve in sorted(panel.curves.items(), key=lambda pair: pair[0] == "gateway"):  # ours on top
        points = [f"{x + PANEL_WIDTH * across(percent):.1f},{down(ms):.1f}" for percent, ms in _shown(curve).items()]
        parts.append(f'  <polyline class="{_line_class(server)}" stroke="{ink[server]}" points="{" ".join(points)}"/>')
    return parts


def _shown(curve: Curve) -> Curve:
    return {percent: ms for percent, ms in sorted(curve.items()) if PERCENTS[0] <= percent <= PERCENTS[-1]}


def main(words: list[str]) -> int:
    if len(words) < 2:
        print("usage: python -m bench.latency_picture <picture.svg> <figures.json> ...", file=sys.stderr)
        return 2
    panels = read_panels([Path(word) for word in words[1:]])
    if not panels:
        print(
            "No figure with latencies in these files: write one with `python -m bench latency --json`", file=sys.stderr
        )
        return 1
    Path(words[0]).write_text(draw(panels))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
