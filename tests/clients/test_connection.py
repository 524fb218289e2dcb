"""One socket's side: a client that reads is answered, one that does not waits, and the end is always an end."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from gateway.clients import connection as module
from gateway.clients.allowance import Limits
from gateway.clients.connection import FRAMES_AT_ONCE, Connection
from gateway.clients.frames import MAX_FRAGMENTS, PING, Frame, Opcode, close_frame, text_frame
from gateway.codes import CloseCode
from tests.contract.deadlines import PATIENCE, eventually
from tests.fakes import FakeTransport, RecordingConversation, frames_of

MAX_BYTES = 1_000
LIMITS = Limits(MAX_BYTES, rate=1e9, burst=1_000_000)  # frames of a flood are all handled
CLOSE = (Opcode.CLOSE, b"\x03\xe8")


def client(opcode: Opcode, data: bytes = b"", *, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=True)


def text(data: bytes) -> bytes:
    return client(Opcode.TEXT, data)


class Stage:
    """A connection between a fake transport and a session that writes down what it is told."""

    def __init__(self) -> None:
        self.transport = FakeTransport()
        self.connection = Connection(self.transport, limits=LIMITS, buffer_bytes=2_000)
        self.session = RecordingConversation()
        self.connection.start(self.session)

    def receive(self, *frames: bytes) -> list[tuple[Opcode, bytes]]:
        """What is written when these come in one read."""
        self.connection.data_received(b"".join(frames))
        return frames_of(self.transport.take())

    def lose(self) -> None:
        """The transport is gone."""
        self.transport.abort()
        self.connection.connection_lost(None)

    @property
    def told(self) -> list[str | bytes]:
        told, self.session.told = self.session.told, []
        return told


@pytest.fixture
async def stage() -> Stage:
    return Stage()


def code(frame: tuple[Opcode, bytes]) -> int:
    assert frame[0] is Opcode.CLOSE
    return int.from_bytes(frame[1][:2], "big")


# In


async def test_it_takes_the_transport_over_with_its_bound(stage: Stage) -> None:
    assert stage.transport.protocol is stage.connection
    assert stage.transport.limits[0] == 2_000


async def test_texts_reach_the_session_in_order_however_they_arrive(stage: Stage) -> None:
    data = text(b"one") + text(b"two") + text(b"three" * 50)
    for position in range(0, len(data), 7):
        stage.receive(data[position : position + 7])
    assert stage.told == [b"one", b"two", b"three" * 50]


async def test_a_message_in_fragments_reaches_the_session_once_with_pings_in_between(stage: Stage) -> None:
    parts = (
        client(Opcode.TEXT, b"a", fin=False),
        client(Opcode.PING, b"!"),
        client(Opcode.CONT, b"b", fin=False),
        client(Opcode.CONT, b"c"),
    )
    assert stage.receive(*parts, text(b"d")) == [(Opcode.PONG, b"!")]
    assert stage.told == [b"abc", b"d"]


async def test_a_binary_message_is_told_as_one(stage: Stage) -> None:
    stage.receive(client(Opcode.BINARY, b"\xff", fin=False), client(Opcode.CONT, b"\xff"))
    assert stage.told == ["binary"]


async def test_a_ping_is_answered_with_its_payload(stage: Stage) -> None:
    assert stage.receive(client(Opcode.PING, b"x" * 125)) == [(Opcode.PONG, b"x" * 125)]


async def test_a_pong_needs_no_answer(stage: Stage) -> None:
    assert stage.receive(client(Opcode.PONG, b"unasked")) == []
    assert stage.told == []


async def test_any_byte_counts_as_life(stage: Stage) -> None:
    stage.connection.ping()
    assert stage.transport.take() == PING
    assert not stage.connection.was_heard
    stage.receive(text(b"whole")[:1])
    assert stage.connection.was_heard


# Bad input


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        (b"\x81\x05Hello", CloseCode.PROTOCOL_ERROR),
        (client(Opcode.CONT, b"of nothing"), CloseCode.PROTOCOL_ERROR),
        (client(Opcode.TEXT, b"a", fin=False) + text(b"b"), CloseCode.PROTOCOL_ERROR),
        (text(b"x" * (MAX_BYTES + 1)), CloseCode.MESSAGE_TOO_BIG),
        (client(Opcode.TEXT, b"x" * MAX_BYTES, fin=False) + client(Opcode.CONT, b"x"), CloseCode.MESSAGE_TOO_BIG),
        (text(b"\xff"), CloseCode.BAD_TEXT),
        (client(Opcode.TEXT, b"\xff", fin=False), CloseCode.BAD_TEXT),
        (text(b"\xff" + b"x" * 500)[:-400], CloseCode.BAD_TEXT),
        (client(Opcode.TEXT, b"\xe2", fin=False) + client(Opcode.CONT, b"\xff..")[:-1], CloseCode.BAD_TEXT),
    ],
    ids=[
        "not masked",
        "of nothing",
        "amid another",
        "too long",
        "too long together",
        "no UTF-8",
        "in a fragment",
        "in a begun frame",
        "in a begun fragment",
    ],  # masks are random
)
async def test_frames_that_may_not_be_end_the_connection_with_a_code(
    stage: Stage, frames: bytes, expected: int
) -> None:
    assert [code(frame) for frame in stage.receive(frames)] == [expected]
    assert stage.told == ["close"]
    assert stage.transport.has_written_eof, "the client waits for the end of the connection"


async def test_empty_fragments_without_end_are_too_big_a_message(stage: Stage) -> None:
    stage.receive(client(Opcode.TEXT, b"", fin=False), client(Opcode.CONT, b"", fin=False) * MAX_FRAGMENTS)
    await eventually(lambda: bool(stage.session.told), "the end")
    assert [code(frame) for frame in frames_of(stage.transport.take())] == [CloseCode.MESSAGE_TOO_BIG]
    assert stage.told == ["close"]
    stage.lose()


async def test_what_comes_after_frames_that_could_not_be_read_is_thrown_away_until_it_is_dropped(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LINGER_SECONDS", 0.01)
    stage.receive(b"\x81\x05Hello")
    assert stage.receive(text(b"later"), b"\x81\x05Hello", b"x" * 100_000) == []
    assert stage.told == ["close"]
    await eventually(lambda: stage.transport.was_aborted, "the transport to be aborted")


async def test_a_client_cannot_take_the_loop_for_itself(stage: Stage) -> None:
    """Of many frames that come at once a few are handled in a turn, and meanwhile it is not read from."""
    stage.receive(*[text(b"%d" % number) for number in range(FRAMES_AT_ONCE * 2 + 3)])
    assert len(stage.session.told) == FRAMES_AT_ONCE
    assert stage.transport.is_reading_paused
    await eventually(lambda: len(stage.session.told) == FRAMES_AT_ONCE * 2 + 3, "the others")
    assert stage.told == [b"%d" % number for number in range(FRAMES_AT_ONCE * 2 + 3)]
    assert not stage.transport.is_reading_paused


async def test_many_frames_wait_for_a_socket_that_filled_between_two_turns(stage: Stage) -> None:
    stage.receive(*[text(b"x")] * (FRAMES_AT_ONCE + 1))
    stage.transport.fill()
    await asyncio.sleep(0.01)
    assert len(stage.told) == FRAMES_AT_ONCE + len(["behind"])
    assert stage.transport.is_reading_paused
    stage.transport.drain()
    assert stage.told == ["writable", b"x"]


async def test_a_connection_that_is_lost_between_two_turns_says_no_more(stage: Stage) -> None:
    stage.receive(*[text(b"x")] * (FRAMES_AT_ONCE + 1))
    stage.lose()
    await asyncio.sleep(0.01)
    assert stage.told == [b"x"] * FRAMES_AT_ONCE + ["close"]


async def test_what_a_client_says_after_our_close_frame_is_not_listened_to(stage: Stage) -> None:
    stage.connection.close(CloseCode.TOO_SLOW, "slow")
    stage.transport.take()
    assert stage.receive(text(b"one"), client(Opcode.PING)) == []
    assert stage.told == ["close"]


# Behind


async def test_a_connection_that_is_behind_is_not_read_from_and_says_so_once(stage: Stage) -> None:
    stage.transport.fill()
    assert stage.connection.is_behind
    assert stage.transport.is_reading_paused
    assert stage.told == ["behind"]


async def test_a_socket_that_drains_is_read_from_again(stage: Stage) -> None:
    stage.transport.fill()
    stage.transport.drain()
    assert not stage.connection.is_behind
    assert not stage.transport.is_reading_paused
    assert stage.told == ["behind", "writable"]


async def test_frames_of_the_same_read_wait_while_their_answers_do_not_fit(stage: Stage) -> None:
    stage.transport.capacity = 1
    assert stage.receive(
        text(b"one"), client(Opcode.PING, b"1"), text(b"two"), client(Opcode.PING, b"2"), text(b"3")
    ) == [(Opcode.PONG, b"1")]
    assert stage.told == [b"one", "behind"]
    stage.transport.capacity = 1
    stage.transport.drain()
    assert stage.told == ["writable", b"two", "behind"]
    stage.transport.capacity = None
    stage.transport.drain()
    assert stage.told == ["writable", b"3"]
    assert frames_of(stage.transport.take()) == [(Opcode.PONG, b"2")]


async def test_frames_wait_on_when_the_catch_up_fills_the_socket_again(stage: Stage) -> None:
    stage.transport.capacity = 1
    stage.receive(client(Opcode.PING), text(b"waits"))
    stage.session.told.clear()
    stage.session.on_writable = stage.transport.fill  # type: ignore[method-assign]
    stage.transport.drain()
    assert stage.told == ["behind"]
    assert stage.transport.is_reading_paused


async def test_a_close_frame_that_waited_is_answered_after_the_drain(stage: Stage) -> None:
    stage.transport.capacity = 1
    stage.receive(client(Opcode.PING), client(Opcode.CLOSE, b"\x03\xe8"))
    assert stage.told == ["behind"]
    stage.transport.take()
    stage.transport.capacity = None
    stage.transport.drain()
    assert frames_of(stage.transport.take()) == [CLOSE]
    assert stage.transport.is_closing()


# The end


async def test_a_clients_close_is_echoed_and_the_transport_closed(stage: Stage) -> None:
    assert stage.receive(client(Opcode.CLOSE, b"\x0f\xa1bye")) == [(Opcode.CLOSE, b"\x0f\xa1")]
    assert stage.transport.is_closing()
    assert stage.told == ["close"]
    stage.lose()
    assert stage.connection.is_closed
    assert stage.told == []


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (lambda stage: stage.receive(client(Opcode.CLOSE, b"\x0f\xa1bye")), 4001),
        (lambda stage: stage.receive(client(Opcode.CLOSE)), 1000),
        (lambda stage: stage.receive(client(Opcode.CLOSE, b"\x03")), 1002),
        (lambda stage: stage.receive(b"\xff\xff"), 1002),
        (lambda stage: stage.connection.close(CloseCode.TOO_SLOW), 4508),
        (lambda stage: stage.lose(), 1006),
    ],
)
async def test_the_session_is_told_the_code_of_whoever_closed_first(
    stage: Stage, end: Callable[[Stage], object], code: int
) -> None:
    end(stage)
    assert stage.session.code == code
    stage.lose()
    assert stage.session.code == code


async def test_nothing_that_follows_a_clients_close_is_handled(stage: Stage) -> None:
    stage.receive(text(b"before"), client(Opcode.CLOSE), text(b"after"))
    assert stage.told == [b"before", "close"]


async def test_a_client_whose_close_cannot_be_answered_since_its_socket_is_full_is_dropped(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLOSE_SECONDS", 0.01)
    stage.receive(client(Opcode.CLOSE))
    assert not stage.transport.was_aborted
    await eventually(lambda: stage.transport.was_aborted, "the transport to be aborted")


async def test_our_close_is_over_when_the_client_has_answered(stage: Stage) -> None:
    stage.connection.close(CloseCode.RESTART, "bye")
    assert stage.transport.take() == close_frame(1012, "bye")
    assert stage.told == ["close"]
    assert not stage.transport.is_closing()
    assert stage.receive(client(Opcode.CLOSE, b"\x03\xf4")) == []
    assert stage.transport.is_closing()
    assert not stage.transport.was_aborted
    stage.lose()


async def test_closing_twice_sends_one_close_frame(stage: Stage) -> None:
    stage.connection.close(1008, "a")
    stage.connection.close(1012, "b")
    assert [code(frame) for frame in frames_of(stage.transport.take())] == [1008]
    assert stage.told == ["close"]
    stage.lose()


async def test_a_client_that_does_not_answer_our_close_is_dropped(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLOSE_SECONDS", 0.01)
    stage.connection.close(CloseCode.RESTART)
    await eventually(lambda: stage.transport.was_aborted, "the transport to be aborted")


async def test_a_client_that_answers_in_time_is_not_dropped_later(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLOSE_SECONDS", 0.01)
    stage.connection.close(CloseCode.RESTART)
    stage.receive(client(Opcode.CLOSE))
    stage.connection.connection_lost(None)
    await asyncio.sleep(0.03)
    assert not stage.transport.was_aborted


async def test_one_that_is_behind_is_read_from_again_to_see_its_answer_to_our_close(stage: Stage) -> None:
    stage.transport.fill()
    stage.connection.close(CloseCode.TOO_SLOW)
    assert not stage.transport.is_reading_paused
    stage.transport.fill()
    stage.transport.drain()
    assert stage.told == ["behind", "close"]
    stage.receive(client(Opcode.CLOSE))
    assert stage.transport.is_closing()
    stage.lose()


async def test_a_close_frame_that_fills_the_socket_is_a_close_all_the_same(stage: Stage) -> None:
    stage.transport.capacity = 1
    stage.connection.close(CloseCode.RESTART)
    assert not stage.transport.is_reading_paused
    stage.transport.drain()
    assert stage.told == ["behind", "close"]
    stage.lose()


async def test_a_connection_that_is_lost_ends_the_session_once(stage: Stage) -> None:
    stage.connection.connection_lost(ConnectionResetError())
    stage.connection.connection_lost(None)
    assert stage.told == ["close"]
    assert stage.connection.is_closed


async def test_a_session_that_closes_while_it_is_told_a_text_hears_no_more(stage: Stage) -> None:
    stage.session.answer = lambda _: stage.connection.close(CloseCode.TOO_MANY_BAD_MESSAGES)
    stage.receive(text(b"one"), text(b"two"))
    assert stage.told == [b"one", "close"]
    stage.lose()


async def test_a_connection_that_was_closed_before_its_session_began_takes_texts_quietly() -> None:
    transport = FakeTransport()
    connection = Connection(transport, limits=LIMITS, buffer_bytes=1)
    connection.data_received(text(b"early"))
    connection.data_received(client(Opcode.BINARY, b"early"))
    transport.fill()
    transport.drain()
    assert transport.take() == b""


# On a real socket


def on_a_socket(
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
    play: Callable[[Connection, RecordingConversation, socket.socket], Coroutine[Any, Any, None]],
    *,
    buffer_bytes: int = 20_000,
) -> None:
    """Play with a connection on one end of a socket pair; the other end, whose buffers are small, is the client's."""

    async def run() -> None:
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
            end.setblocking(False)
        with ours, theirs:
            loop = asyncio.get_running_loop()
            transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, ours)
            connection = Connection(transport, limits=LIMITS, buffer_bytes=buffer_bytes)
            session = RecordingConversation()
            connection.start(session)
            try:
                await play(connection, session, theirs)
            finally:
                connection.abort()
                await eventually(lambda: connection.is_closed, "connection_lost")

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(run())


