"""The output of `progress-gateway watch`: lines for programs and logs, live bars for a terminal."""

import contextlib
import json
import select
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final, Protocol, Self, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gateway.commands.job_board import Job, JobBoard, Part
from publisher.events import Event, JobComplete, JobFailed, Progress, Result


class OutputClosed(Exception):
    """The reader of our output has ended."""


class View(Protocol):
    """Shows events and the connection's status, a key of STATUS_STYLES. `on_tick` is called every `tick_seconds`."""

    tick_seconds: float

    def __enter__(self) -> Self: ...
    def __exit__(self, *error: object) -> None: ...
    def on_event(self, message: dict[str, Any], event: Event) -> None: ...
    def on_status(self, status: str, note: str = "") -> None: ...
    def on_tick(self) -> None: ...


def printable(text: str) -> str:
    """`text` without characters that a terminal obeys instead of showing: escapes, controls, direction marks."""
    return text if text.isprintable() else "".join(filter(str.isprintable, text))


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def _outcome(result: Result) -> str:
    words = [result.file, None if result.duration is None else _duration(result.duration)]
    return " · ".join(word for word in words if word)


def _describe(part: Part) -> str:
    """The message of a running job, or how it ended."""
    event = part.event
    if isinstance(event, JobFailed):
        return event.error or "failed"
    return _outcome(event.result) if isinstance(event, JobComplete) else part.message


class LineView:
    """For pipes and files: a line per event on standard output; the connection's status on standard error."""

    tick_seconds = 0.25

    def __init__(self, stdout: TextIO, stderr: TextIO, *, as_json: bool) -> None:
        self._stdout = stdout
        self._stderr = stderr
        self._as_json = as_json
        self._reader = _poll(stdout)  # tells whether the reader has ended; None if stdout cannot be polled

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def on_event(self, message: dict[str, Any], event: Event) -> None:
        # json.dumps escapes everything but ASCII, and all controls but DEL.
        line = json.dumps(message).replace("\x7f", "\\u007f") if self._as_json else _line(event)
        try:
            print(line, file=self._stdout, flush=True)
        except BrokenPipeError:
            raise OutputClosed from None

    def on_status(self, status: str, note: str = "") -> None:
        if status == "connecting":
            return  # the line `disconnected` has announced it
        with contextlib.suppress(OSError):
            words = ": ".join(word for word in (status, printable(note)) if word)
            print(f"progress-gateway: {words}", file=self._stderr, flush=True)

    def on_tick(self) -> None:
        """Notice that a reader such as `head` ended, even if no event comes to fail on."""
        if self._reader is not None and any(
            flags & (select.POLLERR | select.POLLHUP) for _, flags in self._reader.poll(0)
        ):
            raise OutputClosed


def _poll(stream: TextIO) -> "select.poll | None":
    try:
        poll = select.poll()
        poll.register(stream.fileno(), 0)
    except (AttributeError, OSError, ValueError):  # Windows; not a file (io.UnsupportedOperation)
        return None
    return poll


def _line(event: Event) -> str:
    """An event as a log line. Its time comes from seq, a timestamp in microseconds."""
    at = datetime.now() if event.seq is None else datetime.fromtimestamp(event.seq / 1e6)
    if isinstance(event, Progress):
        state, text = f"{event.progress:3.0f} %", event.message or ""
    elif isinstance(event, JobComplete):
        state, text = "complete", _outcome(event.result)
    else:
        state, text = "failed", event.error
    attempt = f"attempt {event.attempt}" if event.attempt else ""
    words = (f"{at:%H:%M:%S}", event.job_type, event.job_id, event.sentence_id, attempt, state, text)
    return "  ".join(printable(word) for word in words if word)


TYPE_STYLES = {"script": "magenta", "audio": "cyan", "image": "yellow", "video": "blue", "export": "bright_magenta"}
STATE_MARKS = {"running": ("●", "bold"), "complete": ("✓", "green"), "failed": ("✗", "red")}
STATUS_STYLES = {"connected": "green", "connecting": "yellow", "stale": "yellow", "disconnected": "red"}
MAX_ENDED = 10  # ended jobs shown below the running ones


