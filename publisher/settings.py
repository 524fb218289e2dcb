"""The settings of a publisher. No other module of this package reads the environment."""

import os
import re
from pathlib import Path
from typing import NamedTuple

from publisher.names import PROJECT_ID_PATTERN, PROJECT_ID_RULE

DEFAULT_REDIS_URL = "redis://127.0.0.1:6379/0"
_OFF = {"0", "off", "false", "no"}
_ON = {"", "1", "on", "true", "yes"}


class PublisherSettings(NamedTuple):
    """Where to publish, and how."""

    redis_url: str = DEFAULT_REDIS_URL
    namespace: str = ""
    """Prefix of `project:<id>`, so that two environments can share one Redis."""
    replay: bool = True
    """False: events are sent by a plain PUBLISH. Redis remembers none of them, and they have no seq."""
    disabled: bool = False
    """True: nothing is sent, for tests of code that publishes."""

    @classmethod
    def from_environment(cls) -> "PublisherSettings":
        """Read `REDIS_URL`, `PROGRESS_NAMESPACE`, `PROGRESS_REPLAY` and `PROGRESS_DISABLED`.

        Raises `ValueError` for a bad value.

        Called for each event (it takes a microsecond), so a change of the environment counts at once.
        """
        return cls(
            os.environ.get("REDIS_URL") or DEFAULT_REDIS_URL,
            check_namespace(os.environ.get("PROGRESS_NAMESPACE", "")),
            read_replay(os.environ.get("PROGRESS_REPLAY", "")),
            _read_disabled(os.environ.get("PROGRESS_DISABLED", "")),
        )


def ends_at_sigterm() -> bool:
    """Whether SIGTERM ends tracked jobs: `PROGRESS_SIGTERM` is not off. Raises `ValueError` for a bad value."""
    is_on = _read_on_off("PROGRESS_SIGTERM", os.environ.get("PROGRESS_SIGTERM", ""))
    return is_on and not _read_disabled(os.environ.get("PROGRESS_DISABLED", ""))


def token_secret() -> str:
    """The secret that tokens are signed with: the first of `GATEWAY_JWT_SECRET`, or of `GATEWAY_JWT_SECRET_FILE`.

    The variables of a replica, so that both can share one secret. Raises `ValueError`; its words repeat no secret.
    """
    given, path = os.environ.get("GATEWAY_JWT_SECRET", ""), os.environ.get("GATEWAY_JWT_SECRET_FILE", "")
    if given and path:
        raise ValueError("GATEWAY_JWT_SECRET and GATEWAY_JWT_SECRET_FILE are both set; unset one")
    if not given and not path:
        raise ValueError("no secret: set GATEWAY_JWT_SECRET or GATEWAY_JWT_SECRET_FILE, or pass secret=")
    if path:
        try:
            given = Path(path).read_text(encoding="utf-8")
        except (OSError, ValueError):
            raise ValueError(
                "GATEWAY_JWT_SECRET_FILE must be the path of a readable file that holds the secret"
            ) from None
    return first_secret(given)


def first_secret(text: str) -> str:
    """The newest of several secrets, which stand first; '' if there is none."""
    return next((secret.strip() for secret in re.split(r"[,\n]", text) if secret.strip()), "")


def read_replay(text: str) -> bool:
    """The value of `PROGRESS_REPLAY`; empty is on. Raises `ValueError`."""
    return _read_on_off("PROGRESS_REPLAY", text)


def _read_on_off(name: str, text: str) -> bool:
    """The value of a variable; empty is on. Raises `ValueError`."""
    if text.lower() not in _OFF | _ON:
        raise ValueError(f"{name} is {text.lower()!r}; use on or off")
    return text.lower() not in _OFF


def _read_disabled(text: str) -> bool:
    """The value of `PROGRESS_DISABLED`; empty is off. Raises `ValueError`."""
    if text.lower() not in _OFF | _ON:
        raise ValueError(f"PROGRESS_DISABLED is {text.lower()!r}; use on or off")
    return bool(text) and text.lower() in _ON


def check_namespace(namespace: str) -> str:
    """Return `namespace`: empty, or of the form of a project id and without the part `project`. Raises `ValueError`."""
    if namespace and not re.fullmatch(PROJECT_ID_PATTERN, namespace):
        raise ValueError(f"PROGRESS_NAMESPACE is {namespace!r}; use {PROJECT_ID_RULE}")
    # `project:project:x` would be project `x` in namespace `project`, and project `project:x` without a namespace.
    if "project" in namespace.split(":"):
        raise ValueError(
            f"PROGRESS_NAMESPACE is {namespace!r}: its Redis channels could be those of another namespace; "
            "use one without the part 'project'"
        )
    return namespace
