"""Does the steps of conversations in ordinary code, over redis-py. Loaded with the package: see `publisher.warm_up`."""

# The first connect, and the first loop that looks up a host, would load them.
import concurrent.futures.thread  # noqa: F401
import contextlib
import encodings.idna  # noqa: F401
import inspect
import select
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import redis
from redis.exceptions import ReadOnlyError, ResponseError

from publisher.forks import in_each_child, see
from publisher.publication import PART, Publication
from publisher.settings import PublisherSettings
from publisher.transport import revoking, sending, sentinels
from publisher.transport.circuit import SEND_ERRORS, unreadable
from publisher.transport.conversation import Command, Conversation, Pause, Probe, Request, Returned, Step, Together
from publisher.transport.door import door
from publisher.transport.options import redis_options
from publisher.transport.routes import all_payloads, last_payload, routes_of
from publisher.transport.sending import Sending
from publisher.transport.sentinels import Address
from publisher.transport.url import RedisUrl

MOST_CLIENTS = 64

# redis-py before 5.3 wants the name of a command here, which it does not use; later ones warn of it.
_command_name = inspect.signature(redis.ConnectionPool.get_connection).parameters["command_name"]
GET_CONNECTION = ("EVALSHA",) if _command_name.default is inspect.Parameter.empty else ()


def send(settings: PublisherSettings, publications: Sequence[Publication], *, strict: bool = False) -> Sending:
    """Send checked events, in order; tries for 5 seconds. With `strict` it raises redis-py's `RedisError`."""
    return run(sending.send(settings, publications, strict=strict))


def remembered(settings: PublisherSettings, key: str, field: str) -> bytes | None:
    """The last event that Redis remembers of a job. Asks once; raises redis-py's `RedisError`."""
    return run(last_payload(settings, key, field))


def all_remembered(settings: PublisherSettings, key: str) -> dict[bytes, bytes]:
    """All that Redis remembers of a project: see `all_payloads`. Asks once; raises redis-py's `RedisError`."""
    return run(all_payloads(settings, key))


def revoke(settings: PublisherSettings, sub: str) -> int:
    """Revoke a user. Asks once; raises redis-py's `RedisError`."""
    return run(revoking.revoke(settings, sub))


def is_away(settings: PublisherSettings, key: str) -> bool:
    """Whether the circuit of the server that has the key is open."""
    return routes_of(settings.redis_url).circuit_for(key).is_open


def locate(url: RedisUrl) -> Address:
    """Where the primary is, by its Sentinels; raises redis-py's `ConnectionError` if none of them knows."""
    return run(sentinels.locate(url))


def check_url(url: str) -> None:
    """Raise `ValueError` for what is no URL of a Redis; asks nobody."""
    client_of(routes_of(url).some_server)


def run(conversation: Conversation[Returned]) -> Returned:
    """Do step after step; returns what the conversation returns, raises what it raises."""
    try:
        step = next(conversation)
        while True:
            try:
                answer = _do(step)
            except Exception as error:
                step = conversation.throw(error)
            else:
                step = conversation.send(answer)
    except StopIteration as end:
        returned: Returned = end.value
        return returned


def _do(step: Step) -> Any:
    if isinstance(step, Request):
        return ask(step)
    if isinstance(step, Pause):
        return time.sleep(step.seconds)
    if isinstance(step, Together):
        return [run(conversation) for conversation in step.conversations]
    return open_circuit(step)


def ask(request: Request) -> list[Any]:
    """The answers of a server, errors in place."""
    client = _new_client(request.url) if request.is_single else client_of(request.url)
    try:
        return _exchange(client.connection_pool, request.commands)
    except SEND_ERRORS:
        raise
    except Exception as error:
        broken = door.broken(error)
        if broken is None:
            raise
        _clients.forget(request.url)
        raise broken from error
    finally:
        if request.is_single:
            with contextlib.suppress(Exception):
                client.close()


