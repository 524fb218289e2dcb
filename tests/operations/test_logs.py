"""The log: each record is one that nobody can forge, and no secret is in it."""

import io
import json
import logging
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from gateway.clients.keepalive import Keepalive
from gateway.operations.logs import (
    LOG_PAUSE_SECONDS,
    LONGEST,
    MOST_KINDS,
    JsonFormatter,
    Occasional,
    TextFormatter,
    fitting,
    start_logging,
)
from publisher.redaction import secrets_of
from tests.fakes import FakeClient, new_hub

HOSTILE = [
    "a\n12:00:00 INFO forged",
    "a\r\n12:00:00 INFO forged",
    'a\n{"ts":"2026-01-01T00:00:00.000Z","level":"info","message":"forged"}',
    'a","level":"error","x":"',
    "\x1b[2J\x1b[1;1Hcleared",
    "\x00\x07\x08\x7f",
    "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e",  # what str.splitlines takes for ends of lines
    "\u202etxt.exe\u202c\u200f",  # turns the direction of writing
    "\ud800 half a pair",
    b"\xff\xfe\n".decode(errors="surrogateescape"),
]


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """What the log writes; afterwards everything is as it was."""
    root = logging.getLogger()
    before = (root.handlers[:], root.level, sys.excepthook, threading.excepthook, sys.unraisablehook)
    yield io.StringIO()
    logging.captureWarnings(False)
    root.handlers[:], root.level, sys.excepthook, threading.excepthook, sys.unraisablehook = before


@pytest.fixture
def records(stream: io.StringIO) -> Any:
    """Start the log as JSON; the call returns what was logged since."""
    start_logging("debug", "json", ["s3cretkey-123"], stream)

    def read() -> list[dict[str, Any]]:
        lines = stream.getvalue().splitlines()
        stream.seek(0)
        stream.truncate()
        return [json.loads(line) for line in lines]

    return read


def raising(text: str) -> None:
    raise RuntimeError(text)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("wanted", "stream_kind", "chosen"),
    [
        ("auto", Terminal, "text"),
        ("auto", io.StringIO, "json"),
        ("text", io.StringIO, "text"),
        ("json", Terminal, "json"),
    ],
)
def test_it_is_text_on_a_terminal_and_json_elsewhere(
    stream: io.StringIO, wanted: Any, stream_kind: type[io.StringIO], chosen: str
) -> None:
    assert start_logging("info", wanted, stream=stream_kind()) == chosen


def test_a_record_has_the_fields_that_programs_expect(records: Any) -> None:
    before = time.time()
    logging.getLogger("gateway.feed").warning("Redis at %s: %d", "h", 7, extra={"replica": "r", "tries": 3})
    (record,) = records()
    assert list(record) == ["ts", "level", "logger", "message", "replica", "tries"]
    assert record | {"ts": ""} == {
        "ts": "",
        "level": "warning",
        "logger": "gateway.feed",
        "message": "Redis at h: 7",
        "replica": "r",
        "tries": 3,
    }
    assert len(record["ts"]) == len("2026-11-26T23:04:08.123Z")
    assert record["ts"].endswith("Z")
    assert before - 0.001 <= datetime.fromisoformat(record["ts"]).timestamp() <= time.time()


def test_text_is_for_people(stream: io.StringIO) -> None:
    start_logging("info", "text", stream=stream)
    logging.getLogger("x").info("Héllo %s", "wörld", extra={"a": 1})
    logging.getLogger("x").debug("not asked for")
    clock, _, rest = stream.getvalue().partition(" ")
    assert time.strptime(clock, "%H:%M:%S")
    assert rest == "INFO Héllo wörld a=1\n"


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("formatter", [TextFormatter, JsonFormatter])
def test_nobody_can_forge_a_line(text: str, formatter: Any) -> None:
    record = logging.makeLogRecord(
        {"msg": "said %s", "args": (text,), "levelname": "INFO", "extra": text, f"k{text}": 1}
    )
    line = formatter().format(record)
    assert line.isprintable()
    assert len(line.splitlines()) == 1
    if formatter is JsonFormatter:
        assert line.isascii()
        assert json.loads(line)["message"] == f"said {text}"
        assert json.loads(line)["level"] == "info"


@pytest.mark.parametrize("text", HOSTILE)
def test_control_with_the_usual_formatter_anybody_can(text: str) -> None:
    line = logging.Formatter("%(message)s").format(logging.makeLogRecord({"msg": text}))
    assert not line.isprintable() or '"level":"error"' in line.replace("\\", "")


