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
from collections.abc import Callable
from typing import Any, NamedTuple, TextIO
from urllib.parse import urlsplit

from rich.console import Console
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, InvalidURI, SecurityError, WebSocketException

from gateway.codes import CloseCode, ErrorCode
from gateway.commands.job_board import JobBoard
from gateway.commands.watch_views import BarsView, LineView, OutputClosed, View, printable
from publisher.events import Event, event_from_json
from publisher.redaction import redacted_web_url

LEAST_BACKOFF_SECONDS, MOST_BACKOFF_SECONDS = 0.5, 20.0
STABLE_SECONDS = 5.0  # a connection that lasted longer resets the back-off
SUBSCRIBE_SECONDS = 10.0  # for the next replica to answer, when one goes away
# How long after `subscribed` we ask for a pong. The gateway answers in order, so that pong follows the whole replay.
PING_SECONDS = 0.1
NEVER = sys.maxsize

# Errors of opening a connection; ValueError comes from a URL such as ws://host:port.
_OPEN_ERRORS = (OSError, WebSocketException, ValueError)


GetToken = Callable[[], str | None]
"""Returns the token for the next connection, read anew; None: connect without one."""


class GivenUp(Exception):
    """Stop watching; the message says why and what to do."""


class Link(NamedTuple):
    """A connection, and the messages that were read from it before it took over."""

    socket: ClientConnection
    unread: list[str | bytes]
    since: int
    """The cursor with which it subscribed; 0 for everything."""


class Replay:
    """What follows a `subscribed`, up to its seq. Lives until all of it has arrived, and is then applied in one step.

    A half replay would show a job as ended of which only the parts that ended have arrived.
    """

    def __init__(self, seq: int, *, is_after_gap: bool, awaited_pong: int) -> None:
        self.seq = seq
        """The project's seq at that moment. An event with this seq or a higher one tells that the replay is over."""
        self.is_after_gap = is_after_gap
        """Events were missed for good, so everything that is remembered was asked for."""
        self.awaited_pong = awaited_pong
        """The pong that tells the same, by its number on the connection."""
        self.events: list[tuple[dict[str, Any], Event]] = []
        """What has arrived of it, as messages and events; also events without a seq that came in between."""


