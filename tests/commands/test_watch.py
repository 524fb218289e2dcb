"""`progress-gateway watch`: its views, its connection against a small WebSocket server, its command."""

import asyncio
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from rich.console import Console
from websockets.asyncio.server import Server, ServerConnection, serve

from gateway.commands import watch as watch_module
from gateway.commands.job_board import JobBoard
from gateway.commands.watch import GivenUp, Watcher, watch
from gateway.commands.watch_views import BarsView, LineView, printable
from publisher.events import check_event

WAIT_SECONDS = 60.0


def progress(percent: float, *, job: str = "job_1", seq: int | None = None, **fields: Any) -> dict[str, Any]:
    event = {"type": "progress", "jobId": job, "jobType": "audio", "progress": percent} | fields
    return event if seq is None else event | {"seq": seq}


def complete(*, job: str = "job_1", **fields: Any) -> dict[str, Any]:
    return {"type": "job_complete", "jobId": job, "jobType": "audio", "result": {}} | fields


def failed(*, job: str = "job_1", **fields: Any) -> dict[str, Any]:
    return {"type": "job_failed", "jobId": job, "jobType": "audio", "error": "no voice"} | fields


def board_of(*events: dict[str, Any], now: float = 0.0) -> JobBoard:
    board = JobBoard()
    for event in events:
        board.apply(check_event(event), now)
    return board


# --- The views --------------------------------------------------------------------------------------------------------


def test_controls_never_reach_a_terminal() -> None:
    assert printable("a\x1b[31mb\x9bc\u202ed\x7f\n") == "a[31mbcd"
    out = io.StringIO()
    event = complete(result={"file": "\x1b]0;evil\x07.mp3", "duration": 63})
    LineView(out, io.StringIO(), as_json=False).on_event(event, check_event(event))
    LineView(out, io.StringIO(), as_json=True).on_event(event, check_event(event))
    assert out.getvalue().replace("\n", "").isprintable()
    assert "]0;evil.mp3 · 1:03" in out.getvalue()


def test_a_line_says_what_happened() -> None:
    out = io.StringIO()
    view = LineView(out, io.StringIO(), as_json=False)
    for event in (progress(40, message="voice 2 of 5", sentenceId="s1"), failed(attempt=1), progress(7.4, seq=5)):
        view.on_event(event, check_event(event))
    lines = [line.split("  ", 1)[1] for line in out.getvalue().splitlines()]
    assert lines == [
        "audio  job_1  s1   40 %  voice 2 of 5",
        "audio  job_1  attempt 1  failed  no voice",
        "audio  job_1    7 %",
    ]


def bars(board: JobBoard, *, width: int = 100, height: int = 20, note: str = "") -> str:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    view = BarsView(board, "demo", console)
    view.on_status("connected", note)
    with console.capture() as capture:
        console.print(view.render())
    return capture.get()


def test_bars_show_jobs_and_their_sentences() -> None:
    board = board_of(
        progress(12, job="a", message="[red]no markup[/red]", attempt=2),
        progress(30, job="b", sentenceId="s1", message="voice 1"),
        complete(job="b", sentenceId="s2"),
        complete(job="c", result={"file": "c.mp3", "duration": 3.5}),
        failed(job="d"),
    )
    lines = [" ".join(line.replace("━", "").split()) for line in bars(board).splitlines()]
    assert lines[0] == "demo ● connected 2 running, 2 ended"
    assert lines[1].endswith("12 % attempt 2 [red]no markup[/red]")
    assert lines[2].startswith("● audio b")
    assert lines[2].endswith("65 % 1 of 2 sentences")
    assert lines[3].startswith("s1")
    assert lines[3].endswith("30 % voice 1")
    assert lines[5].startswith("✗ audio d")
    assert lines[5].endswith("no voice")
    assert lines[6].endswith("c.mp3 · 3.5 s")


