"""Questions to a node of a Cluster over a connection of their own."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from gateway.link import connection_to
from gateway.listener import Remembered
from gateway.slots import View, host_and_port
from publisher.names import jobs_key
from publisher.redis_url import RedisUrl

NODE_SECONDS = 1.0


async def view_of(url: RedisUrl, host: str, port: int) -> View:
    """What a node knows of its Cluster."""
    async with _connected(url, host, port) as connection:
        slots = await _ask(connection, "CLUSTER", "SLOTS")
        nodes = await _ask(connection, "CLUSTER", "NODES")
    return View.of(host, slots, nodes)


async def migrated_states(url: RedisUrl, address: str, channels: list[str]) -> dict[str, Remembered]:
    """The states of channels at a node to which their slots are being migrated; without those it does not give."""
    states: dict[str, Remembered] = {}
    async with _connected(url, *host_and_port(address)) as connection:
        for channel in channels:
            with contextlib.suppress(ResponseError):
                await _ask(connection, "ASKING")
                states[channel] = await _ask(connection, "HGETALL", jobs_key(channel))
    return states


@contextlib.asynccontextmanager
async def _connected(url: RedisUrl, host: str, port: int) -> AsyncIterator[AbstractConnection]:
    connection = connection_to(url.at(host, port))
    try:
        async with asyncio.timeout(NODE_SECONDS):
            await connection.connect()  # type: ignore[no-untyped-call]
            yield connection
    finally:
        await connection.disconnect(nowait=True)


async def _ask(connection: AbstractConnection, *words: str) -> Any:
    await connection.send_command(*words)
    return await connection.read_response()
