"""gateway/openapi.json is written by hand: it is OpenAPI, it is what the models say, and what a replica answers."""

import json
from importlib.resources import files
from typing import Any

import jsonschema
import pytest
from openapi_spec_validator import validate
from pydantic import SecretStr, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from gateway.app import create_app
from gateway.codes import PublishCode
from gateway.http.publishing import STATUSES, Accepted, BadField, PublishError, Refused, Revoked
from gateway.schema import AsSent, Documented
from gateway.settings import MIN_KEY_CHARACTERS, Settings
from publisher.events import NEXT, JobComplete, JobFailed, Progress
from publisher.names import PROJECT_ID_PATTERN, PROJECT_ID_RULE
from publisher.publication import Publication
from tests.contract.events import complete, failed, progress
from tests.starlette_client import TestClient

DOCUMENT: dict[str, Any] = json.loads(files("gateway").joinpath("openapi.json").read_text())
SCHEMAS = DOCUMENT["components"]["schemas"]
PATH = DOCUMENT["paths"]["/projects/{projectId}/events"]
POST = PATH["post"]
KEY = "0123456789abcdef"


class AsPosted(AsSent):
    """Events as a job may write them: a field with a default may be absent or null, except for `type`."""

    def nullable_schema(self, schema: Any) -> JsonSchemaValue:
        return GenerateJsonSchema.nullable_schema(self, schema)

    def field_is_required(self, field: Any, total: bool) -> bool:
        inner = field["schema"]
        return bool(inner["type"] != "default" or inner["schema"]["type"] == "literal")


def schema_of(model: type[Any], generator: type[GenerateJsonSchema]) -> dict[str, Any]:
    """The schema of a model and of those that it holds, by name."""
    adapters: list[Any] = [(model, "validation", TypeAdapter(model))]
    template = "#/components/schemas/{model}"
    _, found = TypeAdapter.json_schemas(adapters, schema_generator=generator, ref_template=template)
    definitions: dict[str, Any] = found["$defs"]
    return definitions


@pytest.mark.parametrize("model", [Progress, JobComplete, JobFailed])
def test_the_events_are_those_of_the_models(model: Any) -> None:
    expected = schema_of(model, AsPosted)
    del expected[model.__name__]["properties"]["seq"]  # the answer has it
    if model is Progress:
        attempt = expected["Progress"]["properties"]["attempt"]
        attempt["anyOf"].insert(1, {"const": NEXT, "type": "string"})
        attempt["description"] += " `next` begins the next one, which the answer numbers."
    assert {name: SCHEMAS[name] for name in expected} == expected
    mapping = SCHEMAS["Event"]["discriminator"]["mapping"]
    assert mapping[model.model_fields["type"].default] == f"#/components/schemas/{model.__name__}"
    assert {"$ref": f"#/components/schemas/{model.__name__}"} in SCHEMAS["Event"]["oneOf"]


@pytest.mark.parametrize(
    ("model", "generator"), [(Accepted, Documented), (Revoked, Documented), (PublishError, AsSent)]
)
def test_the_answers_are_those_of_the_models(model: Any, generator: type[GenerateJsonSchema]) -> None:
    """`seqs` holds nulls; in an error, a field without a value is absent."""
    expected = schema_of(model, generator)
    assert {name: SCHEMAS[name] for name in expected} == expected


def test_it_has_no_other_schema() -> None:
    assert SCHEMAS.keys() == {
        "Event", "Progress", "JobComplete", "JobFailed", "Result",
        "Accepted", "Revoked", "PublishError", "BadField", "PublishCode", "Readiness",
        "Client", "Clients", "WatchedProject", "Projects",
    }  # fmt: skip
    assert len(SCHEMAS["Event"]["oneOf"]) == len(SCHEMAS["Event"]["discriminator"]["mapping"]) == 3


def test_every_field_has_a_description() -> None:
    fields = {
        (name, field): words
        for name, schema in SCHEMAS.items()
        for field, words in schema.get("properties", {}).items()
    }
    assert len(fields) > 30
    assert [name for name, words in fields.items() if not words.get("description")] == []


def test_the_project_and_the_key_have_the_forms_that_are_checked() -> None:
    (project,) = PATH["parameters"]
    assert project["schema"]["pattern"] == PROJECT_ID_PATTERN
    assert PROJECT_ID_RULE in project["description"]
    assert (
        f"of {MIN_KEY_CHARACTERS} or more characters" in DOCUMENT["components"]["securitySchemes"]["key"]["description"]
    )


def fits(value: Any, schema: dict[str, Any]) -> bool:
    return bool(jsonschema.Draft202012Validator({**DOCUMENT, **schema}).is_valid(value))


def is_body(value: Any) -> bool:
    return fits(value, POST["requestBody"]["content"]["application/json"]["schema"])


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
            Publication.of("p", event, "")


GOOD = [
    progress("j", 1.5, message="m", sentenceId="s", attempt=0, nextWithin=2),
    complete("j") | {"result": {"file": "f", "duration": 1}},
    {"type": "job_complete", "jobId": "j", "jobType": "audio"},
    failed("j"),
    progress("j") | {"unheard": "of"},
    progress("j", message=None, sentenceId=None, attempt=None),
    progress("j", jobType="my.own:type-1", attempt="next", data={"voice": [2, {"of": 5}]}),
    failed("j") | {"reason": "cancelled", "data": {}},
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
    progress("j", jobType="two words"),
    progress("j", attempt="last"),
    complete("j") | {"attempt": "next"},
    progress("j", data=[1]),
    failed("j") | {"reason": "sad"},
]


@pytest.mark.parametrize("event", GOOD, ids=str)
def test_what_is_an_event_to_the_publisher_is_one_here(event: dict[str, Any]) -> None:
    Publication.of("p", event, "")
    assert is_body(event)
    assert is_body([event, event])


@pytest.mark.parametrize("event", BAD, ids=str)
def test_what_is_none_is_none_here(event: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        Publication.of("p", event, "")
    assert not is_body(event)
    assert not is_body([GOOD[0], event])


def test_an_empty_list_is_no_body() -> None:
    assert not is_body([])


def test_the_answers_fit_their_descriptions() -> None:
    def described(status: int, body: bytes) -> bool:
        return fits(json.loads(body), POST["responses"][str(status)]["content"]["application/json"]["schema"])

    assert described(202, Accepted(seqs=[1, None], attempts=[None, 0]).answer.body)
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
        described = DOCUMENT["paths"]["/readyz"]["get"]["responses"][str(ready.status_code)]
        assert fits(ready.json(), described["content"]["application/json"]["schema"])
        assert set(ready.json()) <= set(SCHEMAS["Readiness"]["properties"])
