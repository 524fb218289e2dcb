"""What a publisher reads from the environment; nothing else in this package does."""

import os
import re
from typing import NamedTuple

from publisher.names import PROJECT_ID_PATTERN, PROJECT_ID_RULE

DEFAULT_REDIS_URL = "redis://127.0.0.1:6379/0"
_OFF = {"0", "off", "false", "no"}
_ON = {"", "1", "on", "true", "yes"}
# What `mask_url` shows: hosts with ports, [addresses], databases, and options of these forms.
_HOSTS = re.compile(r"(\[[^\]]*\]|:\d{1,5}(?=,|$))|:.*", re.DOTALL)
_DATABASE = re.compile(r"(/\d*)?")
_SERVICE = re.compile(r"/[^/#]*(/\d*)?")
_PATHS = {"unix": re.compile(r".*"), "redis+sentinel": _SERVICE, "rediss+sentinel": _SERVICE}
_HARMLESS = re.compile(
    r"(db|protocol|max_connections|health_check_interval|timeout|socket_\w+|retry_\w+)=([\d.]{0,9}|true|false|yes|no)"
    r"|((sentinel_)?username|client_name|ssl_(?!password)\w+)=[^@]*",
    re.IGNORECASE,
)


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
        raise ValueError(f"PROGRESS_NAMESPACE is {namespace!r}; {PROJECT_ID_RULE}")
    # `project:project:x` is project `x` of the namespace `project`, and project `project:x` of none.
    if "project" in namespace.split(":"):
        raise ValueError(
            f"PROGRESS_NAMESPACE is {namespace!r}, which separates nothing: its channels may be those of others; "
            "use one without the part 'project'"
        )
    return namespace


def mask_url(url: str) -> str:
    """`url` without its secrets, for a log line; also one that is mistyped, of which more is hidden than need be.

    A name that stands alone before the `@` may be a token, and what stands in a port's or a database's place may be a
    password whose `@host` was forgotten.
    """
    scheme, separator, rest = url.partition("://") if "://" in url else ("", "", url)
    place, mark, query = rest.partition("?")
    user, at, host = place.rpartition("@")
    if "@" in query and not at:  # a user with a ? in it, perhaps
        return f"{scheme}{separator}***"
    name, _, password = user.partition(":")
    user = f"{name}:***" if password else "***" if at else ""
    end = min((index for index in (host.find("/"), host.find("#")) if index >= 0), default=len(host))
    shown, path = _HOSTS.sub(lambda match: match[1] or ":***", host[:end]), host[end:]
    if shown.endswith(":***"):  # nobody knows where it ends
        return f"{scheme}{separator}{user}{at}{shown}"
    if not _PATHS.get(scheme, _DATABASE).fullmatch(path):
        path = "/***"
    return f"{scheme}{separator}{user}{at}{shown}{path}{mark}{'&'.join(map(_mask_option, query.split('&')))}"


def _mask_option(option: str) -> str:
    if _HARMLESS.fullmatch(option):
        return option
    name, equals, value = option.partition("=")
    is_name = name.isidentifier() and equals and "@" not in value
    return f"{name}=***" if is_name else "***" if option else ""
