"""A replica reads any frames without a crash, a traceback or a leak, and serves others meanwhile."""

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import Callable

import pytest

from .client import Client, watching
from .conftest import Launch
from .deadlines import eventually
from .events import progress
from .fuzzed import FRAMES_OF_A_CLIENT, Fuzzer
from .processes import PublisherProcess, RedisServer, Replica
from .raw import request
from .test_metrics import scrape

AT_ONCE = 20
PATIENCE = 60.0
MOST_LINES = 50
MOST_GROWTH_BYTES = 16 * 2**20


def descriptors(replica: Replica) -> int:
    return sum(process.num_fds() for process in replica.family())


async def play(port: int, fuzzer: Fuzzer) -> None:
    """One client: its handshake, its frames in pieces, and an end of any kind."""
    pieces, end = fuzzer.pieces(fuzzer.client()), fuzzer.random.choice(("reset", "end", "wait"))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    reading = None
    try:
        writer.write(request(port))
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        reading = asyncio.create_task(read_all(reader))
        with contextlib.suppress(OSError):  # the replica has closed it
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            if end == "wait":
                writer.write_eof()
                await reading
            elif end == "reset":
                sock: socket.socket = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    finally:
        writer.transport.abort()
        if reading is not None:
            reading.cancel()


async def read_all(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(OSError):
        while await reader.read(65_536):
            pass


async def fuzz(port: int, fuzzer: Fuzzer, frames: int) -> None:
    """Play as many clients as send this many frames, some at once."""
    clients = iter(range(frames // FRAMES_OF_A_CLIENT))

    async def player() -> None:
        for _ in clients:
            async with asyncio.timeout(PATIENCE):
                await play(port, fuzzer)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(player())


async def settled(replica: Replica) -> None:
    await eventually(lambda: scrape(replica.port)("connections") == 1, "all but the bystander to be gone", PATIENCE)


@pytest.mark.parametrize("frames", [20_000, pytest.param(1_000_000, marks=pytest.mark.soak)])
async def test_fuzzed_frames_cost_no_crash_no_log_and_no_memory(
    launch: Launch,
    own_redis: RedisServer,
    publisher_of: Callable[..., PublisherProcess],
    request: pytest.FixtureRequest,
    frames: int,
) -> None:
    seed = int(request.config.option.hypothesis_seed)
    fuzzer = Fuzzer(seed)
    # Without the allowance: so all frames are read.
    replica = launch(own_redis.url, message_rate=1e6, message_burst=10_000_000)
    publisher = publisher_of(own_redis.url)
    for number in range(20):
        publisher.seq(f"fuzz{number}", progress("job"))
    async with watching(replica.ws, "bystander") as bystander:
        await fuzz(replica.port, fuzzer, max(4_000, frames // 20))  # what is allocated once
        await settled(replica)
        before = descriptors(replica), replica.rss_bytes()
        fuzzing = asyncio.create_task(fuzz(replica.port, fuzzer, frames))
        events = 0
        while not fuzzing.done() or not events:
            await is_served(bystander, publisher, f"job{events}")
            events += 1
        await fuzzing
        await settled(replica)
        await is_served(bystander, publisher, "after")
        await eventually(lambda: descriptors(replica) <= before[0], "the descriptors to be closed", PATIENCE)
        grown = replica.rss_bytes() - before[1]
        lines = replica.log.count("\n")
        closes = scrape(replica.port).nonzero("connections_closed_total")
        figures = (
            f"seed {seed}: {frames:,} frames, memory {grown / 2**20:+.1f} MB, {lines} lines, {events} events, {closes}"
        )
        print(figures)
        assert replica.running(), figures
        assert grown < MOST_GROWTH_BYTES, figures
        assert lines <= MOST_LINES, figures
        assert "Traceback" not in replica.log, figures


async def is_served(bystander: Client, publisher: PublisherProcess, job: str) -> None:
    await asyncio.to_thread(publisher.seq, "bystander", progress(job))
    await bystander.until_job(job, within=PATIENCE)
    await asyncio.sleep(0.05)


def test_the_same_seed_makes_the_same_frames() -> None:
    seed = random.randrange(1_000_000)
    one, other = Fuzzer(seed), Fuzzer(seed)
    assert [one.pieces(one.client()) for _ in range(20)] == [other.pieces(other.client()) for _ in range(20)]
