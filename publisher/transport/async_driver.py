"""Does the steps of conversations in `async` code, over redis-py."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from math import inf
from typing import Any, NamedTuple

import redis.asyncio
from redis.exceptions import ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as NoAnswer

from publisher.publication import Publication
from publisher.settings import PublisherSettings
from publisher.transport import revoking, sending, sentinels
from publisher.transport.circuit import unreadable
from publisher.transport.conversation import Command, Conversation, Pause, Request, Returned, Step, Together
from publisher.transport.options import redis_options
from publisher.transport.routes import last_payload
from publisher.transport.sending import Sending
from publisher.transport.sentinels import Known
from publisher.transport.sync_driver import GET_CONNECTION, open_circuit, parts
from publisher.transport.url import RedisUrl

MOST_AT_ONCE = 16  # requests of a loop to one server; more would only wait in Redis


class _Server(NamedTuple):
    """How one event loop reaches one server. Lives as long as the loop, and is used by it only."""

    client: "redis.asyncio.Redis"
    lifetime: AsyncGenerator[None, None]
    """Suspended while the loop lives. The loop closes it when it ends (`shutdown_asyncgens`), and so the client."""
    places: asyncio.Semaphore
    """Thousands of requests at once would each open a connection. A silent server takes no place from the others."""


# A connection belongs to the loop that opened it. Threads with loops of their own each write their own entry.
_servers: dict[asyncio.AbstractEventLoop, dict[str, _Server]] = {}


async def send(
    settings: PublisherSettings,
    publications: Sequence[Publication],
    *,
    strict: bool = False,
    seconds: float | None = None,
) -> Sending:
    """Send checked events, in order; tries for 5 seconds, or `seconds`. Raises redis-py's `RedisError` if `strict`."""
    return await run(sending.send(settings, publications, strict=strict, seconds=seconds))


async def remembered(settings: PublisherSettings, key: str, field: str) -> bytes | None:
    """The last event that Redis remembers of a job. Asks once; raises redis-py's `RedisError`."""
    return await run(last_payload(settings, key, field))


async def revoke(settings: PublisherSettings, sub: str, revoked_at: int = 0) -> int:
    """Revoke a user, or repeat a revocation that Redis has lost. Asks once; raises redis-py's `RedisError`."""
    return await run(revoking.revoke(settings, sub, revoked_at))


async def ask_sentinels(url: RedisUrl) -> Known:
    """What all Sentinels know of the primary; raises redis-py's `ConnectionError` if none of them knows it."""
    return await run(sentinels.ask_all(url))


async def run(conversation: Conversation[Returned]) -> Returned:
    """Do step after step; returns what the conversation returns, raises what it raises."""
    try:
        step = next(conversation)
        while True:
            try:
                answer = await _do(step)
            except Exception as error:
                step = conversation.throw(error)
            else:
                step = conversation.send(answer)
    except StopIteration as end:
        returned: Returned = end.value
        return returned


async def _do(step: Step) -> Any:
    if isinstance(step, Request):
        return await _ask(step)
    if isinstance(step, Pause):
        return await asyncio.sleep(step.seconds)
    if isinstance(step, Together):
        return await asyncio.gather(*map(run, step.conversations))
    return open_circuit(step)


async def _ask(request: Request) -> list[Any]:
    try:
        async with asyncio.timeout(None if request.until == inf else request.until - time.monotonic()):
            if request.is_single:
                async with _new_client(request.url) as client:
                    return await _exchange(client.connection_pool, request.commands)
            server = await _server(request.url)
            async with server.places:
                return await _exchange(server.client.connection_pool, request.commands)
    except TimeoutError:
        raise NoAnswer("no answer in time") from None


def _new_client(url: str) -> "redis.asyncio.Redis":
    return redis.asyncio.Redis.from_url(url, **redis_options(redis.asyncio.Redis))


async def _server(url: str) -> _Server:
    loop = asyncio.get_running_loop()
    if loop not in _servers:
        # Forget loops that were closed without `shutdown_asyncgens`. Iterate over a copy, because other threads change
        # the dictionary.
        for other in [other for other in list(_servers) if other.is_closed()]:
            _servers.pop(other, None)
    servers = _servers.setdefault(loop, {})
    if url not in servers:
        client = _new_client(url)
        server = _Server(client, _until_the_loop_ends(client), asyncio.Semaphore(MOST_AT_ONCE))
        # Stored before the first await: another task that asks meanwhile must not make a second client.
        servers[url] = server
        await anext(server.lifetime)
    return servers[url]


async def _until_the_loop_ends(client: "redis.asyncio.Redis") -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        _servers.pop(asyncio.get_running_loop(), None)
        await client.aclose()


async def _exchange(pool: Any, commands: Sequence[Command]) -> list[Any]:
    """Send commands and read their answers: `sync_driver._exchange` with `await`s."""
    try:
        connection: Any = await pool.get_connection(*GET_CONNECTION)
    except ValueError as error:  # of an answer to AUTH
        raise unreadable(error) from None
    answers: list[Any] = []
    awaited = 0
    try:
        for part in parts(connection, commands):
            await connection.send_packed_command((b"".join(part),), check_health=False)
            answers += [await _answer(connection) for _ in range(awaited)]
            awaited = len(part)
        answers += [await _answer(connection) for _ in range(awaited)]
        is_replica = any(isinstance(answer, ReadOnlyError) for answer in answers)
        if is_replica:
            await connection.disconnect(nowait=True)
    except GeneratorExit:  # the coroutine was thrown away, and its loop may be closed: it must not await
        raise
    except BaseException:  # a cancellation, say: nobody else may read the answers that still come
        await connection.disconnect(nowait=True)
        await pool.release(connection)
        raise
    await pool.release(connection)
    if is_replica:  # after a failover the same name may lead to another server
        await pool.disconnect(inuse_connections=False)
    return answers


async def _answer(connection: Any) -> Any:
    """Read one answer. An error from Redis was read completely, so the connection can be kept."""
    try:
        return await connection.read_response(disconnect_on_error=False)  # `_exchange` does so
    except ResponseError as error:
        return error
    except ValueError as error:  # redis-py reads what MOVED and ASK say
        raise unreadable(error) from None