def test_a_line_says_why_a_job_ended_and_the_data_of_its_author() -> None:
    out = io.StringIO()
    view = LineView(out, io.StringIO(), as_json=False)
    for event in (
        failed(reason="cancelled", error="by the user"),
        failed(reason="lost"),
        progress(1, jobType="thumbnails", data={"page": 3, "title": "é\u202e"}),
        progress(1, data={"text": "x" * 500}),
    ):
        view.on_event(event, check_event(event))
    lines = out.getvalue().splitlines()
    assert lines[:3] == [
        "--:--:--  audio  job_1  cancelled  by the user",
        "--:--:--  audio  job_1  worker lost  no voice",
        '--:--:--  thumbnails  job_1    1 %  {"page":3,"title":"é"}',
    ]
    assert len(lines[3]) < 260
    assert lines[3].endswith("…")


def test_json_lines_have_the_time_of_redis() -> None:
    out = io.StringIO()
    view = LineView(out, io.StringIO(), as_json=True)
    for event in (progress(1, seq=1_800_000_000_123_999), progress(1)):
        view.on_event(event, check_event(event))
    assert [json.loads(line)["publishedAt"] for line in out.getvalue().splitlines()] == [1_800_000_000_123, None]


def test_bars_show_a_cancelled_job_a_type_of_its_own_and_data() -> None:
    board = board_of(
        progress(12, job="a", jobType="thumbnails", data={"page": 3}),
        failed(job="b", reason="cancelled", error=""),
        failed(job="c", reason="timed_out", sentenceId="s1"),
    )
    lines = [" ".join(line.replace("━", "").split()) for line in bars(board).splitlines()]
    assert lines[1].startswith("● thumbnails a ")
    assert lines[1].endswith(' 12 % {"page":3}')
    assert lines[2] == "✗ audio c 0 % 0 of 1 sentence, 1 failed timed out: no voice"
    assert lines[3] == "⊘ audio b 0 % cancelled"


def test_bars_of_thousands_of_sentences_show_those_at_work() -> None:
    sentences = [complete(sentenceId=f"s{number}") for number in range(1, 3_001)]
    board = board_of(*sentences, *(progress(0, sentenceId=f"s{number}") for number in range(3_001, 5_001)))
    lines = [" ".join(line.replace("━", "").split()) for line in bars(board).splitlines()]
    assert lines[1].endswith("60 % 3,000 of 5,000 sentences")
    assert lines[2].startswith("s3001")
    assert lines[14] == "4,988 more"


def test_bars_count_the_running_jobs_that_were_left_out() -> None:
    board = board_of(*(progress(1, job=f"job_{number}") for number in range(1_500)))
    assert "1,000 of 1,500 running" in bars(board)


def test_bars_tell_a_silent_job() -> None:
    assert "silent for 0 s" in bars(board_of(progress(10, nextWithin=1e-9)))


def test_bars_fit_the_terminal() -> None:
    board = board_of(*(progress(1, job=f"job_{number}", message="x" * 500) for number in range(50)))
    shown = bars(board, width=40, height=10, note="some events were missed")
    assert len(shown.splitlines()) <= 10
    assert all(len(line) <= 40 for line in shown.splitlines())
    assert "(some are not shown)" in bars(board, height=10)


# --- The connection ---------------------------------------------------------------------------------------------------


class Peer:
    """A connection of the watcher, as the gateway sees it."""

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket

    async def says(self) -> dict[str, Any]:
        """The next message; a ping is answered, as the gateway does."""
        async with asyncio.timeout(WAIT_SECONDS):
            while (message := dict(json.loads(await self.socket.recv())))["type"] == "ping":
                await self.socket.send('{"type":"pong"}')
            return message

    async def answer_ping(self) -> None:
        """Answer the ping that comes next, and nothing else before it."""
        async with asyncio.timeout(WAIT_SECONDS):
            assert json.loads(await self.socket.recv()) == {"type": "ping"}
        await self.tell({"type": "pong"})

    async def tell(self, *messages: dict[str, Any]) -> None:
        for message in messages:
            await self.socket.send(json.dumps({"projectId": "demo"} | message))

    async def subscribe(self, seq: int = 0, *, recovered: bool = True) -> dict[str, Any]:
        """Answer the subscribe that comes next, and return it."""
        asked = await self.says()
        await self.tell({"type": "subscribed", "seq": seq, "recovered": recovered})
        return asked


