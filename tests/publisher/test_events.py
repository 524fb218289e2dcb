"""The events of a job: what is taken, what is cleaned, what is refused, and that nothing is lost on the wire."""

import json
import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from publisher.events import (
    JOB_TYPES,
    MAX_DATA_BYTES,
    MAX_DATA_LEVELS,
    MAX_FILE_BYTES,
    MAX_SEQ,
    MAX_TEXT,
    Event,
    JobComplete,
    JobFailed,
    Progress,
    check_event,
    event_from_json,
    event_to_json,
)
from publisher.field_errors import EventError

PROGRESS: dict[str, Any] = {"type": "progress", "jobId": "j", "jobType": "audio", "progress": 40}
COMPLETE: dict[str, Any] = {"type": "job_complete", "jobId": "j", "jobType": "audio"}
FAILED: dict[str, Any] = {"type": "job_failed", "jobId": "j", "jobType": "audio", "error": "e"}
ALL = [PROGRESS, COMPLETE, FAILED]


def wire(event: BaseModel | dict[str, Any], **fields: Any) -> dict[str, Any]:
    """The event as it stands on the wire."""
    given = event if isinstance(event, BaseModel) else event | fields
    value: dict[str, Any] = json.loads(event_to_json(check_event(given)))
    return value


def refused(event: dict[str, Any], **fields: Any) -> str:
    """The same refusal for a mapping and for JSON; what it says."""
    with pytest.raises(EventError) as caught:
        check_event(event | fields)
    return str(caught.value)


# The three events


@pytest.mark.parametrize(("fields", "model"), [(PROGRESS, Progress), (COMPLETE, JobComplete), (FAILED, JobFailed)])
def test_the_type_tells_the_model(fields: dict[str, Any], model: type[BaseModel]) -> None:
    assert type(check_event(fields)) is model


@pytest.mark.parametrize("event", [{}, {"type": None}, {"type": "done"}, {"type": 1}, {"type": "Progress"}])
def test_an_unknown_type_is_refused(event: dict[str, Any]) -> None:
    with pytest.raises(EventError):
        check_event({**PROGRESS, "type": None, **event})


@pytest.mark.parametrize(
    ("event", "field"),
    [(fields, name) for fields in ALL for name in ("jobId", "jobType")] + [(PROGRESS, "progress"), (FAILED, "error")],
)
def test_a_missing_field_is_named(event: dict[str, Any], field: str) -> None:
    with pytest.raises(EventError, match=field):
        check_event({name: value for name, value in event.items() if name != field})


def test_a_result_may_be_left_out() -> None:
    assert wire(COMPLETE)["result"] == {}


@pytest.mark.parametrize("kind", [*JOB_TYPES, "a", "Z", "my.own:job-type_2", "x" * 64])
def test_a_job_type_is_any_name(kind: str) -> None:
    assert wire(PROGRESS, jobType=kind)["jobType"] == kind


@pytest.mark.parametrize("kind", ["", "2", ".a", "two words", "a\n", "ä", "x" * 65, None, 7])
def test_a_job_type_of_another_form_is_refused(kind: object) -> None:
    assert "jobType" in refused(PROGRESS, jobType=kind)


def nested(levels: int) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for _ in range(levels - 1):
        data = {"x": data}
    return data


@pytest.mark.parametrize("event", [PROGRESS, COMPLETE, FAILED])
@pytest.mark.parametrize(
    "data",
    [{}, {"voice": 2, "of": [1.5, None, True, "é"]}, {"x": "x" * (MAX_DATA_BYTES - 8)}, nested(MAX_DATA_LEVELS)],
    ids=["empty", "mixed", "long", "deep"],
)
def test_data_is_passed_on_unchanged(event: dict[str, Any], data: dict[str, Any]) -> None:
    assert wire(event, data=data)["data"] == data
    assert json.loads(event_to_json(event_from_json(json.dumps(event | {"data": data}).encode())))["data"] == data


@pytest.mark.parametrize("event", [PROGRESS, COMPLETE, FAILED])
@pytest.mark.parametrize(
    "data",
    [[], "x", 1, {"x": "x" * (MAX_DATA_BYTES - 7)}, {"x": "é" * 4_096}, nested(MAX_DATA_LEVELS + 1),
     {"x": math.nan}, {"x": {1, 2}}, {"x": "\ud800"}, {1: 2}],
    ids=["list", "text", "number", "long", "long in bytes", "deep", "nan", "set", "surrogate", "key"],
)  # fmt: skip
def test_other_data_is_refused(event: dict[str, Any], data: object) -> None:
    assert "data" in refused(event, data=data)


