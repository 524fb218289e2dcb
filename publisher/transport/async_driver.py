"""Does the steps of conversations in `async` code, over redis-py."""

import asyncio
import contextlib
import os
import threading
import time
import weakref
from collections.abc import AsyncGenerator, Sequence
from functools import lru_cache
from ipaddress import ip_address
from math import inf
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import redis.asyncio
from redis.exceptions import ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as NoAnswer

from publisher.publication import Publication
from publisher.settings import PublisherSettings
from publisher.transport import revoking, sending, sentinels, sync_driver
from publisher.transport.circuit import SEND_ERRORS, unreadable
from publisher.transport.conversation import Command, Conversation, Pause, Request, Returned, Step, Together
from publisher.transport.door import door
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


class _Servers(dict[str, _Server]):
    """The servers of one event loop, by URL. A connection belongs to the loop that opened it.

    Held by the loop alone: a loop that is thrown away, closed or not, takes its connections along. A table of ours,
    though keyed weakly, would keep both, because a connection refers to its loop.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pid = os.getpid()


_ATTRIBUTE = "_progress_publisher_servers"
_loops: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()  # that hold servers
# What a forked child finds at a loop of its parent. To close such a connection would take it out of the parent's epoll.
_of_parents: list[_Servers] = []


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
    if not threading.main_thread().is_alive() and _is_looked_up(request.url):
        # No thread starts any more, and a loop looks up names in threads.
        return sync_driver.ask(request)
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
    except SEND_ERRORS:
        raise
    except Exception as error:
        if isinstance(error, ValueError):
            sync_driver.client_of(request.url)  # raises it if the URL is wrong
        broken = door.broken(error)
        if broken is None:
            raise
        _servers_of(asyncio.get_running_loop()).pop(request.url, None)
        raise broken from error


@lru_cache(maxsize=16)
def _is_looked_up(url: str) -> bool:
    """Whether the host is a name."""
    host = urlsplit(url).hostname
    try:
        return bool(host) and not ip_address(str(host))
    except ValueError:
        return True


def _new_client(url: str) -> "redis.asyncio.Redis":
    return redis.asyncio.Redis.from_url(url, **redis_options(redis.asyncio.Redis))


def _servers_of(loop: asyncio.AbstractEventLoop) -> _Servers:
    held: _Servers | None = getattr(loop, _ATTRIBUTE, None)
    if held is not None and held.pid == os.getpid():
        return held
    if held is not None:
        _of_parents.append(held)
    for other in list(_loops):  # closed without `shutdown_asyncgens`, and still referred to by somebody
        if other.is_closed():
            _loops.discard(other)
            with contextlib.suppress(AttributeError):
                delattr(other, _ATTRIBUTE)
    servers = _Servers()
    setattr(loop, _ATTRIBUTE, servers)
    _loops.add(loop)
    return servers


async def _server(url: str) -> _Server:
    servers = _servers_of(asyncio.get_running_loop())
    if url not in servers:
        client = _new_client(url)
        server = _Server(client, _until_the_loop_ends(client), asyncio.Semaphore(MOST_AT_ONCE))
        # Stored before the first await: another task that asks meanwhile must not make a second client.
        servers[url] = server
        await anext(server.lifetime)
        return server
    return servers[url]


async def _until_the_loop_ends(client: "redis.asyncio.Redis") -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        with contextlib.suppress(AttributeError):
            delattr(asyncio.get_running_loop(), _ATTRIBUTE)
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
