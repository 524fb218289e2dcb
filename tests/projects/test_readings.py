"""Long work in slices: in turn, one slice in a turn of the loop, and errors of one are no errors of others."""

from collections.abc import Callable, Generator

import pytest

from gateway.projects import readings as module
from gateway.projects.readings import Reading, Readings


@pytest.fixture(autouse=True)
def _one_step_in_a_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLICE_SECONDS", 0)


class Stage:
    """Readings whose turns the test takes, and what came of them."""

    def __init__(self) -> None:
        self.turns: list[Callable[[], None]] = []
        self.readings = Readings(self.turns.append)
        self.told: list[object] = []

    def begin(self, name: str, steps: int, error: Exception | None = None) -> Reading[str]:
        def work() -> Generator[None, None, str]:
            for step in range(steps):
                self.told.append(f"{name}{step}")
                yield
            if error is not None:
                raise error
            return name

        return self.readings.begin(Reading(work(), self.told.append, self.told.append))

    def turn(self) -> list[object]:
        """What the next turn of the loop does."""
        before = len(self.told)
        assert len(self.turns) == 1, "one slice in a turn"
        self.turns.pop()()
        return self.told[before:]


def test_a_turn_does_one_slice_and_readings_come_one_after_the_other() -> None:
    stage = Stage()
    stage.begin("a", 2)
    stage.begin("b", 1)
    assert [stage.turn() for _ in range(5)] == [["a0"], ["a1"], ["a"], ["b0"], ["b"]]
    assert stage.turn() == []
    assert not stage.turns
    stage.begin("c", 0)
    assert stage.turn() == ["c"]


def test_a_slice_lasts_as_long_as_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLICE_SECONDS", 3_600)
    stage = Stage()
    stage.begin("a", 2)
    stage.begin("b", 1)
    assert stage.turn() == ["a0", "a1", "a", "b0", "b"]
    assert not stage.turns


def test_a_reading_that_is_let_go_or_finished_has_no_more_turns() -> None:
    stage = Stage()
    first, second = stage.begin("a", 2), stage.begin("b", 1)
    assert stage.turn() == ["a0"]
    first.let_go()
    second.finish()
    second.finish()
    assert stage.told == ["a0", "b0", "b"]
    assert stage.turn() == []
    assert not stage.turns


@pytest.mark.parametrize("where", ["in a step", "at the end"])
def test_an_error_is_handed_on_and_ends_its_own_reading_alone(where: str) -> None:
    stage = Stage()
    error = ValueError("a bug")
    if where == "in a step":
        stage.begin("a", 1, error)
    else:

        def take(_: str) -> None:
            raise error

        def work() -> Generator[None, None, str]:
            stage.told.append("a0")
            yield
            return "a"

        stage.readings.begin(Reading(work(), take, stage.told.append))
    stage.begin("b", 1)
    assert [stage.turn() for _ in range(4)] == [["a0"], [error], ["b0"], ["b"]]


def test_what_is_to_come_after_them_waits_for_those_that_have_begun_and_no_others() -> None:
    stage = Stage()
    stage.readings.after_these(lambda: stage.told.append("at once"))
    assert stage.told == ["at once"]
    stage.begin("a", 1)
    stage.readings.after_these(lambda: stage.told.append("after a"))
    stage.begin("b", 1)
    let_go = stage.readings.after_these(lambda: stage.told.append("never"))
    let_go.let_go()
    assert [stage.turn() for _ in range(5)] == [["a0"], ["a"], ["after a"], ["b0"], ["b"]]
