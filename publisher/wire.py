"""Sending from ordinary code, over redis-py. Loaded with the first event: redis-py takes long to load."""

# Loaded by the first connect otherwise, in the thread of tracked jobs: a process that forks in that moment has a child
# that never can load it.
import encodings.idna  # noqa: F401
import inspect
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, cast

import redis
from redis.exceptions import NoScriptError, ReadOnlyError, ResponseError

from publisher.delivery import Answer, Delivery
from publisher.names import channel_name, jobs_key
from publisher.outage import SEND_ERRORS, circuit_of
from publisher.publication import PART, SCRIPT, Publication
from publisher.redis_options import redis_options
from publisher.settings import PublisherSettings

# redis-py before 5.3 wants the name of a command here, which it does not use; later ones warn of it.
_command_name = inspect.signature(redis.ConnectionPool.get_connection).parameters["command_name"]
_GET_CONNECTION = ("EVALSHA",) if _command_name.default is inspect.Parameter.empty else ()


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


def remembered(settings: PublisherSettings, key: str, field: str) -> bytes | None:
    """What the script keeps of a job, asked for once."""
    circuit_of(settings.redis_url).wait()
    (payload,) = cast(list[bytes | None], _client(settings.redis_url).hmget(key, [field]))
    return payload


def probe(settings: PublisherSettings) -> None:
    """Raise what publishing would raise: a write that changes nothing, which a replica and a frozen server refuse."""
    client = _client(settings.redis_url)
    try:
        client.expire(jobs_key(channel_name("~probe", settings.namespace)), 1)
    except ReadOnlyError:
        client.connection_pool.disconnect()  # after a failover the same name may lead to another server
        raise


@lru_cache(maxsize=8)
def _client(url: str) -> redis.Redis:
    """The client of this URL. redis-py's pool notices a fork by itself and leaves the parent's sockets alone."""
    return redis.Redis.from_url(url, **redis_options(redis.Redis))


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
            if isinstance(error, ReadOnlyError):
                client.connection_pool.disconnect()
        if rest:
            again = _send(client, [batch[index] for index in rest], replay=True)
            for index, answer in zip(rest, again, strict=True):
                answers[index] = answer
    return answers


def _ask(pool: redis.ConnectionPool, commands: Sequence[bytes]) -> list[Answer]:
    """Commands and their answers, over redis-py's pool and connections, which know of forks, threads and stale sockets.

    Without its `execute_command`, which takes 20 us of Python more for each: for OpenTelemetry, and for retries that
    are off. While Redis works on one part, the next is on its way.
    """
    connection: Any = pool.get_connection(*_GET_CONNECTION)
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
