"""What a job handler calls on its job, in ordinary and in `async` code."""

import inspect
import logging
import os
import re
import string
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from typing import Any, Generic, Protocol, Self, TypeVar

from publisher.client import check_settings
from publisher.direct import sender_of
from publisher.events import MAX_TEXT, JobComplete, JobFailed, JobType, Progress, Reason, Result, checked
from publisher.failure import describe, reason_for
from publisher.job_state import HEARTBEAT_SECONDS, EndOf, JobState, copied
from publisher.sender import Ending, Sender
from publisher.settings import PublisherSettings
from publisher.stopping import stopping

logger = logging.getLogger("publisher")

WILL_RETRY = "it will be tried again"

WillRetry = bool | type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], bool]
"""After which exceptions the job is tried again: all, those of some classes, or those that a function accepts."""

Item = TypeVar("Item")
ProgressReturn = TypeVar("ProgressReturn")
"""What `progress` returns."""
Tracked = TypeVar("Tracked")
EndReturn = TypeVar("EndReturn")
"""What `complete` and `fail` return."""


class Repeats(Protocol):
    """For work that runs again from the top (Inngest): which calls only repeat earlier ones."""

    @property
    def is_silent(self) -> bool:
        """Whether calls now repeat earlier ones, and nothing is sent."""

    def is_interrupt(self, error: BaseException) -> bool:
        """Whether this exception only interrupts the work, which will run again; it is no error."""


class _Once:
    is_silent = False

    def is_interrupt(self, error: BaseException) -> bool:
        return False


ONCE: Repeats = _Once()


def retry_text(text: str, what: str = WILL_RETRY) -> str:
    """The text for viewers after a failed try that another one follows; `text` may be empty."""
    if not text:
        return what[0].upper() + what[1:]
    suffix = f"; {what}"
    return text[: MAX_TEXT - len(suffix)] + suffix


