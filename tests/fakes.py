"""Stand-ins for what a test does without: a socket, a session, the Redis side."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from gateway.clients.frames import Opcode, payloads
from gateway.clients.session import Session
from gateway.feed.interfaces import FeedState
from gateway.feed.trouble_log import Trouble
from gateway.operations.counters import FeedCounters
from gateway.projects.hub import Hub
from gateway.settings import Settings
from publisher.events import check_event, event_to_json
from publisher.names import job_field
from tests.simulation import SimulatedSocket, as_published


class FakeTransport(asyncio.Transport):
    """Keeps what is written. `fill` and `drain` play a client that does not read, and reads again."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.protocol: asyncio.BaseProtocol | None = None
        self.limits: tuple[int | None, int | None] = (None, None)
        self.is_reading_paused = False
        self.was_aborted = False
        self.has_written_eof = False
        self._is_closing = False
        self.capacity: int | None = None  # writes that fit until the buffer is full

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.limits = (high, low)

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: "bytes | bytearray | memoryview[Any]") -> None:
        assert not self._is_closing, "written after the end"
        assert not self.has_written_eof, "written after the end"
        self.written += data
        if self.capacity is not None:
            self.capacity -= 1
            if self.capacity == 0:
                self.fill()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.has_written_eof = True

    def fill(self) -> None:
        assert self.protocol is not None
        self.protocol.pause_writing()

    def drain(self) -> None:
        assert self.protocol is not None
        self.protocol.resume_writing()

    def pause_reading(self) -> None:
        self.is_reading_paused = True

    def resume_reading(self) -> None:
        self.is_reading_paused = False

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        self._is_closing = True

    def abort(self) -> None:
        self._is_closing = self.was_aborted = True

    def take(self) -> bytes:
        """What was written since the last call."""
        taken = bytes(self.written)
        self.written.clear()
        return taken


class RecordingConversation:
    """A session that writes down what it is told."""

    def __init__(self, answer: Callable[[bytes], None] | None = None) -> None:
        self.told: list[str | bytes] = []
        self.code: int | None = None  # of the close
        self.answer = answer

    def on_text(self, text: bytes) -> None:
        self.told.append(text)
        if self.answer is not None:
            self.answer(text)

    def on_binary(self) -> None:
        self.told.append("binary")

    def on_throttled(self) -> None:
        self.told.append("throttled")

    def on_behind(self) -> None:
        self.told.append("behind")

    def on_writable(self) -> None:
        self.told.append("writable")

    def on_close(self, code: int) -> None:
        self.told.append("close")
        self.code = code


class FakeFeed:
    """Keeps what the hub asks of it; the test calls the hub as the real feed would."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.round_trips: list[Callable[[], None]] = []
        self.lost_seconds: float | None = 0.0
        self.trouble: Trouble | None = None
        self.state = FeedState.DOWN
        self.counters = FeedCounters()

    def subscribe(self, channel: str) -> None:
        self.asked.append(("subscribe", channel))

    def unsubscribe(self, channel: str) -> None:
        self.asked.append(("unsubscribe", channel))

    def after_round_trip(self, channel: str, then: Callable[[], None]) -> None:
        self.round_trips.append(then)

    async def run(self) -> None: ...


def new_hub(**settings: Any) -> tuple[Hub, FakeFeed]:
    """A hub that is live, on a fake feed."""
    feed = FakeFeed()
    hub = Hub(Settings(**settings), lambda hub: feed)
    hub.on_live()
    return hub, feed


def lose(hub: Hub) -> None:
    """The feed is lost, with all that it was asked for."""
    hub.on_lost([project.redis_channel for project in hub._projects.values()])


class FakeClient:
    """A session on a fake socket, with what it was told since the last look."""

    def __init__(self, hub: Hub) -> None:
        self.socket = SimulatedSocket()
        self.session = self.socket.session = Session(hub, self.socket)
        self._read = 0

    def say(self, type: str, **fields: Any) -> None:
        self.session.on_text(json.dumps({"type": type} | fields).encode())

    def subscribe(self, project_id: str, **fields: Any) -> None:
        self.say("subscribe", projectId=project_id, **fields)

    def told(self) -> list[dict[str, Any]]:
        new, self._read = self.socket.written[self._read :], len(self.socket.written)
        return new

    def kinds(self) -> list[str]:
        return [message["type"] for message in self.told()]


def progress(job: str, percent: float, seq: int | None = None, **fields: Any) -> bytes:
    """An event as it stands on a Redis channel."""
    event = {"type": "progress", "jobId": job, "jobType": "audio", "progress": percent, "seq": seq}
    return as_published(event_to_json(check_event(event | fields)))


def state(*events: bytes, beginning: int = 1) -> dict[bytes, bytes]:
    """The hash that Redis remembers of a project after these events."""
    remembered = {b"from": str(beginning).encode()}
    for event in events:
        fields = json.loads(event)
        remembered[job_field(fields["jobId"], fields.get("sentenceId")).encode()] = event
        remembered[b"seq"] = str(fields["seq"]).encode()
    return remembered


def frames_of(data: bytes) -> list[tuple[Opcode, bytes]]:
    """A server's short frames, read by hand."""
    frames = []
    while data:
        length = data[1]
        assert length < 126, "a long frame; use `texts_of`"
        frames.append((Opcode(data[0] & 0x0F), data[2 : 2 + length]))
        data = data[2 + length :]
    return frames


def texts_of(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(payload) for payload in payloads(data)]
