"""Inngest: a middleware that publishes the progress of functions (extra `inngest`).

    client = inngest.Inngest(app_id="studio", middleware=[progress_middleware()])

    @client.create_function(fn_id="render", trigger=inngest.TriggerEvent(event="video/render"))
    async def render(ctx: inngest.Context) -> dict[str, str]:
        job = job_of(ctx)
        frames = await ctx.step.run("frames", draw)
        job.progress(60, "frames drawn")
        ...

The event that triggers the function has `projectId` and `jobType` in its data. The job's id is the run's. The
middleware sends `job_complete` when the function returns, and `job_failed` when no try is left. After a failed try that
another one follows, it sends a progress that says so. Inngest calls a function again from the top for each step;
progress between steps whose results are already known is not sent again.
"""

import asyncio
import functools
import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast, overload

import inngest

from publisher import client
from publisher.aio import client as aio_client
from publisher.aio.tracking import AsyncTrackedJob
from publisher.beside import end_of
from publisher.events import JobType, Progress, Reason
from publisher.failure import CANCELLED, TIMED_OUT, WORKER_ENDED, describe, reason_for
from publisher.inngest.run import STEP_RETRY, Place, Rerun, RunJob, Start, unwatched_job
from publisher.job import WILL_RETRY, retry_text
from publisher.job_state import HEARTBEAT_SECONDS, JobState
from publisher.names import check_project_id
from publisher.settings import PublisherSettings
from publisher.tracking import TrackedJob

logger = logging.getLogger("publisher")

Context = inngest.Context | inngest.ContextSync

DEFAULT_RETRIES = 4  # Inngest's default

# The events by which Inngest tells of the end of a run. `step.invoke` sends another one: `inngest/function.invoked`.
_TIMEOUT = re.compile(r"time.?out|timed out|deadline exceeded", re.IGNORECASE)
_ENDS = {"inngest/function.failed", "inngest/function.cancelled", "inngest/function.finished"}


class Naming(NamedTuple):
    """How to name the job of a run, by the event that triggered it and the run's id."""

    project_id: Callable[[inngest.Event], Any]
    job_id: Callable[[inngest.Event, str], str]
    job_type: Callable[[inngest.Event], Any]

    def identity(self, event: inngest.Event, run_id: str) -> dict[str, Any] | None:
        """The job's ids and type; None for an event without a project, whose run is not tracked."""
        project_id = self.project_id(event)
        if project_id is None:
            return None
        return {
            "project_id": project_id,
            "job_id": self.job_id(event, run_id),
            "job_type": self.job_type(event),
        }


def _tries(context: Context, function: inngest.Function[Any]) -> int:
    """The number of tries that Inngest makes. The SDK knows it, but has no public name for it."""
    request = getattr(getattr(context.step, "_execution", None), "_request", None)
    tries = getattr(getattr(request, "ctx", None), "max_attempts", None)
    if tries is None:
        retries = getattr(getattr(function, "_opts", None), "retries", None)
        tries = (DEFAULT_RETRIES if retries is None else retries) + 1
    return cast(int, tries)


