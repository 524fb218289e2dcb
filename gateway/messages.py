"""The messages on `/ws`, from clients and to them, as models and as JSON. No I/O.

The models are the contract: docs/messages.schema.json and the types of the npm package are made from them and from the
docstrings of their fields.
"""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StrictInt, StrictStr, TypeAdapter, ValidationError
from pydantic_core import from_json

from gateway.codes import ErrorCode
from publisher.events import MAX_SEQ, CamelModel, JobComplete, JobFailed, Progress
from publisher.names import PROJECT_ID_RULE, ProjectId


class Message(CamelModel):
    """A JSON object in one text frame."""

    type: str
    """The kind of message."""


class _ClientMessage(Message):
    model_config = ConfigDict(validate_by_name=False)  # a client must use camelCase


class Subscribe(_ClientMessage):
    """Watch a project. `subscribed` answers it; then follow the events that were missed, and live ones."""

    type: Literal["subscribe"]
    project_id: ProjectId
    """The project: 1 to 128 characters of A-Z a-z 0-9 _ - . : that begin with a letter or digit."""
    since: Annotated[StrictInt, Field(ge=0, le=MAX_SEQ)] | None = None
    """The highest seq that the client has seen of the project. Without it, or with 0, all jobs are replayed."""


class Unsubscribe(_ClientMessage):
    """Stop watching a project."""

    type: Literal["unsubscribe"]
    project_id: ProjectId
    """The project."""


class Ping(_ClientMessage):
    """Ask for a `pong`. Scripts in a page cannot see WebSocket pings."""

    type: Literal["ping"]


class Auth(_ClientMessage):
    """Show a token, at any time. `authorised` answers it; a token that is refused ends the connection."""

    type: Literal["auth"]
    token: StrictStr
    """A JWT that names the projects which its bearer may watch."""


ClientMessage = Auth | Subscribe | Unsubscribe | Ping
_client_message: TypeAdapter[ClientMessage] = TypeAdapter(Annotated[ClientMessage, Field(discriminator="type")])
_validate = _client_message.validator.validate_python  # without TypeAdapter's per-call overhead
TYPES = ("auth", "subscribe", "unsubscribe", "ping")


class BadMessage(Exception):
    """A client's message that is not valid; carries the answer."""

    def __init__(self, code: ErrorCode, message: str, project_id: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.project_id = project_id


def read_client_message(text: bytes | str) -> ClientMessage:
    """Read one message; raises `BadMessage` for anything that is not one."""
    try:
        value = from_json(text, allow_inf_nan=False)
    except ValueError:  # also for nesting too deep, lone surrogates, NaN
        raise BadMessage(ErrorCode.NOT_JSON, "A message must be one JSON object.") from None
    if not isinstance(value, dict):
        raise BadMessage(ErrorCode.BAD_MESSAGE, "A message must be one JSON object.")
    if value.get("type") not in TYPES:
        raise BadMessage(ErrorCode.UNKNOWN_TYPE, f"`type` must be one of {', '.join(TYPES)}.")
    try:
        message: ClientMessage = _validate(value)
    except ValidationError as error:
        raise _explain(error, value) from None
    return message


def _explain(error: ValidationError, value: dict[str, Any]) -> BadMessage:
    # loc is (type of message, field, ...)
    fields = {str(details["loc"][1]) for details in error.errors(include_input=False, include_url=False)}
    if "token" in fields:
        return BadMessage(ErrorCode.BAD_MESSAGE, "`token` must be a string.")
    if "projectId" in fields:
        return BadMessage(ErrorCode.BAD_PROJECT_ID, f"`projectId` must be {PROJECT_ID_RULE}.")
    return BadMessage(
        ErrorCode.BAD_SINCE, f"`since` must be a whole number from 0 to {MAX_SEQ}.", value.get("projectId")
    )


# Messages to clients. The functions below return one as JSON in UTF-8.


class Connected(Message):
    """The first message of a connection."""

    type: Literal["connected"] = "connected"
    client_id: str
    """The id of this connection in the gateway's log."""
    expires_in: Annotated[int, Field(ge=0)] | None = None
    """In how many milliseconds the token of the handshake expires, if there was one."""


class Authorised(Message):
    """The token of the client's last `auth` counts from now on."""

    type: Literal["authorised"] = "authorised"
    expires_in: Annotated[int, Field(ge=0)]
    """In how many milliseconds it expires. Relative, so a wrong clock of the client does not matter."""


class Subscribed(Message):
    """Every event that is published after this reaches the client, or a newer event of the same job does."""

    type: Literal["subscribed"] = "subscribed"
    project_id: ProjectId
    """The project."""
    seq: Annotated[int, Field(ge=0, le=MAX_SEQ)]
    """The project's newest seq at this moment, or 0. Events up to it are replayed; events above it are new."""
    recovered: bool
    """True if the client missed nothing that still matters since `since`."""


class Unsubscribed(Message):
    """The client no longer watches the project."""

    type: Literal["unsubscribed"] = "unsubscribed"
    project_id: ProjectId
    """The project."""


class Stale(Message):
    """This replica lost its connection to Redis: what the client shows may be out of date."""

    type: Literal["stale"] = "stale"


class Live(Message):
    """This replica is connected to Redis again, and has sent all that was missed."""

    type: Literal["live"] = "live"


class GoingAway(Message):
    """This replica will stop. Open another connection at a random moment of the window, then close this one."""

    type: Literal["going_away"] = "going_away"
    reconnect_in: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]]
    """The window's start and end, in milliseconds from now."""


