"""The names that publisher and gateway share: projects, Redis channels and keys."""

from typing import Annotated

from pydantic import StringConstraints, TypeAdapter, ValidationError

# Braces are not in it, so that an id can stand inside the `{...}` of a Redis Cluster hash tag.
PROJECT_ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_\-.:]{0,127}$"
PROJECT_ID_RULE = "use 1 to 128 of A-Z a-z 0-9 _ - . : and begin with a letter or digit"

ProjectId = Annotated[str, StringConstraints(pattern=PROJECT_ID_PATTERN)]
_validate_project_id = TypeAdapter(ProjectId).validator.validate_python  # without TypeAdapter's per-call overhead


def check_project_id(project_id: object) -> str:
    """Return `project_id` if it is one: 1 to 128 characters of `A-Z a-z 0-9 _ - . :`, a letter or digit first.

    Raises pydantic's `ValidationError`, which is a `ValueError`.
    """
    try:
        checked: str = _validate_project_id(project_id, strict=True)
    except ValidationError:  # it names the pattern, which says little
        wrong = ValueError(PROJECT_ID_RULE)
        raise ValidationError.from_exception_data(
            "project id", [{"type": "value_error", "input": project_id, "ctx": {"error": wrong}}]
        ) from None
    return checked


def channel_name(project_id: str, namespace: str = "") -> str:
    """The Redis channel of a project: `project:<id>`, or `<namespace>:project:<id>`."""
    return f"{namespace}:project:{project_id}" if namespace else f"project:{project_id}"


def jobs_key(channel: str) -> str:
    """The Redis key of what is remembered of a project; its hash tag keeps it in the channel's cluster slot."""
    return f"{{{channel}}}:jobs"


def job_field(job_id: str, sentence_id: str | None) -> str:
    """A job's field in the hash at `jobs_key`.

    The line feed, which no id may contain, keeps `("a", "b")` and `("ab", None)` apart, and keeps
    every job apart from the fields `seq` and `from` that stand beside them.
    """
    return f"{job_id}\n{sentence_id or ''}"