class FakeGateway:
    """Hands each connection to the test, which plays the gateway."""

    def __init__(self) -> None:
        self._peers: asyncio.Queue[Peer] = asyncio.Queue()
        self.server: Server

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.server.sockets[0].getsockname()[1]}/ws"

    async def serve(self, socket: ServerConnection) -> None:
        self._peers.put_nowait(Peer(socket))
        await socket.wait_closed()

    async def peer(self) -> Peer:
        async with asyncio.timeout(WAIT_SECONDS):
            return await self._peers.get()


@pytest.fixture
async def gateway() -> AsyncIterator[FakeGateway]:
    fake = FakeGateway()
    async with serve(fake.serve, "127.0.0.1", 0) as fake.server:
        yield fake


@pytest.fixture(autouse=True)
def _reconnects_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "LEAST_BACKOFF_SECONDS", 0.01)


class RecordingView:
    tick_seconds = 1.0

    def __init__(self) -> None:
        self.seen: list[float | str] = []
        self._changed = asyncio.Event()

    def __enter__(self) -> "RecordingView":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def _add(self, what: float | str) -> None:
        self.seen.append(what)
        self._changed.set()

    def on_event(self, message: dict[str, Any], event: Any) -> None:
        self._add(message.get("progress", message["type"]))

    def on_status(self, status: str, note: str = "") -> None:
        if status != "connecting":
            self._add(status)

    def on_tick(self) -> None:
        pass

    async def wait_for(self, *what: float | str) -> None:
        """Wait until exactly this was seen since the last call."""
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                while self.seen != list(what):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"saw {self.seen}, not {list(what)}") from None
        self.seen.clear()


Watching = tuple[RecordingView, JobBoard]


@pytest.fixture
async def watching(gateway: FakeGateway) -> AsyncIterator[Watching]:
    view, board = RecordingView(), JobBoard()
    task = asyncio.create_task(Watcher(gateway.url, "demo", board, view).run())
    yield view, board
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, GivenUp):
        await task


async def test_it_resumes_after_the_last_event(gateway: FakeGateway, watching: Watching) -> None:
    view, _ = watching
    first = await gateway.peer()
    assert await first.subscribe(seq=8) == {"type": "subscribe", "projectId": "demo"}
    await first.tell(progress(10, seq=7, job="a"), progress(20, seq=8), progress(30, seq=12))
    await view.wait_for("connected", 10, 20, 30)
    first.socket.transport.abort()
    second = await gateway.peer()
    assert (await second.subscribe(seq=13))["since"] == 12
    await second.tell(progress(30, seq=12), progress(40, seq=13))  # the first is known
    await view.wait_for("disconnected", "connected", 40)


@pytest.mark.parametrize("code", [1001, 1011, 1012, 4503, 4508])
async def test_it_comes_back_after_every_close_that_allows_it(
    gateway: FakeGateway, watching: Watching, code: int
) -> None:
    view, _ = watching
    first = await gateway.peer()
    await first.subscribe()
    await view.wait_for("connected")
    await first.socket.close(code)
    await (await gateway.peer()).subscribe()
    await view.wait_for("disconnected", "connected")


async def test_it_resumes_where_the_project_stood_if_nothing_came(gateway: FakeGateway, watching: Watching) -> None:
    view, _ = watching
    first = await gateway.peer()
    await first.subscribe(seq=99)
    await view.wait_for("connected")
    await first.answer_ping()
    await first.tell({"type": "stale"})  # once it was told, the pong has arrived too
    await view.wait_for("stale")
    await first.socket.close(1012)
    assert (await (await gateway.peer()).subscribe())["since"] == 99


async def test_a_replay_is_shown_when_all_of_it_has_arrived(gateway: FakeGateway, watching: Watching) -> None:
    """Two of three sentences run: a picture of the first event alone would show the job as complete."""
    view, board = watching
    peer = await gateway.peer()
    await peer.subscribe(seq=7)
    await peer.tell(complete(sentenceId="s1", seq=5), progress(20, sentenceId="s2", seq=6), {"type": "stale"})
    await view.wait_for("connected", "stale")
    assert not board.jobs
    await peer.tell(progress(0, sentenceId="s3", seq=7))
    await view.wait_for("job_complete", 20, 0)
    assert (board.jobs["job_1"].state, board.jobs["job_1"].percent) == ("running", 40)