@pytest.mark.parametrize("text", HOSTILE)
def test_a_traceback_cannot_forge_a_line_either(text: str) -> None:
    try:
        raising(text)
    except RuntimeError:
        record = logging.makeLogRecord({"msg": "failed", "levelname": "ERROR", "exc_info": sys.exc_info()})
    first, *rest = TextFormatter().format(record).split("\n")
    assert first.endswith("ERROR failed")
    assert all(line.startswith("    ") and line.isprintable() for line in rest)
    assert any("RuntimeError" in line for line in rest)
    fields = json.loads(JsonFormatter().format(record))
    assert list(fields) == ["ts", "level", "logger", "message", "exception"]
    assert "Traceback" in fields["exception"]
    assert text.partition("\n")[0] in fields["exception"]


def test_extras_cannot_take_the_place_of_a_field() -> None:
    record = logging.makeLogRecord({"msg": "m", "levelname": "INFO", "ts": "x", "level": "x", "logger": "x"})
    read = json.loads(JsonFormatter().format(record))
    assert read["level"] == "info"
    assert "x" not in read.values()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, object(), b"\xff", [b"x"], {"a": {}}])
def test_any_extra_is_json(records: Any, value: object) -> None:
    logging.getLogger("x").info("m", extra={"value": value})
    (record,) = records()
    assert record["value"] == repr(value)


@pytest.mark.parametrize("formatter", [TextFormatter, JsonFormatter])
def test_arguments_that_do_not_fit_are_no_traceback(formatter: Any) -> None:
    record = logging.makeLogRecord({"msg": "%d of %d", "args": ("one",), "levelname": "INFO"})
    assert "%d of %d" in formatter().format(record)


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_part_of_a_record_shows_a_secret(stream: io.StringIO, log_format: Any) -> None:
    secrets = secrets_of("redis://user:p%40ssw0rd-of-12@h/0", ["0123456789abcdef"])
    start_logging("debug", log_format, secrets, stream)
    said = "0123456789abcdef p%40ssw0rd-of-12 p@ssw0rd-of-12"
    try:
        raising(said)
    except RuntimeError:
        logging.getLogger("x").exception("m %s", said, extra={"extra": said, "more": [said]})
    assert "Traceback" in stream.getvalue()
    assert not [word for word in said.split() if word in stream.getvalue()]


@pytest.mark.parametrize("text", ["a" * 1_000_000, "a:" * 500_000, "://" * 300_000, "a://b:" * 100_000])
def test_a_record_is_bounded_in_length_and_in_time(text: str) -> None:
    before = time.process_time()
    line = JsonFormatter().format(logging.makeLogRecord({"msg": text, "levelname": "INFO"}))
    assert time.process_time() - before < 5
    assert len(line) < LONGEST + 200


class Deep(Exception):
    """With a message that is a long line, and causes with long ones."""


def deep(text: str, causes: int) -> None:
    try:
        if causes:
            deep(text, causes - 1)
        raising(text)
    except Exception as error:
        raise Deep(text) from error


@pytest.mark.parametrize(
    "text", ["a" * 20_000, "\U0001f600" * 8_000, "\x00" * 8_000, "é" * 8_000, '"' * 8_000, "\n" * 8_000]
)
@pytest.mark.parametrize("formatter", [TextFormatter, JsonFormatter])
def test_a_line_is_shorter_than_what_container_runtimes_cut(text: str, formatter: Any) -> None:
    """JSON writes an emoji as twelve bytes, so that 8,000 of them were a line of 96 KB."""
    try:
        deep(text, 20)
    except Deep:
        info = sys.exc_info()
    fields = {"msg": text, "levelname": "ERROR", "exc_info": info, "first": text, "tries": 7, "last": text}
    for wanted in (["msg"], ["msg", "exc_info"], [*fields]):
        written = formatter().format(logging.makeLogRecord({name: fields[name] for name in wanted}))
        assert all(len(line.encode()) < 16_384 for line in written.splitlines())
        if formatter is JsonFormatter:
            read = json.loads(written)
            assert read["message"].startswith(text[:500])
            assert read["message"].endswith(" ...")
            assert ("exc_info" in wanted) == ("Traceback" in read.get("exception", ""))
            assert "first" not in wanted or read["first"].startswith(text[:20])


