"""The log: text for a terminal, or one JSON object per line for programs.

No logged text can forge a record in either form, and no record contains a secret.
"""

import json
import logging
import os
import sys
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TextIO

from publisher.redaction import escaped, redacted

logger = logging.getLogger("gateway")

LogFormat = Literal["text", "json"]

LONGEST_LINE = 16_000  # bytes; container runtimes cut lines at 16 KB, and a cut object is not JSON
LONGEST = 8_000  # bytes of a message or traceback, as written
LEAST_ROOM = 20  # bytes for the value of an extra; with less room the extra is left out
EXTRAS_ROOM = 1_000  # bytes that a long traceback leaves for the extras after it

LOG_PAUSE_SECONDS = 60.0  # between two lines of the same kind
MOST_KINDS = 32  # that one `Occasional` tells apart at a time

_STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName", "color_message"}  # the last: uvicorn's
_OURS = ("ts", "level", "logger", "message", "exception")


def fitting(text: str, most_bytes: int) -> str:
    """The longest part of `text` whose JSON has at most `most_bytes` bytes; one character may take twelve."""
    if len(json.dumps(text)) <= most_bytes:
        return text
    cut = " ..."
    end = bisect_right(range(len(text)), most_bytes - len(cut), key=lambda length: len(json.dumps(text[:length])))
    return text[: max(end - 1, 0)] + cut


class _Formatter(logging.Formatter):
    def __init__(self, secrets: Sequence[str] = ()) -> None:
        super().__init__()
        self.secrets = list(secrets)
        """What no record may contain, the longest first."""

    def _redacted(self, text: str) -> str:
        text = redacted(text[: 2 * LONGEST], self.secrets)
        return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."

    def _message(self, record: logging.LogRecord) -> str:
        try:
            return self._redacted(record.getMessage())
        except Exception:  # arguments that do not match the format: log both instead
            return self._redacted(f"{record.msg!r} {record.args!r}")

    def _exception(self, record: logging.LogRecord) -> str:
        parts = [self.formatException(record.exc_info)] if record.exc_info and record.exc_info[0] else []
        parts += [self.formatStack(record.stack_info)] if record.stack_info else []
        return self._redacted("\n".join(parts))

    def _extras(self, record: logging.LogRecord) -> dict[str, Any]:
        extras = {}
        for name, value in vars(record).items():
            if name not in _STANDARD and name not in _OURS:
                is_plain = isinstance(value, bool | int) or value is None
                extras[name] = value if is_plain else self._redacted(value if isinstance(value, str) else repr(value))
        return extras


class TextFormatter(_Formatter):
    """`12:00:01 INFO message name=value`, and an indented traceback below."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        words = [time, record.levelname, escaped(self._message(record))]
        words += [f"{escaped(name)}={escaped(str(value))}" for name, value in self._extras(record).items()]
        lines = [" ".join(words)]
        lines += [f"    {escaped(line)}" for line in self._exception(record).split("\n") if line]
        return "\n".join(line.encode()[:LONGEST_LINE].decode(errors="ignore") for line in lines)


class JsonFormatter(_Formatter):
    """One JSON object per line, in ASCII."""

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


class Occasional:
    """Logs what clients, strangers or other programs cause: at most one line a minute for each kind.

    A line tells how many of its kind were not logged. No line has a traceback: whoever causes it could fill the disk.
    Lives as long as its owner, a hub for example, and is used by one event loop only. A kind may hold a name from
    outside: kinds beyond `MOST_KINDS` within a minute count as one.
    """

    def __init__(self, logger_name: str, *, clock: Callable[[], float] | None = None) -> None:
        self._logger = logging.getLogger(logger_name)
        self._clock = clock or (lambda: time.monotonic())  # looked up at each call, for tests that move it
        self._logged_at: dict[str, float] = {}
        """When a line was last logged, by kind."""
        self._not_logged: dict[str, int] = {}
        """How many came since, by kind."""

    def info(self, kind: str, text: str, *args: object) -> bool:
        """Log a line, unless one of its kind was logged within the last minute. Returns whether it was logged."""
        return self._log(logging.INFO, kind, text, args)

    def warning(self, kind: str, text: str, *args: object) -> bool:
        """As `info`."""
        return self._log(logging.WARNING, kind, text, args)

    def error(self, kind: str, text: str, *args: object) -> bool:
        """As `info`."""
        return self._log(logging.ERROR, kind, text, args)

    def _log(self, level: int, kind: str, text: str, args: tuple[object, ...]) -> bool:
        now = self._clock()
        if kind not in self._logged_at and len(self._logged_at) >= MOST_KINDS:
            for old in [old for old, at in self._logged_at.items() if now - at >= LOG_PAUSE_SECONDS]:
                del self._logged_at[old]
                self._not_logged.pop(old, None)
            if len(self._logged_at) >= MOST_KINDS:
                kind = "others"
        if now - self._logged_at.get(kind, float("-inf")) < LOG_PAUSE_SECONDS:
            self._not_logged[kind] = self._not_logged.get(kind, 0) + 1
            return False
        self._logged_at[kind] = now
        more = self._not_logged.pop(kind, 0)
        if more:
            text, args = f"{text} (%d more since the last such line)", (*args, more)
        self._logger.log(level, text, *args)
        return True


def start_logging(
    level: str, log_format: Literal["auto", "text", "json"], secrets: Sequence[str] = (), stream: TextIO | None = None
) -> LogFormat:
    """Log every record of this process to standard error, also warnings and those of libraries; returns the form."""
    if sys.stderr is None:  # it was closed; the next file to be opened would get its number
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 for as long as the process lives
    stream = stream or sys.stderr
    chosen: LogFormat = log_format if log_format != "auto" else "text" if stream.isatty() else "json"
    handler = logging.StreamHandler(stream)
    handler.setFormatter((TextFormatter if chosen == "text" else JsonFormatter)(secrets))
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    logging.captureWarnings(True)
    sys.excepthook = _log_end
    threading.excepthook = _log_thread_end
    sys.unraisablehook = _log_ignored
    return chosen


def hide(secrets: Iterable[str]) -> None:
    """Keep these out of the log from now on, too."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, _Formatter):
            handler.formatter.secrets = sorted({*handler.formatter.secrets, *secrets}, key=len, reverse=True)


def _log_end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Log an uncaught exception. The process then exits with 1."""
    logger.critical("Ended by an error: %s", kind.__name__, exc_info=(kind, error, trace))


def _log_thread_end(end: threading.ExceptHookArgs) -> None:
    error = end.exc_value or end.exc_type()
    logger.error("A thread ended by an error: %s", end.exc_type.__name__, exc_info=error)


def _log_ignored(end: "sys.UnraisableHookArgs") -> None:
    """Log an error that no code can catch, for example in a finalizer."""
    where = getattr(end.object, "__qualname__", type(end.object).__name__)
    error = end.exc_value or end.exc_type()
    logger.error("Uncaught error in %s: %s", where, end.exc_type.__name__, exc_info=error)
