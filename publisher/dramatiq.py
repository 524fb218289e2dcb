"""Dramatiq: one line tracks the messages of a broker, by a middleware.

    from publisher.dramatiq import install

    broker = RedisBroker(url=...)
    install(broker)

A message whose actor has an argument `project_id` is tracked: its job's id is the message's, and its job type the
actor's name. Each run is the next attempt. A message of a worker that was killed is run again by the next worker, which
begins an attempt; until then viewers see silence.
"""

from typing import Any

import dramatiq

from publisher.beside import untold_job
from publisher.calls import Call, Choice, Naming, arguments_of
from publisher.failure import CANCELLED, describe
from publisher.job import retry_text
from publisher.job_state import HEARTBEAT_SECONDS
from publisher.tracking import TrackedJob, current_job, track_job

__all__ = ["Call", "current_job", "install"]


def install(
    broker: Any,
    *,
    project_id: Choice = None,
    job_id: Choice = None,
    job_type: Choice = None,
    heartbeat: float | None = HEARTBEAT_SECONDS,
) -> None:
    """Track the messages of a broker. Call it before actors are declared.

    A message is tracked if it has a project: by default the argument `project_id` of its actor. Each of the three names
    may be a string, for all, or a function of the `Call` (`name`, `id`, `arguments`, `task`: the message); one that
    returns None for `project_id` leaves the message alone. `heartbeat` is in seconds, as for `track_job`.
    """
    middleware = ProgressMiddleware(Naming(project_id, job_id, job_type), heartbeat)
    # The hooks after a message run from the last middleware to the first: ours must know what Retries decided.
    has_retries = any(isinstance(one, dramatiq.middleware.Retries) for one in broker.middleware)
    broker.add_middleware(middleware, before=dramatiq.middleware.Retries if has_retries else None)


class ProgressMiddleware(dramatiq.Middleware):
    """Publishes the progress of messages. Lives as long as its broker; its hooks run in the worker's threads."""

    def __init__(self, naming: Naming, heartbeat: float | None) -> None:
        self._naming = naming
        self._heartbeat = heartbeat
        self._running: dict[str, TrackedJob] = {}  # by message id

    def before_process_message(self, broker: Any, message: Any) -> None:
        function = broker.get_actor(message.actor_name).fn
        arguments = arguments_of(function, message.args, message.kwargs)
        ids = self._naming.ids(Call(message.actor_name, message.message_id, arguments, message))
        job = untold_job() if ids is None else track_job(*ids, heartbeat=self._heartbeat).__enter__()
        self._running[message.message_id] = job.__enter__() if ids is None else job

    def after_process_message(
        self, broker: Any, message: Any, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        job = self._running.pop(message.message_id, None)
        if job is None:
            return
        if exception is not None and not message.failed:
            job._pause(retry_text(describe(exception)))
        elif exception is not None:
            job.fail(exception)
        job.__exit__(None, None, None)

    def after_skip_message(self, broker: Any, message: Any) -> None:
        """A middleware refused it: it was aborted, or is too old."""
        job = self._running.pop(message.message_id, None)
        if job is not None:
            job.fail(CANCELLED, reason="cancelled")
            job.__exit__(None, None, None)
