"""An RQ job with progress. RQ retries it when it fails.

Beside `make run`, with http://127.0.0.1:3001/?project=demo open, in a second terminal:

    .venv/bin/python -m examples.rq_job       # puts a job into the queue
    .venv/bin/rq worker -c examples.rq_job    # works through the queue; Ctrl-C ends it. -c: imports this file
"""

import os
import random
import time

from redis import Redis
from rq import Queue, Retry

from publisher.rq import current_job, install

install(job_type="video")


def make_video(project_id: str, scenes: list[str]) -> None:
    job = current_job()
    for scene in job.track(scenes, "{n} of {total} scenes"):
        render(scene)
    job.complete(file=f"{job.job_id}.mp4")


def render(scene: str) -> None:
    """Stands for the work of your job."""
    time.sleep(1)
    if random.random() < 0.2:
        raise ConnectionError(f"no answer for {scene}")


if __name__ == "__main__":
    queue = Queue(connection=Redis.from_url(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")))
    queue.enqueue("examples.rq_job.make_video", "demo", ["dawn", "noon", "dusk", "night"], retry=Retry(max=3))