@pytest.mark.parametrize("news", [progress(60, job="job_2", seq=9), None])
async def test_a_replay_whose_newest_event_was_replaced_ends_with_news_or_a_pong(
    gateway: FakeGateway, watching: Watching, news: dict[str, Any] | None
) -> None:
    view, board = watching
    peer = await gateway.peer()
    await peer.subscribe(seq=8)
    await peer.tell(complete(sentenceId="s1", seq=5), progress(20, sentenceId="s2", seq=6), progress(1, job="plain"))
    if news is None:
        await peer.answer_ping()
        await view.wait_for("connected", "job_complete", 20, 1)
    else:
        await peer.tell(news)
        await view.wait_for("connected", "job_complete", 20, 1, 60)
    assert board.jobs["job_1"].state == "running"


async def test_half_a_replay_is_dropped_and_asked_for_again(gateway: FakeGateway, watching: Watching) -> None:
    view, board = watching
    first = await gateway.peer()
    await first.subscribe(seq=3)
    await first.tell(progress(10, seq=3), {"type": "unsubscribed"})
    await view.wait_for("connected", 10)
    await first.socket.close(1012)
    second = await gateway.peer()
    await second.subscribe(seq=9)
    await second.tell(complete(seq=5), {"type": "stale"})
    await view.wait_for("disconnected", "connected", "stale")
    await second.socket.close(1012)
    third = await gateway.peer()
    assert (await third.subscribe(seq=9))["since"] == 3
    assert board.jobs["job_1"].state == "running"
    await third.tell(complete(seq=5), progress(1, job="job_2", seq=9))
    await view.wait_for("disconnected", "connected", "job_complete", 1)


async def test_after_a_failover_a_lower_seq_is_news(gateway: FakeGateway, watching: Watching) -> None:
    view, _ = watching
    first = await gateway.peer()
    await first.subscribe(seq=0)
    await first.tell(progress(10, seq=50), progress(20, seq=40), progress(30, seq=41))
    await view.wait_for("connected", 10, 20, 30)
    await first.socket.close(1012)
    assert (await (await gateway.peer()).subscribe(seq=41))["since"] == 41


async def test_after_a_gap_it_asks_for_everything(gateway: FakeGateway, watching: Watching) -> None:
    view, board = watching
    first = await gateway.peer()
    await first.subscribe(seq=1)
    await first.tell(progress(10, seq=1), complete(job="job_2", seq=2))
    await view.wait_for("connected", 10, "job_complete")
    await first.socket.close(1012)
    second = await gateway.peer()
    assert (await second.subscribe(seq=50, recovered=False))["since"] == 2
    assert await second.says() == {"type": "unsubscribe", "projectId": "demo"}
    assert await second.subscribe(seq=50) == {"type": "subscribe", "projectId": "demo"}
    await second.tell(progress(70, job="job_3", seq=50))
    await view.wait_for("disconnected", "connected", 70)
    assert list(board.jobs) == ["job_2", "job_3"]  # what became of job_1 is not known


async def test_it_moves_before_its_replica_goes_away(gateway: FakeGateway, watching: Watching) -> None:
    view, _ = watching
    old = await gateway.peer()
    await old.subscribe(seq=5)
    await old.tell(progress(10, seq=5), {"type": "going_away", "reconnectIn": [10, 20]})
    new = await gateway.peer()
    await view.wait_for("connected", 10)
    await old.tell(progress(20, seq=6))  # it still serves
    await view.wait_for(20)
    await new.tell({"type": "connected", "clientId": "c"})
    assert (await new.subscribe(seq=7))["since"] == 5
    await new.tell(progress(20, seq=6), progress(30, seq=7))  # the first is known
    await view.wait_for("connected", 30)
    await asyncio.wait_for(old.socket.wait_closed(), WAIT_SECONDS)
    assert old.socket.close_code == 1000


