"""RQ: one line tracks the jobs of its workers.

    # settings.py, for `rq worker -c settings`
    from publisher.rq import install
    install()

A job whose function has an argument `project_id` is tracked: its id is RQ's, and its job type the function's name. Each
run is the next attempt. The process that runs the job tells begin, retry and end. A process that is killed, a job that
is stopped, and jobs of a worker that died are told by the worker that finds out.

RQ has no signals for all of this, so `install` wraps five of its methods, in this process only.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from rq import Retry
from rq.exceptions import AbandonedJobError
from rq.job import Job, JobStatus
from rq.worker import BaseWorker

from publisher.beside import Ids, ended, reporter, tried_again, untold_job
from publisher.calls import Call, Choice, Naming, arguments_of
from publisher.failure import CANCELLED, WORKER_ENDED
from publisher.job import retry_text
from publisher.job_state import HEARTBEAT_SECONDS
from publisher.tracking import current_job, track_job

__all__ = ["Call", "current_job", "install"]


def install(
    *,
    project_id: Choice = None,
    job_id: Choice = None,
    job_type: Choice = None,
    heartbeat: float | None = HEARTBEAT_SECONDS,
) -> None:
    """Track the jobs of the RQ workers of this process. Call it before `Worker(...).work()`, or in `-c settings`.

    A job is tracked if it has a project: by default its argument `project_id`. Each of the three names may be a string,
    for all jobs, or a function of the `Call` (`name`, `id`, `arguments`, `task`: RQ's job); one that returns None for
    `project_id` leaves the job alone. `heartbeat` is in seconds, as for `track_job`. A second call replaces the first.

    In a process that cancels jobs (`job.cancel()`), it tells the viewers of jobs that wait in a queue.
    """
    _installed.tracker = Tracker(Naming(project_id, job_id, job_type), heartbeat)
    if not _installed.is_wrapped:
        _installed.is_wrapped = True
        _wrap(Job, "perform", _perform)
        _wrap(Job, "cancel", _cancel)
        _wrap(BaseWorker, "work", _work)
        _wrap(BaseWorker, "handle_work_horse_killed", _handle_work_horse_killed)
        _wrap(BaseWorker, "handle_job_failure", _handle_job_failure)


class Tracker(NamedTuple):
    """How the jobs of this process are tracked."""

    naming: Naming
    heartbeat: float | None

    def ids(self, job: Job) -> Ids | None:
        try:
            name, function = job.func_name, job.func
            call = Call(str(name), job.id, arguments_of(function, job.args, job.kwargs), job)
        except Exception:  # its function or arguments cannot be loaded; RQ tells that
            return None
        return self.naming.ids(call)


class _Installed:
    """What `install` did in this process."""

    tracker: Tracker
    is_wrapped = False


_installed = _Installed()


def _wrap(owner: type, name: str, wrapper: Callable[..., Any]) -> None:
    original = getattr(owner, name)

    @functools.wraps(original)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        return wrapper(functools.partial(original, self), self, *args, **kwargs)

    setattr(owner, name, wrapped)


# In the process that runs the job


def _perform(original: Callable[..., Any], job: Job) -> Any:
    ids = _installed.tracker.ids(job)
    if ids is None:
        with untold_job():
            return original()
    heartbeat = _installed.tracker.heartbeat
    with track_job(*ids, heartbeat=heartbeat, will_retry=lambda _: job.should_retry) as tracked:
        result = original()
        if isinstance(result, Retry) and not tracked.is_ended:
            tracked._pause(retry_text(""))  # RQ runs it again, unless it did so too often
        return result


# In the worker


def _work(original: Callable[..., Any], worker: Any, *args: Any, **kwargs: Any) -> Any:
    worker.push_exc_handler(_on_exception)
    return original(*args, **kwargs)


def _on_exception(job: Job, kind: type[BaseException], *_: Any) -> bool:
    """RQ found a job whose worker died. It retries it, or moves it to the failed ones."""
    if kind is AbandonedJobError:
        _report_lost(job)
    return True  # other handlers follow


def _handle_work_horse_killed(original: Callable[..., Any], worker: Any, job: Job, *args: Any, **kwargs: Any) -> Any:
    _report_lost(job)
    return original(job, *args, **kwargs)


def _handle_job_failure(original: Callable[..., Any], worker: Any, job: Job, *args: Any, **kwargs: Any) -> Any:
    is_stopped = getattr(worker, "_stopped_job_id", None) == job.id
    result = original(job, *args, **kwargs)
    if is_stopped and (ids := _installed.tracker.ids(job)) is not None:
        reporter.report(ended, ids, CANCELLED, "cancelled")
    return result


def _report_lost(job: Job) -> None:
    ids = _installed.tracker.ids(job)
    if ids is not None and job.should_retry:
        reporter.report(tried_again, ids, retry_text(WORKER_ENDED))
    elif ids is not None:
        reporter.report(ended, ids, WORKER_ENDED, "lost")


# In the process that cancels a job


def _cancel(original: Callable[..., Any], job: Job, *args: Any, **kwargs: Any) -> Any:
    is_started = job.get_status(refresh=True) == JobStatus.STARTED  # then it goes on: RQ only marks it
    result = original(*args, **kwargs)
    if not is_started and (ids := _installed.tracker.ids(job)) is not None:
        reporter.report(ended, ids, CANCELLED, "cancelled")
    return result
