"""The one door through which an exception leaves the transport: none that is not redis-py's reaches a job.

redis-py makes errors of its own out of those of the system. Others come from what lies below it: gevent and eventlet
(`greenlet.error`), a wrapped socket, an interpreter that ends. An exception that was thrown in from outside passes: a
time limit of Celery or RQ, raised by a signal handler while redis-py waits, is the job's.
"""

import logging
import sys
import time
from collections.abc import Iterator
from types import FrameType

from redis.exceptions import ConnectionError

logger = logging.getLogger("publisher")

LOG_PAUSE_SECONDS = 60.0
# Packages whose exceptions come from below redis-py.
_BELOW = {"gevent", "greenlet", "eventlet", "ssl", "_ssl", "OpenSSL", "hiredis"} | sys.stdlib_module_names


class Broken(ConnectionError):
    """The transport raised something that is no error of redis-py's. The connection is thrown away."""


class Door:
    """Turns such exceptions into `Broken`, and logs them once a minute. One for all publishers of the process."""

    def __init__(self) -> None:
        self._logged_at = float("-inf")

    def broken(self, error: Exception) -> Broken | None:
        """The error for the publisher to handle; None if `error` is not the transport's and has to be raised."""
        if is_from_outside(error):
            return None
        if time.monotonic() - self._logged_at >= LOG_PAUSE_SECONDS:
            self._logged_at = time.monotonic()
            logger.warning("The connection to Redis broke in an unusual way; a new one is made", exc_info=error)
        return Broken(f"{type(error).__name__}: {error}")


def is_from_outside(error: BaseException) -> bool:
    """Whether a signal handler raised it, or another thread or greenlet threw it into this one."""
    frames = list(_frames(error))
    if any(_is_signal_handler(frame) for frame in frames):
        return True
    package = _package(type(error).__module__)
    # A class that the transport cannot know, raised by none of its own package: `gevent.Timeout(5, MyTimeout)`, say.
    return package not in _BELOW and (not frames or _package(frames[-1].f_globals.get("__name__", "")) != package)


def _frames(error: BaseException) -> Iterator[FrameType]:
    traceback = error.__traceback__
    while traceback is not None:
        yield traceback.tb_frame
        traceback = traceback.tb_next


def _is_signal_handler(frame: FrameType) -> bool:
    """A signal handler is called with the frame that it interrupts, which is the frame that called it."""
    below = frame.f_back
    if below is None:
        return False
    return any(
        value is below or (type(value) is tuple and any(one is below for one in value))
        for value in list(frame.f_locals.values())
    )


def _package(module: str) -> str:
    return module.partition(".")[0]


door = Door()
