"""The log: text for people at a terminal, one JSON object a line for programs; in both a record is one that nobody
can forge, and no secret is in it."""

import json
import logging
import os
import re
import sys
import threading
from bisect import bisect_right
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, TextIO
from urllib.parse import unquote, unquote_plus

logger = logging.getLogger("gateway")

LogFormat = Literal["text", "json"]

LONGEST_LINE = 16_000  # bytes: container runtimes cut lines at 16 KB, and half an object is no JSON
LONGEST = 8_000  # bytes of a message, and of a traceback, as they are written
LEAST_ROOM = 20  # bytes: of a number, or of some letters; an extra that has no more is left out
EXTRAS_ROOM = 1_000  # bytes that a long traceback leaves to what follows it
LEAST_SECRET = 12  # characters; a short password is a word, and hiding words would tell it to who knows the others

_STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName", "color_message"}  # the last: uvicorn's
_OURS = ("ts", "level", "logger", "message", "exception")
# What looks like a secret, whoever logs it. All is bounded: a search is not to take quadratic time.
_PATTERNS = (
    (re.compile(r"([A-Za-z][A-Za-z0-9+.\-]{0,20}://[^\s:/@]{0,128}:)\S{0,256}@"), r"\1***@"),
    (re.compile(r"(password=)[^&\s]*", re.IGNORECASE), r"\1***"),
    (re.compile(r"(bearer\s+)\S+", re.IGNORECASE), r"\1***"),
)


class Mask:
    """Hides known secrets, and what looks like one."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = {secret for secret in secrets if len(secret) >= LEAST_SECRET}
        # The longest first: one secret may be a part of another.
        self._known: Final = sorted(known, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        text = text[: 2 * LONGEST]
        for secret in self._known:
            text = text.replace(secret, "***")
        for pattern, masked in _PATTERNS:
            text = pattern.sub(masked, text)
        return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."


def secrets_of(redis_url: str | None, keys: Iterable[str]) -> list[str]:
    """What must not be in the log: the keys, and the URL's passwords, as they are written and as they are meant.

    By a plain search, since a URL that cannot be taken apart has a password, too.
    """
    rest = (redis_url or "").split("://", 1)[-1]
    # The @ before the path ends it, or where none is there, the last: a password may have a / in it.
    user = rest.partition("/")[0].rpartition("@")[0] or rest.rpartition("@")[0]
    options = (option.partition("=") for option in rest.partition("?")[2].split("&"))
    passwords = [user.partition(":")[2] or user]  # a name alone may be a token
    passwords += [value for name, _, value in options if "password" in name.lower()]
    return [*keys, *(form for password in passwords for form in (password, unquote(password), unquote_plus(password)))]


def escaped(text: str) -> str:
    """The text in one line, without characters that move a cursor, end a line or turn the direction of writing."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shown_url(url: str) -> str:
    """A URL that was given as an argument, as it is told: escaped, without user and query, which may be secrets."""
    scheme, separator, rest = url.partition("://") if "://" in url else ("", "", url)
    place, mark, query = rest.partition("?")
    if "@" in query or "#" in place:  # nobody knows where a user, or the query, begins
        return escaped(f"{scheme}{separator}***")
    _, at, place = place.rpartition("@")
    return escaped(f"{scheme}{separator}{'***@' if at else ''}{place}{'?***' if mark else ''}")


def fitting(text: str, most_bytes: int) -> str:
    """As much of the text as takes so many bytes in JSON, where one character may take twelve."""
    if len(json.dumps(text)) <= most_bytes:
        return text
    cut = " ..."
    end = bisect_right(range(len(text)), most_bytes - len(cut), key=lambda length: len(json.dumps(text[:length])))
    return text[: max(end - 1, 0)] + cut


class _Formatter(logging.Formatter):
    def __init__(self, mask: Mask) -> None:
        super().__init__()
        self._mask = mask

    def _message(self, record: logging.LogRecord) -> str:
        try:
            return self._mask(record.getMessage())
        except Exception:  # arguments that do not fit: the record is worth more than the reason
            return self._mask(f"{record.msg!r} {record.args!r}")

    def _exception(self, record: logging.LogRecord) -> str:
        parts = [self.formatException(record.exc_info)] if record.exc_info and record.exc_info[0] else []
        parts += [self.formatStack(record.stack_info)] if record.stack_info else []
        return self._mask("\n".join(parts))

    def _extras(self, record: logging.LogRecord) -> dict[str, Any]:
        extras = {}
        for name, value in vars(record).items():
            if name not in _STANDARD and name not in _OURS:
                is_plain = isinstance(value, bool | int) or value is None
                extras[name] = value if is_plain else self._mask(value if isinstance(value, str) else repr(value))
        return extras


class TextFormatter(_Formatter):
    """`12:00:01 INFO message name=value`; a traceback follows, indented."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        words = [time, record.levelname, escaped(self._message(record))]
        words += [f"{escaped(name)}={escaped(str(value))}" for name, value in self._extras(record).items()]
        lines = [" ".join(words)]
        lines += [f"    {escaped(line)}" for line in self._exception(record).split("\n") if line]
        return "\n".join(line.encode()[:LONGEST_LINE].decode(errors="ignore") for line in lines)


class JsonFormatter(_Formatter):
    """One object a line, in ASCII."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields: dict[str, Any] = {
            "ts": time.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": fitting(self._message(record), LONGEST),
        }
        if exception := self._exception(record):
            room = LONGEST_LINE - len(json.dumps(fields)) - EXTRAS_ROOM
            fields["exception"] = fitting(exception, min(LONGEST, room))
        for name, value in self._extras(record).items():
            room = LONGEST_LINE - len(json.dumps(fields)) - len(json.dumps(name)) - len(", : ")
            if room >= LEAST_ROOM:
                fields[name] = fitting(value, room) if isinstance(value, str) else value
        return json.dumps(fields)


def start_logging(
    level: str, log_format: Literal["auto", "text", "json"], secrets: Iterable[str] = (), stream: TextIO | None = None
) -> LogFormat:
    """Send every record of this process, libraries' and warnings too, to standard error; returns the form chosen."""
    if sys.stderr is None:  # it was closed; the next file to be opened would be taken for it
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 for as long as the process lives
    stream = stream or sys.stderr
    chosen: LogFormat = log_format if log_format != "auto" else "text" if stream.isatty() else "json"
    handler = logging.StreamHandler(stream)
    handler.setFormatter((TextFormatter if chosen == "text" else JsonFormatter)(Mask(secrets)))
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    logging.captureWarnings(True)
    sys.excepthook = _log_end
    threading.excepthook = _log_thread_end
    sys.unraisablehook = _log_ignored
    return chosen


def _log_end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A crash is a record, too. The process ends with 1 after it."""
    logger.critical("Ended by an error: %s", kind.__name__, exc_info=(kind, error, trace))


def _log_thread_end(end: threading.ExceptHookArgs) -> None:
    error = end.exc_value or end.exc_type()
    logger.error("A thread ended by an error: %s", end.exc_type.__name__, exc_info=error)


def _log_ignored(end: "sys.UnraisableHookArgs") -> None:
    """Of a finalizer, say, whose errors nobody can catch."""
    where = getattr(end.object, "__qualname__", type(end.object).__name__)
    error = end.exc_value or end.exc_type()
    logger.error("An error that nobody could catch, in %s: %s", where, end.exc_type.__name__, exc_info=error)
