"""Clients that flood a replica are closed with 4400, whatever they send. Others are served meanwhile."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from .client import watching
from .conftest import Launch
from .deadlines import PATIENCE
from .events import progress
from .processes import PublisherProcess
from .raw import BINARY, CLOSE, PING, PONG, TEXT, RawClient, frame, raw_connect
from .test_metrics import scrape

RATE, BURST = 50, 200  # the defaults
LONG = 4 * PATIENCE
SUBSCRIBE = json.dumps({"type": "subscribe", "projectId": "flooded"}).encode()
UNSUBSCRIBE = json.dumps({"type": "unsubscribe", "projectId": "flooded"}).encode()
FLOODS = {
    "pings": frame(PING, b"") * 500,
    "pongs": frame(PONG, b"unasked") * 500,
    "empty fragments": frame(TEXT, b"", final=False) + frame(0, b"", final=False) * 800,
    "unsubscribes": frame(TEXT, UNSUBSCRIBE) * 500,
    "subscribes over the rate": frame(TEXT, SUBSCRIBE) * 500,
    "one byte in a packet": frame(PING, b"") * 500,
}


async def flood(client: RawClient, data: bytes, *, piece: int) -> None:
    """Send this again and again, until the replica ends the connection."""
    try:
        while True:
            for position in range(0, len(data), piece):
                client.writer.write(data[position : position + piece])
                await client.writer.drain()
                await asyncio.sleep(0)
    except ConnectionError:
        pass


@asynccontextmanager
async def flooding(port: int, name: str) -> AsyncIterator[RawClient]:
    async with raw_connect(port) as client:
        piece = 1 if name == "one byte in a packet" else 8_192
        task = asyncio.create_task(flood(client, FLOODS[name], piece=piece))
        try:
            yield client
        finally:
            task.cancel()
            await asyncio.wait([task])


async def closed_with(client: RawClient) -> tuple[int, int]:
    """The code of the close frame, and the number of frames before it."""
    for count in range(1_000_000):
        received = await client.frame("the close frame", LONG)
        if received.opcode == CLOSE:
            return int.from_bytes(received.payload[:2], "big"), count
    raise AssertionError("a million frames, and no close")


async def test_who_floods_is_closed_with_4400_and_the_others_are_served(
    launch: Launch, publisher: PublisherProcess, project: str
) -> None:
    replica = launch()
    began = time.monotonic()

    async def flood_to_the_end(name: str) -> tuple[int, int]:
        async with flooding(replica.port, name) as client:
            return await closed_with(client)

    async with watching(replica.ws, project) as bystander:
        floods = {name: asyncio.create_task(flood_to_the_end(name)) for name in FLOODS}
        events = 0
        while not all(task.done() for task in floods.values()):
            await asyncio.to_thread(publisher.seq, project, progress(f"job{events}"))
            await bystander.until_job(f"job{events}", within=LONG)
            events += 1
            await asyncio.sleep(0.1)
    seconds = time.monotonic() - began
    for name, task in floods.items():
        code, answers = task.result()
        assert code == 4400, name
        assert answers <= BURST + RATE * seconds + 5, f"{name}: the server's own frames are 5 at most"
    metrics = scrape(replica.port)
    assert metrics.nonzero("connections_closed_total")["4400"] == len(FLOODS)
    assert metrics("throttled_total") >= len(FLOODS)
    assert replica.log.count("\n") < 50


@pytest.mark.parametrize("name", ["pings", "unsubscribes", "one byte in a packet"])
async def test_control_without_the_allowance_a_flood_is_answered_as_fast_as_it_comes(launch: Launch, name: str) -> None:
    replica = launch(message_rate=1e6, message_burst=1_000_000)
    began = time.monotonic()
    answers = 0
    async with flooding(replica.port, name) as client:
        while answers <= 2 * (BURST + RATE * (time.monotonic() - began)):
            received = await client.frame("answers beyond every allowance", LONG)
            assert received.opcode in (PONG, TEXT, PING)
            answers += 1
            assert time.monotonic() - began < LONG, f"{answers} answers"


async def test_who_says_as_much_as_is_allowed_is_never_closed(launch: Launch) -> None:
    """A page that watches 100 projects: it subscribes, asks for a pong after each, and leaves them all at once."""
    replica = launch(subscribe_burst=100)
    async with raw_connect(replica.port) as client:
        for number in range(100):
            await client.send(frame(TEXT, json.dumps({"type": "subscribe", "projectId": f"p{number}"}).encode()))
            await client.send(frame(TEXT, b'{"type":"ping"}'))
        for number in range(100):
            await client.send(frame(TEXT, json.dumps({"type": "unsubscribe", "projectId": f"p{number}"}).encode()))
        answers: list[str] = []
        while answers.count("unsubscribed") < 100:
            answers.append(json.loads(await client.text("an answer"))["type"])
        assert answers.count("pong") == 100
        await client.send(frame(TEXT, b'{"type":"ping"}'))
        assert await client.text("a pong") == b'{"type":"pong"}'
    assert "4400" not in scrape(replica.port).nonzero("connections_closed_total")


async def test_binary_messages_count_as_bad_ones_first(launch: Launch) -> None:
    replica = launch()
    async with raw_connect(replica.port) as client:
        await client.send(frame(BINARY, b"\0") * 500)
        assert (await closed_with(client))[0] == 1008
