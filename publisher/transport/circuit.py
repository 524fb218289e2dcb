"""While Redis is away: how long a publisher tries, when it stops asking, and what it logs."""

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Protocol

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ClusterDownError,
    ConnectionError,
    ReadOnlyError,
    RedisError,
    TimeoutError,
    TryAgainError,
)

from publisher.forks import in_each_child, is_before_uwsgi_forks, see
from publisher.publication import Publication
from publisher.redaction import redacted_redis_url
from publisher.settings import PublisherSettings
from publisher.transport.advice import with_advice

logger = logging.getLogger("publisher")

GIVE_UP_SECONDS = 5.0  # for one publication, all its tries together
RETRY_DELAYS_SECONDS = (0.05, 0.1, 0.2, 0.4, 0.8)
MOST_REDIRECTIONS = 3  # followed at once. Nodes may disagree about a slot for a while
PROBE_PAUSE_SECONDS = 0.1
MOST_PROBE_PAUSE_SECONDS = 0.5
# While the circuit is open, an event may wait GRACE_SECONDS for a probe that is about to succeed, but only one event in
# GRACE_PAUSE_SECONDS. So a job is hardly slowed down, and an event just before Redis answers again is not lost.
GRACE_SECONDS = 0.25
GRACE_PAUSE_SECONDS = 4.0
UNPROBED_SECONDS = 30.0  # while no thread can probe
LOG_PAUSE_SECONDS = 60.0
MOST_TOLD = 200  # characters of an answer that makes no sense

# What sending may raise; the built-in ones come from redis-py when something answers that is no Redis.
SEND_ERRORS = (RedisError, AttributeError, IndexError, TypeError)


# Errors without a class of their own in redis-py, or in older versions of it.
_PASSING_CODES = ("NOREPLICAS ", "MISCONF ", "BUSY ", "TRYAGAIN ", "CLUSTERDOWN ", "MASTERDOWN ")


def is_worth_retrying(error: Exception) -> bool:
    """Whether the same request may succeed later: Redis is away, restarting, busy or failing over."""
    if isinstance(error, AuthenticationError | AuthorizationError):
        return False
    # In redis-py, MASTERDOWN is a subclass of CLUSTERDOWN.
    if isinstance(error, ConnectionError | TimeoutError | ReadOnlyError | ClusterDownError | TryAgainError):
        return True
    return isinstance(error, RedisError) and str(error).startswith(_PASSING_CODES)


def unreadable(answer: object) -> ConnectionError:
    """The error for an answer that makes no sense. Not `ValueError`: that means a mistake in the job."""
    return ConnectionError(f"an answer cannot be read: {str(answer)[:MOST_TOLD]}")


class NotAsked(ConnectionError):
    """The circuit is open: Redis did not answer a moment ago, so it was not asked again."""

    def __init__(self) -> None:
        super().__init__("it did not answer a moment ago, so it was not asked again")


class Redirected(ConnectionError):
    """Another node of the Cluster has the project now; it is asked at once."""


class Circuit:
    """Whether a Redis is worth asking. Lives as long as the process; shared by its threads and loops.

    A publication that was given up opens it. From then on one thread asks for all, until Redis answers; the events that
    come meanwhile are given up at once, so that a job with a thousand of them is delayed by the first one only.
    """

    def __init__(self) -> None:
        self._closed = threading.Event()
        self._closed.set()
        self._opening = threading.Lock()
        self._waited_at = float("-inf")
        self._open_until = float("inf")

    @property
    def is_open(self) -> bool:
        if self._closed.is_set():
            return False
        if time.monotonic() >= self._open_until:
            self.close()
        return not self._closed.is_set()

    def open(self, probe: Callable[[], object], then: Callable[[], object] | None = None) -> None:
        """Stop asking Redis. A thread calls `probe` until it raises no error, then closes this and calls `then`."""
        with self._opening:  # if several threads give up at once, one starts the probe
            if self.is_open:
                return
            self._closed.clear()
        try:
            if is_before_uwsgi_forks():
                raise RuntimeError("no thread is started here")
            threading.Thread(target=self._ask, args=(probe, then), name="publisher-probe", daemon=True).start()
        except RuntimeError:  # there are too many threads, or the interpreter ends: now and then an event asks
            self._open_until = time.monotonic() + UNPROBED_SECONDS

    def close(self) -> None:
        """Redis is worth a try again."""
        self._open_until = float("inf")
        self._closed.set()

    def _ask(self, probe: Callable[[], object], then: Callable[[], object] | None) -> None:
        pause = PROBE_PAUSE_SECONDS
        while self.is_open:
            try:
                probe()
            except Exception as error:
                if not isinstance(error, SEND_ERRORS) or is_worth_retrying(error):
                    self._closed.wait(pause)
                    pause = min(2 * pause, MOST_PROBE_PAUSE_SECONDS)
                    continue
            self.close()
            if then is not None:
                then()

    def grace(self) -> float:
        """Seconds that an event may wait for a probe that is about to succeed; 0 if one waited a moment ago."""
        now = time.monotonic()
        if now - self._waited_at < GRACE_PAUSE_SECONDS:
            return 0.0
        self._waited_at = now
        return GRACE_SECONDS


