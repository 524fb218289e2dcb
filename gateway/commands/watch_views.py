"""The output of `progress-gateway watch`: lines for programs and logs, live bars for a terminal."""

import contextlib
import json
import select
import time
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import Any, Final, Protocol, Self, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gateway.commands.job_board import Job, JobBoard, published_at
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


# The words for a failed job, by its reason.
REASONS = {"error": "failed", "cancelled": "cancelled", "timed_out": "timed out", "lost": "worker lost"}
MAX_DATA = 200  # characters of `data` in a line


def _reason(event: JobFailed) -> str:
    return REASONS[event.reason or "error"]


def _describe(event: Event) -> str:
    """The message of a running job, or how it ended."""
    if isinstance(event, JobFailed):
        return ": ".join(
            word for word in ("" if event.reason in (None, "error") else _reason(event), event.error) if word
        )
    return _outcome(event.result) if isinstance(event, JobComplete) else event.message or ""


def _data(event: Event) -> str:
    """`data` as compact JSON, cut; empty without."""
    text = "" if event.data is None else json.dumps(event.data, ensure_ascii=False, separators=(",", ":"))
    return printable(text if len(text) <= MAX_DATA else text[: MAX_DATA - 1] + "…")


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
        if self._as_json:
            # json.dumps escapes everything but ASCII, and all controls but DEL.
            line = json.dumps({**message, "publishedAt": published_at(event)}).replace("\x7f", "\\u007f")
        else:
            line = _line(event)
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
    """An event as a log line. Its time is Redis' clock, from seq; an event without a seq has none."""
    at = "--:--:--" if event.seq is None else f"{datetime.fromtimestamp(event.seq / 1e6):%H:%M:%S}"
    if isinstance(event, Progress):
        state, text = f"{event.progress:3.0f} %", event.message or ""
    elif isinstance(event, JobComplete):
        state, text = "complete", _outcome(event.result)
    else:
        state, text = _reason(event), event.error
    attempt = f"attempt {event.attempt}" if event.attempt else ""
    words = (at, event.job_type, event.job_id, event.sentence_id, attempt, state, text, _data(event))
    return "  ".join(printable(word) for word in words if word)


TYPE_STYLES = {"script": "magenta", "audio": "cyan", "image": "yellow", "video": "blue", "export": "bright_magenta"}
OTHER_TYPE = "bright_cyan"
STATE_MARKS = {"running": ("●", "bold"), "complete": ("✓", "green"), "failed": ("✗", "red")}
STATUS_STYLES = {"connected": "green", "connecting": "yellow", "stale": "yellow", "disconnected": "red"}
CANCELLED = ("⊘", "dim")  # the mark of a job that somebody ended on purpose
MAX_ENDED = 10  # ended jobs shown below the running ones
MAX_SENTENCES = 12  # shown of a job; of more, those that are not complete


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
        left_out = len(self._board.left_out)
        runs = f"{len(running):,} of {len(running) + left_out:,}" if left_out else f"{len(running)}"
        counts = f"{runs} running, {len(ended)} ended" + ("" if len(rows) <= room else " (some are not shown)")
        style = STATUS_STYLES[self._status]
        status = Text.assemble(
            (self._project_id, "bold"), "  ", (f"● {self._status}", style), "  ", (counts, "dim"), no_wrap=True
        )
        if self._note:
            status.append(f"  {printable(self._note)}", style)
        return Group(status, table)

    def _job_rows(self, job: Job) -> Iterator[tuple[RenderableType, ...]]:
        """A row for the job and, while it runs, one per sentence."""
        newest = job.newest.event
        type_style = TYPE_STYLES.get(newest.job_type, OTHER_TYPE)
        silence = job.silence(self._listening_since, time.monotonic())
        failure = job.failure
        mark, style = STATE_MARKS[job.state], type_style
        if silence:
            mark = ("?", "yellow")
        elif failure is not None:
            is_cancelled = isinstance(failure.event, JobFailed) and failure.event.reason == "cancelled"
            mark, style = (CANCELLED, "dim") if is_cancelled else (mark, "red")
        text = Text()
        if job.attempt:
            text.append(f"attempt {job.attempt}  ", "dim")
        if silence:
            text.append(f"silent for {int(silence)} s  ", "yellow")
        if job.own is not None:
            text.append(printable(_describe(job.own.event)), style if failure is not None else "")
        else:
            text.append(_tally(job), "dim")
            if failure is not None:
                text.append(f"  {printable(_describe(failure.event))}", style)
        if data := _data((job.own or job.newest).event):
            text.append(f"  {data}", "dim")
        percent = job.percent
        yield (
            Text(*mark), Text(newest.job_type, type_style), Text(printable(job.id)),
            self._bar(percent, style), _percent(percent), text,
        )  # fmt: skip
        if job.state == "running":
            yield from self._sentence_rows(job, type_style)

    def _sentence_rows(self, job: Job, type_style: str) -> Iterator[tuple[RenderableType, ...]]:
        ids = job.sentence_ids
        if len(ids) > MAX_SENTENCES:
            ids = list(islice((key for key in ids if job.parts[key].view.status != "complete"), MAX_SENTENCES))
        for sentence_id in ids:
            part = job.parts[sentence_id]
            style = "red" if part.view.status == "failed" else type_style
            name = Text(f"  {printable(sentence_id)}", "dim")
            text = Text(printable(_describe(part.event)), style if style == "red" else "dim")
            yield Text(), Text(), name, self._bar(part.view.percent, style), _percent(part.view.percent), text
        if hidden := job.sentence_count - len(ids):
            yield Text(), Text(), Text(f"  {hidden:,} more", "dim"), Text(), Text(), Text()

    def _bar(self, percent: float, style: str) -> ProgressBar:
        width = 24 if self._console.width >= 80 else 10
        return ProgressBar(completed=percent, width=width, complete_style=style, finished_style="green")


def _tally(job: Job) -> str:
    failed = f", {job.counts['failed']:,} failed" if job.counts["failed"] else ""
    noun = "sentence" if job.sentence_count == 1 else "sentences"
    return f"{job.counts['complete']:,} of {job.sentence_count:,} {noun}{failed}"


def _percent(percent: float) -> Text:
    return Text(f"{int(percent):3} %")
