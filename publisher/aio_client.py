"""Publishing from `async` code; the same function as in `publisher`, awaited."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Iterable, Mapping, Sequence
from typing import Any, cast
from weakref import WeakKeyDictionary

import redis.asyncio
from pydantic import BaseModel
from redis.exceptions import NoScriptError, ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as NoAnswer

from publisher.delivery import Answer, Delivery
from publisher.events import Event, event_or_none
from publisher.outage import SEND_ERRORS, circuit_of
from publisher.publication import SCRIPT, SCRIPT_SHA, Publication, where_remembered
from publisher.redis_options import redis_options
from publisher.settings import PublisherSettings
from publisher.wire import probe

# A connection belongs to the loop that opened it, so each loop has clients of its own: by URL, each held by an
# asynchronous generator, which the loop closes when it ends (`shutdown_asyncgens`, part of `asyncio.run`).
_Lifetime = AsyncGenerator["redis.asyncio.Redis", None]
MOST_AT_ONCE = 16  # more would only wait in Redis
_semaphores: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()
_clients: dict[asyncio.AbstractEventLoop, dict[str, tuple["redis.asyncio.Redis", _Lifetime]]] = {}


async def broadcast_to_project(
    project_id: str, event: BaseModel | Mapping[str, Any], *, strict: bool = False
) -> int | None:
    """Publish one event of a job to everybody who watches the project; one round trip to Redis.

    See `publisher.broadcast_to_project`. Works in any event loop, and in one after another.
    """
    settings = PublisherSettings.from_environment()
    publication = Publication.of(project_id, event, settings.namespace)
    return (await publish(settings, [publication], strict=strict))[0]


async def broadcast_many(
    events: Iterable[tuple[str, BaseModel | Mapping[str, Any]]], *, strict: bool = False
) -> list[int | None]:
    """Publish events, `(project_id, event)` each, in one pipeline; see `publisher.broadcast_many`."""
    settings = PublisherSettings.from_environment()
    publications = [Publication.of(project_id, event, settings.namespace) for project_id, event in events]
    return await publish(settings, publications, strict=strict)


async def last_event(project_id: str, job_id: str, sentence_id: str | None = None) -> Event | None:
    """The last event that Redis remembers of a job, or None; see `publisher.last_event`."""
    settings = PublisherSettings.from_environment()
    key, field = where_remembered(project_id, job_id, sentence_id, settings.namespace)
    await circuit_of(settings.redis_url).wait_async()
    client = await _client(settings.redis_url)
    (payload,) = await cast("Awaitable[list[bytes | None]]", client.hmget(key, [field]))
    return event_or_none(payload)


async def publish(
    settings: PublisherSettings,
    publications: Sequence[Publication],
    *,
    strict: bool = False,
    seconds: float | None = None,
) -> list[int | None]:
    """Send what was checked, within 5 seconds or `seconds` in all; the rest is as in `broadcast_many`."""
    return (await deliver(settings, publications, strict=strict, seconds=seconds)).seqs


async def deliver(
    settings: PublisherSettings,
    publications: Sequence[Publication],
    *,
    strict: bool = False,
    seconds: float | None = None,
) -> Delivery:
    """Send what was checked, in order; tries for 5 seconds, or `seconds`, in all."""
    delivery = Delivery(settings, publications, strict=strict, seconds=seconds, probe=lambda: probe(settings))
    client = await _client(settings.redis_url)
    while batch := delivery.batch:
        try:
            await delivery.circuit.wait_async()
            async with asyncio.timeout(delivery.seconds_left), _places():
                answers = await _send(client, batch, replay=settings.replay)
            delivery.take(answers)
        except SEND_ERRORS as error:
            await asyncio.sleep(delivery.delay_after(error))
        except TimeoutError:
            delivery.delay_after(NoAnswer("no answer in time"))
    return delivery


def _places() -> asyncio.Semaphore:
    """How many publications of a loop are on their way at once: thousands would each open a connection of their own."""
    loop = asyncio.get_running_loop()
    if loop not in _semaphores:
        _semaphores[loop] = asyncio.Semaphore(MOST_AT_ONCE)
    return _semaphores[loop]


async def _client(url: str) -> "redis.asyncio.Redis":
    loop = asyncio.get_running_loop()
    if loop not in _clients:
        # Closed by hand, without shutdown_asyncgens. The list is for loops in other threads, which do the same.
        for other in [other for other in list(_clients) if other.is_closed()]:
            _clients.pop(other, None)
    clients = _clients.setdefault(loop, {})
    if url not in clients:
        client = redis.asyncio.Redis.from_url(url, **redis_options(redis.asyncio.Redis))
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


async def _send(client: "redis.asyncio.Redis", batch: Sequence[Publication], *, replay: bool) -> list[Answer]:
    """Send a batch in one round trip, or two where Redis does not have the script yet; errors are returned in place."""
    pipeline = client.pipeline(transaction=False)
    for publication in batch:
        if replay:
            pipeline.evalsha(SCRIPT_SHA, *cast(tuple[Any, ...], publication.script_arguments))
        else:
            pipeline.publish(publication.channel, publication.payload)
    answers: list[Answer] = await pipeline.execute(raise_on_error=False)
    if any(isinstance(answer, ReadOnlyError) for answer in answers):
        # After a failover the same name may lead to another server.
        await client.connection_pool.disconnect(inuse_connections=False)
    if not replay:
        return [answer if isinstance(answer, Exception) else None for answer in answers]
    if unknown := [index for index, answer in enumerate(answers) if isinstance(answer, NoScriptError)]:
        # The first events since Redis started, or after SCRIPT FLUSH; EVAL loads the script for those that follow.
        first, *rest = unknown
        arguments = cast(tuple[Any, ...], batch[first].script_arguments)
        try:
            answers[first] = cast(int | None, await client.eval(SCRIPT, *arguments))
        except ResponseError as error:
            answers[first] = error
        if rest:
            again = await _send(client, [batch[index] for index in rest], replay=True)
            for index, answer in zip(rest, again, strict=True):
                answers[index] = answer
    return answers