@pytest.mark.parametrize("text", ["", "a", "a\U0001f600" * 5, "\ud83d\ude00\ud83d" * 5])
def test_as_much_is_written_as_fits(text: str) -> None:
    for most in range(10, 100):
        written = fitting(text, most)
        assert len(json.dumps(written)) <= most
        assert written == text or (written.endswith(" ...") and text.startswith(written[:-4]))
        assert len(json.dumps(text)) > most or written == text


def test_libraries_warnings_and_the_end_are_records_too(records: Any) -> None:
    logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.", extra={"color_message": "\x1b[1m"})
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old\nINFO forged", stacklevel=1)
    try:
        raising("at the end")
    except RuntimeError as error:
        sys.excepthook(type(error), error, error.__traceback__)
    read = {record["logger"]: record for record in records()}
    assert list(read["uvicorn.error"]) == ["ts", "level", "logger", "message"]
    assert "forged" in read["py.warnings"]["message"]
    assert read["gateway"]["level"] == "critical"
    assert "at the end" in read["gateway"]["exception"]


def test_a_thread_that_ends_by_an_error_is_logged(records: Any) -> None:
    thread = threading.Thread(target=raising, args=("in a thread",))
    thread.start()
    thread.join()
    (record,) = records()
    assert (record["level"], record["message"]) == ("error", "A thread ended by an error: RuntimeError")
    assert "in a thread" in record["exception"]


def test_an_error_that_nobody_can_catch_is_logged(records: Any) -> None:
    class Closed:
        def __del__(self) -> None:
            raising("in a finalizer, with s3cretkey-123\nforged")

    Closed()
    (record,) = records()
    assert record["level"] == "error"
    assert record["message"].endswith("Closed.__del__: RuntimeError")
    assert "in a finalizer, with ***" in record["exception"]


# What others cause


class Clock:
    """A clock that the test moves."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_what_strangers_cause_is_a_line_a_minute_and_kind_that_counts_the_rest(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()
    occasional = Occasional("gateway.test", clock=clock)
    told = [occasional.info("bad", "Client %s: bad", number) for number in range(1_000)]
    assert told == [True, *[False] * 999]
    assert occasional.warning("worse", "Client %s: worse", "x"), "another kind has its own minute"
    clock.now += LOG_PAUSE_SECONDS - 0.1
    assert not occasional.info("bad", "Client %s: bad", 1_000)
    clock.now += 0.1
    assert occasional.info("bad", "Client %s: bad", 1_001)
    clock.now += LOG_PAUSE_SECONDS
    assert occasional.error("bad", "Client %s: bad", 1_002)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "Client 0: bad"),
        ("WARNING", "Client x: worse"),
        ("INFO", "Client 1001: bad (1000 more since the last such line)"),
        ("ERROR", "Client 1002: bad"),
    ]
    assert {record.name for record in caplog.records} == {"gateway.test"}


def test_kinds_without_number_are_few_lines_and_little_memory(caplog: pytest.LogCaptureFixture) -> None:
    """A kind may hold a name that a stranger chose."""
    clock = Clock()
    occasional = Occasional("gateway.test", clock=clock)
    for minute in range(1, 4):
        for number in range(1_000):
            occasional.warning(f"project {minute} {number}", "no")
        assert len(caplog.records) <= minute * (MOST_KINDS + 1)
        assert len(occasional._logged_at) + len(occasional._not_logged) <= 2 * (MOST_KINDS + 1)
        clock.now += LOG_PAUSE_SECONDS
    assert occasional.warning("project 4", "no"), "an old kind makes room"


async def test_a_thousand_clients_of_each_bad_sort_are_a_line_for_each(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    hub, _ = new_hub(max_bad_messages=2, ping_seconds=1)
    keepalive = Keepalive(hub)
    for _ in range(1_000):
        client = FakeClient(hub)
        client.session.on_text(b"junk")
        client.session.on_text(b"junk")
    for client in [FakeClient(hub) for _ in range(1_000)]:
        client.session.on_behind()
        client.session.behind_since = 0
    for piece in keepalive.pieces():
        keepalive.look_at(piece, 0, time.monotonic() + 1_000)
    for client in [FakeClient(hub) for _ in range(1_000)]:
        client.socket.was_heard = False
    for _ in range(100):
        for piece in keepalive.pieces():
            keepalive.look_at(piece, 0, time.monotonic())
    lines = [record.getMessage() for record in caplog.records]
    assert [next(word for word in ("bad messages", "behind", "ping") if word in line) for line in lines] == [
        "bad messages", "behind", "ping",
    ]  # fmt: skip
