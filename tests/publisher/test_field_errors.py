"""What a bad event is refused with: the field, the rule and the type of what was given, and nothing of pydantic's."""

import asyncio
import math
import pickle
import re
import traceback
from collections import UserDict
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel

import publisher.aio
from publisher import JobComplete, JobFailed, Progress, Result, broadcast_many, broadcast_to_project, track_job
from publisher.events import RULES, check_event, checked
from publisher.field_errors import EventError
from publisher.names import PROJECT_ID_RULE, check_project_id
from tests.contract.processes import RedisServer

PROGRESS: dict[str, Any] = {"type": "progress", "jobId": "j", "jobType": "audio", "progress": 40}
COMPLETE: dict[str, Any] = {"type": "job_complete", "jobId": "j", "jobType": "audio"}
FAILED: dict[str, Any] = {"type": "job_failed", "jobId": "j", "jobType": "audio", "error": "e"}

TYPE = "must be 'progress', 'job_complete' or 'job_failed'"
JOB_TYPE = "must be 1 to 64 of A-Z a-z 0-9 _ - . : that begin with a letter"
ID = "must be 1 to 128 printable characters"
PERCENT = "must be a number from 0 to 100"
ATTEMPT = "must be a whole number from 0 to 9007199254740991, or 'next' in a progress"
DATA = "must be a JSON object of at most 8192 bytes and 16 levels"
REASON = "must be 'error', 'cancelled', 'timed_out' or 'lost'"
SEQ = "must be a whole number from 1 to 9007199254740991"
WITHIN = "must be a number of seconds above 0, and at most 86400"
FILE = "must be a string of at most 8192 bytes in UTF-8"
DURATION = "must be a number of seconds from 0 to 9007199254740991"
RESULT = "must be a JSON object (in Python, a mapping or a Result)"
EVENT = "must be a JSON object (in Python, a mapping or a model)"
PROJECT = f"must be {PROJECT_ID_RULE}"

MISSING = SimpleNamespace()  # object() has its address in the names of the tests

TABLE: list[tuple[dict[str, Any], str, object, str]] = [
    (PROGRESS, "type", MISSING, f"is required and {TYPE}"),
    (PROGRESS, "type", None, f"{TYPE}, got None"),
    (PROGRESS, "type", 7, f"{TYPE}, got int"),
    (PROGRESS, "type", [], f"{TYPE}, got list"),
    (PROGRESS, "type", "hunter2", f"{TYPE}, got str (none of these)"),
    *(
        row
        for event, field in ((PROGRESS, "jobId"), (COMPLETE, "jobId"), (FAILED, "jobId"), (FAILED, "sentenceId"))
        for row in (
            (event, field, 7, f"{ID}, got int"),
            (event, field, "", f"{ID}, got str (empty)"),
            (event, field, "hunter2" * 20, f"{ID}, got str (140 characters)"),
            (event, field, "hunter2\n", f"{ID}, got str (of another form)"),
            (event, field, "hunter2\ud800", f"{ID}, got str (not valid Unicode)"),
        )
    ),
    (PROGRESS, "jobId", MISSING, f"is required and {ID}"),
    (PROGRESS, "jobId", None, f"{ID}, got None"),
    (FAILED, "jobType", MISSING, f"is required and {JOB_TYPE}"),
    (PROGRESS, "jobType", None, f"{JOB_TYPE}, got None"),
    (PROGRESS, "jobType", 7, f"{JOB_TYPE}, got int"),
    (PROGRESS, "jobType", "hunter2 x", f"{JOB_TYPE}, got str (of another form)"),
    (PROGRESS, "seq", "hunter2", f"{SEQ}, got str"),
    (PROGRESS, "seq", 0, f"{SEQ}, got int (out of range)"),
    (PROGRESS, "seq", 1.5, f"{SEQ}, got float (not whole)"),
    (PROGRESS, "attempt", "hunter2", f"{ATTEMPT}, got str"),
    (PROGRESS, "attempt", -1, f"{ATTEMPT}, got int (out of range)"),
    (PROGRESS, "attempt", 2**53, f"{ATTEMPT}, got int (out of range)"),
    (PROGRESS, "attempt", 2**70, f"{ATTEMPT}, got int (out of range)"),
    (PROGRESS, "attempt", 1.5, f"{ATTEMPT}, got float (not whole)"),
    (PROGRESS, "attempt", math.nan, f"{ATTEMPT}, got float (out of range)"),
    (PROGRESS, "progress", MISSING, f"is required and {PERCENT}"),
    (PROGRESS, "progress", None, f"{PERCENT}, got None"),
    (PROGRESS, "progress", "hunter2", f"{PERCENT}, got str"),
    (PROGRESS, "progress", [40], f"{PERCENT}, got list"),
    (PROGRESS, "progress", -1, f"{PERCENT}, got int (out of range)"),
    (PROGRESS, "progress", 100.5, f"{PERCENT}, got float (out of range)"),
    (PROGRESS, "progress", 10**400, f"{PERCENT}, got int (out of range)"),
    (PROGRESS, "progress", math.nan, f"{PERCENT}, got float (out of range)"),
    (PROGRESS, "progress", "101", f"{PERCENT}, got str (out of range)"),
    (PROGRESS, "message", 7, "must be a string, got int"),
    (PROGRESS, "nextWithin", "hunter2", f"{WITHIN}, got str"),
    (PROGRESS, "nextWithin", 0, f"{WITHIN}, got int (out of range)"),
    (PROGRESS, "nextWithin", 86_400.5, f"{WITHIN}, got float (out of range)"),
    (COMPLETE, "result", None, f"{RESULT}, got None"),
    (COMPLETE, "result", "hunter2", f"{RESULT}, got str"),
    (COMPLETE, "result", ["hunter2"], f"{RESULT}, got list"),
    (COMPLETE, "result.file", 7, f"{FILE}, got int"),
    (COMPLETE, "result.file", "x" * 8_193, f"{FILE}, got str (8193 bytes)"),
    (COMPLETE, "result.file", "é" * 4_097, f"{FILE}, got str (8194 bytes)"),
    (COMPLETE, "result.duration", "hunter2", f"{DURATION}, got str"),
    (COMPLETE, "result.duration", -1, f"{DURATION}, got int (out of range)"),
    (COMPLETE, "result.duration", math.inf, f"{DURATION}, got float (out of range)"),
    (FAILED, "error", MISSING, "is required and must be a string"),
    (FAILED, "error", None, "must be a string, got None"),
    (FAILED, "error", {"hunter2": 1}, "must be a string, got dict"),
    (FAILED, "reason", "hunter2", f"{REASON}, got str (none of these)"),
    (FAILED, "reason", 7, f"{REASON}, got int"),
    (PROGRESS, "data", ["hunter2"], f"{DATA}, got list"),
    (COMPLETE, "data", {"x": "x" * 8_185}, f"{DATA}, got dict (8193 bytes)"),
    (FAILED, "data", {"x": {1, 2}}, f"{DATA}, got dict (holds a value of type set)"),
]  # fmt: skip


