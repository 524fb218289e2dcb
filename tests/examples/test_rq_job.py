"""RQ, with a worker that runs its jobs in this process."""

import signal
from collections.abc import Iterator
from types import ModuleType

import pytest
import redis
import rq

from tests.contract.processes import RedisServer
from tests.examples.conftest import ITEMS, Audience, Load, Tries, Work

TRIES = Tries("scenes")


@pytest.fixture
def example(load: Load, work: Work, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    example = load("rq_job")
    monkeypatch.setattr(example, "render", work)
    return example


@pytest.fixture
def queue(server: RedisServer) -> Iterator[rq.Queue]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with redis.Redis.from_url(server.url) as client:
        yield rq.Queue(connection=client)
    for number, handler in handlers.items():  # a worker has set its own
        signal.signal(number, handler)


def run(example: ModuleType, queue: rq.Queue, project: str) -> None:
    queue.enqueue(example.make_video, project, ITEMS, retry=rq.Retry(max=3))
    rq.SimpleWorker([queue], connection=queue.connection).work(burst=True)


def test_success(example: ModuleType, queue: rq.Queue, audience: Audience) -> None:
    run(example, queue, audience.project)
    assert audience.story() == TRIES.success(0)


def test_a_retry_and_then_success(example: ModuleType, queue: rq.Queue, audience: Audience, work: Work) -> None:
    work.failures = 1
    run(example, queue, audience.project)
    assert audience.story() == TRIES.retry(0) + TRIES.success(1)


def test_a_failure_when_no_retry_is_left(example: ModuleType, queue: rq.Queue, audience: Audience, work: Work) -> None:
    work.failures = 4
    run(example, queue, audience.project)
    assert audience.story() == TRIES.retry(0) + TRIES.retry(1) + TRIES.retry(2) + TRIES.failure(3)
