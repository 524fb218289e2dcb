"""docs/protocol.md says what the code does: the models read its examples, its tables name every field and code."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from gateway import messages
from gateway.codes import CloseCode, ErrorCode
from gateway.messages import Auth, Subscribe, Unsubscribe, read_client_message
from publisher.events import JobComplete, JobFailed, Progress, Result, check_event, event_to_json

TEXT = (Path(__file__).parent.parent / "docs" / "protocol.md").read_text()
EXAMPLES: dict[str, dict[str, Any]] = {
    example["type"]: example for example in map(json.loads, re.findall(r"```json\n(.*?)\n```", TEXT, re.DOTALL))
}
EVENTS = (Progress, JobComplete, JobFailed)


def aliases(model: Any) -> set[str]:
    return {field.alias for field in model.model_fields.values()}


def test_every_message_of_the_contract_has_an_example() -> None:
    client = {"auth", "subscribe", "unsubscribe", "ping"}
    server = {"connected", "authorised", "subscribed", "unsubscribed", "progress", "job_complete", "job_failed"}
    assert EXAMPLES.keys() == client | server | {"stale", "live", "going_away", "pong", "error"}


@pytest.mark.parametrize("model", [Auth, Subscribe, Unsubscribe])
def test_the_examples_of_the_client_are_read_and_show_every_field(model: Any) -> None:
    example = EXAMPLES[model.model_fields["type"].annotation.__args__[0]]
    assert isinstance(read_client_message(json.dumps(example)), model)
    assert example.keys() == aliases(model)


@pytest.mark.parametrize("model", EVENTS)
def test_the_examples_of_events_are_the_models_own_and_show_every_field_once(model: Any) -> None:
    kind = model.model_fields["type"].default
    example = dict(EXAMPLES[kind])
    assert example.pop("projectId")
    assert json.loads(event_to_json(check_event(example))) == example
    optional_here = {"sentenceId"} if model is JobFailed else set()
    assert example.keys() == aliases(model) - optional_here
    for field in aliases(model) - {"type"}:
        assert re.search(rf"^\| `{field}` \| (all|`{kind}`) ", TEXT, re.MULTILINE), f"{field} has no row"


def test_the_result_has_the_fields_that_are_named() -> None:
    assert EXAMPLES["job_complete"]["result"].keys() == aliases(Result)


def test_what_the_gateway_says_has_the_fields_of_the_examples() -> None:
    said = [
        messages.connected("x", 1),
        messages.authorised(1),
        messages.subscribed("p", 1, recovered=True),
        messages.unsubscribed("p"),
        messages.error(ErrorCode.RATE_LIMITED, "m", "p"),
        messages.STALE,
        messages.LIVE,
        messages.PONG,
    ]
    for message in map(json.loads, said):
        assert message.keys() == EXAMPLES[message["type"]].keys()


def test_every_error_code_has_a_row_and_no_other_has() -> None:
    table = TEXT[TEXT.index("| `code` |") : TEXT.index("## Replay")]
    assert set(re.findall(r"^\| `([a-z_]+)` \| ", table, re.MULTILINE)) - {"code"} == {code.value for code in ErrorCode}


def test_every_close_code_has_a_row_and_no_other_has() -> None:
    table = TEXT[TEXT.index("## Close codes") : TEXT.index("## Conformance")]
    rows = re.findall(r"^\| ([0-9, ]+) \| ", table, re.MULTILINE)
    assert {int(code) for row in rows for code in row.split(",")} == {code.value for code in CloseCode}
