"""Celery: one line tracks the tasks of an app, from Celery's own signals.

    from publisher import current_job
    from publisher.celery import install

    app = Celery("studio", broker=...)
    install(app)

    @app.task
    def make_audio(project_id, voices):
        for voice in current_job().track(voices, "{n} of {total} voices"):
            speak(voice)

A task with an argument `project_id` is tracked: its job's id is the task's, and its job type the function's name. Each
run is the job's next attempt. The process that runs the task tells begin, retry and end. What kills that process
(kill -9, a hard time limit, `revoke(terminate=True)`) is told by the worker's main process, which Celery tells of it.
"""

import atexit
import sys
from collections.abc import Mapping
from typing import Any

from celery import signals, states

from publisher.beside import Ids, ended, reporter, tried_again, untold_job
from publisher.calls import Call, Choice, Naming, arguments_of
from publisher.failure import CANCELLED, TIMED_OUT, WORKER_ENDED, describe, reason_for
from publisher.job import retry_text
from publisher.job_state import HEARTBEAT_SECONDS
from publisher.tracking import TrackedJob, current_job, track_job

__all__ = ["Call", "current_job", "install"]

LEAST_SWEEP = 64  # requests


def install(
    app: Any,
    *,
    project_id: Choice = None,
    job_id: Choice = None,
    job_type: Choice = None,
    heartbeat: float | None = HEARTBEAT_SECONDS,
) -> None:
    """Track the tasks of an app. Call it once, where the app is made: workers, and whoever revokes, import that.

    A call is tracked if it has a project: by default its argument `project_id`. Each of the three names may be a
    string, for all tasks, or a function of the `Call` (`name`, `id`, `arguments`, `task`); a function that returns None
    for `project_id` leaves the call alone. `heartbeat` is in seconds, as for `track_job`.

    The task reports by `publisher.current_job()`; `complete(file=...)` may be called in it, and nothing else needs to.
    """
    Tracker(app, Naming(project_id, job_id, job_type), heartbeat).connect()


