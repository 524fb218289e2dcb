"""One request of an Inngest run: where it is in the run, and what its function may say."""

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
    """Whether the function only repeats what it did before. Lives as long as one request.

    It does until all the results that Inngest remembers were asked for, or until a step's own code begins: that is
    never repeated, also in a parallel group, where results of other steps are still unasked for.
    """

    def __init__(self, steps: inngest.StepMemos, *, is_targeted: bool) -> None:
        self._steps = steps
        self._is_targeted = is_targeted  # at one step, whose place in the function another request has found before
        self._is_in_step = False

    @property
    def is_silent(self) -> bool:
        return not self._is_in_step and (self._is_targeted or self._steps.size > 0)

    def is_interrupt(self, error: BaseException) -> bool:
        """The SDK leaves a function by exceptions of its own, which are none to its users."""
        return type(error).__module__.startswith("inngest.") and not isinstance(error, Exception)

    def watch(self, step: inngest.Step | inngest.StepSync) -> None:
        """Notice when the code of a step begins."""
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
    """What a function may say of its run; while it only repeats itself, nothing of it is sent."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._result: Result | None = None

    @property
    def job_id(self) -> str:
        return self._job.job_id

    @property
    def percent(self) -> float:
        """The highest progress so far, of earlier requests too."""
        return self._job.percent

    def progress(self, value: Any, message: str | None = None) -> Any:
        """The run is done to `value` percent; see `publisher.TrackedJob.progress`."""
        return self._job.progress(value, message)

    def sentence(self, sentence_id: str) -> Job:
        """A part of the run with a bar of its own; ended by itself, or with the run."""
        return self._job.sentence(sentence_id)

    def track(self, items: Iterable[Item], message: str | None = None, *, total: int | None = None) -> Iterator[Item]:
        """Give each item in turn, and say after each how many are done."""
        return self._job.track(items, message, total=total)

    def complete(self, *, file: str | None = None, duration: float | None = None) -> Awaitable[None]:
        """Say what was made; `job_complete` follows when the function returns. Need not be awaited.

        A function that returns a mapping with `file` or `duration` need not say it.
        """
        self._result = checked(Result, file=file, duration=duration)
        return TURN

    def fail(self, error: str | BaseException) -> NoReturn:
        """Fail for good: raises `inngest.NonRetriableError`; `job_failed` follows."""
        raise inngest.NonRetriableError(describe(error))

    # What the middleware asks for; the answer is to be awaited where the function is `async`.

    @property
    def is_open(self) -> bool:
        return not self._job.is_ended

    def end(self, *, complete: object = None, error: str | None = None) -> Any:
        """The function returned `complete`, or failed for good."""
        if error is not None:
            return self._job._finish(lambda state: checked(JobFailed, **state.identity, error=error))
        result = self._result or _result_of(complete)

        def end_of(state: JobState) -> JobComplete:
            return checked(
                JobComplete, **state.identity, result=result if "sentence_id" not in state.identity else Result()
            )

        return self._job._finish(end_of)

    def pause(self, message: str | None) -> Any:
        """Another request will go on, or none for a long time: what was promised is taken back."""
        return self._job._pause(message)

    def abandon(self) -> None:
        self._job._state.heartbeat = None


def _result_of(output: object) -> Result:
    """`file` and `duration` of what a function returned, as far as they fit."""
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
    """False where there is something new to say: the first try, or another one."""


class Place(NamedTuple):
    """Where a request is in its run, as Inngest sees it.

    `try_number` (Inngest's `attempt`) counts the tries of the step that is to be done, and begins anew with each step,
    so by itself it would send a job back. An event's `attempt` counts the retries of the whole run: it goes on from the
    last event that Redis remembers.
    """

    try_number: int
    tries: int
    steps_done: int
    is_targeted: bool = False

    @property
    def is_first(self) -> bool:
        return self.steps_done == 0 and self.try_number == 0 and not self.is_targeted

    def without_redis(self) -> Start:
        """Nobody refuses an event that has no attempt."""
        return Start(None, 0, None, is_told=not self.is_first)

    def after(self, known: Event | None) -> Start:
        """After the last event that is remembered of the job."""
        if known is None:
            return Start(self.try_number, 0, None, is_told=not self.is_first)
        before = known.attempt or 0
        percent, message = (known.progress, known.message) if isinstance(known, Progress) else (0, None)
        if self.is_first:  # another run under the same id
            return Start(before + 1, 0, None, is_told=False)
        attempt = before
        if self.try_number > 0:
            # The try before said so when it failed; where it was killed, it could not.
            was_told = message is not None and message.endswith(WILL_RETRY)
            attempt = before + 1 if was_told else max(before, self.try_number)
        if attempt > before:
            return Start(attempt, percent, f"trying again ({self.try_number + 1} of {self.tries})", is_told=False)
        return Start(before, percent, message, is_told=True)


class Unwatched:
    """Of a function that nobody watches, everything is silent."""

    is_silent = True

    def is_interrupt(self, error: BaseException) -> bool:
        return True


def unwatched_job(kind: type[Job]) -> RunJob[Job]:
    """What a function is given that nobody watches: takes everything, says nothing."""
    state = JobState(PublisherSettings(), "nobody", heartbeat=None, job_id="none", job_type="script")
    return RunJob(kind(state, repeats=Unwatched()))
