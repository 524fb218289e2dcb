"""Reads flags and environment once, before a port is opened, and lists every problem in words."""

import os
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Literal, NamedTuple, get_args, get_origin

from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from gateway.http.hosts import is_loopback
from gateway.operations.systemd import is_a_service
from gateway.settings import PREFIX, SECRET, Settings, in_digits
from publisher.redaction import escaped, redacted_redis_url
from publisher.settings import DEFAULT_REDIS_URL

_KINDS = {int: "a whole number", float: "a number", bool: "on or off"}

# Kubernetes sets such variables in every pod, for each Service of the namespace (enableServiceLinks):
# GATEWAY_PORT=tcp://10.0.0.1:80 for a Service named `gateway`, GATEWAY_REDIS_SERVICE_HOST for `gateway-redis`.
_LINK = re.compile(r"(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$")
_LINK_URL = re.compile(r"(tcp|udp|sctp)://", re.IGNORECASE)
# Jobs that POST their events read these (docs/publishing.md); the same shell may run a gateway.
_OF_PUBLISHERS = {"GATEWAY_URL", "GATEWAY_KEY"}
_ONE_ADDRESS = (
    "GATEWAY_MAX_CONNECTIONS_PER_ADDRESS is set on a loopback address, where all clients of a proxy have one address. "
    "Set GATEWAY_TRUSTED_PROXIES=127.0.0.1,::1 if there is a proxy."
)
# Names for the same thing elsewhere, without underscores. Not REDIS_PORT: Kubernetes sets it for a Service `redis`.
_MEANT_AS_REDIS_URL = {
    f"{kind}{what}"
    for kind in ("REDIS", "VALKEY")
    for what in (
        "URL",
        "URI",
        "DSN",
        "HOST",
        "ADDR",
        "ADDRESS",
        "SERVER",
        "ENDPOINT",
        "CONNECTION",
        "TLSURL",
        "CLOUDURL",
    )
} | {"PROGRESSREDISURL", "REDISCONNECTIONSTRING"}
LINKS_HINT = "set enableServiceLinks: false in the pod's spec"


