"""Celery, with its broker in a real Redis and a worker in this process."""

import logging
from collections.abc import Iterator
from types import ModuleType

import celery.app.autoretry
import celery.signals
import pytest
from celery.contrib.testing.worker import start_worker
from celery.exceptions import Retry

from publisher import current_job, track_job
from tests.contract.deadlines import wait_for
from tests.examples.conftest import ITEMS, Audience, Load, Tries, Work

TRIES = Tries("voices")


@pytest.fixture
def example(load: Load, work: Work, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    example = load("celery_task")
    monkeypatch.setattr(example, "speak", work)
    monkeypatch.setattr(celery.app.autoretry, "get_exponential_backoff_interval", lambda **_: 0)
    return example


@pytest.fixture(autouse=True)
def _logging_is_left_alone() -> Iterator[None]:
    """A worker sets up the logging of its process, unless somebody says that it is done."""

    def is_done(**_: object) -> None: ...

    celery.signals.setup_logging.connect(is_done)
    yield
    celery.signals.setup_logging.disconnect(is_done)
    logging.captureWarnings(False)


def run(example: ModuleType, task: celery.Task, audience: Audience) -> None:
    with start_worker(example.app, perform_ping_check=False):
        task.delay(audience.project, ITEMS)
        wait_for(lambda: audience.is_told_the_end, "the end of the job")


def test_success(example: ModuleType, audience: Audience) -> None:
    run(example, example.make_audio, audience)
    assert audience.story() == TRIES.success(0)


def test_a_retry_and_then_success(example: ModuleType, audience: Audience, work: Work) -> None:
    work.failures = 1
    run(example, example.make_audio, audience)
    assert audience.story() == TRIES.retry(0) + TRIES.success(1)


def test_a_failure_when_no_retry_is_left(example: ModuleType, audience: Audience, work: Work) -> None:
    work.failures = 4
    run(example, example.make_audio, audience)
    assert audience.story() == TRIES.retry(0) + TRIES.retry(1) + TRIES.retry(2) + TRIES.failure(3)


def test_an_error_that_is_not_tried_again_is_a_failure_at_once(
    example: ModuleType, audience: Audience, work: Work
) -> None:
    work.failures, work.error = 1, LookupError
    run(example, example.make_audio, audience)
    assert audience.story() == TRIES.failure(0, "LookupError: no answer")


def test_a_task_that_asks_for_its_retry_itself_and_is_decorated(
    example: ModuleType, audience: Audience, work: Work
) -> None:
    @example.app.task(bind=True, max_retries=1)
    @track_job("{film}", "{self.request.id}", "audio", will_retry=Retry)
    def make_audio(self: celery.Task, film: str, voices: list[str]) -> None:
        for voice in current_job().track(voices, "{n} of {total} voices"):
            try:
                work(voice)
            except ConnectionError as error:
                raise self.retry(exc=error, countdown=0) from error

    work.failures = 2
    run(example, make_audio, audience)
    assert audience.story() == [
        *TRIES.retry(0),
        *TRIES.failure(1),
    ]
