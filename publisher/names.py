"""The names that publisher and gateway share: projects, Redis channels and keys."""

import re
from typing import Annotated, Any, TypeGuard

from pydantic import StringConstraints, TypeAdapter, ValidationError

from publisher.field_errors import event_error

# No braces, so that an id can stand inside the `{...}` of a Redis Cluster hash tag.
PROJECT_ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_\-.:]{0,127}$"
PROJECT_ID_RULE = "1 to 128 characters of A-Z a-z 0-9 _ - . : that begin with a letter or digit"

# Which projects a token is for: an id, the beginning of ids, or all.
MAX_PATTERNS = 100
PATTERN_RULE = "a project id, or the beginning of ids followed by *, or * for all"
_PATTERN = re.compile(rf"\*|{PROJECT_ID_PATTERN.strip('^$')}\*?")

MAX_SUB = 256  # characters of the user that a token names

ProjectId = Annotated[str, StringConstraints(pattern=PROJECT_ID_PATTERN)]
_validate_project_id = TypeAdapter(ProjectId).validator.validate_python  # without TypeAdapter's per-call overhead


def check_project_id(project_id: object) -> str:
    """Return `project_id` if it fits `PROJECT_ID_RULE`; raises `EventError`, a `ValueError`, for anything else."""
    try:
        checked: str = _validate_project_id(project_id, strict=True)
    except ValidationError as error:
        raise event_error(error, {"projectId": PROJECT_ID_RULE}, within="projectId") from None
    return checked


def is_project_pattern(value: object) -> TypeGuard[str]:
    """Whether this names projects by `PATTERN_RULE`."""
    return isinstance(value, str) and _PATTERN.fullmatch(value) is not None


def are_project_patterns(value: Any) -> TypeGuard[list[str]]:
    """Whether this is a list of 1 to 100 patterns, as the claims `projects` and `publish` are."""
    return isinstance(value, list) and 1 <= len(value) <= MAX_PATTERNS and all(map(is_project_pattern, value))


def is_sub(value: object) -> TypeGuard[str]:
    """Whether this may be the user that a token names: 1 to 256 printable characters."""
    return isinstance(value, str) and 1 <= len(value) <= MAX_SUB and value.isprintable()


def redis_channel_of(project_id: str, namespace: str = "") -> str:
    """The Redis channel of a project: `project:<id>`, or `<namespace>:project:<id>`."""
    return f"{namespace}:project:{project_id}" if namespace else f"project:{project_id}"


def own_channel(name: str, namespace: str = "") -> str:
    """A Redis channel of the gateway's own. `~` begins no project id, and rights to `project:*` cover it."""
    return redis_channel_of(f"~{name}", namespace)


def jobs_key(redis_channel: str) -> str:
    """The Redis key of what is remembered of a project; its hash tag keeps it in the Redis channel's Cluster slot."""
    return f"{{{redis_channel}}}:jobs"


def job_field(job_id: str, sentence_id: str | None) -> str:
    """The field of a job, or of a sentence of it, in the hash at `jobs_key`.

    No id contains a line feed. So the one here keeps `("a", "b")` and `("ab", None)` apart, and every job apart from
    the hash's own fields `seq` and `from`.
    """
    return f"{job_id}\n{sentence_id or ''}"