class Watcher:
    """Follows one project: reconnects, resumes after the last event, moves when its replica goes away."""

    def __init__(
        self, url: str, project_id: str, board: JobBoard, view: View, get_token: GetToken = lambda: None
    ) -> None:
        self._url = url
        self._get_token = get_token
        self._token: str | None = None  # of the last connection
        self._project_id = project_id
        self._board = board
        self._view = view
        # Across connections.
        self._cursor: int | None = None  # seq up to which everything was applied; the next subscribe resumes after it
        self._failures = 0  # since the last stable connection; sets the back-off
        # Of the current connection.
        self._subscribed_at: float | None = None  # when it was first subscribed, by the monotonic clock
        self._refusal = ""  # the gateway's error that ended it
        self._since = 0  # the cursor of its last subscribe
        self._seen_until = 0  # events up to this seq may have come over the connection before it, too
        self._replay: Replay | None = None
        self._pings = self._pongs = 0
        self._ping: asyncio.Task[None] | None = None  # asks for the next pong
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
            for task in (self._move, self._ping):
                if task is not None:
                    task.cancel()
            if self._next is not None:
                await self._next.socket.close()

    async def _open(self) -> Link:
        """Connect, and subscribe from the cursor on."""
        host = urlsplit(self._url).hostname or ""
        self._token = self._get_token()
        socket = await connect(
            self._url,
            proxy=None if host == "localhost" or host.startswith("127.") or host == "::1" else True,
            compression=None,
            close_timeout=1,
            ping_timeout=10,
            additional_headers=headers_with(self._token),
        )
        since = self._cursor
        with contextlib.suppress(ConnectionClosed):  # the reader sees it, with the reason
            await self._subscribe(socket, since)
        return Link(socket, [], since or 0)

    async def _subscribe(self, socket: ClientConnection, since: int | None) -> None:
        fields = {} if since is None else {"since": since}
        await socket.send(json.dumps({"type": "subscribe", "projectId": self._project_id, **fields}))

    async def _read(self, link: Link) -> str:
        """Handle messages until the connection ends; return why, or raise `GivenUp` if we must not reconnect."""
        self._subscribed_at, self._refusal = None, ""
        self._since, self._seen_until = link.since, self._cursor or 0
        self._replay, self._pings, self._pongs = None, 0, 0  # a half replay is dropped, and asked for again
        try:
            for text in link.unread:
                await self._on_message(link.socket, text)
            async for text in link.socket:
                await self._on_message(link.socket, text)
        except ConnectionClosed:
            pass
        finally:
            if self._ping is not None:
                self._ping.cancel()
            await link.socket.close()
        code, reason = link.socket.close_code or 1006, link.socket.close_reason
        # A token that expired may have been replaced in its file.
        has_another = code == CloseCode.NOT_AUTHORISED and self._get_token() not in (None, self._token)
        if 4000 <= code < 4500 and not has_another:
            raise GivenUp(f"the gateway closed the connection: {reason or 'it gave no reason'} ({code})")
        if self._subscribed_at is not None and time.monotonic() - self._subscribed_at > STABLE_SECONDS:
            self._failures = 0
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
            except _OPEN_ERRORS as error:
                if isinstance(error, InvalidStatus) and error.response.status_code == 401:
                    raise GivenUp(_explain(self._url, error)) from None

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
            case {"type": "pong"}:
                self._pongs += 1
                if self._replay is not None and self._pongs >= self._replay.awaited_pong:
                    self._end_replay(self._replay)
            case {"type": "stale"}:
                self._view.on_status("stale", "the gateway lost its feed; this may be out of date")
            case {"type": "live"}:
                self._view.on_status("connecting" if self._subscribed_at is None else "connected")
            case {"type": "going_away", "reconnectIn": [int(least_ms), int(most_ms)]} if self._move is None:
                self._move = asyncio.create_task(self._move_within(socket, least_ms, most_ms))
            case {"type": "error", "code": str(code), "message": str(sentence)} if self._subscribed_at is None:
                self._refusal = f"the gateway refused: {sentence}"
                if code.startswith("bad_") or code == ErrorCode.FORBIDDEN:
                    raise GivenUp(self._refusal)
                await socket.close()

    def _on_event(self, message: dict[str, Any], text: str | bytes) -> None:
        try:
            event = event_from_json(text.encode() if isinstance(text, str) else text)
        except ValueError:
            return  # perhaps from a newer gateway
        replay = self._replay
        if replay is not None:
            is_live = event.seq is not None and event.seq > replay.seq
            if not is_live:
                replay.events.append((message, event))
            if is_live or event.seq == replay.seq:
                self._end_replay(replay)
            if not is_live:
                return
        self._on_live_event(message, event)

    def _on_live_event(self, message: dict[str, Any], event: Event) -> None:
        if event.seq is not None:
            # The last, not the highest: after a failover of Redis, seq may be lower.
            self._cursor = event.seq
            if event.seq <= self._seen_until and self._board.knows(event):
                return
        self._board.apply(event, time.monotonic())
        self._view.on_event(message, event)

    def _end_replay(self, replay: Replay) -> None:
        """Apply the whole replay, then tell the view; then what came without a seq meanwhile."""
        self._replay, self._cursor = None, replay.seq or None
        replayed = {id(event): message for message, event in replay.events if event.seq is not None}
        events = [event for _, event in replay.events if event.seq is not None]
        for event in self._board.replay(events, time.monotonic(), is_after_gap=replay.is_after_gap):
            self._view.on_event(replayed[id(event)], event)
        for message, event in replay.events:
            if event.seq is None:
                self._on_live_event(message, event)

    async def _on_subscribed(self, socket: ClientConnection, seq: int, *, recovered: bool) -> None:
        if self._ping is not None:
            self._ping.cancel()
        if self._subscribed_at is None or not recovered:
            self._view.on_status("connected", "" if recovered else "some events were missed")
        self._subscribed_at = self._subscribed_at or time.monotonic()
        if seq < self._since:  # a failover: what has a low seq now is not what came before
            self._seen_until = 0
        if not recovered:  # there is a gap after the cursor: subscribe to everything that is remembered
            self._replay = Replay(NEVER, is_after_gap=True, awaited_pong=NEVER)  # until it is answered
            self._since = 0
            await socket.send(json.dumps({"type": "unsubscribe", "projectId": self._project_id}))
            await self._subscribe(socket, None)
            return
        is_after_gap = self._replay is not None and self._replay.is_after_gap
        self._replay = Replay(seq, is_after_gap=is_after_gap, awaited_pong=self._pings + 1)
        if seq <= self._since:  # nothing is owed
            self._end_replay(self._replay)
        else:
            self._ping = asyncio.create_task(self._ask_for_pong(socket))

    async def _ask_for_pong(self, socket: ClientConnection) -> None:
        await asyncio.sleep(PING_SECONDS)
        if self._replay is not None:
            self._pings += 1
            with contextlib.suppress(ConnectionClosed):  # the reader sees it
                await socket.send(json.dumps({"type": "ping"}))


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


def headers_with(token: str | None) -> dict[str, str]:
    """The headers of a handshake; not in the URL, which may end up in a log."""
    return {} if token is None else {"Authorization": f"Bearer {token}"}


async def watch(
    url: str,
    project_id: str,
    *,
    as_json: bool = False,
    get_token: GetToken = lambda: None,
    stdout: TextIO | None = None,
    stderr: TextIO | None = None,
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
            await _until_signal(Watcher(url, project_id, board, view, get_token), view)
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
