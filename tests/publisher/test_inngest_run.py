"""Where a request is in its run: which attempt its events carry, and what is new to say. No Inngest, no Redis."""

from typing import Any

import inngest
import pytest

from publisher.events import Event, JobComplete, JobFailed, Progress
from publisher.inngest.run import STEP_RETRY, Place, Start, unwatched_job
from publisher.job import WILL_RETRY
from publisher.tracking import TrackedJob

IDS: dict[str, Any] = {"job_id": "run", "job_type": "video"}


def going(attempt: int | None, percent: float = 40, message: str | None = "so far") -> Progress:
    return Progress(**IDS, attempt=attempt, progress=percent, message=message)


def failed(attempt: int) -> Progress:
    """What a try says that failed and will be followed by another."""
    return going(attempt, message=f"ValueError: x; {WILL_RETRY}")


def failed_step(attempt: int) -> Progress:
    """The same of a step."""
    return going(attempt, message=f"ValueError: x; {STEP_RETRY}")


def place(try_number: int, steps_done: int, *, is_targeted: bool = False) -> Place:
    return Place(try_number=try_number, tries=4, steps_done=steps_done, is_targeted=is_targeted)


AGAIN = "trying again (2 of 4)"
BEGIN = Start(True)


def silent(attempt: int | None, percent: float = 40, message: str | None = "so far") -> Start:
    return Start(False, attempt, percent, message, is_told=True)


@pytest.mark.parametrize(
    ("where", "known", "start"),
    [
        # The usual ways
        (place(0, 0), None, BEGIN),
        (place(0, 1), going(0), silent(0)),
        (place(0, 2), going(1), silent(1)),  # Inngest counts from 0 again
        # The function failed: the next attempt
        (place(1, 0), failed(0), Start(True, None, 40, AGAIN)),
        (place(2, 2), failed(2), Start(True, None, 40, "trying again (3 of 4)")),
        # A step failed: the attempt goes on, and what other steps told stays
        (place(1, 0), failed_step(0), Start(False, 0, 40, AGAIN)),
        (place(1, 2, is_targeted=True), going(3), Start(False, 3, 40, AGAIN)),
        (place(1, 2, is_targeted=True), going(3, message=AGAIN), silent(3, message=AGAIN)),
        # A try that was killed
        (place(1, 0), going(0), Start(True, None, 40, AGAIN)),
        # A parallel group before any other step
        (place(0, 0, is_targeted=True), going(0), silent(0)),
        # Nothing is remembered any more
        (place(0, 3), None, silent(None, 0, None)),
        (place(2, 3), None, Start(True, None, 0, "trying again (3 of 4)")),
        # The same id again
        (place(0, 0), JobComplete(**IDS, attempt=2), BEGIN),
        (place(0, 0), JobFailed(**IDS, error="x"), BEGIN),
        # A step that is still at work when the run has ended has nothing to say: it is refused
        (place(0, 2, is_targeted=True), JobComplete(**IDS, attempt=1), silent(1, 0, None)),
        (place(1, 2, is_targeted=True), JobComplete(**IDS, attempt=1), silent(1, 0, AGAIN)),
    ],
)
def test_a_request_goes_on_from_the_last_event(where: Place, known: Event | None, start: Start) -> None:
    assert where.after(known) == start


@pytest.mark.parametrize("where", [place(0, 0), place(1, 0), place(0, 3), place(2, 3)])
def test_a_request_begins_an_attempt_or_continues_the_known_one(where: Place) -> None:
    for attempt in range(5):
        for known in (going(attempt), failed(attempt), failed_step(attempt)):
            start = where.after(known)
            assert start.attempt == (None if start.begins else attempt)


def test_where_redis_is_away_only_the_first_request_begins_an_attempt() -> None:
    """The number is not known then; an event without one is never refused."""
    assert place(0, 0).without_redis() == Start(True)
    assert place(1, 2).without_redis() == Start(False, is_told=True)


def test_a_function_that_nobody_watches_may_say_everything() -> None:
    job = unwatched_job(TrackedJob)
    job.progress(10)
    assert list(job.track("ab")) == ["a", "b"]
    with job.sentence("s") as sentence:
        sentence.fail("no voice")
    job.complete(file="x")
    with pytest.raises(inngest.NonRetriableError, match="no voice"):
        job.fail("no voice")