async def test_a_replica_that_ends_before_the_move_is_an_ordinary_loss(
    gateway: FakeGateway, watching: Watching
) -> None:
    view, _ = watching
    old = await gateway.peer()
    await old.subscribe()
    await old.tell({"type": "going_away", "reconnectIn": [60_000, 60_000]})
    await old.socket.close(1012)
    await (await gateway.peer()).subscribe()
    await view.wait_for("connected", "disconnected", "connected")


async def test_a_move_that_fails_is_tried_again(gateway: FakeGateway, watching: Watching) -> None:
    view, _ = watching
    old = await gateway.peer()
    await old.subscribe()
    await old.tell({"type": "going_away", "reconnectIn": [0, 0]})
    await (await gateway.peer()).socket.close(4503)
    await (await gateway.peer()).subscribe()
    await view.wait_for("connected", "connected")


async def test_it_tells_stale_and_live(gateway: FakeGateway, watching: Watching) -> None:
    view, _ = watching
    peer = await gateway.peer()
    await peer.subscribe()
    await peer.tell({"type": "stale"}, {"type": "live"})
    await view.wait_for("connected", "stale", "connected")


async def test_what_it_does_not_know_is_passed_over(gateway: FakeGateway, watching: Watching) -> None:
    view, _ = watching
    peer = await gateway.peer()
    await peer.subscribe()
    await peer.socket.send("not JSON")
    await peer.socket.send("[]")
    await peer.socket.send(b"\xff\x00")
    await peer.tell({"type": "news"}, {"type": "progress"}, {"type": "going_away"}, progress(10))
    await view.wait_for("connected", 10)


async def test_it_tries_again_where_the_project_cannot_be_watched_now(gateway: FakeGateway, watching: Watching) -> None:
    view, _ = watching
    first = await gateway.peer()
    await first.says()
    await first.tell({"type": "error", "code": "unavailable", "message": "Not at the moment."})
    await (await gateway.peer()).subscribe()
    await view.wait_for("disconnected", "connected")


# --- The command ------------------------------------------------------------------------------------------------------


async def told(url: str, *, as_json: bool = False) -> tuple[int, str, str]:
    """The exit status of the command and what it wrote, once it ends by itself."""
    out, err = io.StringIO(), io.StringIO()
    async with asyncio.timeout(WAIT_SECONDS):
        status = await watch(url, "demo", as_json=as_json, stdout=out, stderr=err)
    return status, out.getvalue(), err.getvalue()


async def test_a_gateway_that_is_not_there_is_one_line(unused_tcp_port: int) -> None:
    url = f"ws://127.0.0.1:{unused_tcp_port}/ws"
    assert await told(url) == (
        1,
        "",
        f"progress-gateway: cannot connect to {url} (Connection refused): is the gateway running? "
        "Start one with: progress-gateway serve\n",
    )


@pytest.mark.parametrize("url", ["http://127.0.0.1:3001/", "nonsense", "ws://127.0.0.1:port/ws", "ws://[/ws"])
async def test_a_wrong_url_is_one_line(url: str) -> None:
    assert await told(url) == (
        1,
        "",
        f"progress-gateway: {url} is not the URL of a gateway; one is ws://127.0.0.1:3001/ws\n",
    )


@pytest.mark.parametrize(
    "url",
    [
        "ws://user:hunter2@127.0.0.1:{port}/ws?token=hunter2",
        "ws://127.0.0.1:{port}/ws?x=hunter2",
        "http://127.0.0.1/ws?token=hunter2",
        "ws://u:[hunter2]@127.0.0.1/ws",
        "ws://u:hunter2\u2100@127.0.0.1/ws",
    ],
)
async def test_what_is_wrong_is_told_without_the_secrets_of_the_url(url: str, unused_tcp_port: int) -> None:
    status, out, err = await told(url.format(port=unused_tcp_port))
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "127.0.0.1" in err
    assert "hunter2" not in err


