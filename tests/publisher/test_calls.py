"""Which project, job and type the call of a task has."""

import logging
from typing import Any

import pytest

from publisher.beside import Ids
from publisher.calls import Call, Naming, arguments_of


def function(project_id: str, voices: int = 3, **more: Any) -> None: ...


def call(*args: Any, name: str = "studio.tasks.make_audio", **kwargs: Any) -> Call:
    return Call(name, "task-1", arguments_of(function, args, kwargs), None)


def test_arguments_are_known_by_name_however_they_were_given() -> None:
    assert arguments_of(function, ["p"], {}) == {"project_id": "p", "voices": 3, "more": {}}
    assert arguments_of(function, [], {"project_id": "p", "voices": 2})["voices"] == 2
    assert arguments_of(function, [], {"voices": 2}) == {"voices": 2}  # it will fail by itself


def test_by_default_the_argument_the_id_and_the_name_count() -> None:
    assert Naming().ids(call("p")) == Ids("p", "task-1", "make_audio")


@pytest.mark.parametrize(
    ("name", "kind"), [("make audio!", "make_audio_"), ("_1st", "st"), ("...", "task"), ("x" * 70, "x" * 64)]
)
def test_a_job_type_is_made_of_any_name(name: str, kind: str) -> None:
    ids = Naming().ids(call("p", name=name))
    assert ids is not None
    assert ids.job_type == kind


def test_each_may_be_a_value_or_a_function_of_the_call() -> None:
    naming = Naming(
        lambda call: call.arguments["film"],
        lambda call: f"job-{call.id}",
        lambda call: "export" if call.task else "audio",
    )
    one = Call("make", "7", {"film": "film_1"}, None)
    assert naming.ids(one) == Ids("film_1", "job-7", "audio")
    assert Naming("p", "j", "video").ids(one) == Ids("p", "j", "video")


def test_a_call_without_a_project_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    assert Naming().ids(Call("make", "7", {"film": "film_1"}, None)) is None
    assert Naming(lambda _: None).ids(call("p")) is None
    assert caplog.records == []


@pytest.mark.parametrize(
    "naming", [Naming("no project"), Naming(job_type="7"), Naming(job_id=""), Naming(lambda call: call.arguments["x"])]
)
def test_what_is_wrong_is_logged_and_breaks_no_task(naming: Naming, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    assert naming.ids(call("p")) is None
    assert "Task studio.tasks.make_audio[task-1] is not tracked" in caplog.text
