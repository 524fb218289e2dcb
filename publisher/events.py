"""The events of a job, as they are published, remembered and sent to browsers.

Unknown fields are dropped. `message`, `error` and `result.file` are cleaned instead of refused, because they often hold
the text of an exception or a name from elsewhere. Every other value that does not fit is an error that names the field.
"""

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError, PydanticSerializationError, to_json

from publisher.field_errors import event_error

MAX_TEXT = 2_000  # characters of `message` and `error`; longer text is cut
MAX_FILE_BYTES = 8_192  # of `result.file`: signed URLs are long, and a cut one would be useless
MAX_DATA_BYTES = 8_192  # of `data`, as compact JSON
MAX_DATA_LEVELS = 16  # of objects and lists in `data`, itself included
MAX_EVENT_BYTES = 32_768  # of an event, as compact JSON
MAX_SEQ = 2**53 - 1  # the largest integer that every JSON reader keeps exact
NEXT = "next"  # in place of an attempt: the number after the last one, which Redis gives

_BREAKS = re.compile(r"[\t-\r\x85\u2028\u2029]+")
# Control characters, and those that change the direction of the text after them.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_NOT_FINITE = re.compile(rb"NaN|Infinity")  # as pydantic writes such numbers; also in texts
# Letters, marks, numbers, punctuation, symbols and spaces of any script; no controls and no line separators.
_PRINTABLE = r"^[^\p{C}\p{Zl}\p{Zp}]+$"


def _without_control(text: str) -> str:
    # A lone surrogate (from a file name that is not UTF-8) cannot stand in JSON; it becomes a question mark.
    return _CONTROL.sub("", text).encode(errors="replace").decode()


def _clean(text: str) -> str:
    """One line of at most `MAX_TEXT` characters. The check by `isprintable` keeps the usual case cheap."""
    if len(text) <= MAX_TEXT and text.isprintable():
        return text
    return _without_control(_BREAKS.sub(" ", text))[:MAX_TEXT]


def _clean_file(text: str) -> str:
    if not text.isprintable():
        text = _without_control(text)
    if len(text) * 4 > MAX_FILE_BYTES and (size := len(text.encode())) > MAX_FILE_BYTES:
        raise PydanticCustomError("too_long", "too long", {"detail": f"{size} bytes"})
    return text


def _check_data(data: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
    """Refuse what is not JSON, or too much of it. What passes is sent as it is."""
    if info.mode != "json":  # a job's own objects: `to_json` would also take a date, say
        _check_levels(data, 1)
    try:
        text = to_json(data)
    except (PydanticSerializationError, ValueError):  # half a surrogate pair
        raise PydanticCustomError("not_json", "not JSON", {"detail": "not valid Unicode"}) from None
    # A gateway reads every event that it receives, so the usual case is cheap: few brackets are few levels.
    if info.mode == "json" and (text.count(b"{") + text.count(b"[") > MAX_DATA_LEVELS or _NOT_FINITE.search(text)):
        _check_levels(data, 1)
    if len(text) > MAX_DATA_BYTES:
        raise PydanticCustomError("too_long", "too long", {"detail": f"{len(text)} bytes"})
    return data


def _check_levels(value: Any, level: int) -> None:
    if value is None or isinstance(value, str | int):
        return
    if isinstance(value, float):
        if value - value != 0:  # infinite, or not a number
            raise PydanticCustomError("not_json", "not JSON", {"detail": "holds a number that is not finite"})
    elif isinstance(value, dict | list | tuple):
        if level > MAX_DATA_LEVELS:
            raise PydanticCustomError("too_deep", "too deep", {"detail": "too deep"})
        for item in value.values() if isinstance(value, dict) else value:
            _check_levels(item, level + 1)
        if isinstance(value, dict) and not all(isinstance(key, str) for key in value):
            raise PydanticCustomError("not_json", "not JSON", {"detail": "holds a key that is not a string"})
    else:
        raise PydanticCustomError("not_json", "not JSON", {"detail": f"holds a value of type {type(value).__name__}"})


# The well-known kinds of jobs: pages have icons for them. Any other name will do.
JOB_TYPES = ("script", "audio", "image", "video", "export")
JobType = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_\-.:]{0,63}$")]
Data = Annotated[dict[str, Any], AfterValidator(_check_data)]
Reason = Literal["error", "cancelled", "timed_out", "lost"]
Id = Annotated[str, StringConstraints(pattern=_PRINTABLE, min_length=1, max_length=128)]
Text = Annotated[str, AfterValidator(_clean)]
# The bounds are inside the unions: around a union, pydantic would check them by a Python call for each event.
Percent = Annotated[int, Field(ge=0, le=100)] | Annotated[float, Field(ge=0, le=100)]
Seconds = Annotated[int, Field(gt=0, le=86_400)] | Annotated[float, Field(gt=0, le=86_400)]
Duration = Annotated[int, Field(ge=0, le=MAX_SEQ)] | Annotated[float, Field(ge=0, le=MAX_SEQ)]
Attempt = Annotated[int, Field(ge=0, le=MAX_SEQ)]
Seq = Annotated[int, Field(ge=1, le=MAX_SEQ)]


