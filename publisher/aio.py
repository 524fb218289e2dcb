"""Publishing from `async` code; the same function as in `publisher`, awaited."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Any, cast

import redis.asyncio
from pydantic import BaseModel
from redis.exceptions import NoScriptError

from publisher.publication import (
    CLIENT_OPTIONS,
    GIVE_UP_SECONDS,
    SCRIPT,
    SCRIPT_SHA,
    SEND_ERRORS,
    Patience,
    Publication,
    unsent,
)
from publisher.settings import PublisherSettings

__all__ = ["broadcast_to_project"]

# A connection belongs to the loop that opened it, so each loop has clients of its own: by URL, each held by an
# asynchronous generator, which the loop closes when it ends (`shutdown_asyncgens`, part of `asyncio.run`).
_Lifetime = AsyncGenerator["redis.asyncio.Redis", None]
_clients: dict[asyncio.AbstractEventLoop, dict[str, tuple["redis.asyncio.Redis", _Lifetime]]] = {}


async def broadcast_to_project(
    project_id: str, event: BaseModel | Mapping[str, Any], *, strict: bool = False
) -> int | None:
    """Publish one event of a job to everybody who watches the project; one round trip to Redis.

    See `publisher.broadcast_to_project`. Works in any event loop, and in one after another.
    """
    settings = PublisherSettings.from_environment()
    publication = Publication.of(project_id, event, settings.namespace)
    client = await _client(settings.redis_url)
    patience = Patience()
    while True:
        try:
            async with asyncio.timeout(GIVE_UP_SECONDS - patience.seconds):
                return await _send(client, publication, replay=settings.replay)
        except (*SEND_ERRORS, TimeoutError) as error:
            delay = patience.delay_after(error)
            if delay is None:
                unsent.report(publication, settings, error, patience.seconds)
                if strict:
                    raise
                return None
            await asyncio.sleep(delay)


async def _client(url: str) -> "redis.asyncio.Redis":
    loop = asyncio.get_running_loop()
    if loop not in _clients:
        for other in [other for other in _clients if other.is_closed()]:  # by hand, without shutdown_asyncgens
            del _clients[other]
    clients = _clients.setdefault(loop, {})
    if url not in clients:
        client = redis.asyncio.Redis.from_url(url, **CLIENT_OPTIONS)
        lifetime = _until_the_loop_ends(client)
        # Stored before the first await: another task that asks meanwhile must not make a second client.
        clients[url] = (client, lifetime)
        await anext(lifetime)
    return clients[url][0]


async def _until_the_loop_ends(client: "redis.asyncio.Redis") -> _Lifetime:
    try:
        yield client
    finally:
        _clients.pop(asyncio.get_running_loop(), None)
        await client.aclose()


async def _send(client: "redis.asyncio.Redis", publication: Publication, *, replay: bool) -> int | None:
    if not replay:
        await client.publish(publication.channel, publication.payload)
        return None
    arguments = cast(tuple[Any, ...], publication.script_arguments)
    try:
        return cast(int | None, await client.evalsha(SCRIPT_SHA, *arguments))
    except NoScriptError:  # the first event since Redis started, or SCRIPT FLUSH; EVAL also loads it
        return cast(int | None, await client.eval(SCRIPT, *arguments))
