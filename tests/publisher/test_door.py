"""What comes out of the transport: errors that a job never sees, and what was thrown in from outside, which it does."""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

from publisher import aio, broadcast_to_project
from publisher.transport.door import door, is_from_outside
from tests.contract.processes import RedisServer

EVENT = {"type": "progress", "jobId": "j", "jobType": "audio", "progress": 1}


class greenlet_error(Exception):  # noqa: N801
    """As `greenlet.error`: it is no `RuntimeError`."""


greenlet_error.__module__ = "greenlet"


class TimeIsUp(Exception):
    """A time limit, as Celery's and RQ's: no `BaseException`."""


@pytest.fixture
def server(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> RedisServer:
    monkeypatch.setenv("REDIS_URL", redis_server.url)
    monkeypatch.setattr(door, "_logged_at", float("-inf"))
    return redis_server


@pytest.fixture
def once(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Have the next write to a socket of redis-py do something else first."""

    def do(something: Callable[[], object]) -> None:
        import redis.asyncio.connection
        import redis.connection

        waiting = [something]
        for module in (redis.connection, redis.asyncio.connection):
            real = module.AbstractConnection.send_packed_command

            def send(self: Any, *args: Any, real: Any = real, **options: Any) -> Any:
                if waiting:
                    waiting.pop()()
                return real(self, *args, **options)

            monkeypatch.setattr(module.AbstractConnection, "send_packed_command", send)

    return do


def fail_with(error: BaseException) -> Callable[[], object]:
    def fail() -> None:
        raise error

    return fail


BELOW = [
    greenlet_error("cannot switch"),
    RuntimeError("can't start new thread"),
    ValueError("a descriptor is too large"),
    OSError(24, "x"),
]


@pytest.mark.parametrize("error", BELOW, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_what_lies_below_redis_py_breaks_no_job_and_is_logged_once_a_minute(
    server: RedisServer, project: str, once: Any, caplog: pytest.LogCaptureFixture, error: Exception, is_async: bool
) -> None:
    def publish() -> int | None:
        if is_async:
            return asyncio.run(aio.broadcast_to_project(project, EVENT))
        return broadcast_to_project(project, EVENT)

    for _ in range(2):
        once(fail_with(error))
        assert publish() is not None, "it was not tried again with a new connection"
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert said == ["The connection to Redis broke in an unusual way; a new one is made"]


@pytest.fixture
def time_limit() -> Iterator[None]:
    def raise_it(_: int, __: FrameType | None) -> None:
        raise TimeIsUp

    before = signal.signal(signal.SIGUSR1, raise_it)
    yield
    signal.signal(signal.SIGUSR1, before)


def test_a_time_limit_of_a_signal_handler_is_the_jobs(
    server: RedisServer, project: str, once: Any, time_limit: None
) -> None:
    once(lambda: os.kill(os.getpid(), signal.SIGUSR1))
    with pytest.raises(TimeIsUp):
        broadcast_to_project(project, EVENT)
    assert broadcast_to_project(project, EVENT) is not None


def test_a_builtin_error_of_a_signal_handler_is_too() -> None:
    def handler(_: int, frame: FrameType | None) -> None:
        raise RuntimeError("time is up")

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(RuntimeError) as caught:
            os.kill(os.getpid(), signal.SIGUSR1)
        assert is_from_outside(caught.value)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_what_another_greenlet_throws_in_is_too(server: RedisServer, project: str, once: Any) -> None:
    """`gevent.Timeout(5, TimeIsUp)` raises it inside of gevent's socket. Here, no frame of its own module is on top."""
    error = TimeIsUp()
    code = compile("def throw(error): raise error", "gevent/_socket3.py", "exec")
    below: dict[str, Any] = {"__name__": "gevent._socket3"}
    exec(code, below)
    once(lambda: below["throw"](error))
    with pytest.raises(TimeIsUp):
        broadcast_to_project(project, EVENT)


def test_an_interrupt_is_the_jobs(server: RedisServer, project: str, once: Any) -> None:
    once(fail_with(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        broadcast_to_project(project, EVENT)


def test_without_poll_it_goes_on(server: RedisServer, project: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`eventlet.monkey_patch()` takes it away, after redis-py has looked for it."""
    import select

    monkeypatch.setattr(sys.modules["redis._parsers.hiredis"], "_HAS_POLL", True)
    monkeypatch.delattr(select, "poll")
    assert broadcast_to_project(project, EVENT) is not None


def test_sockets_of_this_process_are_pythons_own() -> None:
    """Else the tests above would say nothing of the usual case."""
    assert socket.socket.__module__ == "socket"
