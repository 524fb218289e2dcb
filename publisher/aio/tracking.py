"""Tracked jobs in `async` code: `publisher.tracking` with `async with`."""

import asyncio
import contextlib
import contextvars
import functools
import inspect
import os
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Generator, Iterable
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from publisher.events import JobType
from publisher.job import BaseJob, BaseTrackJob, Item, Repeats, WillRetry
from publisher.job_state import JobState
from publisher.sender import WAIT_SECONDS, Ending, sender

Parameters = ParamSpec("Parameters")
Returned = TypeVar("Returned")

LOST_WAKE_UP_SECONDS = 0.1

_current: contextvars.ContextVar["AsyncTrackedJob"] = contextvars.ContextVar("publisher.aio.job")


class Turn:
    """Returned by methods that do not wait. Awaiting it yields to the loop once, and gives None."""

    def __await__(self) -> Generator[None, None, None]:
        yield


TURN: Awaitable[None] = Turn()
_NO_SEQ: Awaitable[int | None] = Turn()


class Sent:
    """An end on its way. Need not be awaited; awaiting it, also several times, gives its seq once it was tried."""

    def __init__(self, ending: Ending) -> None:
        self.ending = ending

    def __await__(self) -> Generator[Any, None, int | None]:
        return self._wait().__await__()

    async def _wait(self) -> int | None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # a child that a coroutine forked: asyncio ties the running loop to its process
            return sender.wait(self.ending)
        is_tried = loop.create_future()
        sender.call_when_done(self.ending, functools.partial(_resolve_soon, loop, is_tried))
        until = time.monotonic() + WAIT_SECONDS
        while not self.ending.is_done and time.monotonic() < until:
            # A process that is forked in a running loop shares the loop's epoll and wake-up socket with its parent. It
            # may read the byte that should wake this loop, or take the socket out of the epoll when it closes its copy.
            await asyncio.wait([is_tried], timeout=LOST_WAKE_UP_SECONDS)
        return self.ending.seq


def _resolve_soon(loop: asyncio.AbstractEventLoop, future: "asyncio.Future[None]") -> None:
    """In the sender's thread."""
    with contextlib.suppress(RuntimeError):  # the loop is closed, so nobody waits
        loop.call_soon_threadsafe(_resolve, future)


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


class AsyncTrackedJob(BaseJob[Awaitable[None], Awaitable[int | None]]):
    """A job, or a sentence of one, in `async` code. May also be used from threads that the code starts.

    Its methods do not wait. What they return may be awaited or not: `await job.complete()` waits until the end was
    sent, and gives its seq. Leaving the block waits for it in any case. The thread of `publisher.sender` sends, so an
    end arrives also when its task is cancelled or its loop is closed.
    """

    def __init__(self, state: JobState, *, will_retry: WillRetry = False, repeats: Repeats | None = None) -> None:
        super().__init__(state, will_retry=will_retry, repeats=repeats)
        self._sent: Sent | None = None
        self._tokens: list[contextvars.Token[AsyncTrackedJob]] = []

    def _progress_return(self) -> Awaitable[None]:
        return TURN

    def _end_return(self, ending: Ending | None) -> Awaitable[int | None]:
        if ending is None:
            return _NO_SEQ
        self._sent = Sent(ending)
        return self._sent

    def _part(self, state: JobState) -> Self:
        return type(self)(state, will_retry=self._will_retry, repeats=self._repeats)

    async def __aenter__(self) -> Self:
        self._tokens.append(_current.set(self))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with contextlib.suppress(ValueError):  # a generator was closed in another context
            _current.reset(self._tokens.pop())
        self._leave(error)
        # A coroutine that is thrown away cannot wait. In a forked child, the parent sends the end.
        if self._sent is None or isinstance(error, GeneratorExit) or os.getpid() != self._pid:
            return
        if isinstance(error, asyncio.CancelledError):
            sender.wait_briefly(self._sent.ending)
        try:
            await self._sent
        except asyncio.CancelledError:
            sender.wait_briefly(self._sent.ending)
            raise


class track_job(BaseTrackJob[AsyncTrackedJob]):  # noqa: N801 - reads as the verb it is
    """Publish the progress of one job: `async with track_job("project_1", "job_7", "audio") as job`.

    See `publisher.track_job`. As a decorator it is for `async` functions.
    """

    async def __aenter__(self) -> AsyncTrackedJob:
        self._entered.append(self._new_job(self._state()))
        return await self._entered[-1].__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._entered.pop().__aexit__(kind, error, traceback)

    def __call__(
        self, function: Callable[Parameters, Awaitable[Returned]]
    ) -> Callable[Parameters, Awaitable[Returned]]:
        if not inspect.iscoroutinefunction(function):
            raise TypeError(f"{function.__name__} is no `async def` function: use publisher.track_job")
        arguments = self._arguments_of(function)

        @functools.wraps(function)
        async def tracked(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Returned:
            async with self._new_job(self._state(arguments(*args, **kwargs))):
                return await function(*args, **kwargs)

        return tracked

    def _new_job(self, state: JobState) -> AsyncTrackedJob:
        job = AsyncTrackedJob(state, will_retry=self._will_retry)
        job._begin()
        return job


def current_job() -> AsyncTrackedJob:
    """The job whose block or decorated function this code runs in; raises `LookupError` outside of one."""
    try:
        return _current.get()
    except LookupError:
        raise LookupError("no job is tracked here; use this in `async with track_job(...)` or below it") from None


async def track(
    items: Iterable[Item] | AsyncIterable[Item],
    project_id: str,
    job_id: str,
    job_type: JobType,
    *,
    message: str | None = None,
    total: int | None = None,
    **options: Any,
) -> AsyncIterator[Item]:
    """Work through items as one job: `async for page in track(pages, "project_1", "job_7", "script"): ...`

    See `publisher.track`; `items` may also be asynchronous.
    """
    async with track_job(project_id, job_id, job_type, **options) as job:
        if isinstance(items, AsyncIterable):
            done = 0
            job.count(done, total, message)
            async for item in items:
                yield item
                done += 1
                job.count(done, total, message)
        else:
            for item in job.track(items, message, total=total):
                yield item
