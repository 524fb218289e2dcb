"""The events of a job, as they are published, remembered and sent to browsers.

Unknown fields are dropped. Text that people read (`message`, `error`) is cleaned instead of refused, because it often
comes from somebody else's exception; everything else that does not fit is an error that names the field.
"""

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter
from pydantic.alias_generators import to_camel

MAX_TEXT = 2_000  # characters of `message` and `error`; longer text is cut
MAX_FILE = 8_192  # characters of `result.file`: signed URLs are long, and a cut one would be useless
MAX_SEQ = 2**53 - 1  # the largest integer that every JSON reader keeps exact

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# Letters, marks, numbers, punctuation, symbols and spaces of any script; no controls and no line separators.
_PRINTABLE = r"^[^\p{C}\p{Zl}\p{Zp}]+$"


def _clean(text: str) -> str:
    """Take control characters out and cut to `MAX_TEXT`; the check by `isprintable` keeps the usual case cheap."""
    if len(text) <= MAX_TEXT and text.isprintable():
        return text
    # A lone surrogate (a file name that is no UTF-8, say) has no place in JSON; it becomes a question mark.
    return _CONTROL.sub("", text)[:MAX_TEXT].encode(errors="replace").decode()


JobType = Literal["script", "audio", "image", "video", "export"]
Id = Annotated[str, StringConstraints(pattern=_PRINTABLE, min_length=1, max_length=128)]
Text = Annotated[str, AfterValidator(_clean)]
# The bounds stand inside of the unions: around one, pydantic would check them by a Python call for each event.
Percent = Annotated[int, Field(ge=0, le=100)] | Annotated[float, Field(ge=0, le=100)]
Seconds = Annotated[int, Field(gt=0, le=86_400)] | Annotated[float, Field(gt=0, le=86_400)]
Duration = Annotated[int, Field(ge=0, le=MAX_SEQ)] | Annotated[float, Field(ge=0, le=MAX_SEQ)]
Attempt = Annotated[int, Field(ge=0, le=MAX_SEQ)]
Seq = Annotated[int, Field(ge=1, le=MAX_SEQ)]


class _Model(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,  # job authors may write job_id=...; on the wire it is jobId
        validate_by_alias=True,
        serialize_by_alias=True,
        extra="ignore",
        frozen=True,
        allow_inf_nan=False,
    )


class JobEvent(_Model):
    """What all events of a job say. A job is `(job_id, sentence_id)`."""

    type: Literal["progress", "job_complete", "job_failed"]
    seq: Seq | None = None
    """The event's place in its project, given by the publish script: a clock in microseconds."""
    job_id: Id
    job_type: JobType
    sentence_id: Id | None = None
    attempt: Attempt | None = None
    """Which try this is, from 0. Where two events of a job carry it, late ones are refused (see publish.lua)."""


class Progress(JobEvent):
    """A job goes on."""

    type: Literal["progress"] = "progress"
    progress: Percent
    message: Text | None = None
    next_within: Seconds | None = None
    """Seconds within which the job promises its next event, so that a silent job can be told from a slow one."""


class Result(_Model):
    """What a job made: a file's name or URL, and its duration in seconds."""

    file: Annotated[str, StringConstraints(max_length=MAX_FILE)] | None = None
    duration: Duration | None = None


class JobComplete(JobEvent):
    """A job ended well."""

    type: Literal["job_complete"] = "job_complete"
    result: Result = Result()


class JobFailed(JobEvent):
    """A job ended badly; `error` is a sentence for the person who waits."""

    type: Literal["job_failed"] = "job_failed"
    error: Text


Event = Progress | JobComplete | JobFailed
_event: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="type")])
# The methods behind TypeAdapter, without its per-call overhead: a gateway runs them for every event it receives.
_serialize_json = _event.serializer.to_json
_validate: Callable[[object], Event] = _event.validator.validate_python
_MODELS = (Progress, JobComplete, JobFailed)  # a tuple: `A | B` would be made anew by each isinstance

event_from_json: Callable[[bytes], Event] = _event.validator.validate_json
"""Read one event; raises `ValueError` for anything that is none."""


def event_or_none(payload: bytes | None) -> Event | None:
    """Read one event that somebody else may have written; None for anything that is none."""
    try:
        return None if payload is None else event_from_json(payload)
    except ValueError:
        return None


def check_event(event: BaseModel | Mapping[str, Any]) -> Event:
    """Return `event`, a model or a mapping in camelCase or snake_case, as one of the three models.

    Raises pydantic's `ValidationError`, a `ValueError` that names each field that does not fit.
    """
    if type(event) is not dict:
        if isinstance(event, _MODELS):
            return event
        if isinstance(event, BaseModel):
            event = event.model_dump(by_alias=True)
        elif isinstance(event, Mapping):
            event = dict(event)
    return _validate(event)


def event_to_json(event: Event) -> bytes:
    """One compact JSON object in camelCase, without fields that are None."""
    return _serialize_json(event, by_alias=True, exclude_none=True)
