"""The sentence that viewers read when a job failed: no traceback, no secrets."""

from pydantic import ValidationError

from publisher.events import Reason
from publisher.field_errors import in_words
from publisher.redaction import redacted

_SPECIAL: tuple[tuple[type[BaseException], str], ...] = (
    (KeyboardInterrupt, "Interrupted"),
    (SystemExit, "Stopped: its worker ended"),
    (GeneratorExit, "Stopped before its end"),
)

# The time limits of task queues, by name: their modules may not be loaded.
_TIME_LIMITS = {
    "billiard.exceptions.SoftTimeLimitExceeded",  # Celery's
    "rq.timeouts.JobTimeoutException",
    "dramatiq.middleware.time_limit.TimeLimitExceeded",
}

MOST_READ = 8_000  # characters of a text that are used; far more than an event holds


def describe(error: BaseException | str) -> str:
    """An exception as one sentence (type and message), or a text in one line; secrets are redacted."""
    if isinstance(error, BaseException):
        error = _alone(error)
        if _is_cancellation(error):
            return "Cancelled"
        for kind, sentence in _SPECIAL:
            if isinstance(error, kind):
                return sentence
        try:
            text = in_words(error) if isinstance(error, ValidationError) else str(error)
        except Exception:  # a __str__ that raises
            text = ""
        name = type(error).__name__
        error = f"{name}: {text}" if text.strip() else name
    return redacted(" ".join(error[:MOST_READ].split()))


def reason_for(error: object) -> Reason | None:
    """What kind of end an exception is, where that is sure: cancelled, or timed out."""
    if not isinstance(error, BaseException):
        return None
    error = _alone(error)
    if _is_cancellation(error):
        return "cancelled"
    # One with an `errno` comes from the system: a connection timed out, which may not be why the job failed.
    is_timeout = type(error) is TimeoutError and error.errno is None
    names = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__}
    return "timed_out" if is_timeout or names & _TIME_LIMITS else None


def _alone(error: BaseException) -> BaseException:
    """The error of a group of one: `TaskGroup` raises a group even for one error, which says more than the group."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _is_cancellation(error: BaseException) -> bool:
    return type(error).__name__ == "CancelledError"  # by name: the modules that define it may not be loaded
