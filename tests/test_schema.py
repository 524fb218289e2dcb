"""docs/messages.schema.json is what the gateway's models say, and what it sends and takes fits it."""

import json
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from gateway import messages, schema
from gateway.channel import Channel
from gateway.codes import ErrorCode
from gateway.messages import ClientMessage, EventMessage, ServerMessage
from tests.contract.events import complete, failed, progress

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
        "connected", "subscribed", "unsubscribed", "progress", "job_complete", "job_failed", "stale", "live",
        "going_away", "pong", "error",
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


@pytest.mark.parametrize("event", [progress("j", 1), complete("j"), failed("j")])
def test_an_event_that_a_channel_sends_fits_its_definition(event: dict[str, Any]) -> None:
    channel = Channel("p")
    channel.load({})
    frame = channel.receive([json.dumps(event | {"seq": 5}).encode()])
    read: EventMessage = TypeAdapter[Any](EventMessage).validate_json(frame[2:])
    assert (read.project_id, read.type, read.seq) == ("p", event["type"], 5)


def test_a_message_that_is_none_does_not_fit() -> None:
    with pytest.raises(ValidationError):
        TypeAdapter[Any](ClientMessage).validate_python({"type": "subscribe", "projectId": "-"})
