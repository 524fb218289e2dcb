"""An arq job with progress. It asks arq for a retry while its service is away.

arq needs redis-py below 6, so it runs in its own environment, which `make oldest` sets up. Beside `make run`,
with http://127.0.0.1:3001/?project=demo open, in a second terminal:

    .venv/.oldest/bin/python -m examples.arq_worker             # puts a job into the queue
    .venv/.oldest/bin/arq examples.arq_worker.WorkerSettings    # works through the queue; Ctrl-C ends it
"""

import asyncio
import os
import random
from typing import Any

from arq import Retry, create_pool
from arq.connections import RedisSettings

from publisher.aio import track_job


async def write_script(ctx: dict[str, Any], project_id: str, chapters: list[str]) -> None:
    retried = (ConnectionError,) if ctx["job_try"] < WorkerSettings.max_tries else ()
    try:
        async with track_job(project_id, ctx["job_id"], "script", will_retry=retried) as job:
            for chapter in job.track(chapters, "{n} of {total} chapters"):
                await write(chapter)
            await job.complete(file=f"{ctx['job_id']}.txt")
    except retried as error:
        raise Retry(defer=ctx["job_try"]) from error


async def write(chapter: str) -> None:
    """Stands for the work of your job."""
    await asyncio.sleep(1)
    if random.random() < 0.2:
        raise ConnectionError(f"no answer for {chapter}")


class WorkerSettings:
    functions = (write_script,)
    max_tries = 4
    redis_settings = RedisSettings.from_dsn(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"))


async def main() -> None:
    queue = await create_pool(WorkerSettings.redis_settings)
    await queue.enqueue_job("write_script", "demo", ["one", "two", "three", "four"])
    await queue.aclose()


if __name__ == "__main__":
    asyncio.run(main())