def open_circuit(step: Probe) -> None:
    """In a thread, for both drivers."""
    step.circuit.open(lambda: run(step.conversation()), step.then)


class _Clients:
    """The clients of this process, by URL, each with a pool of connections.

    redis-py's pool notices a fork by itself, but a thread of the parent may have held a lock of it. So a child makes
    clients of its own. Its copies of the parent's sockets are closed, and nothing is written to them.

    A socket of gevent belongs to the thread that connected it: another one gets `greenlet.error`. With such sockets
    each thread of the system has clients of its own, which end with it.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._of_all: dict[str, redis.Redis] = {}
        self._of_threads: Any = None

    def get(self, url: str) -> redis.Redis:
        clients = self._here()
        if client := clients.get(url):
            return client
        while len(clients) >= MOST_CLIENTS:  # servers come and go
            clients.pop(next(iter(list(clients))), None)
        return clients.setdefault(url, _new_client(url))

    def forget(self, url: str) -> None:
        """Make a new client for the next request. Who uses this one goes on with it."""
        self._here().pop(url, None)

    def _here(self) -> dict[str, redis.Redis]:
        if not socket.socket.__module__.startswith("gevent"):
            return self._of_all
        if self._of_threads is None:
            self._of_threads = sys.modules["gevent.monkey"].get_original("_thread", "_local")()
        clients: dict[str, redis.Redis] = self._of_threads.__dict__
        return clients


_clients = _Clients()
in_each_child(_clients.reset)


def client_of(url: str) -> redis.Redis:
    """The client of one server, for this process."""
    see()
    if not hasattr(select, "poll"):
        _do_without_poll()
    return _clients.get(url)


def _do_without_poll() -> None:
    """`eventlet.monkey_patch()` takes `select.poll` away, also from a redis-py (8.1) that has looked for it already."""
    parsers = sys.modules.get("redis._parsers.hiredis")
    if getattr(parsers, "_HAS_POLL", False):
        parsers._HAS_POLL = False  # type: ignore[union-attr]


def _new_client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, **redis_options(redis.Redis))


def _exchange(pool: redis.ConnectionPool, commands: Sequence[Command]) -> list[Any]:
    """Send commands and read their answers, over redis-py's pool, which knows of forks, threads and stale sockets.

    Without its `execute_command`, which takes 20 us more for each. While Redis works on one part, the next is on its
    way. The same as in `async_driver`, without the `await`s.
    """
    try:
        connection: Any = pool.get_connection(*GET_CONNECTION)
    except ValueError as error:  # of an answer to AUTH
        raise unreadable(error) from None
    answers: list[Any] = []
    awaited = 0
    try:
        for part in parts(connection, commands):
            connection.send_packed_command((b"".join(part),), check_health=False)
            answers += [_answer(connection) for _ in range(awaited)]
            awaited = len(part)
        answers += [_answer(connection) for _ in range(awaited)]
        is_replica = any(isinstance(answer, ReadOnlyError) for answer in answers)
        if is_replica:
            connection.disconnect()
    except BaseException:  # a KeyboardInterrupt, say: nobody else may read the answers that still come
        with contextlib.suppress(Exception):
            connection.disconnect()
        raise
    finally:
        pool.release(connection)
    if is_replica:  # after a failover the same name may lead to another server
        pool.disconnect(inuse_connections=False)
    return answers


def _answer(connection: Any) -> Any:
    """One answer. An error that Redis says was read to its end, so the connection can stay."""
    try:
        return connection.read_response()
    except ResponseError as error:
        return error
    except ValueError as error:  # redis-py reads what MOVED and ASK say
        raise unreadable(error) from None


def parts(connection: Any, commands: Sequence[Command]) -> Iterator[list[bytes]]:
    """The commands in Redis' protocol, as many at once as are written at once."""
    for start in range(0, len(commands), PART):
        yield [
            command if isinstance(command, bytes) else b"".join(connection.pack_command(*command))
            for command in commands[start : start + PART]
        ]
