"""Tells what became of a job from beside it: by the parent of a worker that died, or by another task.

What a process cannot say for itself (kill -9, out of memory, a time limit that kills) the libraries know a moment
later, in another process. That one knows the job's ids, and asks Redis for its attempt.
"""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from publisher.client import broadcast_many, broadcast_to_project, last_event, open_parts
from publisher.events import JobFailed, Progress, Reason
from publisher.failure import describe
from publisher.job_state import JobState
from publisher.settings import PublisherSettings
from publisher.tracking import TrackedJob

logger = logging.getLogger("publisher")

TRY_SECONDS = 60.0  # for Redis to answer; then the report is given up, and logged
PAUSE_SECONDS = 1.0


class Ids(NamedTuple):
    """A job, as its library names it."""

    project_id: str
    job_id: str
    job_type: str


class Untold:
    """Of a job that nobody watches: nothing is sent."""

    is_silent = True

    def is_interrupt(self, error: BaseException) -> bool:
        return False


def untold_job() -> TrackedJob:
    """The job of a task without a project: takes every call, sends nothing."""
    state = JobState(PublisherSettings(), "nobody", heartbeat=None, job_id="none", job_type="none")
    return TrackedJob(state, repeats=Untold())


def ended(ids: Ids, error: str, reason: Reason | None) -> None:
    """End a job that runs, in the attempt that Redis knows. One that has not begun begins, so that its end is seen."""

    known = last_event(ids.project_id, ids.job_id)
    if known is None:
        job = TrackedJob(_state(ids))
        job._begin()
        job.fail(error, reason=reason)
    elif isinstance(known, Progress):
        end_of(ids.project_id, known, error, reason)


def end_of(project_id: str, known: Progress, error: str, reason: Reason | None) -> None:
    """End a job, whose last event is `known`, with its open sentences. Raises redis-py's `RedisError`."""
    ends = [
        JobFailed(
            job_id=part.job_id,
            job_type=part.job_type,
            sentence_id=part.sentence_id,
            attempt=part.attempt,
            error=error,
            reason=reason,
        )
        for part in (*open_parts(known, project_id), known)
    ]
    broadcast_many([(project_id, end) for end in ends], strict=True)


def tried_again(ids: Ids, text: str) -> None:
    """Say of a job that runs that it will run again."""
    known = last_event(ids.project_id, ids.job_id)
    if isinstance(known, Progress):
        again = known.model_copy(update={"message": text, "next_within": None})
        broadcast_to_project(ids.project_id, again, strict=True)


def _state(ids: Ids) -> JobState:
    settings = PublisherSettings.from_environment()
    return JobState(settings, ids.project_id, heartbeat=None, job_id=ids.job_id, job_type=ids.job_type)


class Reporter:
    """Reports in a thread of its own: the parent of workers must not wait for Redis. Lives as long as the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    def report(self, tell: Callable[..., None], *arguments: Any) -> None:
        """Call `ended` or `tried_again`, soon; and again while Redis does not answer."""
        try:
            with self._lock:
                if self._pool is None:
                    self._pool = ThreadPoolExecutor(1, thread_name_prefix="publisher-reports")
                self._pool.submit(self.now, tell, *arguments)
        except RuntimeError:  # the interpreter exits
            self.now(tell, *arguments, seconds=0)

    def now(self, tell: Callable[..., None], ids: Ids, *arguments: Any, seconds: float = TRY_SECONDS) -> None:
        """The same, in the caller's thread; never raises."""
        until = time.monotonic() + seconds
        while True:
            try:
                return tell(ids, *arguments)
            except Exception as error:
                if time.monotonic() >= until:
                    logger.warning("The end of job %r was not reported: %s", ids.job_id, describe(error))
                    return None
            time.sleep(PAUSE_SECONDS)


reporter = Reporter()
