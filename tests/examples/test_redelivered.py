"""Work that runs again on the real workers of the libraries: viewers see the second attempt run and end.

Each job runs for ever in its first try, halfway. The worker, or the process that it forked for the job, is ended there.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest
import redis

from tests.contract.deadlines import wait_for
from tests.contract.processes import RedisServer, environment
from tests.examples.conftest import Audience

WITHIN = 40.0

JOB = """
import os, time
import redis
from publisher import track_job

URL = os.environ["REDIS_URL"]

def run(project, job_id):
    with track_job(project, job_id, "audio") as job:
        is_first = redis.Redis.from_url(URL).incr(f"tries of {job_id}") == 1
        job.progress(50, "half")
        if is_first:
            time.sleep(300)
        job.complete(file="a.mp3")
"""

CELERY = """
from celery import Celery
from job import URL, run

app = Celery("worker", broker=URL)
app.conf.update(task_acks_late=True, task_reject_on_worker_lost=True, broker_connection_retry_on_startup=True)

@app.task(bind=True, name="work")
def work(self, project):
    run(project, self.request.id)
"""

DRAMATIQ = """
import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import CurrentMessage
from job import URL, run

# The messages of a worker that died are queued again by the next one, once they are so many milliseconds old.
dramatiq.set_broker(RedisBroker(url=URL, heartbeat_timeout=1_000, maintenance_chance=1_000_000))
dramatiq.get_broker().add_middleware(CurrentMessage())

@dramatiq.actor
def work(project):
    run(project, CurrentMessage.get_current_message().message_id)
"""


class Workers:
    """Worker processes in a folder that holds their code. Ended with the test."""

    def __init__(self, folder: Path, server: RedisServer) -> None:
        self._folder = folder
        self._environment = environment(server.url) | {"PYTHONPATH": os.pathsep.join([str(folder), os.getcwd()])}
        self._processes: list[subprocess.Popen[bytes]] = []
        self._log = (folder / "log").open("ab")

    def write(self, **modules: str) -> None:
        for name, text in modules.items():
            (self._folder / f"{name}.py").write_text(text)

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=self._folder, env=self._environment, stdout=self._log, stderr=self._log,
        )  # fmt: skip
        self._processes.append(process)
        return process

    def run(self, code: str, *arguments: str) -> str:
        """What a program prints."""
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, cwd=self._folder, env=self._environment, capture_output=True, check=True)
        return done.stdout.decode().strip()

    @property
    def log(self) -> str:
        return (self._folder / "log").read_text()

    def kill_all(self) -> None:
        for process in self._processes:
            for one in [*children(process), process]:
                with_no_error(one.kill)
            process.wait(10)

    def end(self) -> None:
        self.kill_all()
        self._log.close()


def children(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    try:
        found: list[psutil.Process] = psutil.Process(process.pid).children(recursive=True)
        return found
    except psutil.NoSuchProcess:
        return []


def with_no_error(function: Callable[[], object]) -> None:
    try:
        function()
    except (psutil.NoSuchProcess, ProcessLookupError):
        pass


@pytest.fixture
def workers(tmp_path: Path, server: RedisServer) -> Iterator[Workers]:
    workers = Workers(tmp_path, server)
    workers.write(job=JOB)
    yield workers
    workers.end()


def told(audience: Audience) -> list[tuple[int, str]]:
    """The story as (attempt, status), each once in a row."""
    names = {"progress": "running", "job_complete": "complete", "job_failed": "failed"}
    story = [(event["attempt"], names[event["type"]]) for event in list(audience.events)]
    return [entry for index, entry in enumerate(story) if story[:index][-1:] != [entry]]


def until(audience: Audience, entry: tuple[int, str], workers: Workers) -> None:
    try:
        wait_for(lambda: told(audience)[-1:] == [entry], f"{entry}", WITHIN)
    except AssertionError as error:
        raise AssertionError(f"{error}\nheard: {told(audience)}\n{workers.log[-4000:]}") from None


def half(audience: Audience) -> bool:
    return any(event.get("progress") == 50 for event in list(audience.events))


# Celery, with `acks_late`: the broker gives a task again that no worker has finished


@pytest.fixture
def celery(workers: Workers) -> Callable[[], subprocess.Popen[bytes]]:
    workers.write(app=CELERY)
    command = ["celery", "-A", "app", "worker", "--concurrency=1", "--without-gossip", "--without-mingle"]
    return lambda: workers.start(*command)


def send_task(workers: Workers, project: str) -> str:
    return workers.run("import sys, app; print(app.work.delay(sys.argv[1]).id)", project)


def test_celery_gives_the_task_of_a_stopped_worker_to_the_next(
    celery: Callable[[], subprocess.Popen[bytes]], workers: Workers, audience: Audience
) -> None:
    """SIGQUIT: the worker ends at once, and its task with it."""
    worker = celery()
    send_task(workers, audience.project)
    wait_for(lambda: half(audience), "half of the job", WITHIN)
    worker.send_signal(signal.SIGQUIT)
    worker.wait(WITHIN)
    celery()
    until(audience, (1, "complete"), workers)
    assert told(audience) in (
        [(0, "running"), (1, "running"), (1, "complete")],
        [(0, "running"), (0, "failed"), (1, "running"), (1, "complete")],
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_celery_gives_the_task_of_a_killed_child_to_another(
    celery: Callable[[], subprocess.Popen[bytes]], workers: Workers, audience: Audience, number: signal.Signals
) -> None:
    worker = celery()
    send_task(workers, audience.project)
    wait_for(lambda: half(audience), "half of the job", WITHIN)
    (child,) = children(worker)
    child.send_signal(number)
    until(audience, (1, "complete"), workers)
    assert told(audience) in (
        [(0, "running"), (1, "running"), (1, "complete")],
        [(0, "running"), (0, "failed"), (1, "running"), (1, "complete")],
    )


# RQ: `requeue`, by hand


RQ_REQUEUE = """
import os, sys, redis, rq
job = rq.job.Job.fetch(sys.argv[1], connection=redis.Redis.from_url(os.environ["REDIS_URL"]))
job.requeue()
"""
RQ_ENQUEUE = """
import os, sys, redis, rq
queue = rq.Queue(connection=redis.Redis.from_url(os.environ["REDIS_URL"]))
print(queue.enqueue("job.run", sys.argv[1], "job_7").id)
"""


def test_rq_runs_a_job_again_that_was_killed_and_requeued(
    workers: Workers, server: RedisServer, audience: Audience
) -> None:
    worker = ("rq.cli", "worker", "--url", server.url, "--path", ".")
    first = workers.start(*worker)
    job = workers.run(RQ_ENQUEUE, audience.project)
    wait_for(lambda: half(audience), "half of the job", WITHIN)
    (horse,) = children(first)
    horse.kill()
    registry: Any = redis.Redis.from_url(server.url)
    wait_for(lambda: registry.zscore("rq:failed:default", job) is not None, "RQ to find it dead", WITHIN)
    workers.run(RQ_REQUEUE, job)
    until(audience, (1, "complete"), workers)
    assert told(audience) == [(0, "running"), (1, "running"), (1, "complete")]


RQ_FAILS = """
from job import *