class WrongConfiguration(Exception):
    """`problems` has a sentence for each problem."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class Configuration(NamedTuple):
    """The settings of this process."""

    settings: Settings
    sources: Mapping[str, str]
    """Field to where its value comes from, such as `flag`."""
    remarks: list[str]
    """Warnings."""
    no_redis: str | None
    """Why `serve` must not begin without `REDIS_URL`, and what to set; None if it may."""

    def lines(self) -> Iterator[str]:
        """An environment file: each setting below a comment with its source. A masked secret, or one from a file, is a
        comment, so that reading the file back cannot set it."""
        for field in Settings.model_fields:
            value, source = escaped(shown(field, getattr(self.settings, field))), escaped(self.sources[field])
            is_comment = field in SECRET and ("***" in value or source.startswith("file "))
            yield f"# {source}"
            yield f"{'# ' if is_comment else ''}{variable_of(field)}={value}"


def variable_of(field: str) -> str:
    return str(Settings.model_fields[field].validation_alias)


def flag_of(field: str) -> str:
    return f"--{field.replace('_', '-')}"


def configure(flags: Mapping[str, Any]) -> Configuration:
    """Read flags (by field) and the environment; raises `WrongConfiguration`."""
    given = {field: value for field, value in flags.items() if value is not None}
    # A flag also beats the variable that names its file; a flag that names the file beats the variable of the value.
    for field, file in ((field, f"{field}_file") for field in SECRET):
        if field in given:
            given.setdefault(file, None)
        elif given.get(file):
            given[field] = None
    environment = dict(os.environ)
    problems, remarks = _misplaced(environment, given)
    try:
        settings = Settings(**given)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            if (problem := _problem(details, given)) is not None:
                problems.append(problem)
    if problems:
        raise WrongConfiguration(list(dict.fromkeys(problems)))
    if settings.max_connections_per_address and is_loopback(settings.host) and not settings.trusted_proxies:
        remarks.append(_ONE_ADDRESS)
    sources = {field: _source(field, given, environment) for field in Settings.model_fields}
    misspelt = _misspelt_redis_url(environment) if settings.redis_url is None else ""
    no_redis = _no_redis(settings)
    if misspelt and no_redis is None:
        remarks.append(f"REDIS_URL is not set. {misspelt}")
    return Configuration(settings, sources, remarks, no_redis and f"{no_redis} {misspelt}".rstrip())


def _source(field: str, given: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    if given.get(field) is not None:
        return "flag"
    if variable_of(field) in environment and field not in given:
        return "environment"
    if field in SECRET:
        file = f"{field}_file"
        path = given[file] if file in given else environment.get(variable_of(file))
        if path:
            return f"file {path}"
    return "default"


def shown(field: str, value: object) -> str:
    """A value as the environment has it; `***` for a secret."""
    if value is None:
        return ""
    if field == "redis_url":
        return redacted_redis_url(str(value))
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return in_digits(value)
    if isinstance(value, tuple):
        return ",".join("***" if isinstance(item, SecretStr) else str(item) for item in value)
    return str(value)


# Redis


def _no_redis(settings: Settings) -> str | None:
    """Without `REDIS_URL`, each replica of a fleet would serve a Redis of its own that no publisher knows."""
    if settings.redis_url is not None or settings.embedded_redis == "on":
        return None
    if not is_loopback(settings.host):
        why = f"GATEWAY_HOST is {settings.host}, where others reach it"
    elif is_a_service():
        why = "this is a service (NOTIFY_SOCKET is set)"
    else:
        return None
    return (
        f"REDIS_URL is not set, and {why}: set REDIS_URL (or REDIS_URL_FILE) to the Redis that the publishers use, "
        f"such as {DEFAULT_REDIS_URL}. GATEWAY_EMBEDDED_REDIS=on starts one here instead."
    )


def _misspelt_redis_url(environment: Mapping[str, str]) -> str:
    """A sentence on the variables that were probably meant as `REDIS_URL`; '' if there are none."""
    names = [name for name in sorted(environment) if environment[name] and _is_like_redis_url(name)]
    if not names:
        return ""
    return f"{escaped(', '.join(names))} {'is' if len(names) == 1 else 'are'} set; did you mean REDIS_URL?"


def _is_like_redis_url(name: str) -> bool:
    if name in ("REDIS_URL", "REDIS_URL_FILE"):
        return False
    upper = name.upper()
    # Cut-off: REDIS_USER is 0.84 like it.
    return upper.replace("_", "") in _MEANT_AS_REDIS_URL or bool(get_close_matches(upper, ["REDIS_URL"], 1, 0.85))


# Problems


def _misplaced(environment: Mapping[str, str], given: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Variables that begin with our prefix and are not settings, as problems and as remarks."""
    known = {variable_of(field): field for field in Settings.model_fields}
    by_name = {variable.removeprefix(PREFIX): variable for variable in known}
    problems, links = [], []
    for name in sorted(environment):
        if not name.upper().startswith(PREFIX) or name.upper() in _OF_PUBLISHERS:
            continue
        if name in known:
            if _is_link(name, environment[name]) and known[name] not in given:
                value = _quoted(environment[name])
                problems.append(f"{name} is {value}, which Kubernetes set for a Service of that name; {LINKS_HINT}")
        elif _is_link(name, environment[name]):
            links.append(name)
        else:
            # Without the prefix: with it, all of them are alike.
            near = get_close_matches(name.upper().removeprefix(PREFIX), by_name, 1)
            hint = f"; did you mean {by_name[near[0]]}?" if near else "; see progress-gateway serve --help"
            problems.append(f"{escaped(name)} is not a setting{hint}")
    if not links:
        return problems, []
    names = escaped(", ".join(links))
    return problems, [f"Ignored {names}: Kubernetes set these for a Service. To remove them, {LINKS_HINT}."]


def _is_link(name: str, value: str) -> bool:
    return bool(_LINK.search(name)) or (name.endswith("_PORT") and bool(_LINK_URL.match(value)))


def _problem(details: ErrorDetails, given: Mapping[str, Any]) -> str | None:
    """An error of pydantic's in our words; None if `_misplaced` reports it."""
    message = details["msg"].removeprefix("Value error, ")
    if not details["loc"]:
        return message
    place = str(details["loc"][0])
    field = next(field for field in Settings.model_fields if place in (field, variable_of(field)))
    is_flag = given.get(field) is not None
    name = f"{flag_of(field)} ({variable_of(field)})" if is_flag else f"{variable_of(field)} ({flag_of(field)})"
    if message.startswith(f"{variable_of(field)} "):  # the publisher's own errors name the variable
        return name + message.removeprefix(variable_of(field))
    if field in SECRET or details["type"] == "value_error":
        return f"{name}: {message}"
    if not is_flag and _is_link(variable_of(field), str(details["input"])):
        return None
    return f"{name} is {_quoted(details['input'])}; expected: {accepted(Settings.model_fields[field])}"


def _quoted(value: object) -> str:
    text = escaped(str(value))
    return f"'{text[:80]}{'...' if len(text) > 80 else ''}'"


def accepted(info: FieldInfo) -> str:
    """The values that a setting takes, in words."""
    if get_origin(info.annotation) is Literal:
        return ", ".join(map(str, get_args(info.annotation)))
    kinds = [kind for kind in (get_args(info.annotation) or (info.annotation,)) if kind in _KINDS]
    words = [_KINDS[kinds[0]] if kinds else "text"]
    for bound in info.metadata:
        for word, name in (("above", "gt"), ("from", "ge"), ("up to", "le")):
            if (value := getattr(bound, name, None)) is not None:
                words.append(f"{word} {value}")
    return " ".join(words)
