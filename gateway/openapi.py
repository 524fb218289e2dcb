"""The HTTP of a replica as OpenAPI, for clients in any language: `python -m gateway.openapi` writes the document.

docs/openapi.json is that document, and a replica that takes events serves it at `/openapi.json`.
"""

import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from gateway.publishing import Accepted, PublishError
from gateway.schema import PRINTABLE, OnTheWire
from gateway.settings import MIN_KEY_CHARACTERS
from publisher.events import JobComplete, JobFailed, Progress
from publisher.names import PROJECT_ID_PATTERN

PATH = Path(__file__).parent.parent / "docs" / "openapi.json"

VERSION = "1.0"  # of this contract; it grows within a major version, and changes with one
EVENTS = (Progress, JobComplete, JobFailed)
_REFERENCE = "#/components/schemas/{model}"


class _AsPosted(OnTheWire):
    """Events as a job may write them: what has a default may be left out, except for `type`, and what may be left out
    may be null."""

    def nullable_schema(self, schema: Any) -> JsonSchemaValue:
        return GenerateJsonSchema.nullable_schema(self, schema)

    def field_is_required(self, field: Any, total: bool) -> bool:
        inner = field["schema"]
        return bool(inner["type"] != "default" or inner["schema"]["type"] == "literal")

    def str_schema(self, schema: Any) -> JsonSchemaValue:
        found = super().str_schema(schema)
        return found | {"description": "Printable characters"} if found.get("pattern") == PRINTABLE else found


def openapi() -> dict[str, Any]:
    """The whole document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Progress Gateway",
            "version": VERSION,
            "description": "Events of background jobs, sent by the job and shown live to who watches its project.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "paths": {
            "/projects/{projectId}/events": {"parameters": [_project_id()], "post": _publish()},
            "/healthz": {"get": _healthz()},
            "/readyz": {"get": _readyz()},
        },
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "One of the keys of GATEWAY_PUBLISH_KEYS, of "
                    f"{MIN_KEY_CHARACTERS} or more characters. It is for servers: never put it into a page.",
                }
            },
        },
    }


def _schemas() -> dict[str, Any]:
    """The models' own, with what a request cannot say left out."""
    schemas: dict[str, Any] = {}
    # `seqs` has nulls; in an error, what has no value is left out.
    for generator, models in ((_AsPosted, EVENTS), (GenerateJsonSchema, (Accepted,)), (OnTheWire, (PublishError,))):
        adapters: list[Any] = [(model, "validation", TypeAdapter(model)) for model in models]
        _, found = TypeAdapter.json_schemas(adapters, schema_generator=generator, ref_template=_REFERENCE)
        schemas |= found["$defs"]
    for model in EVENTS:
        del schemas[model.__name__]["properties"]["seq"]  # the answer brings it
    kinds = {model.model_fields["type"].default: _reference(model.__name__) for model in EVENTS}
    schemas["Event"] = {
        "oneOf": list(kinds.values()),
        "discriminator": {"propertyName": "type", "mapping": {kind: ref["$ref"] for kind, ref in kinds.items()}},
    }
    return schemas


def _reference(name: str) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(model=name)}


def _json(schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"application/json": {"schema": schema, **more}}


def _project_id() -> dict[str, Any]:
    schema = {"type": "string", "pattern": PROJECT_ID_PATTERN}
    return {"name": "projectId", "in": "path", "required": True, "schema": schema}


def _publish() -> dict[str, Any]:
    event = {"type": "progress", "jobId": "job_7", "jobType": "audio", "progress": 40}
    end = {"type": "job_complete", "jobId": "job_7", "jobType": "audio", "result": {"file": "a.mp3"}}
    body = {"oneOf": [_reference("Event"), {"type": "array", "items": _reference("Event"), "minItems": 1}]}
    return {
        "operationId": "publishEvents",
        "summary": "Publish one event, or a list of events in order",
        "description": "All events are checked before any is sent. Unknown fields are dropped.",
        "security": [{"key": []}],
        "requestBody": {
            "required": True,
            "content": _json(body, examples={"one": {"value": event}, "several": {"value": [event, end]}}),
        },
        "responses": {
            "202": {"description": "Handed to Redis", "content": _json(_reference("Accepted"))},
            "401": _error("No key, or a wrong one", "WWW-Authenticate"),
            "405": _error("Another method than POST", "Allow"),
            "413": _error("The body is too long, or has too many events"),
            "422": _error("The project id, the body or an event does not fit; `errors` names what"),
            "429": _error("Too many events with this key", "Retry-After"),
            "503": _error("Redis does not answer, or refuses; or this replica ends or is overloaded", "Retry-After"),
        },
    }


def _error(description: str, *headers: str) -> dict[str, Any]:
    types = {"Retry-After": {"type": "integer", "minimum": 1}}
    named = {name: {"required": True, "schema": types.get(name, {"type": "string"})} for name in headers}
    return {"description": description, "content": _json(_reference("PublishError"))} | (
        {"headers": named} if named else {}
    )


def _healthz() -> dict[str, Any]:
    text = {"text/plain": {"schema": {"type": "string"}}}
    return {
        "operationId": "isAlive",
        "summary": "The process lives",
        "responses": {"200": {"description": "It does", "content": text}},
    }


def _readyz() -> dict[str, Any]:
    schema = {
        "type": "object",
        "required": ["ready", "draining", "redis", "clients"],
        "properties": {
            "ready": {"type": "boolean"},
            "draining": {"type": "boolean"},
            "redis": {"type": "string", "description": "The state of the feed; `live` if every event arrives"},
            "clients": {"type": "integer", "minimum": 0, "description": "Open connections of this replica"},
            "error": {"type": "string", "description": "What is wrong with Redis, in its own words"},
            "hint": {"type": "string", "description": "What an operator can do about it"},
            "lostAt": {
                "type": "string",
                "format": "date-time",
                "description": "When events last arrived for sure, if they do not now. A replica is ready for a while "
                "after that (GATEWAY_REDIS_GRACE_SECONDS)",
            },
        },
    }
    return {
        "operationId": "isReady",
        "summary": "Events arrive at this replica",
        "responses": {
            "200": {"description": "They do", "content": _json(schema)},
            "503": {"description": "They do not, or this replica ends", "content": _json(schema)},
        },
    }


def document() -> str:
    return json.dumps(openapi(), indent=2) + "\n"


def main() -> None:
    PATH.write_text(document())


if __name__ == "__main__":
    main()