class BaseJob(ABC, Generic[ProgressReturn, EndReturn]):
    """A job that is being tracked. Made by `track_job`; lives until its end was sent; safe in threads."""

    def __init__(self, state: JobState, *, will_retry: WillRetry = False, repeats: "Repeats | None" = None) -> None:
        self._state = state
        self._sender = sender_of(state.settings)
        self._will_retry = will_retry
        self._repeats = repeats or ONCE
        self._is_told = True  # False for a sentence that was only named in repeated work
        self._sentences: dict[str, Self] = {}
        self._pid = os.getpid()
        self._is_stopped = False  # by `stop`, while its thread works on
        # For a sentence of `sentences`: the job, its place among the sentences, and their number.
        self._share: tuple[BaseJob[ProgressReturn, EndReturn], int, int] | None = None

    @property
    def project_id(self) -> str:
        return self._state.project_id

    @property
    def job_id(self) -> str:
        return str(self._state.identity["job_id"])

    @property
    def sentence_id(self) -> str | None:
        return self._state.identity.get("sentence_id")

    @property
    def attempt(self) -> int | None:
        """The number of this attempt; None until Redis answered the begin, and with replay off."""
        return self._state.attempt.number

    @property
    def percent(self) -> float:
        """The highest progress so far."""
        return self._state.last.progress

    @property
    def is_ended(self) -> bool:
        """True after `complete` or `fail`, when it was left for another try, or once a later attempt replaced it."""
        return not self._state.is_open

    # How it goes

    def progress(
        self, value: Any, message: str | None = None, *, data: Mapping[str, Any] | None = None
    ) -> ProgressReturn:
        """Report that `value` percent are done: an int, float or Decimal from 0 to 100. One decimal of it is sent.

        Costs microseconds: it is sent in the background, at most ten times a second; the latest wins, and the last is
        never lost. A lower value than before leaves the bar where it is. Without `message` the last one stays, and so
        do `data`, a mapping of your own for pages to show: at most 8 KiB as JSON and 16 levels deep. Raises
        `ValueError` for what is no percentage, or no such data. After the end it only warns.
        """
        progress = self._state.check_progress(value, message, data)
        if not self._repeats.is_silent:
            self._is_told = True
            if self._share is not None and not self.is_ended:
                job, place, total = self._share
                job._say(job._state.check_progress(round((100 * place + progress.progress) / total, 1), None))
            self._say(progress)
        return self._progress_return()

    def sentence(self, sentence_id: str) -> Self:
        """A part of this job with a progress of its own; the same object for the same id.

        It may be used by `with`; if it is still open when the job ends, it ends as the job does.
        """
        if sentence_id not in self._sentences:
            part = self._part(self._state.of_sentence(sentence_id))
            # If two threads ask at once, only one may begin it: nothing would end the second one.
            if self._sentences.setdefault(sentence_id, part) is part:
                if self.is_ended:
                    self._warn(f"sentence {sentence_id!r}")
                part._is_told = not self._repeats.is_silent
                if part._is_told:
                    part._begin(within=self._state)
        return self._sentences[sentence_id]

    def sentences(self, sentence_ids: Iterable[str]) -> Iterator[Self]:
        """Work through sentences: announce all, yield each in turn, and complete it after its turn.

        The job's own bar shows how far they are together.
        """
        jobs = [self.sentence(sentence_id) for sentence_id in sentence_ids]
        for place, job in enumerate(jobs):
            job._share = (self, place, len(jobs))
        # An exception leaves the sentence open. It ends with the job, which knows the exception.
        for place, job in enumerate(jobs):
            yield job
            if not job.is_ended:
                job.complete()
            self.progress(round(100 * (place + 1) / len(jobs), 1))

    def track(self, items: Iterable[Item], message: str | None = None, *, total: int | None = None) -> Iterator[Item]:
        """Yield each item, and report after each how many are done: `for page in job.track(pages): ...`

        `message` may hold `{n}` and `{total}`. Without a length and a `total`, the bar stays and the text counts.
        """
        if total is None and isinstance(items, Sized):
            total = len(items)
        self.count(0, total, message)
        for done, item in enumerate(items, 1):
            yield item
            self.count(done, total, message)

    def count(self, done: int, total: int | None, message: str | None) -> None:
        """Report that so many items are done, as `track` does."""
        text = message or ("{n} done" if total is None else None)
        if text is not None:
            text = text.replace("{n}", str(done)).replace("{total}", "?" if total is None else str(total))
        self.progress(min(100, round(100 * done / total, 1)) if total else self.percent, text)

    # How it ends

    def complete(
        self, *, file: str | None = None, duration: float | None = None, data: Mapping[str, Any] | None = None
    ) -> EndReturn:
        """End the job well: `file` is what it made (a name or URL), `duration` is in seconds. Sent before it returns.

        `data` are the job's last, as for `progress`; those of its progress are not kept. Returns the event's `seq`, or
        None if it was refused or could not be sent yet. Raises `ValueError` for a result or data that do not fit.
        """
        result = checked(Result, file=file, duration=duration)

        def end_of(state: JobState) -> JobComplete:
            if state is not self._state:  # the result is the job's, not that of its open sentences
                return checked(JobComplete, **state.identity)
            return copied(checked(JobComplete, **state.identity, result=result, data=data))

        return self._finish(end_of)

    def fail(
        self,
        error: str | BaseException,
        *,
        reason: Reason | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> EndReturn:
        """End the job badly. `error` is a sentence for viewers, or an exception. Returns as `complete`.

        `reason` is `error`, `cancelled`, `timed_out` or `lost`. Without it viewers take it as `error`, but a
        cancellation and a `TimeoutError` tell their own. `data` as for `complete`.
        """
        # Anything else is refused by the model, which names the field.
        text: Any = (describe(error) or "Failed") if isinstance(error, str | BaseException) else error
        reason = reason_for(error) if reason is None else reason

        def end_of(state: JobState) -> JobFailed:
            last = data if state is self._state else None
            return copied(checked(JobFailed, **state.identity, error=text, reason=reason, data=last))

        return self._finish(end_of)

    def _leave(self, error: BaseException | None) -> EndReturn | None:
        """The block was left: complete the job, or report why it failed.

        A forked child does not end the job, which is its parent's. An interpreter that exits closes generators and
        coroutines when it has no threads any more; waiting for one would never end.
        """
        if self.is_ended or os.getpid() != self._pid or sys.is_finalizing():
            return None
        if error is not None and self._repeats.is_interrupt(error):
            return None
        if error is None:
            return self.complete()
        if self._is_retried(error):
            return self._pause(retry_text(describe(error)))
        return self.fail(error)

    @property
    def is_here(self) -> bool:
        """Whether this process began it."""
        return self._pid == os.getpid()

    def stop(self) -> Ending | None:
        """The process stops: end the job as lost, or leave it to another try. Does not wait."""
        self._is_stopped = True
        error = SystemExit()
        if self._is_retried(error):
            self._sender.say(self._state, self._state.check_progress(self.percent, retry_text(describe(error))))
            return self._sender.end(self._open_states, None)
        text = describe(error)
        return self._sender.end(
            self._open_states, lambda state: checked(JobFailed, **state.identity, error=text, reason="lost")
        )

    def _is_retried(self, error: BaseException) -> bool:
        if isinstance(self._will_retry, type | tuple):
            return isinstance(error, self._will_retry)
        if not callable(self._will_retry):
            return self._will_retry
        try:
            return self._will_retry(error)
        except Exception:  # the caller must see the job's own error, not that of its function
            logger.exception("will_retry of job %r failed", self.job_id)
            return False

    def _open_states(self) -> list[JobState]:
        """The states of the job's open sentences, and its own; none if it has ended."""
        parts: list[BaseJob[Any, Any]] = [
            *list(self._sentences.values()),
            self,
        ]  # a copy: threads may add to the dictionary
        return [] if self.is_ended else [job._state for job in parts if not job.is_ended and job._is_told]

    def _warn(self, said: str) -> None:
        # The log said so, or the process ends; and the worker cannot help it.
        if self._state.attempt.replaced_by is not None or self._is_stopped:
            return
        logger.warning("Job %r of project %r has ended; not sent: %s", self.job_id, self.project_id, said)

    # What is handed to the sender

    def _begin(self, within: JobState | None = None) -> None:
        # Work that runs again may be another process' by then; what goes to an outlet was sent.
        if within is None and self._repeats is ONCE and isinstance(self._sender, Sender):
            stopping.add(self)
        self._sender.begin(self._state, within)

    def _say(self, progress: Progress) -> None:
        if not self._sender.say(self._state, progress):
            self._warn(f"progress {progress.progress:g}")

    def _finish(self, end_of: EndOf) -> EndReturn:
        if self._repeats.is_silent:
            return self._end_return(None)
        self._is_told = True
        stopping.discard(self)
        if self.is_ended:
            self._warn(end_of(self._state).type)
            return self._end_return(None)
        return self._end_return(self._sender.end(self._open_states, end_of))

    def _pause(self, message: str | None) -> EndReturn:
        """Leave the job to another try, or to another process."""
        stopping.discard(self)
        if message is not None:
            self._sender.say(self._state, self._state.check_progress(self.percent, message))
        return self._end_return(self._sender.end(self._open_states, None))

    # What ordinary and async code return

    def _drop(self) -> None:
        """Say nothing more, not even an end. Its promise stays, and is broken if nobody else speaks of it."""
        self._sender.drop(self._open_states)

    @abstractmethod
    def _progress_return(self) -> ProgressReturn: ...

    @abstractmethod
    def _end_return(self, ending: Ending | None) -> EndReturn:
        """`ending` is on its way; None for an end that is not sent."""

    @abstractmethod
    def _part(self, state: JobState) -> Self: ...


class BaseTrackJob(Generic[Tracked]):
    """The arguments of `track_job`: the ids and options of a job. A decorator fills in the arguments of a call."""

    def __init__(
        self,
        project_id: str,
        job_id: str,
        job_type: JobType,
        *,
        sentence_id: str | None = None,
        attempt: int | str | None = None,
        heartbeat: float | None = HEARTBEAT_SECONDS,
        per_second: float | None = None,
        will_retry: WillRetry = False,
        data: Mapping[str, Any] | None = None,
    ) -> None:
        self._identity: dict[str, Any] = {
            "project_id": project_id,
            "job_id": job_id,
            "job_type": job_type,
            "sentence_id": sentence_id,
            "attempt": attempt,
        }
        self._heartbeat = heartbeat
        self._per_second = per_second
        self._will_retry = will_retry
        self._data = data
        stopping.handle_sigterm()  # a decorator is made in the main thread; its function may run in others
        self._entered: list[Tracked] = []  # a stack: the same object may be entered again within itself

    def _state(self, arguments: Mapping[str, Any] | None = None) -> JobState:
        """The state of a new job. `{name}` in its ids is replaced by that argument of the call."""
        identity = self._identity
        if arguments is not None:
            identity = {
                name: value.format_map(arguments) if isinstance(value, str) and "{" in value else value
                for name, value in identity.items()
            }
        settings = PublisherSettings.from_environment()
        check_settings(settings)
        state = JobState(settings, heartbeat=self._heartbeat, per_second=self._per_second, **identity)
        if self._data is not None:
            state.say(state.check_progress(0, None, self._data))
        return state

    def _arguments_of(self, function: Callable[..., Any]) -> Callable[..., Mapping[str, Any]]:
        """Return a function that maps the arguments of a call by name, defaults included.

        Raises `ValueError` for a `{name}` that is no parameter.
        """
        signature = inspect.signature(function)
        for text in self._identity.values():
            for _, field, _, _ in string.Formatter().parse(text) if isinstance(text, str) and "{" in text else ():
                name = None if field is None else re.split(r"[.\[]", field)[0]
                if name is not None and name not in signature.parameters:
                    raise ValueError(f"{text!r} needs {name!r}, which {function.__name__} has no parameter for")
        return _binder(signature)


def _binder(signature: inspect.Signature) -> Callable[..., Mapping[str, Any]]:
    def bind(*args: Any, **kwargs: Any) -> Mapping[str, Any]:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return bound.arguments

    return bind
