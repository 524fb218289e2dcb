"""arq, with a worker in the loop of the test; it runs in `make oldest`, beside the redis-py that arq needs."""

import asyncio
import signal
from types import ModuleType

import arq
import pytest

from tests.examples.conftest import ITEMS, Audience, Load, Tries, Work

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated close:DeprecationWarning")  # arq's, when it ends

TRIES = Tries("chapters")


@pytest.fixture
def example(load: Load, work: Work, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    example = load("arq_worker")

    async def write(chapter: str) -> None:
        await asyncio.to_thread(work, chapter)

    monkeypatch.setattr(example, "write", write)
    monkeypatch.setattr(example, "Retry", lambda defer: arq.Retry(defer=defer / 1000))  # nobody waits for seconds here
    return example


async def run(example: ModuleType, project: str, *, enqueues: bool = True) -> None:
    settings = example.WorkerSettings
    queue = await arq.create_pool(settings.redis_settings)
    if enqueues:
        await queue.enqueue_job("write_script", project, ITEMS)
    worker = arq.Worker(
        settings.functions, redis_pool=queue, max_tries=settings.max_tries, burst=True, poll_delay=0.01,
        handle_signals=False,
    )  # fmt: skip
    await worker.main()
    await worker.close()


async def test_success(example: ModuleType, audience: Audience) -> None:
    await run(example, audience.project)
    assert audience.story() == TRIES.success(0)


async def test_a_retry_and_then_success(example: ModuleType, audience: Audience, work: Work) -> None:
    work.failures = 1
    await run(example, audience.project)
    assert audience.story() == TRIES.retry(0) + TRIES.success(1)


async def test_a_failure_when_no_try_is_left(example: ModuleType, audience: Audience, work: Work) -> None:
    work.failures = 4
    await run(example, audience.project)
    assert audience.story() == TRIES.retry(0) + TRIES.retry(1) + TRIES.retry(2) + TRIES.failure(3)


async def test_an_error_that_is_not_tried_again_is_a_failure_at_once(
    example: ModuleType, audience: Audience, work: Work
) -> None:
    work.failures, work.error = 1, LookupError
    await run(example, audience.project)
    assert audience.story() == TRIES.failure(0, "LookupError: no answer")


async def test_the_job_of_a_worker_that_ends_is_run_again_by_the_next(
    example: ModuleType, audience: Audience, monkeypatch: pytest.MonkeyPatch
) -> None:
    """arq cancels the job and gives it to the next worker."""
    write = example.write

    async def write_for_ever(chapter: str) -> None:
        await write(chapter)
        if chapter == ITEMS[1]:
            await asyncio.sleep(300)

    monkeypatch.setattr(example, "write", write_for_ever)
    settings = example.WorkerSettings
    queue = await arq.create_pool(settings.redis_settings)
    await queue.enqueue_job("write_script", audience.project, ITEMS)
    first = arq.Worker(settings.functions, redis_pool=queue, poll_delay=0.01, handle_signals=False)
    running = asyncio.create_task(first.async_run())
    await asyncio.to_thread(audience.hears, "1 of 2 ")
    first.handle_sig(signal.SIGTERM)
    await asyncio.gather(running, return_exceptions=True)
    # `close` would cancel once more what still notes that the job is to be run again.
    await asyncio.gather(*first.tasks.values(), return_exceptions=True)
    await first.close()
    monkeypatch.setattr(example, "write", write)
    await run(example, audience.project, enqueues=False)
    assert audience.story() == TRIES.failure(0, "Cancelled") + TRIES.success(1)
    assert [event.get("reason") for event in audience.events if event["type"] == "job_failed"] == ["cancelled"]
