"""A client that floods: what is read of it is bounded, whatever it sends, and after seconds it is closed.

Each flood has its control: without a bound the connection reads all of it.
"""

import asyncio
from types import SimpleNamespace

import pytest

from gateway.clients import allowance as allowance_module
from gateway.clients import connection as module
from gateway.clients import frames
from gateway.clients.allowance import Limits
from gateway.clients.connection import Connection
from gateway.clients.frames import Frame, Opcode
from gateway.codes import CloseCode
from tests.contract.deadlines import eventually
from tests.fakes import FakeTransport, RecordingConversation, frames_of

RATE, BURST, ABUSE_SECONDS = 50, 200, 0.5
LIMITED = Limits(max_bytes=1_000, rate=RATE, burst=BURST)
UNLIMITED = Limits(max_bytes=1_000, rate=1e9, burst=1_000_000)
COUNT = 900  # frames of a flood; fewer than the fragments that a message may have


def frame(opcode: Opcode, data: bytes = b"", *, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=True)


FLOODS = {
    "pings": [frame(Opcode.PING)] * COUNT,
    "pongs": [frame(Opcode.PONG, b"unasked")] * COUNT,
    "empty fragments": [
        frame(Opcode.TEXT, b"", fin=False),
        *[frame(Opcode.CONT, b"", fin=False)] * (COUNT - 1),
    ],
    "messages": [frame(Opcode.TEXT, b'{"type":"unsubscribe","projectId":"p"}')] * COUNT,
    "binary messages": [frame(Opcode.BINARY, b"\0")] * COUNT,
}


class Stage:
    """A connection between a fake transport and a session that writes down what it is told, at a time of its own."""

    def __init__(self, limits: Limits) -> None:
        self.transport = FakeTransport()
        self.connection = Connection(self.transport, limits=limits, buffer_bytes=10_000_000)
        self.session = RecordingConversation()
        self.connection.start(self.session)
        self.connection.ping()  # from here on messages are counted
        self.transport.take()
        self.now = 1_000.0
        self.frames_read = 0

    @property
    def is_waiting(self) -> bool:
        return "throttled" in self.session.told and self.transport.is_reading_paused

    async def later(self, seconds: float) -> None:
        """Let this time pass, and the connection's timer ring."""
        told = len(self.session.told)
        self.now += seconds
        await eventually(
            lambda: len(self.session.told) > told or not self.transport.is_reading_paused, "the end of the wait"
        )

    async def settled(self) -> None:
        """Wait until the connection handles no more of what came."""
        before = -1
        while before != self.frames_read:
            before = self.frames_read
            for _ in range(3):
                await asyncio.sleep(0)


@pytest.fixture
def limits() -> Limits:
    return LIMITED


@pytest.fixture
async def stage(limits: Limits, monkeypatch: pytest.MonkeyPatch) -> Stage:
    stage = Stage(limits)

    def counted(data: bytes, position: int, max_bytes: int) -> tuple[Frame | None, int]:
        stage.frames_read += 1
        return frames.read_frame(data, position, max_bytes)

    monkeypatch.setattr(allowance_module, "ABUSE_SECONDS", ABUSE_SECONDS)
    monkeypatch.setattr(module, "read_frame", counted)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: stage.now))
    return stage


def closes(stage: Stage) -> list[int]:
    frames = frames_of(bytes(stage.transport.written))
    return [int.from_bytes(data[:2], "big") for opcode, data in frames if opcode is Opcode.CLOSE]


@pytest.mark.parametrize("flood", FLOODS)
async def test_of_a_flood_the_burst_is_read_and_the_rest_waits(stage: Stage, flood: str) -> None:
    stage.connection.data_received(b"".join(FLOODS[flood]))
    await eventually(lambda: stage.is_waiting, "the wait")
    await stage.settled()
    assert stage.frames_read == BURST
    assert closes(stage) == []


@pytest.mark.parametrize("limits", [UNLIMITED])
@pytest.mark.parametrize("flood", FLOODS)
async def test_control_without_a_bound_a_flood_is_read_at_once(stage: Stage, flood: str) -> None:
    stage.connection.data_received(b"".join(FLOODS[flood]))
    await eventually(lambda: stage.frames_read == COUNT, "all of the flood")


async def test_bytes_that_dribble_in_count_though_they_complete_no_frame(stage: Stage) -> None:
    message = frame(Opcode.TEXT, b"x" * 900)
    for position in range(len(message)):
        if stage.is_waiting:
            break
        stage.connection.data_received(message[position : position + 1])
    assert stage.frames_read == BURST


@pytest.mark.parametrize("limits", [UNLIMITED])
async def test_control_without_a_bound_each_byte_that_dribbles_in_is_looked_at(stage: Stage) -> None:
    message = frame(Opcode.TEXT, b"x" * 900)
    for position in range(len(message)):
        stage.connection.data_received(message[position : position + 1])
    assert stage.frames_read == len(message)
    assert stage.session.told == [b"x" * 900]


