"""Dramatiq, with its broker in a real Redis and a worker in this process."""

from collections.abc import Iterator
from types import ModuleType

import dramatiq
import pytest

from tests.contract.deadlines import wait_for
from tests.examples.conftest import ITEMS, Audience, Load, Tries, Work

TRIES = Tries("layers")


@pytest.fixture
def example(load: Load, work: Work, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    example = load("dramatiq_actor")
    monkeypatch.setattr(example, "draw", work)
    worker = dramatiq.Worker(example.broker, worker_timeout=10, worker_threads=1)
    worker.start()
    yield example
    worker.stop()


def run(example: ModuleType, audience: Audience) -> None:
    example.make_image.send_with_options(args=(audience.project, ITEMS), min_backoff=1, max_backoff=1)
    wait_for(lambda: audience.is_told_the_end, "the end of the job")
    example.broker.join(example.make_image.queue_name)


def test_success(example: ModuleType, audience: Audience) -> None:
    run(example, audience)
    assert audience.story() == TRIES.success(0)


def test_a_retry_and_then_success(example: ModuleType, audience: Audience, work: Work) -> None:
    work.failures = 1
    run(example, audience)
    assert audience.story() == TRIES.retry(0) + TRIES.success(1)


def test_a_failure_when_no_retry_is_left(example: ModuleType, audience: Audience, work: Work) -> None:
    work.failures = 4
    run(example, audience)
    assert audience.story() == TRIES.retry(0) + TRIES.retry(1) + TRIES.retry(2) + TRIES.failure(3)
