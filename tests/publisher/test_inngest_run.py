"""Where a request is in its run: which attempt its events carry, and what is new to say. No Inngest, no Redis."""

from typing import Any

import inngest
import pytest

from publisher.events import Event, JobComplete, JobFailed, Progress
from publisher.inngest.run import Place, Start, unwatched_job
from publisher.job import WILL_RETRY
from publisher.tracking import TrackedJob

IDS: dict[str, Any] = {"job_id": "run", "job_type": "video"}


def going(attempt: int | None, percent: float = 40, message: str | None = "so far") -> Progress:
    return Progress(**IDS, attempt=attempt, progress=percent, message=message)


def failed(attempt: int) -> Progress:
    """What a try says that failed and will be followed by another."""
    return going(attempt, message=f"ValueError: x; {WILL_RETRY}")


def place(try_number: int, steps_done: int, *, is_targeted: bool = False) -> Place:
    return Place(try_number=try_number, tries=4, steps_done=steps_done, is_targeted=is_targeted)


SILENT_0 = Start(0, 40, "so far", is_told=True)


@pytest.mark.parametrize(
    ("where", "known", "start"),
    [
        # The usual ways
        (place(0, 0), None, Start(0, 0, None, is_told=False)),
        (place(0, 1), going(0), SILENT_0),
        (place(1, 0), failed(0), Start(1, 40, "trying again (2 of 4)", is_told=False)),
        (place(0, 2), going(1), Start(1, 40, "so far", is_told=True)),  # Inngest counts from 0 again
        (place(1, 2), failed(1), Start(2, 40, "trying again (2 of 4)", is_told=False)),
        (place(2, 2), failed(2), Start(3, 40, "trying again (3 of 4)", is_told=False)),
        # A try that was killed
        (place(1, 0), going(0), Start(1, 40, "trying again (2 of 4)", is_told=False)),
        (place(1, 2), going(1), Start(1, 40, "so far", is_told=True)),
        # A parallel group before any other step
        (place(0, 0, is_targeted=True), going(0), SILENT_0),
        # Nothing is remembered any more
        (place(2, 3), None, Start(2, 0, None, is_told=True)),
        # The same id again
        (place(0, 0), JobComplete(**IDS, attempt=2), Start(3, 0, None, is_told=False)),
        (place(0, 0), JobFailed(**IDS, error="x"), Start(1, 0, None, is_told=False)),
        # A step that is still at work when the run has ended has nothing to say: its attempt is refused
        (place(0, 2, is_targeted=True), JobComplete(**IDS, attempt=1), Start(1, 0, None, is_told=True)),
    ],
)
def test_a_request_goes_on_from_the_last_event(where: Place, known: Event | None, start: Start) -> None:
    assert where.after(known) == start


@pytest.mark.parametrize("where", [place(0, 0), place(1, 0), place(0, 3), place(2, 3)])
def test_attempts_never_fall_in_a_run(where: Place) -> None:
    for attempt in range(5):
        for known in (going(attempt), failed(attempt)):
            start = where.after(known)
            assert start.attempt is not None
            assert start.attempt >= attempt


def test_where_redis_is_away_no_attempt_is_said() -> None:
    """A wrong one would have the end refused; an event without is refused by nobody."""
    assert place(0, 0).without_redis() == Start(None, 0, None, is_told=False)
    assert place(1, 2).without_redis() == Start(None, 0, None, is_told=True)


def test_a_function_that_nobody_watches_may_say_everything() -> None:
    job = unwatched_job(TrackedJob)
    job.progress(10)
    assert list(job.track("ab")) == ["a", "b"]
    with job.sentence("s") as sentence:
        sentence.fail("no voice")
    job.complete(file="x")
    with pytest.raises(inngest.NonRetriableError, match="no voice"):
        job.fail("no voice")