class Tracker:
    """The tracked tasks of an app, in one process: the one that runs them, or the main process of a worker."""

    def __init__(self, app: Any, naming: Naming, heartbeat: float | None) -> None:
        self._app = app
        self._naming = naming
        self._heartbeat = heartbeat
        self._running: dict[str, TrackedJob] = {}  # by task id: what runs in this process
        self._unacknowledged: list[Any] = []  # requests with `acks_late` in the main process, and some that are over
        self._sweep_at = LEAST_SWEEP

    def connect(self) -> None:
        for signal, receiver in (
            (signals.task_prerun, self._on_prerun),
            (signals.task_postrun, self._on_postrun),
            (signals.task_failure, self._on_failure),
            (signals.task_retry, self._on_retry),
            (signals.task_revoked, self._on_revoked),
            (signals.task_received, self._on_received),
        ):
            name = getattr(receiver, "__name__", "")
            signal.connect(receiver, weak=False, dispatch_uid=f"publisher.celery {id(self._app)} {name}")

    def _call(self, task: Any, task_id: str, args: Any, kwargs: Any) -> Call:
        args, kwargs = args or (), kwargs if isinstance(kwargs, Mapping) else {}
        return Call(task.name, task_id, arguments_of(task.run, args, kwargs), task)

    def _is_ours(self, task: Any) -> bool:
        return getattr(task, "app", None) is self._app

    # In the process that runs the task

    def _on_prerun(self, task_id: str, task: Any, args: Any, kwargs: Any, **_: Any) -> None:
        if not self._is_ours(task):
            return
        ids = self._naming.ids(self._call(task, task_id, args, kwargs))
        job = untold_job() if ids is None else track_job(*ids, heartbeat=self._heartbeat).__enter__()
        self._running[task_id] = job.__enter__() if ids is None else job

    def _on_postrun(self, task_id: str, task: Any, retval: Any, state: str | None, **_: Any) -> None:
        job = self._running.pop(task_id, None)
        if job is None:
            return
        error = retval if isinstance(retval, BaseException) else None
        if state is None:  # something that Celery does not catch is on its way out of the task
            error = sys.exc_info()[1] or SystemExit()
            self._leave(job, task, error)
        elif state == states.RETRY:
            job._pause(retry_text(describe(error or "")))
        elif state == states.REJECTED:
            self._rejected(job, task, error)
        elif state == states.IGNORED:
            job.fail(_with_reason("Ignored", error), reason="cancelled")
        elif state != states.SUCCESS:
            job.fail(error or "Failed")
        job.__exit__(None, None, None)

    def _leave(self, job: TrackedJob, task: Any, error: BaseException) -> None:
        """The process ends, and its task with it."""
        if _is_pool_process():
            job._drop()  # the main process knows why it ended this one, and whether the task runs again
        elif task.acks_late:
            job._pause(retry_text(describe(error)))
        else:
            job.fail(error)

    def _rejected(self, job: TrackedJob, task: Any, error: Any) -> None:
        text = _with_reason("Rejected", error, "reason")
        if getattr(error, "requeue", False) and task.acks_late:
            job._pause(retry_text(text))
        else:
            job.fail(text)

    # In the main process of a worker

    def _ids(self, task: Any, task_id: str, args: Any, kwargs: Any) -> Ids | None:
        """The job of a task that does not run in this process."""
        if not self._is_ours(task) or task_id in self._running:
            return None
        return self._naming.ids(self._call(task, task_id, args, kwargs))

    def _on_failure(self, sender: Any, task_id: str, exception: Any, args: Any, kwargs: Any, **_: Any) -> None:
        """The process of a task died or was killed by its time limit; other failures were told there."""
        ids = self._ids(sender, task_id, args, kwargs)
        if ids is None:
            return
        text, reason = describe(exception), reason_for(exception)
        if reason == "timed_out" and sender.acks_late and not sender.acks_on_timeout:
            reporter.report(tried_again, ids, retry_text(text))
        else:
            reporter.report(ended, ids, text, reason)

    def _on_retry(self, sender: Any, request: Any, reason: Any = None, **_: Any) -> None:
        ids = self._ids(sender, request.id, request.args, request.kwargs)
        self._unacknowledged = [one for one in self._unacknowledged if one.id != request.id]
        if ids is None:
            return
        if reason is not None or sender.acks_late:
            reporter.report(tried_again, ids, retry_text(WORKER_ENDED if reason is None else describe(reason)))
        else:  # interrupted by the end of the worker; its message was acknowledged when it began
            reporter.report(ended, ids, WORKER_ENDED, "lost")

    def _on_revoked(self, sender: Any, request: Any, expired: bool = False, **_: Any) -> None:
        ids = self._ids(sender, request.id, request.args, request.kwargs)
        if ids is not None and expired:
            reporter.report(ended, ids, f"{TIMED_OUT} before it began", "timed_out")
        elif ids is not None:
            reporter.report(ended, ids, CANCELLED, "cancelled")

    def _on_received(self, request: Any, **_: Any) -> None:
        if request.task.acks_late:
            if not self._unacknowledged:  # in the main process of a worker: its children end without `atexit`
                atexit.unregister(self._at_exit)
                atexit.register(self._at_exit)
            self._unacknowledged.append(request)
            if len(self._unacknowledged) >= self._sweep_at:
                self._unacknowledged = [request for request in self._unacknowledged if not request.acknowledged]
                self._sweep_at = max(LEAST_SWEEP, 2 * len(self._unacknowledged))

    def _at_exit(self) -> None:
        """A cold shutdown interrupts tasks. Those with `acks_late` run again, which no signal of Celery's tells."""
        for request in self._unacknowledged:
            if request._already_cancelled and not request.acknowledged:
                ids = self._ids(request.task, request.id, request.args, request.kwargs)
                if ids is not None:
                    reporter.now(tried_again, ids, retry_text(WORKER_ENDED), seconds=0)


def _with_reason(what: str, error: Any, name: str = "args") -> str:
    """`Ignored: made already`."""
    said = getattr(error, name, None)
    said = said[0] if isinstance(said, tuple) and said else said
    text = describe(said) if isinstance(said, str | BaseException) else ""
    return f"{what}: {text}" if text else what


def _is_pool_process() -> bool:
    """Whether this is a process of a prefork pool, whose main process lives on."""
    process = sys.modules.get("billiard.process")
    return process is not None and process.current_process()._parent_pid is not None