def fail_once(project):
    with track_job(project, "job_7", "audio") as job:
        job.progress(50, "half")
        if redis.Redis.from_url(URL).incr("tries") == 1:
            raise ValueError("no voice")
"""


def test_rq_runs_a_job_again_that_failed_and_was_requeued(
    workers: Workers, server: RedisServer, audience: Audience
) -> None:
    """An end stands there; the second attempt replaces it."""
    workers.write(failing=RQ_FAILS)
    job = workers.run(
        RQ_ENQUEUE.replace('"job.run", sys.argv[1], "job_7"', '"failing.fail_once", sys.argv[1]'), audience.project
    )
    burst = ("rq.cli", "worker", "--url", server.url, "--path", ".", "--burst")
    workers.start(*burst).wait(WITHIN)
    assert told(audience) == [(0, "running"), (0, "failed")]
    workers.run(RQ_REQUEUE, job)
    workers.start(*burst).wait(WITHIN)
    until(audience, (1, "complete"), workers)
    assert told(audience) == [(0, "running"), (0, "failed"), (1, "running"), (1, "complete")]


# Dramatiq: a worker queues the messages of one that died


def test_dramatiq_runs_the_message_of_a_killed_worker_again(workers: Workers, audience: Audience) -> None:
    workers.write(actors=DRAMATIQ)
    command = ("dramatiq", "actors", "--processes", "1", "--threads", "1")
    first = workers.start(*command)
    workers.run("import sys, actors; actors.work.send(sys.argv[1])", audience.project)
    wait_for(lambda: half(audience), "half of the job", WITHIN)
    for one in [*children(first), psutil.Process(first.pid)]:
        with_no_error(one.kill)
    first.wait(WITHIN)
    workers.start(*command)
    until(audience, (1, "complete"), workers)
    assert told(audience) == [(0, "running"), (1, "running"), (1, "complete")]