class Pong(Message):
    """The answer to `ping`."""

    type: Literal["pong"] = "pong"


class ErrorMessage(Message):
    """A message of the client was refused. The connection stays open."""

    type: Literal["error"] = "error"
    code: ErrorCode
    """What was wrong, for programs."""
    message: str
    """What was wrong, in a sentence for developers."""
    project_id: ProjectId | None = None
    """The project that the client's message was about, if it named a valid one."""


class _OfProject(CamelModel):
    project_id: ProjectId
    """The project of the job."""


class ProgressMessage(_OfProject, Progress):
    """A job goes on."""


class JobCompleteMessage(_OfProject, JobComplete):
    """A job ended well."""


class JobFailedMessage(_OfProject, JobFailed):
    """A job ended badly."""


EventMessage = ProgressMessage | JobCompleteMessage | JobFailedMessage
ServerMessage = (
    Connected | Authorised | Subscribed | Unsubscribed | EventMessage | Stale | Live | GoingAway | Pong | ErrorMessage
)


def _encode(message: CamelModel) -> bytes:
    return message.__pydantic_serializer__.to_json(message, by_alias=True, exclude_none=True)


# Each connection is sent these two, so they are written once, with gaps.
_CONNECTED = _encode(Connected(client_id="?")).replace(b"?", b"%b")
_SUBSCRIBED = {
    recovered: _encode(Subscribed(project_id="P", seq=1, recovered=recovered))
    .replace(b'"P"', b'"%b"')
    .replace(b"1", b"%d")
    for recovered in (True, False)
}


def connected(client_id: str, expires_in_ms: int | None = None) -> bytes:
    """`client_id` is the gateway's own, of letters and digits."""
    if expires_in_ms is None:
        return _CONNECTED % client_id.encode()
    return _encode(Connected(client_id=client_id, expires_in=expires_in_ms))


def authorised(expires_in_ms: int) -> bytes:
    return _encode(Authorised(expires_in=expires_in_ms))


def subscribed(project_id: str, seq: int, *, recovered: bool) -> bytes:
    """`project_id` is a valid one, which JSON escapes nothing of."""
    return _SUBSCRIBED[recovered] % (project_id.encode(), seq)


def unsubscribed(project_id: str) -> bytes:
    return _encode(Unsubscribed(project_id=project_id))


def going_away(reconnect_in_ms: tuple[int, int]) -> bytes:
    return _encode(GoingAway(reconnect_in=reconnect_in_ms))


def error(code: ErrorCode, message: str, project_id: str | None = None) -> bytes:
    return _encode(ErrorMessage(code=code, message=message, project_id=project_id))


STALE = _encode(Stale())
LIVE = _encode(Live())
PONG = _encode(Pong())
