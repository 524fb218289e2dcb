"""A Dramatiq actor with progress. Dramatiq retries it when it fails.

Beside `make run`, with http://127.0.0.1:3001/?project=demo open, in a second terminal:

    .venv/bin/python -m examples.dramatiq_actor    # puts a message into the queue
    .venv/bin/dramatiq examples.dramatiq_actor     # works through the queue; Ctrl-C ends it
"""

import os
import random
import time

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from publisher.dramatiq import current_job, install

broker = RedisBroker(url=os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"))
install(broker, job_type="image")
dramatiq.set_broker(broker)


@dramatiq.actor(max_retries=3, min_backoff=1_000)
def make_image(project_id: str, layers: list[str]) -> None:
    job = current_job()
    for layer in job.track(layers, "{n} of {total} layers"):
        draw(layer)
    job.complete(file=f"{job.job_id}.png")


def draw(layer: str) -> None:
    """Stands for the work of your actor."""
    time.sleep(1)
    if random.random() < 0.2:
        raise ConnectionError(f"no answer for {layer}")


if __name__ == "__main__":
    make_image.send("demo", ["sky", "sea", "sand", "shell"])
