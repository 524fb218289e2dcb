"""The server that the Autobahn test suite talks to: it echoes, and fails bad frames as the gateway does."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.autobahn.__main__ import ROOT
from tests.contract.deadlines import eventually
from tests.contract.processes import free_port, listens


@pytest.fixture
async def url() -> AsyncIterator[str]:
    port = free_port()
    server = subprocess.Popen([sys.executable, "-m", "tests.autobahn.echo", str(port)], cwd=ROOT)
    try:
        await eventually(lambda: listens(port), "the echo server", within=30)
        yield f"ws://127.0.0.1:{port}/"
    finally:
        server.terminate()
        await asyncio.to_thread(server.wait, 30)


async def test_texts_and_binary_messages_come_back_and_bad_text_ends_the_connection(url: str) -> None:
    async with asyncio.timeout(30), connect(url, compression=None, max_size=2**21) as client:
        for message in ("", "ä" * 100_000, b"", b"\xff" * 2**20):
            await client.send(message)
            assert await client.recv() == message
        await client.send([b"in ", b"pieces"])
        assert await client.recv() == b"in pieces"
        await client.send(b"\xff", text=True)
        with pytest.raises(ConnectionClosed):
            await client.recv()
        assert client.close_code == 1007