@pytest.mark.parametrize("flood", FLOODS)
async def test_who_floods_for_seconds_is_closed_with_4400_and_read_no_more(stage: Stage, flood: str) -> None:
    stage.connection.data_received(b"".join(FLOODS[flood]))
    await eventually(lambda: stage.is_waiting, "the wait")
    began = stage.now
    while not closes(stage):
        assert stage.now - began <= ABUSE_SECONDS
        await stage.later(0.1)
    assert stage.now - began == pytest.approx(ABUSE_SECONDS, abs=0.2)
    assert closes(stage) == [CloseCode.PROTOCOL_ABUSED]
    assert stage.session.code == CloseCode.PROTOCOL_ABUSED
    assert BURST < stage.frames_read <= BURST + RATE * (stage.now - began)
    assert stage.transport.has_written_eof
    read = stage.frames_read
    for _ in range(3):
        stage.connection.data_received(b"".join(FLOODS[flood]))
    await stage.settled()
    assert stage.frames_read == read
    assert not stage.transport.is_reading_paused, "its end could not be seen"
    stage.connection.connection_lost(None)


async def test_a_burst_that_ends_is_heard_to_its_end_and_forgiven(stage: Stage) -> None:
    for _ in range(3):
        stage.session.told.clear()
        stage.connection.data_received(frame(Opcode.TEXT, b"x") * (BURST + 20))
        while stage.session.told.count(b"x") < BURST + 20:
            await stage.settled()
            if stage.transport.is_reading_paused:
                await stage.later(0.1)
        stage.now += 4.0
    assert closes(stage) == []


async def test_a_page_that_subscribes_to_everything_at_once_never_waits(stage: Stage) -> None:
    """100 projects, a ping and a pong for each: what the hook sends at most for them."""
    stage.connection.data_received(frame(Opcode.TEXT, b"subscribe") * 100)
    stage.connection.data_received(frame(Opcode.TEXT, b"ping") * 99)
    await eventually(lambda: len(stage.session.told) == 199, "all messages")
    for _ in range(1_000):
        stage.now += 25
        stage.connection.ping()
        stage.connection.data_received(frame(Opcode.PONG))
    assert "throttled" not in stage.session.told


async def test_a_quiet_connection_has_no_allowance_and_a_loud_one_loses_it_when_it_is_quiet_again(stage: Stage) -> None:
    for _ in range(10):
        stage.connection.data_received(frame(Opcode.TEXT, b"x") * (BURST // 4 - 1))
        assert stage.connection._allowance is None
        stage.connection.ping()
    stage.connection.data_received(frame(Opcode.PING) * (BURST + 1))
    await eventually(lambda: stage.is_waiting, "the wait")
    stage.connection.ping()
    assert stage.connection._allowance is not None
    await stage.later(25)
    stage.connection.ping()
    assert stage.connection._allowance is None


async def test_a_client_that_waits_is_served_and_its_full_socket_is_seen(stage: Stage) -> None:
    """Writing goes on; and neither the drained socket nor our close make it read early."""
    stage.connection.data_received(frame(Opcode.PING) * (BURST + 50))
    await eventually(lambda: stage.is_waiting, "the wait")
    stage.connection.write(b"\x81\x01x")
    assert stage.transport.written.endswith(b"\x81\x01x")
    stage.transport.fill()
    stage.transport.drain()
    assert stage.transport.is_reading_paused
    assert stage.session.told[-2:] == ["behind", "writable"]
    stage.connection.close(CloseCode.RESTART)
    assert stage.transport.is_reading_paused
    await stage.settled()
    assert stage.frames_read == BURST
    stage.connection.connection_lost(None)


async def test_the_wait_of_a_client_that_is_behind_ends_with_the_drain(stage: Stage) -> None:
    stage.connection.data_received(frame(Opcode.TEXT, b"x") * (BURST + 1))
    await eventually(lambda: stage.is_waiting, "the wait")
    stage.transport.fill()
    stage.now += 10
    await asyncio.sleep(0.3)
    assert stage.transport.is_reading_paused
    assert stage.session.told.count(b"x") == BURST
    stage.transport.drain()
    await eventually(lambda: stage.session.told.count(b"x") == BURST + 1, "the last message")
    assert not stage.transport.is_reading_paused


async def test_a_connection_that_is_lost_while_it_waits_says_no_more(stage: Stage) -> None:
    stage.connection.data_received(frame(Opcode.TEXT, b"x") * (BURST + 1))
    await eventually(lambda: stage.is_waiting, "the wait")
    stage.transport.abort()
    stage.connection.connection_lost(None)
    stage.now += 10
    await asyncio.sleep(0.3)
    assert stage.session.told[-1] == "close"
    assert stage.session.told.count(b"x") == BURST


async def test_a_client_that_floods_instead_of_answering_our_close_is_not_read_to_the_end(stage: Stage) -> None:
    stage.connection.close(CloseCode.TOO_MANY_BAD_MESSAGES)
    stage.connection.data_received(b"".join(FLOODS["messages"]))
    await eventually(lambda: stage.transport.is_reading_paused, "the wait")
    await stage.settled()
    assert stage.frames_read == BURST
    stage.connection.connection_lost(None)
