"""One request of an Inngest run: its place in the run, and the job that its function sees."""

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, NamedTuple, NoReturn, TypeVar

import inngest

from publisher.aio.tracking import TURN
from publisher.events import Event, JobComplete, JobFailed, Progress, Result, checked
from publisher.failure import describe
from publisher.job import WILL_RETRY, BaseJob, Item
from publisher.job_state import JobState
from publisher.settings import PublisherSettings

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

    @property
    def job_id(self) -> str:
        return self._job.job_id

    @property
    def percent(self) -> float:
        """The highest progress so far, also of earlier requests."""
        return self._job.percent

    def progress(self, value: Any, message: str | None = None) -> Any:
        """Report that `value` percent are done; see `publisher.TrackedJob.progress`."""
        return self._job.progress(value, message)

    def sentence(self, sentence_id: str) -> Job:
        """A part of the run with a progress of its own. It ends by itself, or with the run."""
        return self._job.sentence(sentence_id)

    def track(self, items: Iterable[Item], message: str | None = None, *, total: int | None = None) -> Iterator[Item]:
        """Yield each item, and report after each how many are done."""
        return self._job.track(items, message, total=total)

    def complete(self, *, file: str | None = None, duration: float | None = None) -> Awaitable[None]:
        """Set the result; `job_complete` is sent when the function returns. Need not be awaited.

        Not needed by a function that returns a mapping with `file` or `duration`. Raises `ValueError` for a bad result.
        """
        self._result = checked(Result, file=file, duration=duration)
        return TURN

    def fail(self, error: str | BaseException) -> NoReturn:
        """Fail without another try: raise `inngest.NonRetriableError`, upon which `job_failed` is sent."""
        raise inngest.NonRetriableError(describe(error))

    # For the middleware. Results must be awaited if the function is `async`.

    @property
    def is_open(self) -> bool:
        return not self._job.is_ended

    def end(self, *, complete: object = None, error: str | None = None) -> Any:
        """Publish the end: the function returned `complete`, or failed with `error` and no try is left."""
        if error is not None:
            return self._job._finish(lambda state: checked(JobFailed, **state.identity, error=error))
        result = self._result or _result_of(complete)

        def end_of(state: JobState) -> JobComplete:
            return checked(
                JobComplete, **state.identity, result=result if "sentence_id" not in state.identity else Result()
            )

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

    attempt: int | None
    percent: float
    message: str | None
    is_told: bool
    """False if there is news to publish: the first try, or another one, begins."""


class Place(NamedTuple):
    """Where a request is in its run, as Inngest sees it.

    `try_number` (Inngest's `attempt`) counts the tries of the current step and begins anew with each step. As an
    event's `attempt` it would go down, and the event would be refused. So an event's `attempt` counts the retries of
    the whole run: it goes on from the last event that Redis remembers.
    """

    try_number: int
    tries: int
    steps_done: int
    is_targeted: bool = False

    @property
    def is_first(self) -> bool:
        return self.steps_done == 0 and self.try_number == 0 and not self.is_targeted

    def without_redis(self) -> Start:
        """Without the last event: no attempt, because an event without one is never refused."""
        return Start(None, 0, None, is_told=not self.is_first)

    def after(self, known: Event | None) -> Start:
        """Continue after the job's last event that Redis remembers."""
        if known is None:
            return Start(self.try_number, 0, None, is_told=not self.is_first)
        before = known.attempt or 0
        percent, message = (known.progress, known.message) if isinstance(known, Progress) else (0, None)
        if self.is_first:  # another run under the same id
            return Start(before + 1, 0, None, is_told=False)
        attempt = before
        if self.try_number > 0:
            # A try that failed has announced this one; a try that was killed has not.
            was_told = message is not None and message.endswith(WILL_RETRY)
            attempt = before + 1 if was_told else max(before, self.try_number)
        if attempt > before:
            return Start(attempt, percent, f"trying again ({self.try_number + 1} of {self.tries})", is_told=False)
        return Start(before, percent, message, is_told=True)


class Unwatched:
    """The `Rerun` of a function that is not tracked: always silent."""

    is_silent = True

    def is_interrupt(self, error: BaseException) -> bool:
        return True


def unwatched_job(kind: type[Job]) -> RunJob[Job]:
    """The job of a function that is not tracked: accepts every call and sends nothing."""
    state = JobState(PublisherSettings(), "nobody", heartbeat=None, job_id="none", job_type="script")
    return RunJob(kind(state, repeats=Unwatched()))
