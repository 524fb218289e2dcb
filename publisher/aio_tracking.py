"""Tracked jobs in `async` code: the same as in `publisher.tracking`, with `async with`."""

import asyncio
import contextlib
import contextvars
import functools
import inspect
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterable, Sequence
from math import inf
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from publisher.aio_client import deliver
from publisher.events import JobType, Progress
from publisher.job import BaseJob, BaseTrackJob, EndOf, Item, Said, WillRetry, arguments_of
from publisher.job_state import JobState, Schedule
from publisher.outage import circuit_of
from publisher.publication import Publication
from publisher.settings import PublisherSettings

Parameters = ParamSpec("Parameters")
Returned = TypeVar("Returned")
Async = Callable[Parameters, Coroutine[Any, Any, Returned]]


class LoopSender:
    """Sends what the tracked jobs of one event loop say: one timer, however many they are.

    Lives as long as the loop, and is used by it only. What is on its way to Redis is a task; nothing is sent past it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._schedule = Schedule()
        self._timer: asyncio.TimerHandle | None = None
        self._wakes_at = inf
        self._tasks: set[asyncio.Task[Any]] = set()  # a loop forgets a task that nobody holds
        self._in_flight: dict[JobState, asyncio.Task[Any]] = {}

    def put(self, state: JobState) -> None:
        """After each change of a job."""
        self._schedule.put(state)
        self._set_timer()

    def send_now(self, states: Sequence[JobState], after: Sequence[JobState] = ()) -> "asyncio.Task[int | None]":
        """Send what jobs said last, once what is on its way of them, and of those of `after`, has arrived.

        Goes on also if nobody waits for it. Its result is the seq of the last event.
        """
        for state in states:
            self.put(state)  # it is not due any more: this task sends it
        before = {self._in_flight[state] for state in (*states, *after) if state in self._in_flight}
        return self._start(self._send(states, before), states)

    async def _send(self, states: Sequence[JobState], before: "set[asyncio.Task[Any]]") -> int | None:
        if before:
            await asyncio.wait(before)
        states = [state for state in states if not state.is_over]
        seqs = await self._deliver(states, _take(states)) if states else []
        return seqs[-1] if seqs else None

    async def _deliver(self, states: Sequence[JobState], publications: Sequence[Publication]) -> list[int | None]:
        is_sent = False
        try:
            delivery = await deliver(states[0].settings, publications)
            is_sent = not delivery.is_given_up
            return delivery.seqs
        finally:
            self._settle(states, is_sent=is_sent)

    def _settle(self, states: Sequence[JobState], *, is_sent: bool) -> None:
        self._schedule.settle(states, time.monotonic(), is_sent=is_sent)
        self._set_timer()

    def _start(self, work: Coroutine[Any, Any, Returned], states: Sequence[JobState]) -> "asyncio.Task[Returned]":
        task = self.loop.create_task(work)
        self._tasks.add(task)
        self._in_flight.update(dict.fromkeys(states, task))
        task.add_done_callback(lambda _: self._forget(task, states))
        return task

    def _forget(self, task: "asyncio.Task[Any]", states: Sequence[JobState]) -> None:
        self._tasks.discard(task)
        for state in states:
            if self._in_flight.get(state) is task:
                del self._in_flight[state]

    def _set_timer(self) -> None:
        due = self._schedule.next_due()
        if due < self._wakes_at:
            if self._timer is not None:
                self._timer.cancel()
            self._wakes_at = due
            self._timer = self.loop.call_later(max(0.0, due - time.monotonic()), self._on_timer)

    def _on_timer(self) -> None:
        self._timer, self._wakes_at = None, inf
        batches: dict[PublisherSettings, list[JobState]] = {}
        for state in self._schedule.pop_due(time.monotonic() + 0.001):  # a timer may come a little early
            batches.setdefault(state.settings, []).append(state)
        for settings, states in batches.items():
            publications = _take(states)
            if circuit_of(settings.redis_url).is_open:
                self._settle(states, is_sent=False)
            else:
                self._start(self._deliver(states, publications), states)
        self._set_timer()


def _take(states: Iterable[JobState]) -> list[Publication]:
    return [publication for state in states for publication in state.take()]


# By loop. A loop that has ended is dropped when the next one comes.
_senders: dict[asyncio.AbstractEventLoop, LoopSender] = {}


def sender_of(loop: asyncio.AbstractEventLoop) -> LoopSender:
    """The sender of a loop."""
    if loop not in _senders:
        for other in [other for other in _senders if other.is_closed()]:
            del _senders[other]
        _senders[loop] = LoopSender(loop)
    return _senders[loop]


_current: contextvars.ContextVar["AsyncTrackedJob"] = contextvars.ContextVar("publisher.aio.job")


class Turn:
    """An awaitable that need not be awaited: lets others run, and gives None."""

    def __await__(self) -> Generator[None, None, None]:
        yield


TURN: Awaitable[None] = Turn()
_NO_SEQ: Awaitable[int | None] = Turn()


class AsyncTrackedJob(BaseJob[Awaitable[None], Awaitable[int | None]]):
    """A job, or a sentence of one, in `async` code. May also be used from threads that the code starts.

    What its methods return may be awaited or not: `await job.complete()` waits until the end was sent, and gives its
    seq; leaving the block waits for it in any case.
    """

    def __init__(
        self,
        state: JobState,
        *,
        will_retry: WillRetry = False,
        is_silent: Callable[[], bool] | None = None,
        sender: LoopSender | None = None,
    ) -> None:
        super().__init__(state, will_retry=will_retry, is_silent=is_silent)
        self._last_words: asyncio.Task[int | None] | None = None
        self._sender = sender or sender_of(asyncio.get_running_loop())
        if not self._is_silent():
            self._begin()
        self._tokens: list[contextvars.Token[AsyncTrackedJob]] = []

    def _begin(self) -> None:
        self._in_the_loop(self._sender.put, self._state)

    def _say(self, progress: Progress) -> Awaitable[None]:
        self._in_the_loop(self._take_progress, progress)
        return TURN

    def _take_progress(self, progress: Progress) -> None:
        if self.is_ended:
            self._warn(f"progress {progress.progress:g}")
            return
        self._state.say(progress)
        self._sender.put(self._state)

    def _finish(self, end_of: EndOf) -> Awaitable[int | None]:
        end_of(self._state)  # raises for one that does not fit, in the caller's thread
        return self._in_the_loop(self._take_end, end_of) or _NO_SEQ

    def _take_end(self, end_of: EndOf) -> Awaitable[int | None]:
        if self.is_ended:
            self._warn(end_of(self._state).type)
            return _NO_SEQ
        parts = self._open_parts()
        for job in parts:
            job._state.finish(end_of(job._state))
        return self._send_last(parts)

    def _pause(self, message: str | None) -> Awaitable[int | None]:
        if message is not None:
            self._take_progress(self._state.check_progress(self.percent, message))
        parts = self._open_parts()
        for job in parts:
            job._state.leave()
        return self._send_last(parts)

    def _send_last(self, parts: "Sequence[BaseJob[Any, Any]]") -> Awaitable[int | None]:
        sentences = [job._state for job in self._sentences.values()]
        self._last_words = self._sender.send_now([job._state for job in parts], after=sentences)
        return asyncio.shield(self._last_words)

    def _in_the_loop(self, call: Callable[[Any], Said], argument: Any) -> Said | None:
        """Call at once in the loop, or soon from another thread, where nobody may touch what the loop uses."""
        loop = self._sender.loop
        if asyncio._get_running_loop() is loop:
            return call(argument)
        loop.call_soon_threadsafe(call, argument)
        return None

    def _say_nothing(self) -> Awaitable[None]:
        return TURN

    def _end_nothing(self) -> Awaitable[int | None]:
        return _NO_SEQ

    def _part(self, state: JobState) -> Self:
        options: dict[str, Any] = {"will_retry": self._will_retry, "is_silent": self._is_silent}
        return type(self)(state, sender=self._sender, **options)

    async def __aenter__(self) -> Self:
        self._tokens.append(_current.set(self))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with contextlib.suppress(ValueError):  # a generator that is closed in another context than it was begun in
            _current.reset(self._tokens.pop())
        self._leave(error)
        # Whoever is cancelled while waiting goes; what is being sent goes on.
        if self._last_words is not None:
            await asyncio.shield(self._last_words)


class track_job(BaseTrackJob[AsyncTrackedJob]):  # noqa: N801 - reads as the verb it is
    """Tell how one job goes, from its begin to its end: `async with track_job("project_1", "job_7", "audio") as job`.

    See `publisher.track_job`. As a decorator it is for `async` functions.
    """

    async def __aenter__(self) -> AsyncTrackedJob:
        self._entered.append(AsyncTrackedJob(self._state(), will_retry=self._will_retry))
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
        arguments = arguments_of(function)

        @functools.wraps(function)
        async def tracked(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Returned:
            state = self._state(arguments(*args, **kwargs))
            async with AsyncTrackedJob(state, will_retry=self._will_retry):
                return await function(*args, **kwargs)

        return tracked


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
