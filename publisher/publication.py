"""One event on its way to Redis, without the I/O: what is sent, how long it is tried, what is said when it fails."""

import hashlib
import logging
import random
import time
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, NamedTuple

from pydantic import BaseModel
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ConnectionError,
    MasterDownError,
    ReadOnlyError,
    RedisError,
    TimeoutError,
)

from publisher.events import Progress, check_event, event_to_json
from publisher.names import channel_name, check_project_id, job_field, jobs_key
from publisher.settings import PublisherSettings, mask_url

logger = logging.getLogger("publisher")

SCRIPT = files("publisher").joinpath("publish.lua").read_text()
SCRIPT_SHA = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()

MAX_JOBS = 1_000  # the jobs that are remembered of a project
TRIM_SLACK = 125  # trimming costs about a millisecond of Redis; this spreads it over 125 new jobs
TIME_TO_LIVE_SECONDS = 3_600

# Five seconds in all: no try begins later than 3 s, and the last one may wait for one connect and one answer. (A server
# that answers each step of a connect just in time can make it 6 s.)
LAST_TRY_SECONDS = 3.0
GIVE_UP_SECONDS = 5.0
SOCKET_TIMEOUT_SECONDS = 1.0
RETRY_DELAYS_SECONDS = (0.05, 0.1, 0.2, 0.4, 0.8)

# Options of every Redis client of this package; the time bound is kept here, so redis-py is not to retry by itself.
CLIENT_OPTIONS: dict[str, Any] = {
    "socket_timeout": SOCKET_TIMEOUT_SECONDS,
    "socket_connect_timeout": SOCKET_TIMEOUT_SECONDS,
    "retry": None,
    "protocol": 3,
    "driver_info": None,  # saves a round trip of each connect
}


def _bulk(word: bytes) -> bytes:
    """A word of a command in Redis' protocol."""
    return b"$%d\r\n%b\r\n" % (len(word), word)


# The parts of every EVALSHA that are the same: what stands before the key (12 words follow), and the last three.
_EVALSHA = b"*12\r\n" + _bulk(b"EVALSHA") + _bulk(SCRIPT_SHA.encode()) + _bulk(b"1")
_LIMITS = b"".join(_bulk(b"%d" % limit) for limit in (MAX_JOBS, TRIM_SLACK, TIME_TO_LIVE_SECONDS))

# What sending may raise; the built-in ones come from redis-py when something answers that is no Redis.
SEND_ERRORS = (RedisError, AttributeError, IndexError, TypeError)


class Publication(NamedTuple):
    """An event that was checked, as the arguments of publish.lua."""

    key: str
    channel: str
    payload: bytes
    field: str
    attempt: int | str
    progress: float | str
    summary: str
    """The event in a few words, for a log line: never its texts."""

    @classmethod
    def of(cls, project_id: str, event: BaseModel | Mapping[str, Any], namespace: str) -> "Publication":
        """Check both; raises pydantic's `ValidationError` (a `ValueError`) before anything is sent."""
        checked = check_event(event)
        channel = channel_name(check_project_id(project_id), namespace)
        if checked.seq is not None:  # the script gives a new one
            checked = checked.model_copy(update={"seq": None})
        return cls(
            key=jobs_key(channel),
            channel=channel,
            payload=event_to_json(checked),
            field=job_field(checked.job_id, checked.sentence_id),
            attempt="" if checked.attempt is None else checked.attempt,
            progress=checked.progress if isinstance(checked, Progress) else "",
            summary=f"{checked.type} of job {checked.job_id!r} in project {project_id!r}",
        )

    @property
    def evalsha(self) -> bytes:
        """The whole command, as it goes over the wire: 2 us where redis-py needs 5."""
        words = (
            self.key.encode(), self.channel.encode(), self.payload, self.field.encode(),
            str(self.attempt).encode(), str(self.progress).encode(),
        )  # fmt: skip
        return _EVALSHA + b"".join([_bulk(word) for word in words]) + _LIMITS

    @property
    def script_arguments(self) -> tuple[int, str, str, bytes, str, int | str, float | str, int, int, int]:
        """What follows the script, or its hash, in EVAL and EVALSHA."""
        return (
            1, self.key, self.channel, self.payload, self.field, self.attempt, self.progress,
            MAX_JOBS, TRIM_SLACK, TIME_TO_LIVE_SECONDS,
        )  # fmt: skip


def is_worth_retrying(error: Exception) -> bool:
    """True for a Redis that is away, restarting or failing over; false for one that says no."""
    if isinstance(error, AuthenticationError | AuthorizationError):
        return False
    return isinstance(error, ConnectionError | TimeoutError | ReadOnlyError | MasterDownError)


class Patience:
    """How long one publication is tried. Lives as long as that publication."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._delays = iter(RETRY_DELAYS_SECONDS)
        self._delay = 0.0

    def delay_after(self, error: Exception) -> float | None:
        """Seconds to wait before the next try, with jitter, or None to give up."""
        self._delay = next(self._delays, self._delay)
        delay = self._delay * random.uniform(0.5, 1)  # noqa: S311
        if not is_worth_retrying(error) or self.seconds + delay > LAST_TRY_SECONDS:
            return None
        return delay

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began


class Unsent:
    """Counts the events of this process that could not be sent; every publisher of the process shares one."""

    def __init__(self) -> None:
        self.count = 0

    def report(self, publication: Publication, settings: PublisherSettings, error: Exception, seconds: float) -> None:
        """Count and log one event that was given up."""
        self.count += 1
        logger.error(
            "Not sent after %.1f s: %s. Redis at %s: %s",
            seconds, publication.summary, mask_url(settings.redis_url), error,
        )  # fmt: skip


unsent = Unsent()
