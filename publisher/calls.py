"""How the call of a task is given its project, job id and job type, whatever the library."""

import inspect
import logging
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from publisher.beside import Ids
from publisher.client import check_settings
from publisher.failure import describe
from publisher.job_state import JobState
from publisher.settings import PublisherSettings

logger = logging.getLogger("publisher")


class Call(NamedTuple):
    """One call of a task, as a library queued it."""

    name: str
    """The task's name, as the library has it."""
    id: str
    """The library's id of this call; the same in each retry."""
    arguments: Mapping[str, Any]
    """What the function is called with, by the names of its parameters, defaults included."""
    task: Any
    """The library's own object: Celery's task, RQ's job, Dramatiq's message."""


Choice = str | Callable[[Call], Any] | None


def arguments_of(function: Callable[..., Any], args: Any, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    """The arguments of a call by name; only those given by name where the function does not take the others."""
    try:
        bound = inspect.signature(function).bind(*args, **kwargs)
        bound.apply_defaults()
    except (TypeError, ValueError):  # it will fail by itself
        return dict(kwargs)
    return bound.arguments


class Naming(NamedTuple):
    """Which project, job and type a call has. A string is the value for all; a function takes the `Call`."""

    project_id: Choice = None
    """Without one: the argument `project_id`. None, or no such argument: the call is not tracked."""
    job_id: Choice = None
    """Without one: the library's id."""
    job_type: Choice = None
    """Without one: the name of the function."""

    def ids(self, call: Call) -> Ids | None:
        """The job of a call; None if it is not tracked. Never raises: a task must not fail for its viewers' sake."""
        try:
            project_id = _chosen(self.project_id, call, call.arguments.get("project_id"))
            if project_id is None:
                return None
            job_type = _chosen(self.job_type, call, _type_of(call.name))
            ids = Ids(str(project_id), str(_chosen(self.job_id, call, call.id)), job_type)
            settings = PublisherSettings.from_environment()
            check_settings(settings)
            JobState(settings, ids.project_id, job_id=ids.job_id, job_type=ids.job_type)  # raises ValueError
        except Exception as error:
            logger.warning("Task %s[%s] is not tracked: %s", call.name, call.id, describe(error))
            return None
        return ids


def _chosen(choice: Choice, call: Call, default: Any) -> Any:
    if choice is None:
        return default
    return choice(call) if callable(choice) else choice


def _type_of(name: str) -> str:
    """A job type made of the last part of a dotted name."""
    kind = re.sub(r"[^A-Za-z0-9_\-.:]", "_", name.rpartition(".")[2]).lstrip("0123456789_-.:")
    return kind[:64] or "task"