class ProgressMiddleware(inngest.MiddlewareSync):
    """Publishes the progress of a client's functions. Lives as long as one request; made by `progress_middleware`.

    Its hooks never raise: a function must not fail because its viewers cannot be reached. They are ordinary methods.
    For an `async` function they return an awaitable, as the SDK allows.
    """

    def __init__(
        self, inngest_client: inngest.Inngest, raw_request: object, *, naming: Naming, heartbeat: float | None
    ) -> None:
        super().__init__(inngest_client, raw_request)
        self._naming = naming
        self._heartbeat = heartbeat
        self._run: RunJob[Any] | None = None
        self._is_last_try = True

    def __del__(self) -> None:
        self._on_end()

    def _on_end(self, task: object = None) -> None:
        """Stop the heartbeat. A request that was cancelled ends without an answer, and nothing else would stop it."""
        if self._run is not None and self._run.is_open:
            self._run.abandon()

    # Before the function is called: find its job, and put it into the context.

    def transform_input(self, ctx: Context, function: inngest.Function[Any], steps: inngest.StepMemos) -> Any:
        is_targeted = getattr(ctx.step, "_target_hashed_id", None) is not None  # has no public name
        rerun = Rerun(steps, is_targeted=is_targeted)
        tries = _tries(ctx, function)
        self._is_last_try = ctx.attempt + 1 >= tries
        place = Place(try_number=ctx.attempt, tries=tries, steps_done=steps.size, is_targeted=is_targeted)
        if (identity := self._identity(ctx, function)) is None:
            self._hand_over(ctx, None)
            return None
        rerun.watch(ctx.step)
        if isinstance(ctx, inngest.Context):
            return self._begin_async(ctx, identity, place, rerun)
        try:
            start = place.after(client.last_event(identity["project_id"], identity["job_id"]))
        except Exception:  # Redis does not answer, or is not a Redis; hooks never raise
            start = place.without_redis()
        return self._begin(ctx, identity, start, rerun)

    async def _begin_async(self, ctx: inngest.Context, identity: dict[str, Any], place: Place, rerun: Rerun) -> None:
        try:
            start = place.after(await aio_client.last_event(identity["project_id"], identity["job_id"]))
        except Exception:
            start = place.without_redis()
        self._begin(ctx, identity, start, rerun)
        if (task := asyncio.current_task()) is not None:
            task.add_done_callback(self._on_end)

    def _identity(self, ctx: Context, function: inngest.Function[Any]) -> dict[str, Any] | None:
        """The job's ids and type; None for a run that is not tracked."""
        if ctx.event.name in _ENDS:
            return None  # a failure handler or the end reporter: runs of their own
        try:
            identity = self._naming.identity(ctx.event, ctx.run_id)
            if identity is not None:
                client.check_settings(PublisherSettings.from_environment())
                JobState(PublisherSettings.from_environment(), **identity)  # raises ValueError
            return identity
        except Exception as error:
            logger.warning("Function %s is not tracked: %s", function.id, describe(error))
            return None

    def _begin(self, ctx: Context, identity: dict[str, Any], start: Start, rerun: Rerun) -> None:
        try:
            self._hand_over(ctx, self._job(ctx, identity, start, rerun))
        except Exception:
            logger.exception("Job %r is not tracked", identity.get("job_id"))
            self._hand_over(ctx, None)

    def _job(self, ctx: Context, identity: dict[str, Any], start: Start, rerun: Rerun) -> AsyncTrackedJob | TrackedJob:
        settings = PublisherSettings.from_environment()
        # Inngest finds dead workers itself; so only heartbeats carry a promise, that is only long steps.
        options: dict[str, Any] = {"heartbeat": self._heartbeat, "promises_at_once": False}
        state = JobState(settings, begins=start.begins, attempt=start.attempt, **options, **identity)
        progress = state.check_progress(start.percent, start.message, start.data)
        if start.is_told:
            state.resume(progress, time.monotonic())
        else:
            state.say(progress)
        kind = AsyncTrackedJob if isinstance(ctx, inngest.Context) else TrackedJob
        job = kind(state, repeats=rerun)
        job._begin()
        return job

    def _hand_over(self, ctx: Context, job: AsyncTrackedJob | TrackedJob | None) -> None:
        self._run = None if job is None else RunJob(job)
        kind = AsyncTrackedJob if isinstance(ctx, inngest.Context) else TrackedJob
        ctx.job = self._run or unwatched_job(kind)  # type: ignore[union-attr]

    # After the call: publish the end, if the run ended.

    def transform_output(self, result: inngest.TransformOutputResult) -> Any:
        if self._run is None:
            return None
        try:
            if result.error is None and result.step is None and not _is_json(result.output):
                # The SDK finds this after the middleware has run, and tries the function again.
                return self._on_error(self._run, TypeError("what it returned cannot be sent as JSON"), is_in_step=False)
            if result.error is not None:
                return self._on_error(self._run, result.error, is_in_step=result.step is not None)
            return None if result.step is not None else self._run.end(complete=result.output)
        except Exception:
            logger.exception("The end of job %r was not sent", self._run.job_id)
            return None

    def _on_error(self, run: RunJob[Any], error: Exception, *, is_in_step: bool) -> Any:
        text = _describe(error)
        if getattr(error, "is_retriable", True) and not self._is_last_try:
            return run.pause(retry_text(text, STEP_RETRY if is_in_step else WILL_RETRY))
        # After the last try of a step, Inngest calls the function once more: it may go on without the step.
        return run.pause(text) if is_in_step else run.end(error=text, reason=reason_for(error))

    def before_response(self) -> Any:
        """The request is answered. The job rests until Inngest's next request."""
        try:
            return None if self._run is None or not self._run.is_open else self._run.pause(None)
        except Exception:
            logger.exception("The pause of a job was not sent")
            return None


def _is_json(output: object) -> bool:
    try:
        json.dumps(output)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _naming_of(inngest_client: inngest.Inngest) -> Naming:
    """The naming of the client's middleware; the defaults if it has none."""
    for one in inngest_client.middleware:
        if isinstance(one, functools.partial) and one.func is ProgressMiddleware:
            return cast(Naming, one.keywords["naming"])
    return naming()


