"""Plain words for what pydantic refuses: the field, the rule, and the type of what was given, never its value."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic.alias_generators import to_camel

_NOT_A_MAPPING = "must be a JSON object (in Python, a mapping or a model)"
_NUMBER_KINDS = {"greater_than", "greater_than_equal", "less_than", "less_than_equal", "finite_number"}


class EventError(ValueError):
    """An event or project id that does not fit, for example `progress: must be a number from 0 to 100, got str`.

    `errors` has a sentence for each field, by its name in JSON; the key None stands for the event itself. `index` is
    the event's place in a list, from 0.
    """

    def __init__(self, errors: Mapping[str | None, str], index: int | None = None) -> None:
        super().__init__(errors, index)  # the arguments, so that pickle can make it anew: task queues do
        self.errors = errors
        self.index = index

    def __str__(self) -> str:
        event = "" if self.index is None else f"events[{self.index}]"
        names = {field: ".".join(part for part in (event, field) if part) or "event" for field in self.errors}
        return "; ".join(f"{names[field]}: {sentence}" for field, sentence in self.errors.items())


def event_error(error: ValidationError, rules: Mapping[str, str], within: str = "") -> EventError:
    """The same error in plain words.

    `rules` completes "must be ..." for each field, by its name in JSON (`result.file`). `within` is the field that
    holds the model, if the model is not an event.
    """
    found: dict[str | None, str] = {}
    has_tag = error.title.startswith("tagged-union[")  # then each location begins with the event's type
    for details in error.errors(include_url=False):
        if details["type"].startswith("union_tag"):
            field: str | None = "type"
        else:
            field = _field(details["loc"][has_tag:], rules, within)
        # For one field, pydantic may report two errors: why it is not an integer, then why it is not a number. The
        # last one counts.
        found[field] = _sentence(dict(details), rules.get(field or ""))
    return EventError(found)


def _field(location: Iterable[int | str], rules: Mapping[str, str], within: str) -> str | None:
    """`result.file`, of a location such as `("result", "file", "constrained-str")`."""
    field = within
    for part in location:
        name = f"{field}.{to_camel(str(part))}".lstrip(".")
        if name not in rules:
            break
        field = name
    return field or None


def _sentence(details: Mapping[str, Any], rule: str | None) -> str:
    must = _NOT_A_MAPPING if rule is None else f"must be {rule}"
    kind, value = details["type"], details["input"]
    if kind in {"missing", "union_tag_not_found"}:
        return f"is required and {must}"
    if kind == "union_tag_invalid":
        value = details["input"]["type"]
    name = "None" if value is None else type(value).__name__
    detail = _detail(details, value)
    return f"{must}, got {name} ({detail})" if detail else f"{must}, got {name}"


def _detail(details: Mapping[str, Any], value: Any) -> str:
    """What is wrong with a value of the right type, without the value; empty where the type says enough."""
    kind = details["type"]
    if kind in {"too_long", "too_deep", "not_json"}:
        return str(details["ctx"]["detail"])
    if kind in _NUMBER_KINDS or (type(value) is int and kind.startswith("float_")):  # the latter: too big for a float
        return "out of range"
    if kind == "int_from_float":
        return "not whole"
    if isinstance(value, str):
        if kind in {"string_too_long", "string_too_short"} or (kind == "string_pattern_mismatch" and not value):
            return f"{len(value)} characters" if value else "empty"
        if kind == "string_pattern_mismatch":
            return "of another form"
        if kind == "string_unicode":
            return "not valid Unicode"
        if kind in {"literal_error", "union_tag_invalid"}:
            return "none of these"
    return ""


def in_words(error: ValidationError) -> str:
    """One line for an error of any model, such as one of a job's own: `names.1: Input should be a valid string`."""
    found = {}
    for details in error.errors(include_url=False, include_input=False, include_context=False):
        path = [str(part) for part in details["loc"] if str(part).isdigit() or str(part).isidentifier()]
        found[".".join(path) or None] = details["msg"].removeprefix("Value error, ")
    return "; ".join(f"{field}: {message}" if field else message for field, message in found.items())
