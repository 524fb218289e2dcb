"""One connection to Redis: how it is opened, the words it uses, and the answers it waits for."""

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import hiredis
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.maint_notifications import MaintNotificationsConfig

from gateway.feed.interfaces import Remembered
from publisher.transport.advice import error_text

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
# Errors of a Redis that does not tell how large a key is, to this user or at all. The key is read all the same.
UNMEASURED = ("NOPERM", "WRONGTYPE", "ERR")
# In a Cluster: another shard has the slot, or none has it at the moment.
MOVES = ("MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN")


# A state above one of these is not read. publish.lua keeps 10,000 parts, a field for each of 1,000 jobs, and at most 18
# MB between two of its checks; so somebody else wrote there. Redis cuts off a pub/sub client for which it holds 32 MB
# (client-output-buffer-limit), and each field costs the loop some 10 us.
MAX_STATE_FIELDS = 16_000
MAX_STATE_BYTES = 24 << 20
# The same for the hash with the memory's id, which has one short field.
MAX_MEMORY_FIELDS = 100
MAX_MEMORY_BYTES = 64 << 10
_DELETE_IT = "are read. Another program wrote there; delete the key"


class Load:
    """The state of a Redis channel on its way. Its size is known before it is asked for.

    Lives from the first question to the state, or until the Redis channel is let go.
    """

    __slots__ = ("fields", "is_sent", "kind", "redis_channel", "size", "unanswered", "weight")

    def __init__(self, kind: str, redis_channel: str) -> None:
        self.kind = kind
        """`load` for a Redis channel that is being subscribed, `check` for one that is, `memory` for the id."""
        self.redis_channel = redis_channel
        self.unanswered = 0
        """The number of questions for its size that are still to be answered."""
        self.fields: int | None = None
        """The number of fields; None: unknown, as where Redis does not tell this user."""
        self.size: int | None = None
        """In bytes, with what Redis needs to keep it; None: unknown."""
        self.is_sent = False
        """True once the state itself is asked for."""
        self.weight = 0
        """The bytes that it counts for while it is on its way."""


def size_questions(key: str) -> list[tuple[str, ...]]:
    """The commands that tell the fields and the bytes of a state. The samples bound what the second one costs Redis."""
    return [("HLEN", key), ("MEMORY", "USAGE", key, "SAMPLES", str(MAX_STATE_FIELDS))]


def why_too_large(
    fields: int | None, size: int | None, most_fields: int = MAX_STATE_FIELDS, most_bytes: int = MAX_STATE_BYTES
) -> str:
    """Why a state is not read, in words; empty if it is."""
    if (fields or 0) > most_fields:
        return f"its key has {fields} fields; at most {most_fields} {_DELETE_IT}"
    if (size or 0) > most_bytes:
        return f"its key has {size} bytes; at most {most_bytes} {_DELETE_IT}"
    return ""


class Expected(NamedTuple):
    """An answer that Redis owes. Answers come in the order of the commands."""

    kind: str
    """What was asked: a command of pub/sub, or one of `ServerFeed`'s and `Shard`'s own words."""
    redis_channel: str = ""
    """The Redis channel that it is about, if any."""
    then: Callable[[Any], None] | None = None
    """What to call with the answer, if anything."""
    load: Load | None = None
    """The load that it belongs to, if any."""


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


def shape(answer: Any) -> str:
    """What an answer is, for an error: without its values, which may be those of an event."""
    return error_text(answer) if isinstance(answer, hiredis.ReplyError) else f"a {type(answer).__name__}"


def read_state(answer: Any) -> Remembered:
    """Check the answer to HGETALL. Raises `hiredis.ProtocolError`: a bad answer taken for empty would hide events."""
    if not isinstance(answer, dict) or not {*map(type, answer), *map(type, answer.values())} <= {bytes}:
        raise hiredis.ProtocolError(f"HGETALL gives a map of texts, not {shape(answer)}")
    return answer


def end_if_cancelled() -> None:
    """Before Python 3.12 `asyncio.wait_for`, which redis-py connects with, may swallow a cancellation."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