class BarsView:
    """Live bars on a terminal. Events only mark it as changed; a tick redraws it."""

    tick_seconds = 0.1

    def __init__(self, board: JobBoard, project_id: str, console: Console) -> None:
        self._board = board
        self._project_id = project_id
        self._console = console
        self._status, self._note = "connecting", ""
        self._listening_since: float | None = None  # while connected; silence counts from here on
        self._is_changed = True  # since it was drawn
        self._drawn_at = 0.0
        self._live: Final = Live(console=console, auto_refresh=False, get_renderable=self.render)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()  # draws once more and restores the cursor

    def on_event(self, message: dict[str, Any], event: Event) -> None:
        self._is_changed = True

    def on_status(self, status: str, note: str = "") -> None:
        self._status, self._note, self._is_changed = status, note, True
        if status != "connected":
            self._listening_since = None
        elif self._listening_since is None:
            self._listening_since = time.monotonic()

    def on_tick(self) -> None:
        if self._is_changed or time.monotonic() - self._drawn_at > 1:  # silence grows without events
            self._is_changed, self._drawn_at = False, time.monotonic()
            self._live.refresh()

    def render(self) -> RenderableType:
        """Running jobs, then the last ended ones, cut to the height of the terminal."""
        jobs = self._board.jobs.values()
        running = sorted((job for job in jobs if job.state == "running"), key=lambda job: job.since)
        ended = sorted((job for job in jobs if job.state != "running"), key=lambda job: -job.since)
        rows = [row for job in running for row in self._job_rows(job)]
        rows += [row for job in ended[:MAX_ENDED] for row in self._job_rows(job)]
        room = max(1, self._console.height - 3)
        table = Table.grid(padding=(0, 1), expand=True)
        for ratio in (None, None, None, None, None, 1):
            table.add_column(no_wrap=True, overflow="ellipsis", ratio=ratio, max_width=28 if ratio is None else None)
        for row in rows[:room]:
            table.add_row(*row)
        counts = f"{len(running)} running, {len(ended)} ended" + ("" if len(rows) <= room else " (some are not shown)")
        style = STATUS_STYLES[self._status]
        status = Text.assemble(
            (self._project_id, "bold"), "  ", (f"● {self._status}", style), "  ", (counts, "dim"), no_wrap=True
        )
        if self._note:
            status.append(f"  {printable(self._note)}", style)
        return Group(status, table)

    def _job_rows(self, job: Job) -> Iterator[tuple[RenderableType, ...]]:
        """A row for the job and, while it runs, one per sentence."""
        kind = job.newest.event.job_type
        silence = job.silence(self._listening_since, time.monotonic())
        mark = ("?", "yellow") if silence else STATE_MARKS[job.state]
        text = Text()
        if attempt := job.newest.event.attempt:
            text.append(f"attempt {attempt}  ", "dim")
        if silence:
            text.append(f"silent for {int(silence)} s  ", "yellow")
        if job.own:
            text.append(printable(_describe(job.own)), "red" if job.state == "failed" else "")
        else:
            done = sum(isinstance(part.event, JobComplete) for part in job.parts.values())
            text.append(f"{done} of {len(job.parts)} sentences", "dim")
        style = "red" if job.state == "failed" else TYPE_STYLES[kind]
        name = Text(printable(job.id))
        yield (
            Text(*mark),
            Text(kind, TYPE_STYLES[kind]),
            name,
            self._bar(job.percent, style),
            _percent(job.percent),
            text,
        )
        for sentence_id, part in job.sentences.items() if job.state == "running" else ():
            style = "red" if isinstance(part.event, JobFailed) else TYPE_STYLES[kind]
            name = Text(f"  {printable(sentence_id)}", "dim")
            text = Text(printable(_describe(part)), style if style == "red" else "dim")
            yield Text(), Text(), name, self._bar(part.percent, style), _percent(part.percent), text

    def _bar(self, percent: float, style: str) -> ProgressBar:
        width = 24 if self._console.width >= 80 else 10
        return ProgressBar(completed=percent, width=width, complete_style=style, finished_style="green")


def _percent(percent: float) -> Text:
    return Text(f"{int(percent):3} %")