def _told_by(event: inngest.Event) -> tuple[str, Reason | None]:
    """What viewers read of an end that Inngest tells, and its reason."""
    if event.name.endswith("cancelled"):
        return CANCELLED, "cancelled"
    error = event.data.get("error")
    name, text = (str(error.get(key) or "") for key in ("name", "message")) if isinstance(error, Mapping) else ("", "")
    if name not in ("", "Error"):  # the function's own, which the middleware could not send
        is_timeout = name == "TimeoutError"
        return (describe(f"{TIMED_OUT if is_timeout else name}: {text}"), "timed_out" if is_timeout else None)
    if _TIMEOUT.search(text):
        return TIMED_OUT, "timed_out"
    return WORKER_ENDED, "lost"  # what Inngest says then is about its own requests: nothing for viewers


def _describe(error: Exception) -> str:
    if isinstance(error, inngest.StepError):
        return describe(f"{error.name}: {error.message}")
    return describe(str(error)) if isinstance(error, inngest.NonRetriableError) and str(error) else describe(error)


@overload
def job_of(ctx: inngest.Context) -> RunJob[AsyncTrackedJob]: ...
@overload
def job_of(ctx: inngest.ContextSync) -> RunJob[TrackedJob]: ...
def job_of(ctx: Context) -> RunJob[Any]:
    """The job of this run; the same as `ctx.job`, which type checkers do not know."""
    try:
        return cast(RunJob[Any], ctx.job)  # type: ignore[union-attr]
    except AttributeError:
        raise LookupError("this client has no progress_middleware(): see publisher.inngest") from None


def progress_middleware(
    *,
    project_id: str | Callable[[inngest.Event], str | None] | None = None,
    job_id: Callable[[inngest.Event, str], str] | None = None,
    job_type: JobType | Callable[[inngest.Event], JobType] | None = None,
    heartbeat: float | None = HEARTBEAT_SECONDS,
) -> Callable[[inngest.Inngest, object], ProgressMiddleware]:
    """Return the middleware, for a client or for one function.

    By default, the project and the job type are `projectId` and `jobType` in the data of the event that triggers the
    function, and the job's id is the run's. Each can be given here, as a value or as a function of the event (for
    `job_id`: of the event and the run's id). A run whose event names no project is not tracked. `heartbeat` is in
    seconds, as for `track_job`.
    """
    return functools.partial(ProgressMiddleware, naming=naming(project_id, job_id, job_type), heartbeat=heartbeat)


def naming(
    project_id: str | Callable[[inngest.Event], str | None] | None = None,
    job_id: Callable[[inngest.Event, str], str] | None = None,
    job_type: JobType | Callable[[inngest.Event], JobType] | None = None,
) -> Naming:
    """The defaults of `progress_middleware`, where nothing else is given."""

    def from_event(given: Any, field: str) -> Callable[[inngest.Event], Any]:
        if callable(given):
            return cast(Callable[[inngest.Event], Any], given)
        return lambda event: event.data.get(field) if given is None else given

    return Naming(
        from_event(project_id, "projectId"), job_id or (lambda _, run_id: run_id), from_event(job_type, "jobType")
    )


def end_reporter(
    inngest_client: inngest.Inngest,
    *,
    project_id: str | Callable[[inngest.Event], str | None] | None = None,
    job_id: Callable[[inngest.Event, str], str] | None = None,
    fn_id: str = "progress-end-reporter",
) -> inngest.Function[Any]:
    """Return a function, to serve beside yours, that publishes the ends that no middleware sees.

    A run that is cancelled, or whose worker is killed in its last try, calls no middleware. Inngest then sends an event
    of its own. It triggers this function, which publishes `job_failed` unless the job has ended already. The project
    and the job are those that the client's middleware has. Options are needed only where the middleware is not the
    client's but a function's: give the same ones.
    """
    names = naming(project_id, job_id) if project_id or job_id else _naming_of(inngest_client)

    def report(ctx: inngest.ContextSync) -> None:
        try:
            event = inngest.Event.model_validate(ctx.event.data["event"])
            identity = names.identity(event, str(ctx.event.data["run_id"]))
            if identity is None:
                return
            check_project_id(identity["project_id"])
        except Exception:
            return  # the run of a function without a job
        # Raises if Redis does not answer; Inngest then tries again.
        known = client.last_event(identity["project_id"], identity["job_id"])
        if known is None:
            logger.warning(
                "The end of run %s is not shown: nothing is known of job %r in project %r. Has end_reporter the "
                "options of progress_middleware?", ctx.event.data["run_id"], identity["job_id"], identity["project_id"],
            )  # fmt: skip
        elif isinstance(known, Progress):
            end_of(identity["project_id"], known, *_told_by(ctx.event))

    triggers = [inngest.TriggerEvent(event=f"inngest/function.{how}") for how in ("failed", "cancelled")]
    return inngest_client.create_function(fn_id=fn_id, trigger=list(triggers), retries=10)(report)
