"""The alert rules: promtool's own tests of each, and that each of those tests can fail."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.clients.drain import longest_seconds
from gateway.server import END_SECONDS
from tests.test_timing import End, ends

from .metrics import ROOT, RULES, alerts

FOLDER = RULES.parent
TESTS = sorted(FOLDER.glob("*.test.yaml"))
NAMES = [rule["alert"] for rule in alerts()]


def promtool(*words: str | Path, cwd: Path = FOLDER) -> subprocess.CompletedProcess[str]:
    program = shutil.which("promtool")
    assert program, "these tests need promtool: `tests/system-packages prometheus`, or your system's own way"
    return subprocess.run([program, *map(str, words)], cwd=cwd, capture_output=True, text=True, check=False, timeout=60)


def unit_tests() -> list[dict[str, Any]]:
    return [test for path in TESTS for test in yaml.safe_load(path.read_text())["tests"]]


def test_the_rules_and_the_configuration_are_right() -> None:
    for words in (("check", "rules", RULES.name), ("check", "config", "prometheus.yml")):
        checked = promtool(*words)
        assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("file", TESTS, ids=lambda path: path.name)
def test_promtools_tests_of_the_alerts_pass(file: Path) -> None:
    run = promtool("test", "rules", file)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("expression", ["vector(0) > 1", "up or on() vector(1)"], ids=["never", "always"])
def test_an_alert_that_never_or_always_fires_does_not_pass_them(name: str, expression: str, tmp_path: Path) -> None:
    rules = yaml.safe_load(RULES.read_text())
    [rule] = [rule for rule in rules["groups"][0]["rules"] if rule["alert"] == name]
    rule["expr"] = expression
    (tmp_path / RULES.name).write_text(yaml.safe_dump(rules))
    [file] = [path for path in TESTS if f"alertname: {name}\n" in path.read_text()]
    of_it = [test for test in unit_tests() if test["alert_rule_test"][0]["alertname"] == name]
    head = {"rule_files": [RULES.name], "evaluation_interval": "1m"}
    quiet = [test for test in of_it if not any(check["exp_alerts"] for check in test["alert_rule_test"])]
    fires = [test for test in of_it if test not in quiet]
    for kind, some in (("quiet", quiet), ("fires", fires)):
        assert some, f"{file.name} has no test in which {name} {kind}"
    (tmp_path / file.name).write_text(yaml.safe_dump(head | {"tests": quiet if "up" in expression else fires}))
    run = promtool("test", "rules", file.name, cwd=tmp_path)
    assert run.returncode == 1
    assert "FAILED" in run.stdout + run.stderr


@pytest.mark.parametrize("rule", alerts(), ids=NAMES)
def test_an_alert_says_what_is_wrong_how_urgent_and_where_to_read_on(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["dashboard"] == "/d/progress-gateway"
    assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{rule['alert'].lower()}"
    assert f"\n### {rule['alert']}\n" in (ROOT / "docs" / "runbook.md").read_text()


def test_the_runbook_has_no_entry_of_an_alert_that_is_gone() -> None:
    entries = [line[4:] for line in (ROOT / "docs" / "runbook.md").read_text().splitlines() if line[:4] == "### "]
    assert sorted(entry for entry in entries if entry.startswith("Gateway")) == sorted(NAMES)


@pytest.mark.parametrize("end", list(ends()), ids=lambda end: end.place)
def test_a_drain_that_is_stuck_is_scraped_before_its_replica_is_killed(end: End) -> None:
    [expression] = [rule["expr"] for rule in alerts() if rule["alert"] == "GatewayDrainStuck"]
    assert expression.endswith(f" > {END_SECONDS:g}")
    interval = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["global"]["scrape_interval"]
    seconds_left = end.grace - end.lame_duck - longest_seconds(end.drain) - END_SECONDS
    assert seconds_left > int(interval.removesuffix("s"))
