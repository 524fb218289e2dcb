"""One request of an Inngest run: its place in the run, and the job that its function sees."""

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, NamedTuple, NoReturn, TypeVar

import inngest

from publisher.aio.tracking import TURN
from publisher.events import Event, JobComplete, JobFailed, Progress, Reason, Result, checked
from publisher.failure import describe
from publisher.job import BaseJob, Item
from publisher.job_state import JobState
from publisher.settings import PublisherSettings

STEP_RETRY = "this step will be tried again"

Job = TypeVar("Job", bound=BaseJob[Any, Any])


class Rerun:
    """Tells whether the function is repeating what earlier requests did. Lives as long as one request.

    It repeats until it has read all the results that Inngest remembers, or until the code of a step begins. The
    second case is for a parallel group, where results of other steps may be unread: the code of a step never repeats.
    """

    def __init__(self, steps: inngest.StepMemos, *, is_targeted: bool) -> None:
        self._steps = steps
        self._is_targeted = is_targeted  # the request is for one step, which an earlier request has found
        self._is_in_step = False

    @property
    def is_silent(self) -> bool:
        return not self._is_in_step and (self._is_targeted or self._steps.size > 0)

    def is_interrupt(self, error: BaseException) -> bool:
        """True for the exceptions by which the SDK leaves a function; they are not errors of the function."""
        return type(error).__module__.startswith("inngest.") and not isinstance(error, Exception)

    def watch(self, step: inngest.Step | inngest.StepSync) -> None:
        """Wrap `step.run`, to notice when the code of a step begins."""
        run: Callable[..., Any] = step.run

        def run_and_notice(step_id: str, handler: Callable[..., Any], *args: Any, **options: Any) -> Any:
            return run(step_id, self._noticing(handler), *args, **options)

        step.run = run_and_notice  # type: ignore[method-assign, assignment]

    def _noticing(self, handler: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(handler):

            @functools.wraps(handler)
            async def in_step(*args: Any, **kwargs: Any) -> Any:
                self._is_in_step = True
                return await handler(*args, **kwargs)

            return in_step

        @functools.wraps(handler)
        def in_step_sync(*args: Any, **kwargs: Any) -> Any:
            self._is_in_step = True
            return handler(*args, **kwargs)

        return in_step_sync


class RunJob(Generic[Job]):
    """The job of a run, for its function. Sends nothing while the function repeats earlier requests."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._result: Result | None = None
        self._data: dict[str, Any] | None = None

    @property
    def job_id(self) -> str:
        return self._job.job_id

    @property
    def percent(self) -> float:
        """The highest progress so far, also of earlier requests."""
        return self._job.percent

    def progress(self, value: Any, message: str | None = None, *, data: Mapping[str, Any] | None = None) -> Any:
        """Report that `value` percent are done; see `publisher.TrackedJob.progress`."""
        return self._job.progress(value, message, data=data)

    def sentence(self, sentence_id: str) -> Job:
        """A part of the run with a progress of its own. It ends by itself, or with the run."""
        return self._job.sentence(sentence_id)

    def track(self, items: Iterable[Item], message: str | None = None, *, total: int | None = None) -> Iterator[Item]:
        """Yield each item, and report after each how many are done."""
        return self._job.track(items, message, total=total)

    def complete(
        self, *, file: str | None = None, duration: float | None = None, data: Mapping[str, Any] | None = None
    ) -> Awaitable[None]:
        """Set the result; `job_complete` is sent when the function returns. Need not be awaited.

        Not needed by a function that returns a mapping with `file` or `duration`. Raises `ValueError` for a bad result,
        or for bad `data`.
        """
        result = checked(Result, file=file, duration=duration)
        self._data = self._job._state.check_progress(0, None, data).data
        self._result = result
        return TURN

    def fail(self, error: str | BaseException) -> NoReturn:
        """Fail without another try: raise `inngest.NonRetriableError`, upon which `job_failed` is sent."""
        raise inngest.NonRetriableError(describe(error))

    # For the middleware. Results must be awaited if the function is `async`.

    @property
    def is_open(self) -> bool:
        return not self._job.is_ended

    def end(self, *, complete: object = None, error: str | None = None, reason: Reason | None = None) -> Any:
        """Publish the end: the function returned `complete`, or failed with `error` and no try is left."""
        if error is not None:
            return self._job._finish(lambda state: checked(JobFailed, **state.identity, error=error, reason=reason))
        result = self._result or _result_of(complete)

        def end_of(state: JobState) -> JobComplete:
            if "sentence_id" in state.identity:
                return checked(JobComplete, **state.identity)
            return checked(JobComplete, **state.identity, result=result, data=self._data)

        return self._job._finish(end_of)

    def pause(self, message: str | None) -> Any:
        """Take back the promise of a next event: the next request may come late. Publish `message`, if any."""
        return self._job._pause(message)

    def abandon(self) -> None:
        self._job._state.heartbeat = None


def _result_of(output: object) -> Result:
    """`file` and `duration` of the mapping that a function returned; empty if they are not valid."""
    if not isinstance(output, Mapping):
        return Result()
    try:
        return Result(file=output.get("file"), duration=output.get("duration"))
    except ValueError:
        return Result()


class Start(NamedTuple):
    """How a request continues the job of its run."""

    begins: bool
    """Whether the next attempt begins, which Redis numbers."""
    attempt: int | None = None
    """The attempt that it continues; events without a number are never refused."""
    percent: float = 0
    message: str | None = None
    data: dict[str, Any] | None = None
    is_told: bool = False
    """False if there is news to publish: the first try, or another one, begins."""


class Place(NamedTuple):
    """Where a request is in its run, as Inngest sees it.

    `try_number` (Inngest's `attempt`) counts the tries of the current step and begins anew with each step, so it cannot
    number the attempts of the run. A run is one attempt over all its requests, and the retry of a step goes on in it:
    a new attempt would drop what viewers see of the steps before. A retry of the whole function is the next attempt.
    """

    try_number: int
    tries: int
    steps_done: int
    is_targeted: bool = False

    @property
    def is_first(self) -> bool:
        return self.steps_done == 0 and self.try_number == 0 and not self.is_targeted

    def without_redis(self) -> Start:
        """Without the last event the number is not known."""
        return Start(begins=self.is_first, is_told=not self.is_first)

    def after(self, known: Event | None) -> Start:
        """Continue after the job's last event that Redis remembers."""
        if self.is_first:  # maybe of another run under the same id
            return Start(begins=True)
        before = known.attempt if known is not None else None
        percent, message, data = 0.0, None, None
        if isinstance(known, Progress):
            percent, message, data = known.progress, known.message, known.data
        if self.try_number == 0:
            return Start(False, before, percent, message, data, is_told=True)
        # A step that failed has announced its retry; a function that failed, or a try that was killed, has not.
        is_of_step = self.is_targeted or (message is not None and message.endswith(STEP_RETRY))
        again = f"trying again ({self.try_number + 1} of {self.tries})"
        is_told = is_of_step and (message == again or not isinstance(known, Progress))
        return Start(not is_of_step, before if is_of_step else None, percent, again, data, is_told=is_told)


class Unwatched:
    """The `Rerun` of a function that is not tracked: always silent."""

    is_silent = True

    def is_interrupt(self, error: BaseException) -> bool:
        return True


def unwatched_job(kind: type[Job]) -> RunJob[Job]:
    """The job of a function that is not tracked: accepts every call and sends nothing."""
    state = JobState(PublisherSettings(), "nobody", heartbeat=None, job_id="none", job_type="script")
    return RunJob(kind(state, repeats=Unwatched()))
