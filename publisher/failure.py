"""The sentence that viewers read when a job failed: no traceback, no JSON, no secrets."""

import json
import re
from typing import Any

from pydantic import ValidationError

from publisher.events import Reason
from publisher.field_errors import in_words
from publisher.redaction import redacted

CANCELLED, TIMED_OUT, WORKER_ENDED = "Cancelled", "Timed out", "Stopped: its worker ended"

_SPECIAL: tuple[tuple[type[BaseException], str], ...] = (
    (KeyboardInterrupt, "Interrupted"),
    (SystemExit, WORKER_ENDED),
    (GeneratorExit, "Stopped before its end"),
)
_REASONS: tuple[tuple[type[BaseException], Reason], ...] = ((KeyboardInterrupt, "cancelled"), (SystemExit, "lost"))

# What task queues raise, by name: their modules may not be loaded.
_TIME_LIMITS = {
    "billiard.exceptions.SoftTimeLimitExceeded",  # Celery's
    "billiard.exceptions.TimeLimitExceeded",
    "rq.timeouts.JobTimeoutException",
    "dramatiq.middleware.time_limit.TimeLimitExceeded",
    "gevent.timeout.Timeout",  # by which Celery's gevent and eventlet pools keep their limits
    "eventlet.timeout.Timeout",
}
_LOST_WORKERS = {
    "billiard.exceptions.WorkerLostError",
    "rq.exceptions.AbandonedJobError",
    "dramatiq.middleware.shutdown.Shutdown",
}
_CANCELLATIONS = {"billiard.exceptions.Terminated", "rq.exceptions.StopRequested", "greenlet.GreenletExit"}
_RETRIES = {"celery.exceptions.Retry", "arq.worker.Retry", "dramatiq.errors.Retry"}  # they say when, and not why

MOST_READ = 8_000  # characters of a text that are used; far more than an event holds

# Where JSON may begin in a text. `[` alone also stands in ordinary sentences: "scenes [1, 2]".
_JSON = re.compile(r"\{|\[\s{0,9}\{")
_TELLING = ("message", "error", "detail", "msg", "description", "error_description", "reason", "title")
_MOST_LEVELS = 5


def describe(error: BaseException | str) -> str:
    """An exception as one sentence, or a text in one line; may be empty. JSON is put into words, secrets are redacted.

    The sentence is `ValueError: no voice`, without the type where the message repeats it. Time limits of task queues
    are "Timed out", and the retry that a library asks for is told by the exception that it was raised for.
    """
    if not isinstance(error, BaseException):
        return _in_one_line(_without_json(error[:MOST_READ]))
    error = _alone(error)
    if is_cancellation(error):
        return CANCELLED
    for kind, sentence in _SPECIAL:
        if isinstance(error, kind):
            return sentence
    names = _names(error)
    if names & _RETRIES:
        return _why(error)
    if names & _LOST_WORKERS:
        return WORKER_ENDED
    text = _in_one_line(_without_json(_message(error)))
    if _is_time_limit(error, names):
        return f"{TIMED_OUT}: {text}" if text else TIMED_OUT
    name = type(error).__name__
    if not text:
        return name
    return text if re.match(rf"{re.escape(name)}\b", text) else f"{name}: {text}"


def reason_for(error: object) -> Reason | None:
    """What kind of end an exception is, where that is sure: cancelled, timed out, or lost with its worker."""
    if not isinstance(error, BaseException):
        return None
    error = _alone(error)
    names = _names(error)
    if is_cancellation(error):
        return "cancelled"
    if names & _LOST_WORKERS:
        return "lost"
    if _is_time_limit(error, names):
        return "timed_out"
    return next((reason for kind, reason in _REASONS if isinstance(error, kind)), None)


def is_cancellation(error: BaseException) -> bool:
    # By name: the modules that define them may not be loaded.
    return type(error).__name__ == "CancelledError" or bool(_names(error) & _CANCELLATIONS)


def _names(error: BaseException) -> set[str]:
    return {f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__}


def _is_time_limit(error: BaseException, names: set[str]) -> bool:
    # One with an `errno` comes from the system: a connection timed out, which may not be why the job failed.
    return bool(names & _TIME_LIMITS) or (type(error) is TimeoutError and error.errno is None)


def _alone(error: BaseException) -> BaseException:
    """The error of a group of one: `TaskGroup` raises a group even for one error, which says more than the group."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _why(error: BaseException) -> str:
    """Why a retry was asked for; empty if nobody knows."""
    cause = getattr(error, "exc", None) or error.__cause__
    if isinstance(cause, BaseException) and not _names(cause) & _RETRIES:
        return describe(cause)
    message = getattr(error, "message", None)  # Celery's and Dramatiq's
    return _in_one_line(_without_json(message)) if isinstance(message, str) else ""


def _message(error: BaseException) -> str:
    """What an exception says, without its own `repr` around it."""
    try:
        text = in_words(error) if isinstance(error, ValidationError) else str(error)
    except Exception:  # a __str__ that raises
        return ""
    if re.fullmatch(rf"{re.escape(type(error).__name__)}\([^\n]*\)", text[:MOST_READ]):
        told = [argument for argument in error.args if isinstance(argument, str)]
        text = told[0] if told else ""
    return text[:MOST_READ]


def _in_one_line(text: str) -> str:
    return redacted(" ".join(text.split()))


def _without_json(text: str) -> str:
    """A text whose JSON, if it ends with some, is replaced by the sentence in it."""
    start = _JSON.search(text)
    if start is None:
        return text
    try:
        value, end = json.JSONDecoder().raw_decode(text, start.start())
    except (ValueError, RecursionError):
        return text
    if text[end:].strip():
        return text
    before, told = text[: start.start()].rstrip(" \t\n:-"), _sentence_in(value)
    return f"{before}: {told}" if before and told else before or told


def _sentence_in(value: Any, levels: int = _MOST_LEVELS) -> str:
    """The first text for people in decoded JSON; empty if there is none."""
    if isinstance(value, str):
        return value.strip()
    if levels == 0:
        return ""
    if isinstance(value, list):
        found = (_sentence_in(item, levels - 1) for item in value[:3])
    elif isinstance(value, dict):
        found = (_sentence_in(value[name], levels - 1) for name in _TELLING if name in value)
    else:
        return ""
    return next((sentence for sentence in found if sentence), "")
