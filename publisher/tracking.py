"""Tracked jobs in ordinary code: `with track_job(...) as job`, a decorator, and `for item in track(...)`."""

import contextlib
import contextvars
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from publisher.events import JobType
from publisher.job import BaseJob, BaseTrackJob, Item, Repeats, WillRetry
from publisher.job_state import JobState
from publisher.sender import Ending, sender

Parameters = ParamSpec("Parameters")
Returned = TypeVar("Returned")


_current: contextvars.ContextVar["TrackedJob"] = contextvars.ContextVar("publisher.job")


class TrackedJob(BaseJob[None, int | None]):
    """A job, or a sentence of one, in ordinary code. May be used from several threads."""

    def __init__(self, state: JobState, *, will_retry: WillRetry = False, repeats: Repeats | None = None) -> None:
        super().__init__(state, will_retry=will_retry, repeats=repeats)
        self._tokens: list[contextvars.Token[TrackedJob]] = []

    def _progress_return(self) -> None:
        return None

    def _end_return(self, ending: Ending | None) -> int | None:
        return None if ending is None else sender.wait(ending)

    def _part(self, state: JobState) -> Self:
        return type(self)(state, will_retry=self._will_retry, repeats=self._repeats)

    def __enter__(self) -> Self:
        self._tokens.append(_current.set(self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with contextlib.suppress(ValueError):  # a generator was closed in another context
            _current.reset(self._tokens.pop())
        self._leave(error)


class track_job(BaseTrackJob[TrackedJob]):  # noqa: N801 - reads as the verb it is
    """Publish the progress of one job, from its begin to its end.

        with track_job("project_1", "job_7", "audio") as job:
            job.progress(40, "voice 2 of 5")
            job.complete(file="a.mp3", duration=3.5)

    Leaving the block completes the job. An exception sends `job_failed` and is raised on. The block is the job's next
    attempt, numbered by Redis from 0: work that runs again under its id is always shown, and a worker whose job was
    begun again elsewhere is warned and no longer shown. With `attempt=n` the number is at least n. `data` are for pages
    to show, as in `progress`. With `sentence_id` the block is one part of a job, which begins no attempt: give the
    job's `attempt`, if it has one.

    With `will_retry` an exception does not end the job: viewers read that it will be tried again. It is True, a class
    of exceptions (or several), or a function that takes the exception and returns whether another try follows. After
    `heartbeat` seconds without news the last progress is sent again, with a promise (`nextWithin`) by which viewers
    notice that a worker was killed; None switches that off.

    Also a decorator, which fills in the call's arguments: `@track_job("{project_id}", "{job_id}", "audio")`. The
    function gets its job from `current_job()`.

    Raises `ValueError` for a bad id, before anything is sent. A Redis that is away never breaks the job, and delays it
    once, by at most 5 seconds. An end that could not be sent is tried again while the process lives.
    """

    def __enter__(self) -> TrackedJob:
        self._entered.append(self._new_job(self._state()))
        return self._entered[-1].__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._entered.pop().__exit__(kind, error, traceback)

    def __call__(self, function: Callable[Parameters, Returned]) -> Callable[Parameters, Returned]:
        kinds = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
        if any(is_kind(function) for is_kind in kinds):
            raise TypeError(f"{function.__name__} would be left before it runs: use publisher.aio.track_job, or `with`")
        arguments = self._arguments_of(function)

        @functools.wraps(function)
        def tracked(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Returned:
            with self._new_job(self._state(arguments(*args, **kwargs))):
                return function(*args, **kwargs)

        return tracked

    def _new_job(self, state: JobState) -> TrackedJob:
        job = TrackedJob(state, will_retry=self._will_retry)
        job._begin()
        return job


def current_job() -> TrackedJob:
    """The job whose block or decorated function this code runs in; raises `LookupError` outside of one."""
    try:
        return _current.get()
    except LookupError:
        raise LookupError("no job is tracked here; use this within `with track_job(...)` or below @track_job") from None


def track(
    items: Iterable[Item],
    project_id: str,
    job_id: str,
    job_type: JobType,
    *,
    message: str | None = None,
    total: int | None = None,
    **options: Any,
) -> Iterator[Item]:
    """Work through items as one job: `for page in track(pages, "project_1", "job_7", "script"): ...`

    Reports after each item how many are done, and completes the job after the last. Leaving the loop early fails the
    job, but the reason is not known here: use `with track_job(...) as job` and `job.track(items)` if it matters.
    `options` are those of `track_job`.
    """
    with track_job(project_id, job_id, job_type, **options) as job:
        yield from job.track(items, message, total=total)