def event_with(event: dict[str, Any], field: str, value: object) -> dict[str, Any]:
    name, _, inner = field.partition(".")
    event = {key: old for key, old in event.items() if key != name}
    return event if value is MISSING else event | {name: {inner: value} if inner else value}


def refusal(given: Any) -> EventError:
    with pytest.raises(EventError) as caught:
        check_event(given)
    assert not re.search(r"hunter2|pydantic|http|constrained|input|tag|discriminator", repr(caught.value))
    assert "ValidationError" not in "".join(traceback.format_exception(caught.value))
    return caught.value


@pytest.mark.parametrize(("event", "field", "value", "sentence"), TABLE, ids=str)
def test_each_field_is_refused_in_plain_words(event: dict[str, Any], field: str, value: object, sentence: str) -> None:
    error = refusal(event_with(event, field, value))
    assert error.errors == {field: sentence}
    assert str(error) == f"{field}: {sentence}"
    assert isinstance(error, ValueError)


def test_the_table_has_every_field_of_every_event() -> None:
    assert {field for _, field, _, _ in TABLE} == RULES.keys()
    fields = {str(info.alias) for model in (Progress, JobComplete, JobFailed) for info in model.model_fields.values()}
    assert {*fields, *(f"result.{name}" for name in Result.model_fields)} == RULES.keys()


@pytest.mark.parametrize("given", [7, None, "hunter2", ["hunter2"], object(), True])
def test_what_is_no_mapping_is_refused(given: object) -> None:
    name = "None" if given is None else type(given).__name__
    assert str(refusal(given)) == f"event: {EVENT}, got {name}"
    assert refusal(given).errors == {None: f"{EVENT}, got {name}"}


def test_every_field_that_does_not_fit_is_named_once() -> None:
    given = {"type": "progress", "job_id": "", "progress": "x", "next_within": 0}
    assert str(refusal(given)) == (
        f"jobId: {ID}, got str (empty); jobType: is required and {JOB_TYPE}; progress: {PERCENT}, got str; "
        f"nextWithin: {WITHIN}, got int (out of range)"
    )


