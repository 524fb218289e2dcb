"""What is wrong with an event, in words: pydantic's errors without its inner names, and without what was given."""

from collections.abc import Iterable, Iterator

from pydantic import ValidationError
from pydantic.alias_generators import to_camel

from publisher.events import JobComplete, JobFailed, Progress, Result

_MODELS = (Progress, JobComplete, JobFailed, Result)
_FIELDS = {str(field.alias) for model in _MODELS for field in model.model_fields.values()}
# Where pydantic's sentence would be the pattern, or would repeat what came.
_SENTENCES = {
    "string_pattern_mismatch": "Input should be 1 to 128 printable characters",
    "string_too_short": "Input should be 1 to 128 printable characters",
    "union_tag_not_found": "Field required",
    "model_attributes_type": "Input should be a JSON object",
    "model_type": "Input should be a JSON object",
    "union_tag_invalid": "Input should be 'progress', 'job_complete' or 'job_failed'",
}


def of_event(error: ValidationError) -> dict[str | None, str]:
    """A sentence for each field of an event that does not fit; None is the event itself."""
    found = {}
    has_tag = error.title.startswith("tagged-union[")  # a location begins with the event's type
    for details in error.errors(include_url=False, include_input=False, include_context=False):
        location, kind = details["loc"], details["type"]
        # A number may be whole or not, and pydantic says what is wrong with either; the last says it more generally.
        field = "type" if kind.startswith("union_tag") else ".".join(_names(location[has_tag:])) or None
        found[field] = _SENTENCES.get(kind, details["msg"])
    return found


def _names(location: Iterable[int | str]) -> Iterator[str]:
    """`result`, `file`, of a location such as `("result", "file", "constrained-str")`."""
    for part in location:
        if (name := to_camel(str(part))) not in _FIELDS:
            return
        yield name


def in_words(error: ValidationError) -> str:
    """All of it in one line: of an event, or of a model of somebody else's."""
    if error.title.startswith("tagged-union[Progress,") or error.title in {model.__name__ for model in _MODELS}:
        found = of_event(error)
    else:
        found = {}
        for details in error.errors(include_url=False, include_input=False, include_context=False):
            path = [str(part) for part in details["loc"] if str(part).isdigit() or str(part).isidentifier()]
            found[".".join(path) or None] = details["msg"].removeprefix("Value error, ")
    return "; ".join(f"{field}: {message}" if field else message for field, message in found.items())
