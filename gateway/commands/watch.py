"""`progress-gateway watch`: follows one project across connections until it is stopped."""

import asyncio
import contextlib
import io
import json
import os
import random
import signal
import sys
import time
from typing import Any, NamedTuple, TextIO
from urllib.parse import urlsplit

from rich.console import Console
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, InvalidURI, SecurityError, WebSocketException

from gateway.commands.job_board import JobBoard
from gateway.commands.watch_views import BarsView, LineView, OutputClosed, View, printable
from publisher.events import event_from_json
from publisher.redaction import redacted_web_url

LEAST_BACKOFF_SECONDS, MOST_BACKOFF_SECONDS = 0.5, 20.0
STABLE_SECONDS = 5.0  # a connection that lasted longer resets the back-off
SUBSCRIBE_SECONDS = 10.0  # for the next replica to answer, when one goes away

# Errors of opening a connection; ValueError comes from a URL such as ws://host:port.
_OPEN_ERRORS = (OSError, WebSocketException, ValueError)


class GivenUp(Exception):
    """Stop watching; the message says why and what to do."""


class Link(NamedTuple):
    """A connection, and the messages that were read from it before it took over."""

    socket: ClientConnection
    unread: list[str | bytes]


class Watcher:
    """Follows one project: reconnects, resumes after the last event, moves when its replica goes away."""

    def __init__(self, url: str, project_id: str, board: JobBoard, view: View) -> None:
        self._url = url
        self._project_id = project_id
        self._board = board
        self._view = view
        # Across connections.
        self._cursor: int | None = None  # seq of the last event that arrived; the next subscribe resumes after it
        self._head: int | None = None  # seq of the project at the last `subscribed`
        self._failures = 0  # since the last stable connection; sets the back-off
        # Of the current connection.
        self._subscribed_at: float | None = None  # when it was first subscribed, by the monotonic clock
        self._refusal = ""  # the gateway's error that ended it
        # While moving to another replica: the task that opens the next connection, and that connection once ready.
        self._move: asyncio.Task[None] | None = None
        self._next: Link | None = None

    async def run(self) -> None:
        """Run until cancelled; raises `GivenUp` if the first connection fails or the gateway ends it for good."""
        try:
            link = await self._open()
        except _OPEN_ERRORS as error:
            raise GivenUp(_explain(self._url, error)) from None
        try:
            while True:
                reason = await self._read(link)
                link = self._next or await self._reconnect(reason)
                self._next = self._move = None
        finally:
            if self._move is not None:
                self._move.cancel()
            if self._next is not None:
                await self._next.socket.close()

    async def _open(self) -> Link:
        """Connect, and subscribe from the cursor on."""
        host = urlsplit(self._url).hostname or ""
        socket = await connect(
            self._url,
            proxy=None if host == "localhost" or host.startswith("127.") or host == "::1" else True,
            compression=None,
            close_timeout=1,
            ping_timeout=10,
        )
        with contextlib.suppress(ConnectionClosed):  # the reader sees it, with the reason
            await self._subscribe(socket)
        return Link(socket, [])

    async def _subscribe(self, socket: ClientConnection) -> None:
        since = {} if self._cursor is None else {"since": self._cursor}
        await socket.send(json.dumps({"type": "subscribe", "projectId": self._project_id, **since}))

    async def _read(self, link: Link) -> str:
        """Handle messages until the connection ends; return why, or raise `GivenUp` if we must not reconnect."""
        self._subscribed_at, self._refusal = None, ""
        try:
            for text in link.unread:
                await self._on_message(link.socket, text)
            async for text in link.socket:
                await self._on_message(link.socket, text)
        except ConnectionClosed:
            pass
        finally:
            await link.socket.close()
        code, reason = link.socket.close_code or 1006, link.socket.close_reason
        if 4000 <= code < 4500:
            raise GivenUp(f"the gateway closed the connection: {reason or 'it gave no reason'} ({code})")
        if self._subscribed_at is not None and time.monotonic() - self._subscribed_at > STABLE_SECONDS:
            self._failures = 0
            if self._cursor is None:  # the replay has arrived by now, and no event since
                self._cursor = self._head
        return self._refusal or reason or "connection lost"

    async def _reconnect(self, reason: str) -> Link:
        if self._move is not None:
            self._move.cancel()
        while True:
            delay = self._backoff()
            self._view.on_status("disconnected", f"{reason}, reconnecting in {delay:.1f} s")
            await asyncio.sleep(delay)
            self._view.on_status("connecting")
            try:
                return await self._open()
            except _OPEN_ERRORS:
                continue

    def _backoff(self) -> float:
        """Full jitter, so that the clients of a replica that died do not all come back at the same moment."""
        most = min(MOST_BACKOFF_SECONDS, 2 * LEAST_BACKOFF_SECONDS * 2**self._failures)
        self._failures = min(self._failures + 1, 10)
        return random.uniform(LEAST_BACKOFF_SECONDS, most)  # noqa: S311

    async def _move_within(self, old: ClientConnection, least_ms: float, most_ms: float) -> None:
        """Open the next connection at a random moment, and close the old one once the next is subscribed."""
        await asyncio.sleep(random.uniform(least_ms, most_ms) / 1000)  # noqa: S311
        while True:
            with contextlib.suppress(*_OPEN_ERRORS):
                link = await self._open()
                try:
                    async with asyncio.timeout(SUBSCRIBE_SECONDS):
                        while _read_message(text := await link.socket.recv()).get("type") != "subscribed":
                            link.unread.append(text)
                    link.unread.append(text)
                except BaseException:
                    await link.socket.close()
                    raise
                self._next = link  # before `old` closes: `run` looks at it then
                await old.close()
                return
            await asyncio.sleep(self._backoff())

    async def _on_message(self, socket: ClientConnection, text: str | bytes) -> None:
        match message := _read_message(text):
            case {"type": "progress" | "job_complete" | "job_failed"}:
                self._on_event(message, text)
            case {"type": "subscribed", "seq": int(seq)}:
                await self._on_subscribed(socket, seq, recovered=message.get("recovered", True))
            case {"type": "stale"}:
                self._view.on_status("stale", "the gateway lost its feed; this may be out of date")
            case {"type": "live"}:
                self._view.on_status("connecting" if self._subscribed_at is None else "connected")
            case {"type": "going_away", "reconnectIn": [int(least_ms), int(most_ms)]} if self._move is None:
                self._move = asyncio.create_task(self._move_within(socket, least_ms, most_ms))
            case {"type": "error", "code": str(code), "message": str(sentence)} if self._subscribed_at is None:
                self._refusal = f"the gateway refused: {sentence}"
                if code.startswith("bad_"):
                    raise GivenUp(self._refusal)
                await socket.close()

    def _on_event(self, message: dict[str, Any], text: str | bytes) -> None:
        try:
            event = event_from_json(text.encode() if isinstance(text, str) else text)
        except ValueError:
            return  # perhaps from a newer gateway
        if event.seq is not None:
            # The last, not the highest: after a failover of Redis, seq may be lower.
            self._cursor = event.seq
        if self._board.apply(event, time.monotonic()):
            self._view.on_event(message, event)

    async def _on_subscribed(self, socket: ClientConnection, seq: int, *, recovered: bool) -> None:
        self._head = seq
        note = ""
        if not recovered:
            note = "some events were missed"
            self._board.forget_running()
            self._cursor = None  # there is a gap before it: subscribe to everything that is remembered
            await socket.send(json.dumps({"type": "unsubscribe", "projectId": self._project_id}))
            await self._subscribe(socket)
        if self._subscribed_at is None or note:
            self._view.on_status("connected", note)
        self._subscribed_at = self._subscribed_at or time.monotonic()


