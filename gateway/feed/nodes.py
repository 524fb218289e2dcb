"""Questions to the nodes of a Cluster, over the links of its shards or over connections of their own."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError, ResponseError

from gateway.feed.interfaces import Remembered
from gateway.feed.link import connection_to, read_state, size_questions, why_too_large
from gateway.feed.shard import Shard
from gateway.feed.slots import View, host_and_port, read_migrating
from publisher.names import jobs_key
from publisher.transport.url import RedisUrl

NODE_SECONDS = 1.0
MAX_ASKED = 5  # shards that are asked for the whole map while all is well


async def views_of(url: RedisUrl, shards: list[Shard], most: int) -> tuple[list[View], frozenset[int]]:
    """Return what nodes say about all slots, and the slots that any of them is giving away.

    Asks each shard on its own link: `most` of them for all slots, the others (in a large Cluster) for their own moves
    only. If none answers, asks the nodes that the URL names and those that were known, and raises the last one's error
    if none of these answers either.
    """
    live = [shard for shard in shards if shard.is_live]
    random.shuffle(live)
    asked = [*map(_view_of_shard, live[:most]), *map(_migrating_of, live[most:])]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    migrating = frozenset[int]().union(*(answer for answer in answers if isinstance(answer, frozenset)))
    if views := [answer for answer in answers if isinstance(answer, View)]:
        return views, migrating.union(*(view.migrating for view in views))
    # The nodes that the URL names may all be gone by now. One that left the Cluster still answers, without slots.
    known = [address for shard in shards if (address := host_and_port(shard.address)) not in url.hosts]
    addresses = [*url.hosts, *random.sample(known, min(MAX_ASKED, len(known)))]
    answers = await asyncio.gather(*(_view_of(url, *address) for address in addresses), return_exceptions=True)
    if views := [answer for answer in answers if isinstance(answer, View) and answer.spans]:
        return views, frozenset[int]().union(*(view.migrating for view in views))
    errors = [answer for answer in answers if isinstance(answer, Exception)]
    raise errors[-1] if errors else RedisError("the nodes own no slots")


async def _view_of_shard(shard: Shard) -> View:
    slots, nodes = await asyncio.gather(shard.ask("CLUSTER", "SLOTS"), shard.ask("CLUSTER", "NODES"))
    return View.of(host_and_port(shard.address)[0], slots, nodes)


async def _migrating_of(shard: Shard) -> frozenset[int]:
    return read_migrating(await shard.ask("CLUSTER", "NODES"))


async def _view_of(url: RedisUrl, host: str, port: int) -> View:
    """Ask one node on a connection of its own."""
    async with _connected(url, host, port) as connection:
        slots = await _answer_to(connection, "CLUSTER", "SLOTS")
        nodes = await _answer_to(connection, "CLUSTER", "NODES")
    return View.of(host, slots, nodes)


async def migrated_states(url: RedisUrl, address: str, redis_channels: list[str]) -> dict[str, Remembered | str]:
    """Read states at the node to which their slots migrate; of one that is too large, return why it is not read.

    Leaves out those that the node does not give.
    """
    states: dict[str, Remembered | str] = {}
    async with _connected(url, *host_and_port(address)) as connection:
        for redis_channel in redis_channels:
            key = jobs_key(redis_channel)
            sizes: list[int | None] = []  # the fields, then the bytes
            for words in size_questions(key):
                try:
                    size = await _answer_once(connection, *words)
                except ResponseError:  # it does not tell this user, or has no such key
                    size = None
                sizes.append(size if type(size) is int else None)
            with contextlib.suppress(ResponseError):
                why = why_too_large(sizes[0], sizes[1])
                states[redis_channel] = why or read_state(await _answer_once(connection, "HGETALL", key))
    return states


async def _answer_once(connection: AbstractConnection, *words: str) -> Any:
    """Ask for a key whose slot is being migrated to this node."""
    await _answer_to(connection, "ASKING")
    return await _answer_to(connection, *words)


@contextlib.asynccontextmanager
async def _connected(url: RedisUrl, host: str, port: int) -> AsyncIterator[AbstractConnection]:
    connection = connection_to(url.at(host, port))
    try:
        async with asyncio.timeout(NODE_SECONDS):
            await connection.connect()  # type: ignore[no-untyped-call]
            yield connection
    finally:
        await connection.disconnect(nowait=True)


async def _answer_to(connection: AbstractConnection, *words: str) -> Any:
    await connection.send_command(*words)
    return await connection.read_response()
