"""A Celery task with progress. Celery retries it while its service is away.

Beside `make run`, with http://127.0.0.1:3001/?project=demo open, in a second terminal:

    .venv/bin/python -m examples.celery_task           # puts a task into the queue
    .venv/bin/celery -A examples.celery_task worker    # works through the queue; Ctrl-C ends it
"""

import os
import random
import time

from celery import Celery

from publisher.celery import current_job, install

app = Celery("examples.celery_task", broker=os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"))
install(app, job_type="audio")


@app.task(autoretry_for=(ConnectionError,), retry_backoff=True, max_retries=3)
def make_audio(project_id: str, voices: list[str]) -> None:
    job = current_job()
    for voice in job.track(voices, "{n} of {total} voices"):
        speak(voice)
    job.complete(file=f"{job.job_id}.mp3")


def speak(voice: str) -> None:
    """Stands for the work of your task."""
    time.sleep(1)
    if random.random() < 0.2:
        raise ConnectionError(f"no answer for {voice}")


if __name__ == "__main__":
    make_audio.delay("demo", ["Ann", "Ben", "Cem", "Dot"])
