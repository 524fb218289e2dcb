"""What a person who waits for a job reads when it failed: a sentence, without traceback and secrets."""

import re

from pydantic import ValidationError

from publisher.field_errors import in_words

_SPECIAL: tuple[tuple[type[BaseException], str], ...] = (
    (KeyboardInterrupt, "Interrupted"),
    (SystemExit, "Stopped: its worker ended"),
    (GeneratorExit, "Stopped before its end"),
)

MOST_READ = 8_000  # characters of a text that are looked at; far more than an event holds

# Secrets, as they stand in the texts of exceptions: `//user:password@host`, `//token@host`, `?token=...`, the
# `password=...` of a database's connection string, `"apiKey": "..."`, `Bearer ...`. What is masked too much costs a
# reader little. A name begins where no letter stands before it, and is read once from there: a long text without an end
# to its words (a base64 one, say) would else be read from each of its letters.
_SECRETS = (
    (re.compile(r"(?<=://)([^\s/?#@:]{0,256}):[^\s/?#]{0,1024}@"), r"\1:***@"),
    (re.compile(r"(?<=://)[^\s/?#@:]{1,1024}@"), r"***@"),  # a token as the user
    (
        re.compile(
            r"(?<![\w-])([\w-]*?(?:token|secret|passw(?:or)?d|pwd|signature|credential|api-?_?key|access-?_?key|auth)"
            r"[\"']?\s{0,4}[=:]\s{0,4}[\"']?)(?!\*)[^\s&;,'\"<>)\]}]+",
            re.IGNORECASE,
        ),
        r"\1***",
    ),
    (re.compile(r"([?&](?:sig|key|code)=)[^\s&'\"<>)]+", re.IGNORECASE), r"\1***"),
    (re.compile(r"\b(Bearer|Basic)\s+[\w.~+/=-]{6,}", re.IGNORECASE), r"\1 ***"),
)


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
    return mask_secrets(" ".join(error[:MOST_READ].split()))


def mask_secrets(text: str) -> str:
    """`text` with `***` for what looks like a password, a key or a token in it."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text