def test_any_mapping_and_any_model_are_refused_in_the_same_words() -> None:
    class Theirs(BaseModel):
        type: str = "progress"
        progress: str = "hunter2"
        job_id: str = "j"
        job_type: str = "audio"

    sentence = f"progress: {PERCENT}, got str"
    assert str(refusal(Theirs())) == sentence
    assert str(refusal(UserDict(PROGRESS | {"progress": "hunter2"}))) == sentence


@pytest.mark.parametrize(
    ("project_id", "got"),
    [("a b", "str (of another form)"), ("", "str (empty)"), ("x" * 129, "str (of another form)"), (7, "int"),
     (None, "None"), (b"a", "bytes")],
)  # fmt: skip
def test_a_bad_project_id_is_refused_in_plain_words(project_id: Any, got: str) -> None:
    with pytest.raises(EventError) as caught:
        check_project_id(project_id)
    assert str(caught.value) == f"projectId: {PROJECT}, got {got}"


@pytest.mark.parametrize("index", [None, 3])
def test_an_error_survives_a_task_queue(index: int | None) -> None:
    error = EventError({"progress": "must be x", None: "must be y"}, index)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.errors, again.index) == (str(error), error.errors, index)


def test_an_event_of_a_list_is_named_by_its_index() -> None:
    assert str(EventError({"progress": "must be x"}, 3)) == "events[3].progress: must be x"
    assert str(EventError({None: "must be y"}, 3)) == "events[3]: must be y"


# The doors in Python. Those of HTTP and of the command are in test_http_publishing.py and test_cli.py.


@pytest.fixture
def refused_by(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, project: str) -> Any:
    monkeypatch.setenv("REDIS_URL", redis_server.url)

    def sentence(call: Any) -> str:
        with pytest.raises(EventError) as caught:
            call()
        assert caught.value.__suppress_context__, "a traceback shows no error of pydantic's"
        return str(caught.value)

    return sentence


BAD = PROGRESS | {"progress": "hunter2"}


def test_single_events(refused_by: Any) -> None:
    sentence = f"progress: {PERCENT}, got str"
    assert refused_by(lambda: broadcast_to_project("p", BAD)) == sentence
    assert refused_by(lambda: asyncio.run(publisher.aio.broadcast_to_project("p", BAD))) == sentence
    assert refused_by(lambda: broadcast_to_project("p", {"jobId": "j"})) == f"type: is required and {TYPE}"
    assert refused_by(lambda: broadcast_to_project("-", PROGRESS)).startswith(f"projectId: {PROJECT}, got")


def test_many_events(refused_by: Any) -> None:
    events = [("p", PROGRESS), ("p", BAD), ("p", BAD)]
    sentence = f"events[1].progress: {PERCENT}, got str"
    assert refused_by(lambda: broadcast_many(events)) == sentence
    assert refused_by(lambda: asyncio.run(publisher.aio.broadcast_many(events))) == sentence
    assert refused_by(lambda: broadcast_many([("p", PROGRESS), ("-", PROGRESS)])).startswith("events[1].projectId: ")


def test_tracked_jobs(refused_by: Any, project: str) -> None:
    assert refused_by(lambda: track_job(project, "", "audio").__enter__()) == f"jobId: {ID}, got str (empty)"
    assert refused_by(lambda: track_job(project, "j", 7).__enter__()) == f"jobType: {JOB_TYPE}, got int"  # type: ignore[arg-type]
    with track_job(project, "j", "audio") as job:
        assert refused_by(lambda: job.progress("hunter2")) == f"progress: {PERCENT}, got str"
        assert refused_by(lambda: job.progress(1, 7)) == "message: must be a string, got int"  # type: ignore[arg-type]
        assert refused_by(lambda: job.sentence("")) == f"sentenceId: {ID}, got str (empty)"
        assert refused_by(lambda: job.complete(file=7)) == f"result.file: {FILE}, got int"  # type: ignore[arg-type]
        assert refused_by(lambda: job.fail(7)) == "error: must be a string, got int"  # type: ignore[arg-type]


def test_a_model_made_by_a_user_is_pydantics_business_and_ours_is_not() -> None:
    """The control: `checked` is what puts it into words."""
    with pytest.raises(ValueError, match="pydantic"):
        Progress(job_id="j", job_type="audio", progress=101)
    with pytest.raises(EventError, match=r"^progress: must be a number from 0 to 100, got int \(out of range\)$"):
        checked(Progress, job_id="j", job_type="audio", progress=101)
