"""Tracked jobs in `async` code: the same as in `publisher.tracking`, with `async with`."""

import asyncio
import contextlib
import contextvars
import functools
import inspect
import time
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Sequence,
    Set,
)
from math import inf
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from publisher.events import JobType, Progress
from publisher.job import BaseJob, BaseTrackJob, EndOf, Item, Repeats, Said, WillRetry
from publisher.job_state import JobState, Schedule
from publisher.sender import Said as SaidOfJob
from publisher.sender import sender as process_sender
from publisher.settings import PublisherSettings
from publisher.transport.async_driver import send as deliver
from publisher.transport.routes import routes_of

Parameters = ParamSpec("Parameters")
Returned = TypeVar("Returned")
Async = Callable[Parameters, Coroutine[Any, Any, Returned]]


class LoopSender:
    """Sends what the tracked jobs of one event loop say: one timer, however many they are.

    Lives as long as the loop, and is used by it only. What is on its way to Redis is a task; nothing is sent past it.
    An end that could not be sent is handed over to the thread of `publisher.sender`: the process may outlive the loop.
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

    async def _deliver(self, states: Sequence[JobState], said: Sequence[SaidOfJob]) -> list[int | None]:
        unsent, seqs = set(states), list[int | None]()
        try:
            delivery = await deliver(states[0].settings, [publication for _, publication in said])
            unsent, seqs = {said[index][0] for index in delivery.given_up}, delivery.seqs
        except Exception:
            process_sender.complain()
        finally:
            self._settle(states, unsent)
        return seqs

    def _settle(self, states: Iterable[JobState], unsent: Set[JobState]) -> None:
        states = [state for state in states if state.owner is self._schedule]
        for is_sent in (True, False):
            those = [state for state in states if (state not in unsent) == is_sent]
            self._schedule.settle(those, time.monotonic(), is_sent=is_sent)
        for state in states:
            if state.is_late:
                self._hand_over(state)
        self._set_timer()

    def _hand_over(self, state: JobState) -> None:
        self._schedule.drop(state)
        process_sender.begin(state)

    def abandon(self, states: Iterable[JobState]) -> None:
        """Nobody waits for these here any more; what has ended of them goes on elsewhere."""
        for state in [state for state in states if state.owner is self._schedule]:
            state.is_claimed = False
            if state.is_in_flight and state not in self._in_flight:
                self._settle([state], {state})
            elif state.is_late:
                self._hand_over(state)
            else:
                self.put(state)

    def _start(self, work: Coroutine[Any, Any, Returned], states: Sequence[JobState]) -> "asyncio.Task[Returned]":
        task = self.loop.create_task(work)
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # of a loop that is closed; see `abandon`
        self._tasks.add(task)
        self._in_flight.update(dict.fromkeys(states, task))
        task.add_done_callback(lambda _: self._forget(task, states))
        return task

    def _forget(self, task: "asyncio.Task[Any]", states: Sequence[JobState]) -> None:
        self._tasks.discard(task)
        states = [state for state in states if self._in_flight.get(state) is task]
        for state in states:
            del self._in_flight[state]
        if task.cancelled():  # perhaps before its first step, so that it could not see to them itself
            self.abandon(states)

    def _set_timer(self) -> None:
        due = self._schedule.next_due()
        if due < self._wakes_at and not self.loop.is_closed():
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
            said = _take(states)
            away = {
                state
                for state, publication in said
                if routes_of(settings.redis_url).circuit_for(publication.key).is_open
            }
            if away:
                self._settle(away, away)
            if here := [state for state in states if state not in away]:
                self._start(self._deliver(here, [one for one in said if one[0] not in away]), here)
        self._set_timer()


def _take(states: Iterable[JobState]) -> list[SaidOfJob]:
    return [(state, publication) for state in states for publication in state.take()]


# By loop. A loop that has ended is dropped when the next one comes.
_senders: dict[asyncio.AbstractEventLoop, LoopSender] = {}


def sender_of(loop: asyncio.AbstractEventLoop) -> LoopSender:
    """The sender of a loop."""
    if loop not in _senders:
        for other in [other for other in list(_senders) if other.is_closed()]:  # loops in other threads do the same
            _senders.pop(other, None)
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
        repeats: Repeats | None = None,
        sender: LoopSender | None = None,
    ) -> None:
        super().__init__(state, will_retry=will_retry, repeats=repeats)
        self._sender = sender or sender_of(asyncio.get_running_loop())
        self._last_words: asyncio.Task[int | None] | None = None
        self._is_thrown_away = False
        self._tokens: list[contextvars.Token[AsyncTrackedJob]] = []

    def _begin(self, within: JobState | None = None) -> None:
        self._in_the_loop(self._begin_within, within)

    def _begin_within(self, job: JobState | None) -> None:
        if job is not None and not job.is_open:
            self._state.forgo()
        self._sender.put(self._state)

    def _say(self, progress: Progress) -> Awaitable[None]:
        self._in_the_loop(self._take_progress, progress)
        return TURN

    def _take_progress(self, progress: Progress) -> None:
        if self.is_ended:
            self._warn(f"progress {progress.progress:g}")
            return
        if self._sender.loop.is_closed():
            process_sender.say(self._state, progress)
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
        return self._end(lambda state: state.finish(end_of(state)))

    def _pause(self, message: str | None) -> Awaitable[int | None]:
        if message is not None:
            self._take_progress(self._state.check_progress(self.percent, message))
        return self._end(JobState.leave)

    def _end(self, end: Callable[[JobState], None]) -> Awaitable[int | None]:
        """`end` the job and its open sentences, and send that."""
        if self._sender.loop.is_closed():
            process_sender.entrust(self._open_states, end)
            return _NO_SEQ
        states = self._open_states()
        for state in states:
            end(state)
        if self._is_thrown_away:
            self._sender.abandon(states)
            return _NO_SEQ
        sentences = [job._state for job in list(self._sentences.values())]
        self._last_words = self._sender.send_now(states, after=sentences)
        return asyncio.shield(self._last_words)

    def _in_the_loop(self, call: Callable[[Any], Said], argument: Any) -> Said | None:
        """Call at once in the loop, or soon from another thread, where nobody may touch what the loop uses."""
        loop = self._sender.loop
        if asyncio._get_running_loop() is loop:
            return call(argument)
        try:
            loop.call_soon_threadsafe(call, argument)
        except RuntimeError:  # it is closed: nobody else uses it any more
            return call(argument)
        return None

    def _say_nothing(self) -> Awaitable[None]:
        return TURN

    def _end_nothing(self) -> Awaitable[int | None]:
        return _NO_SEQ

    def _part(self, state: JobState) -> Self:
        options: dict[str, Any] = {"will_retry": self._will_retry, "repeats": self._repeats}
        return type(self)(state, sender=self._sender, **options)

    async def __aenter__(self) -> Self:
        self._tokens.append(_current.set(self))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with contextlib.suppress(ValueError):  # a generator that is closed in another context than it was begun in
            _current.reset(self._tokens.pop())
        # A coroutine that is thrown away must not wait for anything.
        self._is_thrown_away = isinstance(error, GeneratorExit)
        self._leave(error)
        # Whoever is cancelled while waiting goes; what is being sent goes on.
        if self._last_words is not None and not self._is_thrown_away:
            await asyncio.shield(self._last_words)


class track_job(BaseTrackJob[AsyncTrackedJob]):  # noqa: N801 - reads as the verb it is
    """Tell how one job goes, from its begin to its end: `async with track_job("project_1", "job_7", "audio") as job`.

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
