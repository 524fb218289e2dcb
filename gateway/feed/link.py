"""One connection to Redis: how it is opened, what is said on it, and which answers are owed."""

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import hiredis
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.maint_notifications import MaintNotificationsConfig

from gateway.feed.observer import Remembered

CONNECT_SECONDS = 3.0


class Verbs(NamedTuple):
    """How one subscribes and publishes: in a Cluster, on the shard that owns the channel's slot."""

    subscribe: str = "SUBSCRIBE"
    unsubscribe: str = "UNSUBSCRIBE"
    publish: str = "PUBLISH"
    message: bytes = b"message"


PLAIN = Verbs()
SHARDED = Verbs("SSUBSCRIBE", "SUNSUBSCRIBE", "SPUBLISH", b"smessage")

# Errors that concern one project; all others, such as LOADING, concern the whole link.
REFUSALS = ("NOPERM", "WRONGTYPE")
# In a Cluster: the project belongs to another shard, or to none at the moment.
MOVES = ("MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN")


class Expected(NamedTuple):
    """An answer that Redis owes; answers come in the order of the commands."""

    kind: str
    redis_channel: str = ""
    then: Callable[[Any], None] | None = None


def pack(*words: str) -> bytes:
    """A command in Redis' protocol."""
    return cast(bytes, hiredis.pack_command(words))  # type: ignore[arg-type]


def connection_to(url: str) -> AbstractConnection:
    """A connection of redis-py that is not open yet; raises `ValueError` for a URL that is none."""
    pool = ConnectionPool.from_url(
        url,
        protocol=3,
        socket_timeout=CONNECT_SECONDS,
        socket_connect_timeout=CONNECT_SECONDS,
        driver_info=None,  # nobody reads it, and CLIENT would be one more right
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
    )
    return cast(AbstractConnection, pool.make_connection())  # type: ignore[no-untyped-call]


def is_replica(hello: Any) -> bool:
    """What the answer to HELLO tells of the server."""
    return isinstance(hello, dict) and hello.get(b"role") in (b"replica", b"slave")


def read_state(answer: Any) -> Remembered:
    """The answer to HGETALL; raises `hiredis.ProtocolError` for what is none: taken for empty, it would hide events."""
    if not isinstance(answer, dict) or not {*map(type, answer), *map(type, answer.values())} <= {bytes}:
        raise hiredis.ProtocolError(f"HGETALL gives a map of texts, not {answer!r:.80}")
    return answer


def end_if_cancelled() -> None:
    """Before Python 3.12 `asyncio.wait_for`, which redis-py connects with, may swallow a cancellation."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
