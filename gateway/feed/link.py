"""One connection to Redis: how it is opened, the words it uses, and the answers it waits for."""

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import hiredis
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.maint_notifications import MaintNotificationsConfig

from gateway.feed.interfaces import Remembered

CONNECT_SECONDS = 3.0


class Verbs(NamedTuple):
    """The commands of pub/sub: in a Cluster, those of the shard that owns the slot of the Redis channel."""

    subscribe: str = "SUBSCRIBE"
    unsubscribe: str = "UNSUBSCRIBE"
    publish: str = "PUBLISH"
    message: bytes = b"message"


PLAIN = Verbs()
SHARDED = Verbs("SSUBSCRIBE", "SUNSUBSCRIBE", "SPUBLISH", b"smessage")

# Errors that concern one key or Redis channel. All others, such as LOADING, concern the whole link.
REFUSALS = ("NOPERM", "WRONGTYPE")
# In a Cluster: another shard has the slot, or none has it at the moment.
MOVES = ("MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN")


class Expected(NamedTuple):
    """An answer that Redis owes. Answers come in the order of the commands."""

    kind: str
    """What was asked: a command of pub/sub, or one of `ServerFeed`'s and `Shard`'s own words."""
    redis_channel: str = ""
    """The Redis channel that it is about, if any."""
    then: Callable[[Any], None] | None = None
    """What to call with the answer, if anything."""


def pack(*words: str) -> bytes:
    """A command in Redis' protocol."""
    return cast(bytes, hiredis.pack_command(words))  # type: ignore[arg-type]


def connection_to(url: str) -> AbstractConnection:
    """A connection of redis-py that is not open yet. Raises `ValueError` for a bad URL."""
    pool = ConnectionPool.from_url(
        url,
        protocol=3,
        socket_timeout=CONNECT_SECONDS,
        socket_connect_timeout=CONNECT_SECONDS,
        driver_info=None,  # it would need a right to CLIENT, and nobody reads it
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
    )
    return cast(AbstractConnection, pool.make_connection())  # type: ignore[no-untyped-call]


def is_replica(hello: Any) -> bool:
    """Read the role of the server from its answer to HELLO."""
    return isinstance(hello, dict) and hello.get(b"role") in (b"replica", b"slave")


def read_state(answer: Any) -> Remembered:
    """Check the answer to HGETALL. Raises `hiredis.ProtocolError`: a bad answer taken for empty would hide events."""
    if not isinstance(answer, dict) or not {*map(type, answer), *map(type, answer.values())} <= {bytes}:
        raise hiredis.ProtocolError(f"HGETALL gives a map of texts, not {answer!r:.80}")
    return answer


def end_if_cancelled() -> None:
    """Before Python 3.12 `asyncio.wait_for`, which redis-py connects with, may swallow a cancellation."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
