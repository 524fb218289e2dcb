"""docs/latency.svg, from the figures that --json writes."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench.latency_picture import PERCENTS, across, draw, main, read_panels

SVG = "{http://www.w3.org/2000/svg}"


def figure(name: str, **servers: dict[str, float] | None) -> dict[str, object]:
    curves = {server: {"values": [1.0], "latency_ms": curve} for server, curve in servers.items()}
    return {"name": name, "title": "p99: 1 project, 10 events/s", "unit": "ms", "servers": curves}


def write(path: Path, *figures: dict[str, object]) -> Path:
    path.write_text(json.dumps({"figures": [*figures, {"name": "P9", "values": [1]}]}))
    return path


def test_each_further_nine_takes_as_much_room() -> None:
    steps = [across(percent) for percent in PERCENTS]
    assert (steps[0], steps[-1]) == (0, 1)
    assert steps[2] - steps[1] == pytest.approx(steps[3] - steps[2])


def test_several_files_make_one_panel_a_figure_with_their_median(tmp_path: Path) -> None:
    ours = write(tmp_path / "a.json", figure("P7b", gateway={"50": 1, "99": 2}), figure("P1", gateway=None))
    peers = write(tmp_path / "b.json", figure("P7b", gateway={"50": 2}, nchan={"50": 2}), figure("P7a", c={"50": 1}))
    panels = read_panels([ours, peers])
    assert [panel.name for panel in panels] == ["P7a", "P7b"]
    assert panels[1].curves == {"gateway": {50.0: 1.5}, "nchan": {50.0: 2}}


def test_the_picture_has_a_line_for_each_server_in_each_panel(tmp_path: Path) -> None:
    curve = {"25": 0.1, "50": 0.2, "99": 4, "100": 9}
    several = [figure("P7a", gateway=curve, c=curve), figure("P7b", gateway=curve, peer=curve, **{"a<b": curve})]
    picture = ElementTree.fromstring(draw(read_panels([write(tmp_path / "a.json", *several)])))
    lines = picture.findall(f"{SVG}polyline")
    assert len(lines) == 5
    assert all(len(line.attrib["points"].split()) == 2 for line in lines), "from p50 on, without the largest"


def test_figures_without_latencies_make_no_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = write(tmp_path / "a.json", figure("P1", gateway=None))
    assert main([str(tmp_path / "a.svg"), str(figures)]) == 1
    assert "bench latency --json" in capsys.readouterr().err