loops = pytest.mark.parametrize(
    "loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
LoopFactory = Callable[[], asyncio.AbstractEventLoop]


async def read_all(theirs: socket.socket, size: int) -> bytes:
    loop = asyncio.get_running_loop()
    got = bytearray()
    async with asyncio.timeout(PATIENCE):
        while len(got) < size:
            piece = await loop.sock_recv(theirs, 3_000)
            assert piece, f"ended after {len(got)} of {size} bytes"
            got += piece
    return bytes(got)


@loops
def test_what_does_not_fit_into_the_socket_at_once_arrives_complete_and_in_order(loop_factory: LoopFactory) -> None:
    async def play(connection: Connection, session: RecordingConversation, theirs: socket.socket) -> None:
        sent = b""
        for number in range(40):
            frames = text_frame(b"%06d" % number * 150)
            sent += frames
            connection.write(frames)
        assert connection.is_behind
        assert await read_all(theirs, len(sent)) == sent
        await eventually(lambda: not connection.is_behind, "resume_writing")
        assert session.told == ["behind", "writable"]
        connection.write(text_frame(b"later"))
        assert await read_all(theirs, 7) == text_frame(b"later")

    on_a_socket(loop_factory, play)


@loops
def test_a_single_piece_larger_than_every_buffer_arrives_complete(loop_factory: LoopFactory) -> None:
    async def play(connection: Connection, session: RecordingConversation, theirs: socket.socket) -> None:
        frames = text_frame(os.urandom(1_000_000))
        connection.write(frames)
        connection.write(text_frame(b"next"))
        assert await read_all(theirs, len(frames) + 6) == frames + text_frame(b"next")

    on_a_socket(loop_factory, play)


@loops
def test_a_piece_that_the_socket_does_not_take_whole_makes_the_connection_count_as_behind(
    loop_factory: LoopFactory,
) -> None:
    """However little waits in the transport. Afterwards its bound is what it was."""

    async def play(connection: Connection, session: RecordingConversation, theirs: socket.socket) -> None:
        pieces = 0
        while not connection.is_behind:
            connection.offer(text_frame(b"x" * 1_000), is_last=False)
            pieces += 1
        assert 0 < connection._transport.get_write_buffer_size() <= 1_004
        await read_all(theirs, pieces * 1_004)
        await eventually(lambda: not connection.is_behind, "resume_writing")
        written = 0
        while not connection._transport.get_write_buffer_size():
            connection.write(text_frame(b"x" * 1_000))
            written += 1
        assert not connection.is_behind
        await read_all(theirs, written * 1_004)

    on_a_socket(loop_factory, play)


@loops
def test_our_close_comes_after_all_that_was_written_before(loop_factory: LoopFactory) -> None:
    async def play(connection: Connection, session: RecordingConversation, theirs: socket.socket) -> None:
        frames = text_frame(b"x" * 200_000)
        connection.write(frames)
        connection.close(CloseCode.TOO_SLOW)
        assert await read_all(theirs, len(frames) + 4) == frames + close_frame(4508)
        await asyncio.get_running_loop().sock_sendall(theirs, client(Opcode.CLOSE, b"\x11\x9c"))
        await eventually(lambda: connection.is_closed, "the end after the client's answer")

    on_a_socket(loop_factory, play)


@loops
def test_a_client_that_vanishes_ends_the_session(loop_factory: LoopFactory) -> None:
    async def play(connection: Connection, session: RecordingConversation, theirs: socket.socket) -> None:
        theirs.close()
        for _ in range(3):
            connection.write(text_frame(b"into the void"))
        await eventually(lambda: connection.is_closed, "connection_lost")
        assert session.told == ["close"]

    on_a_socket(loop_factory, play)


@loops
def test_a_client_that_vanishes_while_behind_ends_the_session(loop_factory: LoopFactory) -> None:
    async def play(connection: Connection, session: RecordingConversation, theirs: socket.socket) -> None:
        connection.write(text_frame(b"x" * 300_000))
        assert connection.is_behind
        theirs.close()
        await eventually(lambda: connection.is_closed, "connection_lost")
        assert session.told == ["behind", "close"]

    on_a_socket(loop_factory, play)


@loops
def test_a_client_that_only_ends_its_sending_side_is_let_go(loop_factory: LoopFactory) -> None:
    async def play(connection: Connection, session: RecordingConversation, theirs: socket.socket) -> None:
        theirs.shutdown(socket.SHUT_WR)
        await eventually(lambda: connection.is_closed, "connection_lost")
        assert session.told == ["close"]

    on_a_socket(loop_factory, play)


@loops
def test_what_is_written_after_the_end_goes_nowhere(loop_factory: LoopFactory) -> None:
    """The number of a closed descriptor may be another client's by then, who would be given a stranger's frames."""

    async def play(connection: Connection, session: RecordingConversation, theirs: socket.socket) -> None:
        connection.write(text_frame(b"open"))
        assert await read_all(theirs, 6) == text_frame(b"open")
        connection.abort()
        connection.write(text_frame(b"closing"))
        connection.ping()
        connection.close(CloseCode.RESTART)
        await eventually(lambda: connection.is_closed, "connection_lost")
        with contextlib.suppress(RuntimeError):  # uvloop's transport refuses, asyncio's drops it
            connection.write(text_frame(b"closed"))
        connection.close(CloseCode.RESTART)
        assert theirs.recv(1_000) == b""

    on_a_socket(loop_factory, play)


@loops
def test_after_bad_frames_the_close_frame_arrives_and_the_connection_ends_at_once(loop_factory: LoopFactory) -> None:
    """Though much of the client's input is unread: closing the socket then would reset the connection."""

    async def play(connection: Connection, session: RecordingConversation, theirs: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 200_000)
        await loop.sock_sendall(theirs, client(Opcode.TEXT, b"\xff") + b"more of it" * 10_000)
        await eventually(lambda: session.code is not None, "the end of the session")
        async with asyncio.timeout(PATIENCE):
            got = await read_all(theirs, len(close_frame(1007, "a text message is UTF-8")))
            assert got == close_frame(1007, "a text message is UTF-8")
            assert await loop.sock_recv(theirs, 100) == b""
        assert not connection.is_closed, "it waits for the client's end"
        theirs.close()
        await eventually(lambda: connection.is_closed, "the end after the client's")

    on_a_socket(loop_factory, play)


@loops
def test_closing_and_aborting_what_is_gone_does_nothing(loop_factory: LoopFactory) -> None:
    async def play(connection: Connection, session: RecordingConversation, theirs: socket.socket) -> None:
        theirs.close()
        await eventually(lambda: connection.is_closed, "connection_lost")
        connection.close(CloseCode.RESTART)
        connection.abort()
        assert session.told == ["close"]

    on_a_socket(loop_factory, play)