@pytest.mark.parametrize("reason", ["error", "cancelled", "timed_out", "lost"])
def test_a_failure_may_have_a_reason(reason: str) -> None:
    assert wire(FAILED, reason=reason)["reason"] == reason
    assert "reason" not in wire(COMPLETE, reason=reason)
    assert "reason" in refused(FAILED, reason=reason.title())


def test_a_mapping_may_use_either_spelling_and_the_wire_has_one() -> None:
    snake = {
        "type": "progress",
        "job_id": "j",
        "job_type": "audio",
        "sentence_id": "s",
        "progress": 1,
        "next_within": 5,
    }
    assert wire(snake) == {
        "type": "progress", "jobId": "j", "jobType": "audio", "sentenceId": "s", "progress": 1, "nextWithin": 5,
    }  # fmt: skip


def test_a_model_is_taken_as_it_is() -> None:
    event = Progress(job_id="j", job_type="audio", progress=1)
    assert check_event(event) is event


def test_somebody_elses_model_is_checked_like_a_mapping() -> None:
    class Theirs(BaseModel):
        type: str = "progress"
        jobId: str = "j"  # noqa: N815
        job_type: str = "audio"
        progress: float = 12.5
        secret: str = "x"

    assert wire(Theirs()) == {"type": "progress", "jobId": "j", "jobType": "audio", "progress": 12.5}
    with pytest.raises(EventError):
        check_event(Theirs(progress=101))


@pytest.mark.parametrize("event", ALL)
def test_unknown_fields_are_dropped(event: dict[str, Any]) -> None:
    assert wire(event, projectId="other", password="x", __proto__={}) == wire(event)


def test_unknown_fields_of_a_result_are_dropped() -> None:
    assert wire(COMPLETE, result={"file": "f", "duration": 1.5, "path": "/etc"})["result"] == {
        "file": "f",
        "duration": 1.5,
    }


def test_fields_that_are_none_are_not_on_the_wire() -> None:
    fields = {"seq": None, "sentenceId": None, "attempt": None, "message": None, "nextWithin": None}
    assert set(wire(PROGRESS, **fields)) == {"type", "jobId", "jobType", "progress"}


def test_an_event_is_not_changed_afterwards() -> None:
    with pytest.raises(ValidationError):
        Progress(job_id="j", job_type="audio", progress=1).progress = 2


def test_the_json_begins_with_an_object_into_which_the_script_puts_the_seq() -> None:
    for event in ALL:
        assert event_to_json(check_event(event)).startswith(b'{"')


# Ids


@pytest.mark.parametrize("field", ["jobId", "sentenceId"])
@pytest.mark.parametrize("value", ["a", "a" * 128, "a b", "é", "作业", "😀", '"\\/', "{}", "a:b", " "])
def test_an_id_is_1_to_128_printable_characters(field: str, value: str) -> None:
    assert wire(PROGRESS, **{field: value})[field] == value


@pytest.mark.parametrize("field", ["jobId", "sentenceId"])
@pytest.mark.parametrize(
    "value", ["", "a" * 129, "a\n", "\x00", "a\x7f", "\x85", "\u2028", "\u2029", "\u202e", "\ud800", 1, True, []]
)
def test_an_id_of_another_form_is_refused(field: str, value: object) -> None:
    assert field in refused(PROGRESS, **{field: value})


# Numbers


@pytest.mark.parametrize("value", [0, 1, 100, 0.0, 0.1, 99.99, 100.0, -0.0, 1e-320])
def test_a_progress_from_0_to_100_is_kept_as_it_is(value: float) -> None:
    kept = wire(PROGRESS, progress=value)["progress"]
    assert kept == value
    assert type(kept) is type(value)


@pytest.mark.parametrize(
    "value", [-1, -1e-9, 101, 100.0001, 10**400, math.nan, math.inf, -math.inf, None, "forty", [40], {}]
)
def test_a_progress_outside_is_refused(value: object) -> None:
    assert "progress" in refused(PROGRESS, progress=value)


def test_a_decimal_is_a_number() -> None:
    assert wire(PROGRESS, progress=Decimal("40.5"))["progress"] == 40.5


