"""The sentence that viewers read when a job failed: no traceback, no secrets."""

from pydantic import ValidationError

from publisher.field_errors import in_words
from publisher.redaction import redacted

_SPECIAL: tuple[tuple[type[BaseException], str], ...] = (
    (KeyboardInterrupt, "Interrupted"),
    (SystemExit, "Stopped: its worker ended"),
    (GeneratorExit, "Stopped before its end"),
)

MOST_READ = 8_000  # characters of a text that are used; far more than an event holds


def describe(error: BaseException | str) -> str:
    """An exception as one sentence (type and message), or a text in one line; secrets are redacted."""
    # TaskGroup raises a group even for one error; that error says more than the group.
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if isinstance(error, BaseException):
        if type(error).__name__ == "CancelledError":  # by name: the modules that define it may not be loaded
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