def _read_message(text: str | bytes) -> dict[str, Any]:
    try:
        message = json.loads(text)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


def _explain(url: str, error: Exception) -> str:
    """Why the first connection failed and what to do, in one line."""
    where = redacted_web_url(url)
    if isinstance(error, InvalidURI | SecurityError | ValueError):  # their texts repeat the URL or a redirect
        return f"{where} is not the URL of a gateway; one is ws://127.0.0.1:3001/ws"
    if isinstance(error, InvalidStatus):
        lines = (error.response.body or b"").decode(errors="replace").splitlines() or ["is this a gateway's /ws?"]
        return f"{where} answered HTTP {error.response.status_code}: {lines[0][:200]}"
    code = getattr(error, "errno", None) or 0
    reason = os.strerror(code) if code > 0 else (str(error).splitlines() or [type(error).__name__])[0]
    start = "is the gateway running? Start one with: progress-gateway serve"
    return f"cannot connect to {where} ({reason}): {start}"


async def watch(
    url: str, project_id: str, *, as_json: bool = False, stdout: TextIO | None = None, stderr: TextIO | None = None
) -> int:
    """Show a project's jobs until SIGINT, SIGTERM or the reader of the output ends; return the exit status.

    It is 1, with a line on standard error, if the first connection fails or the gateway forbids to reconnect; else 0.
    """
    stdout, stderr = stdout or sys.stdout, stderr or sys.stderr
    if isinstance(stdout, io.TextIOWrapper):
        stdout.reconfigure(errors="replace")  # a terminal without these characters shows question marks
    board = JobBoard()
    console = Console(file=stdout, highlight=False, markup=False)
    view: View
    if as_json or not stdout.isatty() or console.is_dumb_terminal:
        view = LineView(stdout, stderr, as_json=as_json)
    else:
        view = BarsView(board, project_id, console)
    try:
        with view:
            await _until_signal(Watcher(url, project_id, board, view), view)
    except GivenUp as reason:
        print(f"progress-gateway: {printable(str(reason))}", file=stderr)
        return 1
    except OutputClosed:
        _discard(stdout)
    return 0


async def _until_signal(watcher: Watcher, view: View) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)
    with contextlib.suppress(NotImplementedError, RuntimeError):  # Windows; a thread
        for number in signals:
            loop.add_signal_handler(number, stop.set)
    tasks = [asyncio.create_task(work) for work in (watcher.run(), _tick(view), stop.wait())]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()  # raises GivenUp or OutputClosed
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(NotImplementedError, RuntimeError):
            for number in signals:
                loop.remove_signal_handler(number)


async def _tick(view: View) -> None:
    while True:
        view.on_tick()
        await asyncio.sleep(view.tick_seconds)


def _discard(stream: TextIO) -> None:
    """Discard what is still buffered; else Python reports the closed pipe when it exits."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