@pytest.mark.parametrize("value", [Decimal("NaN"), Decimal("Infinity"), Decimal("100.1")])
def test_a_decimal_that_is_no_percent_is_refused(value: Decimal) -> None:
    assert "progress" in refused(PROGRESS, progress=value)


@pytest.mark.parametrize("value", [True, False, "40", 40.0, Decimal(40)])
def test_whatever_is_taken_as_a_progress_is_a_number_on_the_wire(value: object) -> None:
    assert type(wire(PROGRESS, progress=value)["progress"]) in (int, float)


@pytest.mark.parametrize("text", ["1e400", "NaN", "Infinity", "-Infinity", "1e2000", "101", "-1"])
def test_json_numbers_outside_are_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        event_from_json(b'{"type":"progress","jobId":"j","jobType":"audio","progress":' + text.encode() + b"}")


@pytest.mark.parametrize("value", [0.001, 1, 86_400])
def test_next_within_is_at_most_a_day(value: float) -> None:
    assert wire(PROGRESS, nextWithin=value)["nextWithin"] == value


@pytest.mark.parametrize("value", [0, -1, 86_401, math.nan, math.inf, "soon"])
def test_next_within_outside_is_refused(value: object) -> None:
    assert "nextWithin" in refused(PROGRESS, nextWithin=value)


@pytest.mark.parametrize("value", [0, 1, MAX_SEQ])
def test_an_attempt_is_counted_from_0(value: int) -> None:
    assert wire(PROGRESS, attempt=value)["attempt"] == value


@pytest.mark.parametrize("value", [-1, MAX_SEQ + 1, 1.5, math.nan, "x", [1]])
def test_an_attempt_outside_is_refused(value: object) -> None:
    assert "attempt" in refused(PROGRESS, attempt=value)


@pytest.mark.parametrize("value", [1, MAX_SEQ])
def test_a_seq_is_a_number_that_every_json_reader_keeps_exact(value: int) -> None:
    assert wire(PROGRESS, seq=value)["seq"] == value


@pytest.mark.parametrize("value", [0, -1, MAX_SEQ + 1, 1.5, "x"])
def test_a_seq_outside_is_refused(value: object) -> None:
    assert "seq" in refused(PROGRESS, seq=value)


@pytest.mark.parametrize("value", [0, 0.5, 10**9])
def test_a_duration_is_not_negative(value: float) -> None:
    assert wire(COMPLETE, result={"duration": value})["result"] == {"duration": value}


@pytest.mark.parametrize("value", [-1, -0.001, math.nan, math.inf, "long"])
def test_a_duration_that_is_none_is_refused(value: object) -> None:
    assert "duration" in refused(COMPLETE, result={"duration": value})


def test_a_file_may_be_a_long_signed_url_and_is_never_cut() -> None:
    assert wire(COMPLETE, result={"file": "x" * MAX_FILE_BYTES})["result"]["file"] == "x" * MAX_FILE_BYTES
    assert "file" in refused(COMPLETE, result={"file": "x" * (MAX_FILE_BYTES + 1)})


