"""A viewer: a WebSocket client that reads with deadlines and names what it waited for."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_socket
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin

from .deadlines import PATIENCE

Message = dict[str, Any]
Job = tuple[str, str | None]

EVENT_TYPES = ("progress", "job_complete", "job_failed")
END_TYPES = ("job_complete", "job_failed")


def is_event(message: Message) -> bool:
    return message["type"] in EVENT_TYPES


def is_end(message: Message) -> bool:
    return message["type"] in END_TYPES


def job_of(event: Message) -> Job:
    return event["jobId"], event.get("sentenceId")


class Client:
    """One open connection. `received` keeps every message in the order of arrival."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.received: list[Message] = []

    async def send(self, type_: str, **fields: object) -> None:
        await self.socket.send(json.dumps({"type": type_, **fields}))

    async def send_raw(self, data: str | bytes, *, text: bool | None = None) -> None:
        """Any text or bytes at all; `text=True` sends bytes in a text frame."""
        await self.socket.send(data, text=text)

    async def next(self, what: str = "any message", within: float = PATIENCE) -> Message:
        try:
            async with asyncio.timeout(within):
                text = await self.socket.recv()
        except TimeoutError:
            raise AssertionError(f"waited {within} s for {what}; {self._last()}") from None
        except ConnectionClosed as closed:
            raise AssertionError(f"closed ({closed}) while waiting for {what}; {self._last()}") from None
        assert isinstance(text, str), f"a binary frame instead of {what}: {text[:80]!r}"
        message = json.loads(text)
        assert isinstance(message, dict), f"not a JSON object: {text[:80]}"
        assert isinstance(message.get("type"), str), f"a message without a type: {text[:80]}"
        self.received.append(message)
        return message

    async def expect(self, type_: str, within: float = PATIENCE) -> Message:
        """The very next message, which has to be of this type."""
        message = await self.next(type_, within)
        assert message["type"] == type_, f"{type_} was due, this came: {message}"
        return message

    async def until(
        self, condition: Callable[[Message], bool], what: str, *, within: float = PATIENCE
    ) -> list[Message]:
        """All messages up to and with the first that meets the condition."""
        messages: list[Message] = []
        async with asyncio.timeout(within + PATIENCE):
            while not messages or not condition(messages[-1]):
                messages.append(await self.next(what, within))
        return messages

    async def until_job(self, job_id: str, *, within: float = PATIENCE) -> list[Message]:
        """All messages up to the first of a job: what came before a marker that was published last."""
        return await self.until(lambda message: message.get("jobId") == job_id, f"an event of {job_id}", within=within)

    async def until_type(self, type_: str, *, within: float = PATIENCE) -> list[Message]:
        return await self.until(lambda message: message["type"] == type_, type_, within=within)

    async def events(self, count: int, *, within: float = PATIENCE) -> list[Message]:
        """The next messages, each of which has to be an event."""
        messages = [await self.next(f"event {number + 1} of {count}", within) for number in range(count)]
        assert all(map(is_event, messages)), f"{count} events were due, these came: {messages}"
        return messages

    async def subscribe(self, project: str, since: int | None = None) -> Message:
        """Subscribes, and returns the answer, which has to come before anything else."""
        await self.send("subscribe", projectId=project, **({} if since is None else {"since": since}))
        answer = await self.expect("subscribed")
        assert answer["projectId"] == project
        return answer

    async def ping(self) -> list[Message]:
        """What had arrived before the answer: what the replica had sent by then."""
        await self.send("ping")
        return (await self.until_type("pong"))[:-1]

    async def error(self) -> Message:
        """The next message, an error of the contract's form."""
        message = await self.expect("error")
        assert message.keys() <= {"type", "code", "message", "projectId"}, message
        assert message["code"], message
        assert isinstance(message["code"], str), message
        assert message["message"], message
        assert isinstance(message["message"], str), message
        return message

    async def closed(self, within: float = PATIENCE) -> int:
        """Reads to the end of the connection and returns its close code."""
        try:
            async with asyncio.timeout(within):
                async for text in self.socket:
                    self.received.append(json.loads(text))
        except TimeoutError:
            raise AssertionError(f"waited {within} s for the connection to close; {self._last()}") from None
        except ConnectionClosed:
            pass
        code = self.socket.close_code
        assert code is not None
        return code

    def _last(self) -> str:
        return f"{len(self.received)} messages came, the last: {str(self.received[-1:])[:300]}"


@asynccontextmanager
async def dial(url: str, *, origin: str | None = None) -> AsyncIterator[Client]:
    """An open connection, before anything was read from it."""
    socket = await open_socket(
        url,
        origin=None if origin is None else Origin(origin),
        proxy=None,
        ping_interval=None,
        close_timeout=1,
        max_size=None,
        max_queue=None,
    )
    try:
        yield Client(socket)
    finally:
        await socket.close()


@asynccontextmanager
async def connect(url: str, *, origin: str | None = None) -> AsyncIterator[Client]:
    """An open connection that has said who it is."""
    async with dial(url, origin=origin) as client:
        await client.expect("connected")
        yield client


@asynccontextmanager
async def watching(url: str, project: str, since: int | None = None) -> AsyncIterator[Client]:
    """A connection that has subscribed to a project."""
    async with connect(url) as client:
        await client.subscribe(project, since)
        yield client


async def upgrade_status(url: str, *, origin: str | None = None) -> int:
    """The HTTP status that answers the upgrade: 101 where it is granted."""
    try:
        async with dial(url, origin=origin) as client:
            await client.expect("connected")
            return 101
    except InvalidStatus as refused:
        return refused.response.status_code