async def test_a_refused_upgrade_says_why() -> None:
    def refuse(connection: ServerConnection, request: object) -> Any:
        return connection.respond(503, "This replica is shutting down.\n")

    async with serve(FakeGateway().serve, "127.0.0.1", 0, process_request=refuse) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws"
        status, _, err = await told(url)
    assert (status, err) == (1, f"progress-gateway: {url} answered HTTP 503: This replica is shutting down.\n")


async def test_a_fatal_close_is_one_line(gateway: FakeGateway) -> None:
    watching = asyncio.create_task(told(gateway.url))
    peer = await gateway.peer()
    await peer.subscribe()
    await peer.socket.close(4401, "the token \x1b[2J expired")
    status, _, err = await watching
    assert status == 1
    assert err.splitlines() == [
        "progress-gateway: connected",
        "progress-gateway: the gateway closed the connection: the token [2J expired (4401)",
    ]


async def test_a_refused_project_is_one_line(gateway: FakeGateway) -> None:
    watching = asyncio.create_task(told(gateway.url))
    peer = await gateway.peer()
    await peer.says()
    await peer.tell({"type": "error", "code": "bad_project_id", "message": "That is none."})
    assert await watching == (1, "", "progress-gateway: the gateway refused: That is none.\n")


async def test_json_lines_are_the_events(gateway: FakeGateway) -> None:
    watching = asyncio.create_task(told(gateway.url, as_json=True))
    peer = await gateway.peer()
    await peer.subscribe()
    events = [progress(10, seq=1_000, message="größer", data={"ä": 1}), complete(seq=2_000)]
    await peer.tell(*events)
    await peer.socket.close(4400)
    _, out, _ = await watching
    assert [json.loads(line) for line in out.splitlines()] == [
        {"projectId": "demo"} | event | {"publishedAt": event["seq"] // 1000} for event in events
    ]


def start(url: str, *options: str, **streams: Any) -> subprocess.Popen[bytes]:
    """The command as a process; what it lacks is click, which cli.py puts around it."""
    program = "import asyncio, sys; from gateway.commands.watch import watch; " + (
        "sys.exit(asyncio.run(watch(sys.argv[1], 'demo', as_json='--json' in sys.argv)))"
    )
    return subprocess.Popen([sys.executable, "-c", program, url, *options], **streams)


async def ended(process: subprocess.Popen[bytes]) -> int:
    try:
        return await asyncio.to_thread(process.wait, WAIT_SECONDS)
    finally:
        process.kill()
        process.wait()


async def test_a_line_is_written_at_once_and_a_closed_pipe_ends_it_quietly(gateway: FakeGateway) -> None:
    process = start(gateway.url, "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout, process.stderr:
        peer = await gateway.peer()
        await peer.subscribe()
        await peer.tell(progress(10))
        line = await asyncio.to_thread(process.stdout.readline)
        assert json.loads(line)["progress"] == 10
        process.stdout.close()  # as `head -1` does; no further event is needed to notice it
        assert await ended(process) == 0
        assert process.stderr.read() == b"progress-gateway: connected\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_it_in_order(gateway: FakeGateway, number: signal.Signals) -> None:
    process = start(gateway.url, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout, process.stderr:
        peer = await gateway.peer()
        await peer.subscribe()
        process.send_signal(number)
        assert await ended(process) == 0
        assert b"Traceback" not in process.stderr.read()
    await asyncio.wait_for(peer.socket.wait_closed(), WAIT_SECONDS)
    assert peer.socket.close_code == 1000


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
async def test_a_terminal_gets_bars_and_its_cursor_back(gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    ours, theirs = os.openpty()
    process = start(gateway.url, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    read: Callable[[], Awaitable[bytes]] = lambda: asyncio.to_thread(os.read, ours, 65_536)  # noqa: E731
    try:
        peer = await gateway.peer()
        await peer.subscribe()
        await peer.tell(progress(40, message="voice 2 of 5"))
        async with asyncio.timeout(WAIT_SECONDS):
            while b"voice 2 of 5" not in shown:
                shown += await read()
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):  # Linux says so when the other side is closed
            while more := await read():
                shown += more
        assert await ended(process) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert "━".encode() in shown
    assert shown.rindex(b"\x1b[?25h") > shown.rindex(b"\x1b[?25l")