# What each field must be, in words; the bounds are those of the types above.
RULES = {
    "type": "'progress', 'job_complete' or 'job_failed'",
    "seq": f"a whole number from 1 to {MAX_SEQ}",
    "jobId": "1 to 128 printable characters",
    "jobType": "1 to 64 of A-Z a-z 0-9 _ - . : that begin with a letter",
    "sentenceId": "1 to 128 printable characters",
    "attempt": f"a whole number from 0 to {MAX_SEQ}, or 'next' in a progress",
    "data": f"a JSON object of at most {MAX_DATA_BYTES} bytes and {MAX_DATA_LEVELS} levels",
    "progress": "a number from 0 to 100",
    "message": "a string",
    "nextWithin": "a number of seconds above 0, and at most 86400",
    "result": "a JSON object (in Python, a mapping or a Result)",
    "result.file": f"a string of at most {MAX_FILE_BYTES} bytes in UTF-8",
    "result.duration": f"a number of seconds from 0 to {MAX_SEQ}",
    "error": "a string",
    "reason": "'error', 'cancelled', 'timed_out' or 'lost'",
}


class CamelModel(BaseModel):
    """A model whose fields are in camelCase in JSON and in snake_case in Python."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,  # job authors may write job_id=...
        validate_by_alias=True,
        serialize_by_alias=True,
        extra="ignore",
        frozen=True,
        allow_inf_nan=False,
    )


class JobEvent(CamelModel):
    """The fields of every event. A job is `(projectId, jobId)`; with a `sentenceId`, an event is of that part of it."""

    type: Literal["progress", "job_complete", "job_failed"]
    """What happened: the kind of event."""
    seq: Seq | None = None
    """The event's place in its project: Redis' clock in microseconds, always above the last. Set when it is sent."""
    job_id: Id
    """The job, within its project: 1 to 128 printable characters."""
    job_type: JobType
    """The kind of job: 1 to 64 of A-Z a-z 0-9 _ - . : that begin with a letter. Pages know icons for script, audio,
    image, video and export."""
    sentence_id: Id | None = None
    """The sentence that this event is about, of a job that works by sentences: 1 to 128 printable characters."""
    attempt: Attempt | None = None
    """Which try of the job this is, counted from 0. A later attempt replaces an earlier one, an end too."""


class Progress(JobEvent):
    """A job goes on."""

    is_terminal: ClassVar[bool] = False

    type: Literal["progress"] = "progress"
    progress: Percent
    """How much is done, in percent: 0 to 100."""
    message: Text | None = None
    """What the job does now, for people: one line, cut to 2,000 characters."""
    next_within: Seconds | None = None
    """The job promises its next event within so many seconds, at most 86,400. After that its worker may be dead."""
    data: Data | None = None
    """The author's own: a JSON object of at most 8 KiB and 16 levels, shown and never interpreted."""


class Result(CamelModel):
    """What a job made."""

    file: Annotated[str, AfterValidator(_clean_file)] | None = None
    """The name or URL of the file, at most 8,192 bytes in UTF-8."""
    duration: Duration | None = None
    """The duration of what was made, in seconds: 0 or more."""


class JobComplete(JobEvent):
    """A job ended well."""

    is_terminal: ClassVar[bool] = True

    type: Literal["job_complete"] = "job_complete"
    result: Result = Result()
    """What the job made; may be empty."""
    data: Data | None = None
    """The author's own: a JSON object of at most 8 KiB and 16 levels, shown and never interpreted."""


class JobFailed(JobEvent):
    """A job ended badly."""

    is_terminal: ClassVar[bool] = True

    type: Literal["job_failed"] = "job_failed"
    error: Text
    """Why it failed, for people: one line, cut to 2,000 characters."""
    reason: Reason | None = None
    """What kind of end it is: an error (also where this is absent), cancelled, timed out, or lost with its worker."""
    data: Data | None = None
    """The author's own: a JSON object of at most 8 KiB and 16 levels, shown and never interpreted."""


Event = Progress | JobComplete | JobFailed
Checked = TypeVar("Checked", bound=JobEvent | Result)
_event: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="type")])
# The methods behind TypeAdapter, without its per-call overhead: a gateway runs them for every event it receives.
_serialize_json = _event.serializer.to_json
_validate: Callable[[object], Event] = _event.validator.validate_python
_MODELS = (Progress, JobComplete, JobFailed)  # a tuple: each isinstance would build `A | B` anew

event_from_json: Callable[[bytes], Event] = _event.validator.validate_json
"""Read one event; raises pydantic's `ValidationError`, a `ValueError`, for anything else.

A gateway calls it for every event it receives, so the error is not put into words: `why_unreadable` does, if asked.
"""


def why_unreadable(error: ValueError) -> str:
    """Why `event_from_json` refused a payload, without any of its values."""
    if not isinstance(error, ValidationError):
        return str(error)
    kinds = {details["type"] for details in error.errors(include_url=False, include_input=False)}
    return "it is not JSON" if "json_invalid" in kinds else str(event_error(error, RULES))


def event_or_none(payload: bytes | None) -> Event | None:
    """Read what another program may have written: one event, or None for anything else."""
    try:
        return None if payload is None else event_from_json(payload)
    except ValueError:
        return None


def check_event(event: BaseModel | Mapping[str, Any]) -> Event:
    """Return `event`, a model or a mapping in camelCase or snake_case, as one of the three models.

    Raises `EventError`, a `ValueError` that names each field that does not fit.
    """
    if type(event) is not dict:
        if isinstance(event, _MODELS):
            return event
        if isinstance(event, BaseModel):
            event = event.model_dump(by_alias=True)
        elif isinstance(event, Mapping):
            event = dict(event)
    try:
        return _validate(event)
    except ValidationError as error:
        raise event_error(error, RULES) from None


def checked(model: type[Checked], **fields: Any) -> Checked:
    """An event or result made of `fields`; raises `EventError`, where calling the model raises pydantic's error."""
    try:
        return model(**fields)
    except ValidationError as error:
        raise event_error(error, RULES, within="result" if model is Result else "") from None


def event_to_json(event: Event) -> bytes:
    """One compact JSON object in camelCase, without fields that are None."""
    return _serialize_json(event, by_alias=True, exclude_none=True)
