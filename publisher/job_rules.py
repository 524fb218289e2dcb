"""The rules by which events become the state of a job. No I/O, no clock.

A job is a `jobId` within a project. Its parts are its sentences, and the job itself (the events without `sentenceId`).
docs/protocol.md states the rules for people. publish.lua, the gateway's channel, `watch` and the hook follow them too;
tests/cases/ holds all of them to the same answers.
"""

from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple, Protocol

from publisher.events import Event, JobComplete, JobFailed, Progress


class Verdict(Enum):
    """What an event does to its job."""

    NEWS = "news"  # it becomes the last event of its part
    BEGINS = "begins"  # the same, and everything else of the job is dropped: it belongs to an earlier attempt
    REPLACED = "replaced"  # refused: a later attempt has begun
    ENDED = "ended"  # refused: the part has ended in this attempt
    LOWER = "lower"  # refused: the part's progress was higher in this attempt

    @property
    def is_accepted(self) -> bool:
        return self in (Verdict.NEWS, Verdict.BEGINS)


class Known(Protocol):
    """The last event of a part, as far as the rules look at it."""

    @property
    def attempt(self) -> int | None: ...
    @property
    def is_terminal(self) -> bool: ...
    @property
    def progress(self) -> float:
        """0 for an end."""


class Told(Known, Protocol):
    """A progress, as far as the rules look at it."""

    @property
    def sentence_id(self) -> str | None: ...


def judge(number: int | None, known: Known | None, event: Told | JobComplete | JobFailed) -> Verdict:
    """What `event` does.

    `number` is the job's attempt, the highest that any of its events carried; `known` is the last event of its part.
    """
    # Not by `isinstance`: a pydantic class answers that in Python, and this runs for each event.
    progress = None if event.is_terminal else event.progress  # type: ignore[union-attr]
    if event.attempt is None:
        is_own_begin = progress == 0 and event.sentence_id is None
        has_run = known is not None and (known.is_terminal or known.progress > 0)
        return Verdict.BEGINS if is_own_begin and has_run else Verdict.NEWS
    if number is None or event.attempt > number:
        return Verdict.BEGINS
    if event.attempt < number:
        return Verdict.REPLACED
    if known is None or known.attempt != event.attempt:
        return Verdict.NEWS
    if known.is_terminal:
        return Verdict.ENDED
    return Verdict.LOWER if progress is not None and progress < known.progress else Verdict.NEWS


class View(NamedTuple):
    """What viewers are shown of a job, or of one of its sentences."""

    status: str
    """`running`, `complete` or `failed`."""
    percent: float
    """0 to 100. A failed part counts as 0: its last event says nothing else, and a new page has only that event."""


def view_of(event: Event) -> View:
    """How a part stands by its last event alone, so that every page shows the same."""
    if isinstance(event, Progress):
        return View("running", float(event.progress))
    return View("complete", 100.0) if isinstance(event, JobComplete) else View("failed", 0.0)


def view_of_job(own: Event | None, sentences: Iterable[Event]) -> View:
    """How a job stands: as its own event says; without one, as its sentences add up."""
    if own is not None:
        return view_of(own)
    views = [view_of(event) for event in sentences]
    statuses = {view.status for view in views}
    status = "running" if "running" in statuses else "failed" if "failed" in statuses else "complete"
    return View(status, sum(view.percent for view in views) / len(views))


def reason_of(event: Event) -> str | None:
    """Why a job failed: `error` where its event gives no reason."""
    return (getattr(event, "reason", None) or "error") if isinstance(event, JobFailed) else None
