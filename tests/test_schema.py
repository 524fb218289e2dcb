"""docs/messages.schema.json is what the gateway's models say, and what it sends and takes fits it."""

import json
from typing import Any

import jsonschema
import pytest
from pydantic import TypeAdapter, ValidationError

from gateway import messages, schema
from gateway.codes import ErrorCode
from gateway.messages import ClientMessage, EventMessage, ServerMessage
from gateway.projects.channel import Channel
from publisher.events import Progress
from tests.contract.events import complete, failed, progress
from tests.simulation import as_published, load

DOCUMENT = json.loads(schema.PATH.read_text())
server_message: TypeAdapter[ServerMessage] = TypeAdapter(ServerMessage)


def test_the_document_is_current() -> None:
    """Made anew by `python -m gateway.schema`, and then the types of the npm package by `npm run messages`."""
    assert schema.PATH.read_text() == schema.text()


def test_running_it_writes_the_document(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "PATH", tmp_path / "messages.schema.json")
    schema.main()
    assert json.loads((tmp_path / "messages.schema.json").read_text()) == DOCUMENT


def names_of(union: str) -> set[str]:
    return {reference["$ref"].rpartition("/")[2] for reference in DOCUMENT["$defs"][union]["anyOf"]}


def test_it_has_every_message() -> None:
    types = {DOCUMENT["$defs"][name]["properties"]["type"]["const"] for name in names_of("ServerMessage")}
    assert types == {
        "connected", "authorised", "subscribed", "unsubscribed", "progress", "job_complete", "job_failed", "stale",
        "live", "going_away", "pong", "error",
    }  # fmt: skip
    assert {DOCUMENT["$defs"][name]["properties"]["type"]["const"] for name in names_of("ClientMessage")} == set(
        messages.TYPES
    )


def test_a_field_without_a_value_is_left_out_not_null() -> None:
    assert '"null"' not in schema.PATH.read_text()
    assert DOCUMENT["$defs"]["Subscribe"]["required"] == ["type", "projectId"]
    assert DOCUMENT["$defs"]["JobCompleteMessage"]["required"] == ["type", "jobId", "jobType", "result", "projectId"]


SENT = [
    messages.connected("9f86d081884c7d65"),
    messages.subscribed("p", 0, recovered=True),
    messages.unsubscribed("p"),
    messages.error(ErrorCode.BAD_SINCE, "no"),
    messages.error(ErrorCode.RATE_LIMITED, "no", "p"),
    messages.STALE,
    messages.LIVE,
    messages.PONG,
]


@pytest.mark.parametrize("message", SENT, ids=[json.loads(message)["type"] for message in SENT])
def test_what_is_sent_has_the_fields_of_its_definition_and_no_other(message: bytes) -> None:
    fields = json.loads(message)
    [definition] = [
        DOCUMENT["$defs"][name]
        for name in names_of("ServerMessage")
        if DOCUMENT["$defs"][name]["properties"]["type"]["const"] == fields["type"]
    ]
    assert set(definition["required"]) <= fields.keys() <= definition["properties"].keys()
    server_message.validate_json(message)


def fits(message: Any, union: str) -> bool:
    """As a client in another language checks it, with a library that knows nothing of ours."""
    validator = jsonschema.Draft202012Validator({**DOCUMENT, "$ref": f"#/$defs/{union}"})
    return bool(validator.is_valid(message))


@pytest.mark.parametrize(
    "message",
    [
        *map(json.loads, SENT),
        *(
            event | {"projectId": "p", "seq": 5}
            for job in ("project_C", "p{x}", "a b", "\u00e9\U0001f600" * 64)
            for event in (progress(job, 1, sentenceId=job), complete(job), failed(job))
        ),
    ],
)
def test_a_validator_of_others_takes_what_is_sent(message: dict[str, Any]) -> None:
    """The patterns of ids were an error in Python, and refused a `p`, a `C` and braces in JavaScript."""
    assert fits(message, "ServerMessage")


@pytest.mark.parametrize("job_id", ["", "a\tb", "\x7f", "a" * 129, 7])
def test_a_validator_of_others_refuses_an_id_that_is_none(job_id: object) -> None:
    """The control."""
    event = progress("j", 1) | {"projectId": "p"}
    assert fits(event, "ServerMessage")
    assert not fits(event | {"jobId": job_id}, "ServerMessage")


def test_a_validator_of_others_knows_what_a_client_may_say() -> None:
    assert fits({"type": "subscribe", "projectId": "project_C", "since": 5}, "ClientMessage")
    assert fits({"type": "ping"}, "ClientMessage")
    assert not fits({"type": "subscribe", "projectId": "-"}, "ClientMessage")
    assert not fits({"type": "subscribe"}, "ClientMessage")


def test_every_message_and_every_field_has_a_description() -> None:
    messages = {
        name: words
        for name, words in DOCUMENT["$defs"].items()
        if not name.endswith(("ClientMessage", "ServerMessage"))
    }
    assert [name for name, words in messages.items() if not words.get("description")] == []
    fields = {
        (name, field): words
        for name, message in messages.items()
        for field, words in message.get("properties", {}).items()
    }
    assert len(fields) > 50
    assert [name for name, words in fields.items() if not words.get("description")] == []


def test_importing_the_models_reads_no_source() -> None:
    """`use_attribute_docstrings` would: 60 ms more in every process that publishes, for two documents of ours."""
    assert not [model for model in (Progress, messages.Connected) if model.model_config.get("use_attribute_docstrings")]


def test_no_pattern_has_classes_that_only_some_languages_know() -> None:
    assert "\\\\p{" not in schema.PATH.read_text()


@pytest.mark.parametrize("event", [progress("j", 1), complete("j"), failed("j")])
def test_an_event_that_a_channel_sends_fits_its_definition(event: dict[str, Any]) -> None:
    channel = Channel("p")
    load(channel, {})
    frame = channel.receive([as_published(json.dumps(event | {"seq": 5}).encode())])
    read: EventMessage = TypeAdapter[Any](EventMessage).validate_json(frame[2:])
    assert (read.project_id, read.type, read.seq) == ("p", event["type"], 5)


def test_a_message_that_is_none_does_not_fit() -> None:
    with pytest.raises(ValidationError):
        TypeAdapter[Any](ClientMessage).validate_python({"type": "subscribe", "projectId": "-"})
