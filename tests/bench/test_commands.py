"""The words of `python -m bench`."""

import pytest

from bench.__main__ import all_turns, parse_arguments
from bench.commands import ALL_SCENARIOS, COMMANDS, choose
from bench.pace import time_left
from bench.scenarios import SCENARIOS
from bench.servers import KINDS
from bench.toolchain import BenchError


def test_each_name_stands_once_and_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    names = [each.name for each in (*ALL_SCENARIOS, *COMMANDS)]
    assert len(set(names)) == len(names)
    with pytest.raises(SystemExit):
        parse_arguments(["--help"])
    first_words = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("  ")}
    assert set(names) <= first_words


def test_without_a_name_the_figures_run_and_no_command_that_must_be_named() -> None:
    scenarios, commands = choose([])
    assert scenarios == list(SCENARIOS)
    assert [command.name for command in commands] == ["P8", "P9"]


def test_names_choose_and_p6_is_both_halves() -> None:
    scenarios, commands = choose(["P6", "auth", "P4"])
    assert [scenario.name for scenario in scenarios] == ["P4", "P6a", "P6b"]
    assert [command.name for command in commands] == ["auth"]


def test_latency_is_every_p7_and_most_of_it_runs_only_if_named() -> None:
    names = [scenario.name for scenario in choose(["latency"])[0]]
    assert names[:3] == ["P7a", "P7b", "P7c"]
    assert {name for name in names if name.startswith("P7")} == set(names)
    assert "P7c" not in [scenario.name for scenario in choose([])[0]]


def test_an_unknown_name_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(BenchError, match=r"Unknown scenario P77\. Use .*P1, .*auth"):
        choose(["P1", "P77"])


def test_the_servers_take_turns_and_the_slow_yardstick_runs_once_unless_rounds_are_asked_for() -> None:
    scenarios, kinds = choose(["P1"])[0], list(KINDS.values())
    own = [(turn.number, turn.kind.name) for turn in all_turns(scenarios, kinds, None)]
    assert own[:5] == [(1, "gateway"), (1, "c"), (1, "plain"), (2, "gateway"), (2, "c")]
    asked = [turn.kind.name for turn in all_turns(scenarios, kinds, 2)]
    assert asked == ["gateway", "c", "plain"] * 2


def test_everything_takes_less_than_a_quarter_of_an_hour() -> None:
    scenarios, commands = choose([])
    seconds = sum(turn.scenario.seconds for turn in all_turns(scenarios, list(KINDS.values()), None))
    assert seconds + sum(command.seconds * command.rounds for command in commands) < 15 * 60


def test_the_time_left_follows_how_the_plan_held() -> None:
    assert time_left(planned=100, done=0, took=0) == "2 min left"
    assert time_left(planned=100, done=20, took=10) == "40 s left"
    assert time_left(planned=100, done=100, took=300) == "done"
