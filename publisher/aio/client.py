"""Publishing from `async` code; the same function as in `publisher`, awaited."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Generator, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, cast
from weakref import WeakKeyDictionary

import redis.asyncio
from pydantic import BaseModel
from redis.exceptions import NoScriptError, ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as NoAnswer

from publisher.events import Event, event_or_none
from publisher.publication import SCRIPT, SCRIPT_SHA, Answer, Publication, where_remembered
from publisher.settings import PublisherSettings
from publisher.transport.circuit import SEND_ERRORS, NotAsked, circuit_of, unreadable
from publisher.transport.delivery import Delivery
from publisher.transport.options import SOCKET_TIMEOUT_SECONDS, redis_options
from publisher.transport.routes import Routes, Step, ask, circuit_for, routes_of
from publisher.transport.routes import publish as publish_by
from publisher.transport.sentinels import locate_async
from publisher.transport.sync_driver import probe
from publisher.transport.url import RedisUrl

# A connection belongs to the loop that opened it, so each loop has clients of its own: by URL, each held by an
# asynchronous generator, which the loop closes when it ends (`shutdown_asyncgens`, part of `asyncio.run`).
_Lifetime = AsyncGenerator["redis.asyncio.Redis", None]
MOST_AT_ONCE = 16  # more would only wait in Redis
_semaphores: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, asyncio.Semaphore]] = WeakKeyDictionary()
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
    publications = Publication.of_many(events, settings.namespace)
    return await publish(settings, publications, strict=strict)


async def last_event(project_id: str, job_id: str, sentence_id: str | None = None) -> Event | None:
    """The last event that Redis remembers of a job, or None; see `publisher.last_event`."""
    settings = PublisherSettings.from_environment()
    key, field = where_remembered(project_id, job_id, sentence_id, settings.namespace)
    await circuit_for(settings, key).wait_async()
    if routes := routes_of(settings.redis_url):
        (payload,) = await _play(ask(routes, key, "HMGET", key, field))
    else:
        client = await _client(settings.redis_url)
        try:
            (payload,) = await cast("Awaitable[list[bytes | None]]", client.hmget(key, [field]))
        except ValueError as error:
            raise unreadable(error) from None
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
    routes = routes_of(settings.redis_url)
    name = routes.circuit_name if routes else None
    options: dict[str, Any] = {"strict": strict, "seconds": seconds, "circuit_name": name}
    delivery = Delivery(settings, publications, probe=partial(probe, settings), **options)
    while batch := delivery.batch:
        try:
            if routes is None:
                client = await _client(settings.redis_url)
                await delivery.circuit.wait_async()
                async with asyncio.timeout(delivery.seconds_left), _places(settings.redis_url):
                    answers = await _send(client, batch, replay=settings.replay)
            else:
                answers = await _send_by(routes, delivery, batch, replay=settings.replay)
            delivery.take(answers)
        except SEND_ERRORS as error:
            await asyncio.sleep(delivery.delay_after(error))
        except TimeoutError:
            delivery.delay_after(NoAnswer("no answer in time"))
    return delivery


async def _send_by(routes: Routes, delivery: Delivery, batch: Sequence[Publication], *, replay: bool) -> list[Answer]:
    """Send a batch to the servers that have its projects."""
    if delivery.is_open:  # all that are needed: nobody is asked, not even where what is
        await delivery.circuit_for(batch[0]).wait_async()
    answers: list[Answer] = [NotAsked()] * len(batch)

    def has_time() -> bool:
        return delivery.seconds_left > SOCKET_TIMEOUT_SECONDS

    with contextlib.suppress(TimeoutError):  # what was taken until then stands in the answers
        async with asyncio.timeout(delivery.seconds_left):
            await _play(publish_by(routes, batch, answers, replay=replay, has_time=has_time))
    return answers


async def _play(steps: Generator[Step, Any, Any]) -> Any:
    """Do step after step; returns what they come to."""
    with contextlib.closing(steps):
        try:
            step = next(steps)
            while True:
                try:
                    answer = await _do(step)
                except SEND_ERRORS as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)
        except StopIteration as end:
            return end.value


async def _do(step: Step) -> Any:
    if isinstance(step, RedisUrl):
        return await locate_async(step)
    if step.circuit:
        await circuit_of(step.circuit).wait_async()
    client = await _client(step.url)
    async with _places(step.url), client.pipeline(transaction=False) as pipeline:
        for words in step.commands:
            pipeline.execute_command(*words)
        return await _execute(pipeline)


async def _execute(pipeline: Any) -> list[Any]:
    """The answers, errors in place."""
    try:
        answers: list[Any] = await pipeline.execute(raise_on_error=False)
    except ValueError as error:  # redis-py reads what MOVED and ASK say
        raise unreadable(error) from None
    return answers


def _places(url: str) -> asyncio.Semaphore:
    """How many publications of a loop are on their way to a server at once: thousands would each open a connection of
    their own. Each server has its own, so that one that is silent takes none from the others."""
    semaphores = _semaphores.setdefault(asyncio.get_running_loop(), {})
    if url not in semaphores:
        semaphores[url] = asyncio.Semaphore(MOST_AT_ONCE)
    return semaphores[url]


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
            pipeline.evalsha(SCRIPT_SHA, *publication.script_arguments)
        else:
            pipeline.publish(publication.redis_channel, publication.payload)
    answers: list[Answer] = await _execute(pipeline)
    if any(isinstance(answer, ReadOnlyError) for answer in answers):
        # After a failover the same name may lead to another server.
        await client.connection_pool.disconnect(inuse_connections=False)
    if not replay:
        return [answer if isinstance(answer, Exception) else None for answer in answers]
    if unknown := [index for index, answer in enumerate(answers) if isinstance(answer, NoScriptError)]:
        # The first events since Redis started, or after SCRIPT FLUSH; EVAL loads the script for those that follow.
        first, *rest = unknown
        arguments = batch[first].script_arguments
        try:
            answers[first] = cast(int | None, await client.eval(SCRIPT, *arguments))
        except ResponseError as error:
            answers[first] = error
        except ValueError as error:
            answers[first] = unreadable(error)
        if rest:
            again = await _send(client, [batch[index] for index in rest], replay=True)
            for index, answer in zip(rest, again, strict=True):
                answers[index] = answer
    return answers