circuits: dict[str, Circuit] = {}  # by URL; each node of a Cluster has its own
in_each_child(circuits.clear)  # a fork does not copy the probing thread, so a child finds out for itself


def circuit_of(url: str) -> Circuit:
    """The circuit of this URL, one for all publishers of the process."""
    see()
    return circuits.get(url) or circuits.setdefault(url, Circuit())


class Openable(Protocol):
    """A circuit, or several."""

    @property
    def is_open(self) -> bool: ...


class Patience:
    """How long one publication, or a batch of them, is tried. Lives as long as it."""

    def __init__(self, circuit: Openable, seconds: float | None = None) -> None:
        self.circuit = circuit
        self._most_seconds = GIVE_UP_SECONDS if seconds is None else seconds
        self._began = self._try_began = time.monotonic()
        self._longest_try = 0.0
        self._tries = 0  # that failed, without redirections
        self._redirections = 0

    def delay_after(self, error: Exception) -> float | None:
        """Seconds to wait before the next try, with jitter, or None to give up.

        The next try must end in time, too. It is expected to take as long as the longest try so far. So if connections
        are refused at once, there is time for a try at the very end; if nobody answers, there is not.
        """
        now = time.monotonic()
        self._longest_try = max(self._longest_try, now - self._try_began)
        if isinstance(error, Redirected) and self._redirections < MOST_REDIRECTIONS:
            self._redirections += 1
            delay = 0.0
        else:
            most = RETRY_DELAYS_SECONDS[min(self._tries, len(RETRY_DELAYS_SECONDS) - 1)]
            delay = most * random.uniform(0.5, 1)  # noqa: S311
            self._tries += 1
        # Another thread may have given this Redis up meanwhile.
        is_last = self.circuit.is_open or now - self._began + delay + self._longest_try > self._most_seconds
        if is_last or not is_worth_retrying(error):
            return None
        self._try_began = now + delay
        return delay

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return time.monotonic() - self._began

    @property
    def ends_at(self) -> float:
        """When no more is tried, on the monotonic clock."""
        return self._began + self._most_seconds


class Unsent:
    """Counts the events of this process that could not be sent, and says so once a minute. All publishers share one."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.count = 0
        self._counted = 0  # how many of them the log has reported
        self._logged_at = float("-inf")

    def report(
        self, first: Publication, events: int, settings: PublisherSettings, error: Exception, seconds: float
    ) -> None:
        """Count events that were given up after so many seconds; the log line names `first`."""
        self.count += events
        if time.monotonic() - self._logged_at < LOG_PAUSE_SECONDS:
            return
        news, self._counted = self.count - self._counted, self.count
        self._logged_at = time.monotonic()
        more = f" and {news - 1} more events" if news > 1 else ""
        logger.error(
            "Not sent after %.1f s: %s%s. Redis at %s: %s",
            seconds, first.summary, more, redacted_redis_url(settings.redis_url), with_advice(error),
        )  # fmt: skip

    def tell_the_rest(self) -> None:
        """Redis answers again: log how many lost events are in no log line yet."""
        news, self._counted = self.count - self._counted, self.count
        if news:
            logger.error("Redis answers again; %d more events were not sent", news)


class Unremembered:
    """Logs, once a minute, that events reach current viewers but are not remembered. All publishers share one."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.count = 0
        self._logged_at = float("-inf")

    def report(self, publication: Publication, settings: PublisherSettings, reason: str) -> None:
        self.count += 1
        if time.monotonic() - self._logged_at < LOG_PAUSE_SECONDS:
            return
        self._logged_at = time.monotonic()
        logger.error(
            "Sent, but not remembered for later viewers: %s (%d so far). Redis at %s: %s",
            publication.summary, self.count, redacted_redis_url(settings.redis_url), with_advice(reason),
        )  # fmt: skip


unsent = Unsent()
unremembered = Unremembered()
# What a parent has logged says nothing of its children.
in_each_child(unsent.reset)
in_each_child(unremembered.reset)
