"""What a person who waits for a job reads when it failed: a sentence, without traceback and secrets."""

from pydantic import ValidationError

from publisher.field_errors import in_words
from publisher.redaction import redacted

_SPECIAL: tuple[tuple[type[BaseException], str], ...] = (
    (KeyboardInterrupt, "Interrupted"),
    (SystemExit, "Stopped: its worker ended"),
    (GeneratorExit, "Stopped before its end"),
)

MOST_READ = 8_000  # characters of a text that are looked at; far more than an event holds


def describe(error: BaseException | str) -> str:
    """An exception as one sentence, type and message; a text as it is. Secrets in it are masked."""
    # A group with one error in it, such as a TaskGroup raises, says less than that error.
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if isinstance(error, BaseException):
        if type(error).__name__ == "CancelledError":  # of asyncio or concurrent.futures, which need not be loaded
            return "Cancelled"
        for kind, sentence in _SPECIAL:
            if isinstance(error, kind):
                return sentence
        try:
            text = in_words(error) if isinstance(error, ValidationError) else str(error)
        except Exception:  # somebody's __str__
            text = ""
        name = type(error).__name__
        error = f"{name}: {text}" if text.strip() else name
    return redacted(" ".join(error[:MOST_READ].split()))
