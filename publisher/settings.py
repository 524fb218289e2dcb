"""What a publisher reads from the environment; nothing else in this package does."""

import os
import re
from typing import NamedTuple

from publisher.names import PROJECT_ID_PATTERN, PROJECT_ID_RULE

DEFAULT_REDIS_URL = "redis://127.0.0.1:6379/0"
_OFF = {"0", "off", "false", "no"}
_ON = {"", "1", "on", "true", "yes"}


class PublisherSettings(NamedTuple):
    """Where to publish, and how."""

    redis_url: str = DEFAULT_REDIS_URL
    namespace: str = ""
    """Set before `project:<id>`, so that two environments on one Redis do not hear each other."""
    replay: bool = True
    """False: a plain PUBLISH. Nothing is remembered, and no event has a seq."""

    @classmethod
    def from_environment(cls) -> "PublisherSettings":
        """Read `REDIS_URL`, `PROGRESS_NAMESPACE` and `PROGRESS_REPLAY`; raises `ValueError` for a wrong one.

        Read anew at each publish (a microsecond), so that a change, in a test for example, needs no reset.
        """
        return cls(
            os.environ.get("REDIS_URL") or DEFAULT_REDIS_URL,
            check_namespace(os.environ.get("PROGRESS_NAMESPACE", "")),
            read_replay(os.environ.get("PROGRESS_REPLAY", "")),
        )


def read_replay(text: str) -> bool:
    """What `PROGRESS_REPLAY` says; empty is on. Raises `ValueError`."""
    if text.lower() not in _OFF | _ON:
        raise ValueError(f"PROGRESS_REPLAY is {text.lower()!r}; use on or off")
    return text.lower() not in _OFF


def check_namespace(namespace: str) -> str:
    """Return `namespace`: empty, or of the form of a project id, and no channel of another. Raises `ValueError`."""
    if namespace and not re.fullmatch(PROJECT_ID_PATTERN, namespace):
        raise ValueError(f"PROGRESS_NAMESPACE is {namespace!r}; use {PROJECT_ID_RULE}")
    # `project:project:x` is project `x` of the namespace `project`, and project `project:x` of none.
    if "project" in namespace.split(":"):
        raise ValueError(
            f"PROGRESS_NAMESPACE is {namespace!r}, which separates nothing: its channels may be those of others; "
            "use one without the part 'project'"
        )
    return namespace
