"""Publishing from ordinary code: threads, forked workers, scripts."""

import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, cast

import redis
from pydantic import BaseModel
from redis.exceptions import NoScriptError, ReadOnlyError, ResponseError

from publisher.publication import CLIENT_OPTIONS, SCRIPT, SEND_ERRORS, Patience, Publication, unsent
from publisher.settings import PublisherSettings


def broadcast_to_project(project_id: str, event: BaseModel | Mapping[str, Any], *, strict: bool = False) -> int | None:
    """Publish one event of a job to everybody who watches the project; one round trip to Redis.

    `event` is one of this package's models or a mapping such as
    `{"type": "progress", "jobId": "job_7", "jobType": "audio", "progress": 40}`.

    Returns the event's `seq`, or None when the attempt rule refused it, when replay is off, or when it could not be
    sent: Redis is tried for at most 5 seconds, then the loss is logged and counted, so that a job is never broken
    because its viewers cannot be reached.

    Raises `ValueError` for a bad project id or event, before anything is sent, and with `strict=True` also redis-py's
    `RedisError` for an event that could not be sent.

    Safe in threads and after a fork: connections are kept in a pool that each process makes at first use.
    """
    settings = PublisherSettings.from_environment()
    publication = Publication.of(project_id, event, settings.namespace)
    client = _client(settings.redis_url)
    patience = Patience()
    while True:
        try:
            return _send(client, publication, replay=settings.replay)
        except SEND_ERRORS as error:
            delay = patience.delay_after(error)
            if delay is None:
                unsent.report(publication, settings, error, patience.seconds)
                if strict:
                    raise
                return None
            time.sleep(delay)


@lru_cache(maxsize=8)
def _client(url: str) -> redis.Redis:
    """The client of this URL. redis-py's pool notices a fork by itself and leaves the parent's sockets alone.

    RESP2 has all that a publisher needs, connects without a HELLO, and a connection that the pool drops after a fork
    is closed at once: with RESP3, handlers of notifications and their connection hold each other.
    """
    return redis.Redis.from_url(url, **CLIENT_OPTIONS | {"protocol": 2})


def _send(client: redis.Redis, publication: Publication, *, replay: bool) -> int | None:
    if not replay:
        client.publish(publication.channel, publication.payload)
        return None
    try:
        return _ask(client.connection_pool, publication.evalsha)
    except NoScriptError:  # the first event since Redis started, or SCRIPT FLUSH; EVAL also loads it
        return cast(int | None, client.eval(SCRIPT, *cast(tuple[Any, ...], publication.script_arguments)))


def _ask(pool: redis.ConnectionPool, command: bytes) -> int | None:
    """One command, one answer: redis-py's pool and connections, which know of forks, threads and stale sockets.

    Without its `execute_command`, which takes 20 us of Python more: for OpenTelemetry, and for retries that are off.
    """
    connection: Any = pool.get_connection()
    try:
        connection.send_packed_command((command,), check_health=False)
        return cast(int | None, connection.read_response())
    except ResponseError as answer:  # it was read to its end, so the connection can stay
        if isinstance(answer, ReadOnlyError):  # but after a failover the same name may lead to another server
            connection.disconnect()
        raise
    except BaseException:  # a KeyboardInterrupt, say: nobody else is to read the answer that may still come
        connection.disconnect()
        raise
    finally:
        pool.release(connection)
