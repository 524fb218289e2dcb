"""The words on `/ws`: what a client may say, and what it is told. Knows no socket."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StrictInt, TypeAdapter, ValidationError
from pydantic_core import from_json

from gateway.codes import ErrorCode
from publisher.events import MAX_SEQ, CamelModel, JobComplete, JobFailed, Progress
from publisher.names import PROJECT_ID_RULE, ProjectId


class _ClientMessage(CamelModel):
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
        return BadMessage(ErrorCode.BAD_PROJECT_ID, f"`projectId` must be {PROJECT_ID_RULE}.")
    return BadMessage(ErrorCode.BAD_SINCE, f"`since` is a whole number from 0 to {MAX_SEQ}.", value.get("projectId"))


# What the gateway says. The models are the contract, for docs/messages.schema.json and the types of clients too; the
# functions return the JSON text of one message, as UTF-8.


class Connected(CamelModel):
    """The first message of a connection."""

    type: Literal["connected"] = "connected"
    client_id: str
    """Names this connection in the gateway's log."""


class Subscribed(CamelModel):
    """From here on every event of the project, or a newer event of the same job, reaches this client."""

    type: Literal["subscribed"] = "subscribed"
    project_id: ProjectId
    seq: Annotated[int, Field(ge=0, le=MAX_SEQ)]
    """The project's newest seq at this moment: an event up to it is replayed, one above it is news."""
    recovered: bool
    """True: nothing that still matters was missed since `since`."""


class Unsubscribed(CamelModel):
    """The project is watched no longer."""

    type: Literal["unsubscribed"] = "unsubscribed"
    project_id: ProjectId


class Stale(CamelModel):
    """This replica lost its feed: what is shown may be old."""

    type: Literal["stale"] = "stale"


class Live(CamelModel):
    """This replica has its feed back and has sent all that was missed."""

    type: Literal["live"] = "live"


class GoingAway(CamelModel):
    """This replica drains: open the next connection at a random moment of the window, then leave this one."""

    type: Literal["going_away"] = "going_away"
    reconnect_in: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]]
    """The window, from and to, in milliseconds from now."""


class Pong(CamelModel):
    """The answer to `ping`."""

    type: Literal["pong"] = "pong"


class ErrorMessage(CamelModel):
    """One message of the client was bad; the connection stays."""

    type: Literal["error"] = "error"
    code: ErrorCode
    message: str
    """A sentence for the developer who reads it."""
    project_id: ProjectId | None = None


class ProgressMessage(Progress):
    """A job goes on."""

    project_id: ProjectId


class JobCompleteMessage(JobComplete):
    """A job ended well."""

    project_id: ProjectId


class JobFailedMessage(JobFailed):
    """A job ended badly."""

    project_id: ProjectId


EventMessage = ProgressMessage | JobCompleteMessage | JobFailedMessage
ServerMessage = Connected | Subscribed | Unsubscribed | EventMessage | Stale | Live | GoingAway | Pong | ErrorMessage


def _encode(message: CamelModel) -> bytes:
    return message.__pydantic_serializer__.to_json(message, by_alias=True, exclude_none=True)


def connected(client_id: str) -> bytes:
    return _encode(Connected(client_id=client_id))


def subscribed(project_id: str, seq: int, *, recovered: bool) -> bytes:
    return _encode(Subscribed(project_id=project_id, seq=seq, recovered=recovered))


def unsubscribed(project_id: str) -> bytes:
    return _encode(Unsubscribed(project_id=project_id))


def going_away(reconnect_in_ms: tuple[int, int]) -> bytes:
    return _encode(GoingAway(reconnect_in=reconnect_in_ms))


def error(code: ErrorCode, message: str, project_id: str | None = None) -> bytes:
    return _encode(ErrorMessage(code=code, message=message, project_id=project_id))


STALE = _encode(Stale())
LIVE = _encode(Live())
PONG = _encode(Pong())
