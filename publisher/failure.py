"""What a person who waits for a job reads when it failed: a sentence, without traceback and secrets."""

import re

_SPECIAL: tuple[tuple[type[BaseException], str], ...] = (
    (KeyboardInterrupt, "Interrupted"),
    (SystemExit, "Stopped: its worker ended"),
    (GeneratorExit, "Stopped before its end"),
)

# Secrets, as they stand in the texts of exceptions: `//user:password@host`, `?token=...`, `password=...` of a
# database's connection string, `Bearer ...`. What is masked too much costs a reader little.
_SECRETS = (
    (re.compile(r"(?<=://)([^\s/?#@:]*):[^\s/?#@]*@"), r"\1:***@"),
    (
        re.compile(
            r"\b([\w-]*(?:token|secret|passw(?:or)?d|pwd|signature|credential|api-?_?key|access-?_?key|auth))"
            r"(\s*[=:]\s*)(?!\*)[^\s&;,'\"<>)\]}]+",
            re.IGNORECASE,
        ),
        r"\1\2***",
    ),
    (re.compile(r"([?&](?:sig|key|code)=)[^\s&'\"<>)]+", re.IGNORECASE), r"\1***"),
    (re.compile(r"\b(Bearer|Basic)\s+[\w.~+/=-]{6,}", re.IGNORECASE), r"\1 ***"),
)


def describe(error: BaseException | str) -> str:
    """An exception as one sentence, type and message; a text as it is. Secrets in it are masked."""
    if isinstance(error, BaseException):
        if type(error).__name__ == "CancelledError":  # of asyncio or concurrent.futures, which need not be loaded
            return "Cancelled"
        for kind, sentence in _SPECIAL:
            if isinstance(error, kind):
                return sentence
        try:
            text = str(error)
        except Exception:  # somebody's __str__
            text = ""
        name = type(error).__name__
        error = f"{name}: {text}" if text.strip() else name
    return mask_secrets(" ".join(error.split()))


def mask_secrets(text: str) -> str:
    """`text` with `***` for what looks like a password, a key or a token in it."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text
