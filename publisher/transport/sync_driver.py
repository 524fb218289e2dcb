"""Sending from ordinary code, over redis-py. Loaded with the first event: redis-py takes long to load."""

# Loaded by the first connect otherwise, in the thread of tracked jobs: a process that forks in that moment has a child
# that never can load it.
import encodings.idna  # noqa: F401
import inspect
import time
from collections.abc import Generator, Sequence
from functools import lru_cache, partial
from typing import Any, cast

import redis
from redis.exceptions import NoScriptError, ReadOnlyError, ResponseError

from publisher.publication import PART, SCRIPT, Answer, Publication
from publisher.settings import PublisherSettings
from publisher.transport.circuit import SEND_ERRORS, NotAsked, circuit_of, unreadable
from publisher.transport.delivery import Delivery
from publisher.transport.options import SOCKET_TIMEOUT_SECONDS, redis_options
from publisher.transport.routes import Routes, Step, Words, ask, circuit_for, publish, routes_of
from publisher.transport.sentinels import locate
from publisher.transport.url import RedisUrl

# redis-py before 5.3 wants the name of a command here, which it does not use; later ones warn of it.
_command_name = inspect.signature(redis.ConnectionPool.get_connection).parameters["command_name"]
_GET_CONNECTION = ("EVALSHA",) if _command_name.default is inspect.Parameter.empty else ()


def deliver(settings: PublisherSettings, publications: Sequence[Publication], *, strict: bool = False) -> Delivery:
    """Send what was checked, in order; tries for 5 seconds in all."""
    routes = routes_of(settings.redis_url)
    name = routes.circuit_name if routes else None
    delivery = Delivery(settings, publications, strict=strict, probe=partial(probe, settings), circuit_name=name)
    while batch := delivery.batch:
        try:
            if routes is None:
                delivery.circuit.wait()
                answers = _send(_client(settings.redis_url), batch, replay=settings.replay)
            else:
                answers = _send_by(routes, delivery, batch, replay=settings.replay)
            delivery.take(answers)
        except SEND_ERRORS as error:
            time.sleep(delivery.delay_after(error))
    return delivery


def remembered(settings: PublisherSettings, key: str, field: str) -> bytes | None:
    """What the script keeps of a job, asked for once."""
    circuit_for(settings, key).wait()
    (payload,) = cast(list[bytes | None], _say(settings.redis_url, key, "HMGET", key, field))
    return payload


def probe(settings: PublisherSettings, publication: Publication) -> None:
    """Raise what publishing would raise: a write that changes nothing, which a replica and a frozen server refuse."""
    _say(settings.redis_url, publication.key, "HDEL", publication.key, "~probe")


def check_url(url: str) -> None:
    """Raise `ValueError` for what is no URL of a Redis; asks nobody."""
    _client(routes.url.at("127.0.0.1", 1) if (routes := routes_of(url)) else url)


@lru_cache(maxsize=64)
def _client(url: str) -> redis.Redis:
    """The client of one server. redis-py's pool notices a fork by itself and leaves the parent's sockets alone."""
    return redis.Redis.from_url(url, **redis_options(redis.Redis))


def _say(url: str, key: str, *words: str) -> Any:
    """A command of one key, to the server that has it; raises what it says."""
    if routes := routes_of(url):
        return _play(ask(routes, key, *words))
    (answer,) = _ask(_client(url).connection_pool, [words])
    if isinstance(answer, Exception):
        raise answer
    return answer


def _send_by(routes: Routes, delivery: Delivery, batch: Sequence[Publication], *, replay: bool) -> list[Answer]:
    """Send a batch to the servers that have its projects."""
    if delivery.is_open:  # all that are needed: nobody is asked, not even where what is
        delivery.circuit_for(batch[0]).wait()
    answers: list[Answer] = [NotAsked()] * len(batch)
    _play(
        publish(routes, batch, answers, replay=replay, has_time=lambda: delivery.seconds_left > SOCKET_TIMEOUT_SECONDS)
    )
    return answers


def _play(steps: Generator[Step, Any, Any]) -> Any:
    """Do step after step; returns what they come to."""
    try:
        step = next(steps)
        while True:
            try:
                answer = _do(step)
            except SEND_ERRORS as error:
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as end:
        return end.value


def _do(step: Step) -> Any:
    if isinstance(step, RedisUrl):
        return locate(step)
    if step.circuit:
        circuit_of(step.circuit).wait()
    client = _client(step.url)
    try:
        return _ask(client.connection_pool, step.commands)
    except ValueError as error:  # of an answer to AUTH, say
        raise unreadable(error) from None


def _send(client: redis.Redis, batch: Sequence[Publication], *, replay: bool) -> list[Answer]:
    """Send a batch in one round trip, or two where Redis does not have the script yet; errors are returned in place."""
    if not replay:
        words = [("PUBLISH", publication.redis_channel, publication.payload) for publication in batch]
        answers = _ask(client.connection_pool, words)
        return [answer if isinstance(answer, Exception) else None for answer in answers]
    answers = _ask(client.connection_pool, [publication.evalsha for publication in batch])
    if unknown := [index for index, answer in enumerate(answers) if isinstance(answer, NoScriptError)]:
        # The first events since Redis started, or after SCRIPT FLUSH; EVAL loads the script for those that follow.
        first, *rest = unknown
        arguments = batch[first].script_arguments
        try:
            answers[first] = cast(int | None, client.eval(SCRIPT, *arguments))
        except ResponseError as error:
            answers[first] = error
            if isinstance(error, ReadOnlyError):
                client.connection_pool.disconnect()
        except ValueError as error:
            answers[first] = unreadable(error)
        if rest:
            again = _send(client, [batch[index] for index in rest], replay=True)
            for index, answer in zip(rest, again, strict=True):
                answers[index] = answer
    return answers


def _ask(pool: redis.ConnectionPool, commands: Sequence[bytes | Words]) -> list[Any]:
    """Commands and their answers, over redis-py's pool and connections, which know of forks, threads and stale sockets.

    Without its `execute_command`, which takes 20 us of Python more for each: for OpenTelemetry, and for retries that
    are off. While Redis works on one part, the next is on its way.
    """
    connection: Any = pool.get_connection(*_GET_CONNECTION)
    answers: list[Any] = []
    awaited = 0
    try:
        for start in range(0, len(commands), PART):
            part = [
                words if isinstance(words, bytes) else b"".join(connection.pack_command(*words))
                for words in commands[start : start + PART]
            ]
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
    except ValueError as error:  # redis-py reads what MOVED and ASK say
        raise unreadable(error) from None
