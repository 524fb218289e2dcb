"""docs/openapi.json is what the models say, is OpenAPI, and is what a replica answers."""

import json
from typing import Any

import jsonschema
import pytest
from openapi_spec_validator import validate
from pydantic import SecretStr

from gateway import openapi
from gateway.app import create_app
from gateway.codes import PublishCode
from gateway.publishing import STATUSES, Accepted, BadField, Refused
from gateway.settings import Settings
from publisher.events import check_event
from tests.contract.events import complete, failed, progress
from tests.starlette_client import TestClient

DOCUMENT: dict[str, Any] = json.loads(openapi.PATH.read_text())
POST = DOCUMENT["paths"]["/projects/{projectId}/events"]["post"]
KEY = "0123456789abcdef"


def fits(value: Any, schema: dict[str, Any]) -> bool:
    return bool(jsonschema.Draft202012Validator({**DOCUMENT, **schema}).is_valid(value))


def is_body(value: Any) -> bool:
    return fits(value, POST["requestBody"]["content"]["application/json"]["schema"])


def test_the_document_is_current() -> None:
    """Made anew by `python -m gateway.openapi`."""
    assert openapi.PATH.read_text() == openapi.document()


def test_running_it_writes_the_document(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openapi, "PATH", tmp_path / "openapi.json")
    openapi.main()
    assert json.loads((tmp_path / "openapi.json").read_text()) == DOCUMENT


def test_it_is_openapi_3_1() -> None:
    assert DOCUMENT["openapi"].startswith("3.1.")
    validate(DOCUMENT)


def test_the_validator_sees_what_is_wrong() -> None:
    """The control."""
    broken = json.loads(json.dumps(DOCUMENT))
    del broken["paths"]["/healthz"]["get"]["responses"]["200"]["description"]
    with pytest.raises(Exception, match="description"):
        validate(broken)


def test_every_status_is_described_and_no_other() -> None:
    assert POST["responses"].keys() == {str(status) for status in STATUSES}


def test_its_examples_are_events() -> None:
    for example in POST["requestBody"]["content"]["application/json"]["examples"].values():
        value = example["value"]
        assert is_body(value)
        for event in value if isinstance(value, list) else [value]:
            check_event(event)


GOOD = [
    progress("j", 1.5, message="m", sentenceId="s", attempt=0, nextWithin=2),
    complete("j") | {"result": {"file": "f", "duration": 1}},
    {"type": "job_complete", "jobId": "j", "jobType": "audio"},
    failed("j"),
    progress("j") | {"unheard": "of"},
    progress("j", message=None, sentenceId=None, attempt=None),
]
BAD = [
    {},
    progress("j", 101),
    progress(""),
    progress("x" * 129),
    progress("a\nb"),
    progress("j") | {"progress": None},
    {"jobId": "j", "jobType": "audio", "progress": 1},
    {"type": "job_failed", "jobId": "j", "jobType": "audio"},
]


@pytest.mark.parametrize("event", GOOD, ids=str)
def test_what_is_an_event_to_the_publisher_is_one_here(event: dict[str, Any]) -> None:
    check_event(event)
    assert is_body(event)
    assert is_body([event, event])


@pytest.mark.parametrize("event", BAD, ids=str)
def test_what_is_none_is_none_here(event: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        check_event(event)
    assert not is_body(event)
    assert not is_body([GOOD[0], event])


def test_an_empty_list_is_no_body() -> None:
    assert not is_body([])


def test_the_answers_fit_their_descriptions() -> None:
    def described(status: int, body: bytes) -> bool:
        return fits(json.loads(body), POST["responses"][str(status)]["content"]["application/json"]["schema"])

    assert described(202, Accepted(seqs=[1, None]).answer.body)
    errors = [BadField(index=0, field="progress", message="m"), BadField(message="m")]
    assert described(422, Refused(422, PublishCode.BAD_EVENTS, "m", errors).answer.body)
    assert described(503, Refused(503, PublishCode.REDIS_UNAVAILABLE, "m").answer.body)
    assert not described(503, b'{"code":"unheard_of","message":"m"}')


def test_a_replica_that_takes_events_serves_it_and_answers_as_it_says() -> None:
    settings = Settings(redis_url="redis://127.0.0.1:1/0", redis_wait_seconds=0, publish_keys=(SecretStr(KEY),))
    with TestClient(create_app(settings)) as client:
        answer = client.get("/openapi.json")
        assert answer.headers["content-type"] == "application/json"
        assert answer.json() == DOCUMENT
        ready = client.get("/readyz")
        schema = DOCUMENT["paths"]["/readyz"]["get"]["responses"][str(ready.status_code)]["content"]["application/json"]
        assert fits(ready.json(), schema["schema"])
        assert set(ready.json()) <= set(schema["schema"]["properties"])
