"""Publishing from ordinary code: threads, forked workers, scripts."""

import time
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

import redis
from pydantic import BaseModel
from redis.exceptions import NoScriptError, ReadOnlyError, ResponseError

from publisher.delivery import Answer, Delivery
from publisher.events import Event, event_or_none
from publisher.names import channel_name, jobs_key
from publisher.outage import SEND_ERRORS, circuit_of
from publisher.publication import CLIENT_OPTIONS, PART, SCRIPT, Publication, where_remembered
from publisher.settings import PublisherSettings


def broadcast_to_project(project_id: str, event: BaseModel | Mapping[str, Any], *, strict: bool = False) -> int | None:
    """Publish one event of a job to everybody who watches the project; one round trip to Redis.

    `event` is one of this package's models or a mapping such as
    `{"type": "progress", "jobId": "job_7", "jobType": "audio", "progress": 40}`.

    Returns the event's `seq`, or None when the attempt rule refused it, when replay is off, or when it could not be
    sent: Redis is tried for at most 5 seconds, then the loss is logged (once a minute) and counted, so that a job is
    never broken because its viewers cannot be reached. The events after that are not each tried for as long.

    Raises `ValueError` for a bad project id or event, before anything is sent, and with `strict=True` also redis-py's
    `RedisError` for an event that could not be sent.

    Safe in threads and after a fork: connections are kept in a pool that each process makes at first use.
    """
    settings = PublisherSettings.from_environment()
    publication = Publication.of(project_id, event, settings.namespace)
    return publish(settings, [publication], strict=strict)[0]


def broadcast_many(
    events: Iterable[tuple[str, BaseModel | Mapping[str, Any]]], *, strict: bool = False
) -> list[int | None]:
    """Publish events, `(project_id, event)` each, of any projects, in one pipeline: a round trip for a thousand.

    Returns what `broadcast_to_project` would return for each, in order. All are checked before any is sent: raises
    `ValueError` for the first that does not fit. Where Redis is lost in the middle, those after it are sent again, and
    the last of those before it may be sent twice.
    """
    settings = PublisherSettings.from_environment()
    publications = [Publication.of(project_id, event, settings.namespace) for project_id, event in events]
    return publish(settings, publications, strict=strict)


def last_event(project_id: str, job_id: str, sentence_id: str | None = None) -> Event | None:
    """The last event that Redis remembers of a job, or None: how it stands, and which attempt it is in.

    Asks once: raises redis-py's `RedisError` if Redis is away, `ValueError` for a bad id.
    """
    settings = PublisherSettings.from_environment()
    key, field = where_remembered(project_id, job_id, sentence_id, settings.namespace)
    circuit_of(settings.redis_url).wait()
    (payload,) = cast(list[bytes | None], _client(settings.redis_url).hmget(key, [field]))
    return event_or_none(payload)


def publish(
    settings: PublisherSettings, publications: Sequence[Publication], *, strict: bool = False
) -> list[int | None]:
    """Send what was checked; the rest is as in `broadcast_many`."""
    return deliver(settings, publications, strict=strict).seqs


def deliver(settings: PublisherSettings, publications: Sequence[Publication], *, strict: bool = False) -> Delivery:
    """Send what was checked, in order; tries for 5 seconds in all."""
    delivery = Delivery(settings, publications, strict=strict, probe=lambda: probe(settings))
    while batch := delivery.batch:
        try:
            delivery.circuit.wait()
            delivery.take(_send(_client(settings.redis_url), batch, replay=settings.replay))
        except SEND_ERRORS as error:
            time.sleep(delivery.delay_after(error))
    return delivery


def probe(settings: PublisherSettings) -> None:
    """Raise what publishing would raise: a write that changes nothing, which a replica and a frozen server refuse."""
    _client(settings.redis_url).expire(jobs_key(channel_name("~probe", settings.namespace)), 1)


@lru_cache(maxsize=8)
def _client(url: str) -> redis.Redis:
    """The client of this URL. redis-py's pool notices a fork by itself and leaves the parent's sockets alone.

    RESP2 has all that a publisher needs, connects without a HELLO, and a connection that the pool drops after a fork
    is closed at once: with RESP3, handlers of notifications and their connection hold each other.
    """
    return redis.Redis.from_url(url, **CLIENT_OPTIONS | {"protocol": 2})


def _send(client: redis.Redis, batch: Sequence[Publication], *, replay: bool) -> list[Answer]:
    """Send a batch in one round trip, or two where Redis does not have the script yet; errors are returned in place."""
    if not replay:
        pipeline = client.pipeline(transaction=False)
        for publication in batch:
            pipeline.publish(publication.channel, publication.payload)
        answers = pipeline.execute(raise_on_error=False)
        return [answer if isinstance(answer, Exception) else None for answer in answers]
    answers = _ask(client.connection_pool, [publication.evalsha for publication in batch])
    if unknown := [index for index, answer in enumerate(answers) if isinstance(answer, NoScriptError)]:
        # The first events since Redis started, or after SCRIPT FLUSH; EVAL loads the script for those that follow.
        first, *rest = unknown
        arguments = cast(tuple[Any, ...], batch[first].script_arguments)
        try:
            answers[first] = cast(int | None, client.eval(SCRIPT, *arguments))
        except ResponseError as error:
            answers[first] = error
        for index, answer in zip(rest, _send(client, [batch[index] for index in rest], replay=True), strict=True):
            answers[index] = answer
    return answers


def _ask(pool: redis.ConnectionPool, commands: Sequence[bytes]) -> list[Answer]:
    """Commands and their answers, over redis-py's pool and connections, which know of forks, threads and stale sockets.

    Without its `execute_command`, which takes 20 us of Python more for each: for OpenTelemetry, and for retries that
    are off. While Redis works on one part, the next is on its way.
    """
    connection: Any = pool.get_connection()
    answers: list[Answer] = []
    awaited = 0
    try:
        for start in range(0, len(commands), PART):
            part = commands[start : start + PART]
            connection.send_packed_command((b"".join(part),), check_health=False)
            answers += [_answer(connection) for _ in range(awaited)]
            awaited = len(part)
        answers += [_answer(connection) for _ in range(awaited)]
        if any(isinstance(answer, ReadOnlyError) for answer in answers):
            connection.disconnect()  # after a failover the same name may lead to another server
    except BaseException:  # a KeyboardInterrupt, say: nobody else is to read the answers that may still come
        connection.disconnect()
        raise
    finally:
        pool.release(connection)
    return answers


def _answer(connection: Any) -> Answer:
    """One answer; an error that Redis says was read to its end, so the connection can stay."""
    try:
        return cast(int | None, connection.read_response())
    except ResponseError as error:
        return error