def test_a_file_is_measured_in_bytes_and_cleaned() -> None:
    assert wire(COMPLETE, result={"file": "é" * (MAX_FILE_BYTES // 2)})
    assert "file" in refused(COMPLETE, result={"file": "é" * (MAX_FILE_BYTES // 2) + "x"})
    assert wire(COMPLETE, result={"file": "a\x00\nb\u202ec\u2066.mp3"})["result"]["file"] == "abc.mp3"
    assert wire(COMPLETE, result={"file": "\ud800"})["result"]["file"] == "?"


@pytest.mark.parametrize("value", ["x", 1, [], {"file": 1}])
def test_a_result_of_another_form_is_refused(value: object) -> None:
    assert "result" in refused(COMPLETE, result=value)


# Texts


@pytest.mark.parametrize(("event", "field"), [(PROGRESS, "message"), (FAILED, "error")])
@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("", ""),
        ("voice 2 of 5", "voice 2 of 5"),
        ("a\x00b\x1fc\x7fd\x80e\x9ff", "abcdef"),
        ("one\r\ntwo\tthree", "one two three"),
        ("line 3\nValueError\n", "line 3 ValueError "),
        ("a\u202eb\u2066c\u2028d", "abc d"),
        ("\x1b[31mred", "[31mred"),
        ("Grüße 你好 😀", "Grüße 你好 😀"),
        ("x" * MAX_TEXT, "x" * MAX_TEXT),
        ("x" * (MAX_TEXT + 1), "x" * MAX_TEXT),
        ("\x00" * 10 + "x" * 3_000, "x" * MAX_TEXT),
    ],
)
def test_a_text_is_cleaned_and_cut(event: dict[str, Any], field: str, text: str, cleaned: str) -> None:
    assert wire(event, **{field: text})[field] == cleaned
    assert json.loads(event_to_json(event_from_json(json.dumps(event | {field: text}).encode())))[field] == cleaned


@pytest.mark.parametrize(("event", "field"), [(PROGRESS, "message"), (FAILED, "error")])
def test_a_text_is_a_string(event: dict[str, Any], field: str) -> None:
    assert field in refused(event, **{field: ["text"]})


@pytest.mark.parametrize(("event", "field"), [(PROGRESS, "message"), (FAILED, "error")])
def test_a_lone_surrogate_in_a_text_breaks_no_job(event: dict[str, Any], field: str) -> None:
    """Python puts one into the name of a file that is not UTF-8, and so into `str(error)` of any OSError about it."""
    text = "No such file: " + b"caf\xe9.mp3".decode(errors="surrogateescape")
    said = wire(event, **{field: text})[field]
    assert said.startswith("No such file: caf")
    said.encode()


def control_characters(text: str) -> list[str]:
    return [character for character in text if ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0]


@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=50).map(lambda text: text * 100)
    | st.text(st.characters(max_codepoint=0xA5))
)
@example("\x85" * 5_000)
def test_whatever_text_goes_in_no_control_character_comes_out_and_it_is_bounded(text: str) -> None:
    said = wire(FAILED, error=text)["error"]
    assert control_characters(said) == []
    assert len(said) <= MAX_TEXT


# There and back

texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40)
ids = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), min_size=1, max_size=20)
numbers = st.integers(0, 100) | st.floats(0, 100)
common: dict[str, st.SearchStrategy[Any]] = {
    "seq": st.none() | st.integers(1, MAX_SEQ),
    "job_id": ids,
    "job_type": st.sampled_from(["script", "audio", "image", "video", "export"]),
    "sentence_id": st.none() | ids,
    "attempt": st.none() | st.integers(0, MAX_SEQ),
}
own: list[dict[str, st.SearchStrategy[Any]]] = [
    {
        "type": st.just("progress"),
        "progress": numbers,
        "message": st.none() | texts,
        "next_within": st.none() | st.integers(1, 9) | st.floats(0.5, 9),
    },
    {
        "type": st.just("job_complete"),
        "result": st.fixed_dictionaries({"file": st.none() | texts, "duration": st.none() | numbers}),
    },
    {"type": st.just("job_failed"), "error": texts},
]
events: st.SearchStrategy[Event] = st.one_of(*(st.fixed_dictionaries(common | fields) for fields in own)).map(
    check_event
)


@given(events)
def test_an_event_comes_back_from_json_as_it_was(event: Event) -> None:
    assert event_from_json(event_to_json(event)) == event


@given(events)
def test_the_wire_is_one_line_of_json(event: Event) -> None:
    payload = event_to_json(event)
    assert b"\n" not in payload
    assert json.loads(payload)["jobId"] == event.job_id


@given(st.binary(max_size=200))
@example(b"")
@example(b"null")
@example(b"[" * 10_000)
@example(b'{"a":' * 10_000)
@example(b'{"type":"progress","jobId":"j","jobType":"audio","progress":1,"message":"\\ud800"}')
@example(b'{"type":"progress","jobId":"j","jobType":"audio","progress":' + b"9" * 5_000 + b"}")
def test_bytes_that_are_no_event_are_a_value_error_and_never_another(payload: bytes) -> None:
    with pytest.raises(ValidationError):
        event_from_json(payload)


values = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.integers(), max_size=2)
)


@given(
    st.sampled_from(ALL),
    st.dictionaries(st.sampled_from([*PROGRESS, *FAILED, "result", "seq", "attempt", "sentenceId"]), values),
)
def test_whatever_the_fields_hold_it_is_an_event_or_a_value_error(
    event: dict[str, Any], fields: dict[str, Any]
) -> None:
    try:
        checked = check_event(event | fields)
    except ValueError:
        return
    assert event_from_json(event_to_json(checked)) == checked
