"""The words on `/ws`: what a client may say, and what it is told. Knows no socket."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StrictInt, TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

from gateway.codes import ErrorCode
from publisher.events import MAX_SEQ, _Model
from publisher.names import ProjectId


class _ClientMessage(_Model):
    model_config = ConfigDict(validate_by_name=False)  # camelCase only, on the wire


class Subscribe(_ClientMessage):
    """Watch a project; with `since`, continue after that seq."""

    type: Literal["subscribe"]
    project_id: ProjectId
    since: Annotated[StrictInt, Field(ge=0, le=MAX_SEQ)] | None = None


class Unsubscribe(_ClientMessage):
    """Watch a project no longer."""

    type: Literal["unsubscribe"]
    project_id: ProjectId


class Ping(_ClientMessage):
    """Ask for a `pong`: page scripts cannot see WebSocket pings."""

    type: Literal["ping"]


ClientMessage = Subscribe | Unsubscribe | Ping
_client_message: TypeAdapter[ClientMessage] = TypeAdapter(Annotated[ClientMessage, Field(discriminator="type")])
TYPES = ("subscribe", "unsubscribe", "ping")


class BadMessage(Exception):
    """A client's message that is none; carries what to answer."""

    def __init__(self, code: ErrorCode, message: str, project_id: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.project_id = project_id


def read_client_message(text: bytes | str) -> ClientMessage:
    """Read one message; raises `BadMessage` for anything else, however it is broken."""
    try:
        value = from_json(text, allow_inf_nan=False)
    except ValueError:  # also nesting too deep, lone surrogates, numbers that are none
        raise BadMessage(ErrorCode.NOT_JSON, "A message is one JSON object.") from None
    if not isinstance(value, dict):
        raise BadMessage(ErrorCode.BAD_MESSAGE, "A message is one JSON object.")
    if value.get("type") not in TYPES:
        raise BadMessage(ErrorCode.UNKNOWN_TYPE, f"`type` is one of {', '.join(TYPES)}.")
    try:
        return _client_message.validate_python(value)
    except ValidationError as error:
        raise _explain(error, value) from None


def _explain(error: ValidationError, value: dict[str, Any]) -> BadMessage:
    # loc is (type of message, field, ...)
    fields = {str(details["loc"][1]) for details in error.errors(include_input=False, include_url=False)}
    if "projectId" in fields:
        form = "1 to 128 characters of A-Z a-z 0-9 _ - . : and begins with a letter or digit"
        return BadMessage(ErrorCode.BAD_PROJECT_ID, f"`projectId` is a string of {form}.")
    return BadMessage(ErrorCode.BAD_SINCE, f"`since` is a whole number from 0 to {MAX_SEQ}.", value.get("projectId"))


# What the gateway says. Each returns the JSON text of one message, as UTF-8.


def connected(client_id: str) -> bytes:
    return to_json({"type": "connected", "clientId": client_id})


def subscribed(project_id: str, seq: int, *, recovered: bool) -> bytes:
    return to_json({"type": "subscribed", "projectId": project_id, "seq": seq, "recovered": recovered})


def unsubscribed(project_id: str) -> bytes:
    return to_json({"type": "unsubscribed", "projectId": project_id})


def error(code: ErrorCode, message: str, project_id: str | None = None) -> bytes:
    words = {"type": "error", "code": code.value, "message": message}
    return to_json(words if project_id is None else {**words, "projectId": project_id})


STALE = b'{"type":"stale"}'
LIVE = b'{"type":"live"}'
PONG = b'{"type":"pong"}'
