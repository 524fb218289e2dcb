"""`publisher.rq.install()` with real workers: what viewers see of each way in which a job can end."""

import subprocess
from collections.abc import Iterator

import pytest

from tests.contract.deadlines import wait_for
from tests.contract.processes import RedisServer
from tests.examples.test_redelivered import Workers, children
from tests.libraries.story import Story, heard
from tests.libraries.test_celery import without_begin

JOBS = """
import os, time
import redis, rq
from publisher import current_job
from publisher.sender import sender

URL = os.environ["REDIS_URL"]

def half(project_id):
    current_job().progress(50, "half")
    sender.flush(60)  # the next word would win
    return redis.Redis.from_url(URL).incr(f"tries of {project_id}")

def make_video(project_id):
    half(project_id)

def failing(project_id):
    half(project_id)
    raise ValueError("no voice")

def flaky(project_id):
    if half(project_id) == 1:
        raise OSError("boom")

def long(project_id):
    if half(project_id) == 1:
        time.sleep(300)

def untracked(film):
    current_job().progress(50)
    current_job().complete()
    redis.Redis.from_url(URL).set("ran", film)
"""
SETTINGS = """
from publisher.rq import install
install()
"""
ENQUEUE = """
import os, sys, jobs, redis, rq
queue = rq.Queue(connection=redis.Redis.from_url(os.environ["REDIS_URL"]))
print(queue.enqueue("jobs." + sys.argv[1], sys.argv[2], **eval(sys.argv[3])).id)
"""
TELL = """
import os, sys, redis, rq, settings
from rq.command import send_stop_job_command
connection = redis.Redis.from_url(os.environ["REDIS_URL"])
job = rq.job.Job.fetch(sys.argv[2], connection=connection)
{"stop": lambda: send_stop_job_command(connection, job.id), "requeue": job.requeue, "cancel": job.cancel}[sys.argv[1]]()
"""


@pytest.fixture(scope="module")
def worker(workers: Workers, module_redis: RedisServer) -> subprocess.Popen[bytes]:
    workers.write(jobs=JOBS, settings=SETTINGS)
    return workers.start("rq.cli", "worker", "--url", module_redis.url, "--path", ".", "-c", "settings")


@pytest.fixture
def story(module_redis: RedisServer, workers: Workers, project: str) -> Iterator[Story]:
    with heard(module_redis, project, workers) as story:
        yield story


def enqueue(workers: Workers, function: str, argument: str, options: str = "{}") -> str:
    return workers.run(ENQUEUE, function, argument, options)


HALF = "0: 50%, half"
RETRY = "0: 50%, OSError: boom; it will be tried again"


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("function", "options", "lines"),
    [
        ("make_video", "{}", [HALF, "0: complete"]),
        ("failing", "{}", [HALF, "0: failed, error, ValueError: no voice"]),
        ("flaky", "{'retry': rq.Retry(max=1)}", [HALF, RETRY, "1: 50%, half", "1: complete"]),
        (
            "long",
            "{'job_timeout': 3}",
            [HALF, "0: failed, timed_out, Timed out: Task exceeded maximum timeout value (3 seconds)"],
        ),
    ],
)
def test_what_a_job_does_is_told(
    workers: Workers, story: Story, project: str, function: str, options: str, lines: list[str]
) -> None:
    enqueue(workers, function, project, options)
    # What is said right before the end, or the begin, may be left out: a slow machine sends the newer word only.
    lines = [line for line in lines if not line.endswith("half")]
    assert [line for line in without_begin(story.until(*lines)) if not line.endswith("half")] == lines


def test_a_job_that_is_killed_is_lost_and_its_requeue_is_seen(
    workers: Workers, worker: subprocess.Popen[bytes], module_redis: RedisServer, story: Story, project: str
) -> None:
    job = enqueue(workers, "long", project)
    story.until(HALF)
    for horse in children(worker):
        horse.kill()
    lost = "0: failed, lost, Stopped: its worker ended"
    story.until(lost)
    wait_for(lambda: module_redis.command("ZSCORE", "rq:failed:default", job) is not None, "RQ to note it", 60)
    workers.run(TELL, "requeue", job)
    assert without_begin(story.until("1: complete")) == [HALF, lost, "1: 50%, half", "1: complete"]


def test_a_job_that_is_killed_and_has_a_retry_left_has_no_end(
    workers: Workers, worker: subprocess.Popen[bytes], story: Story, project: str
) -> None:
    enqueue(workers, "long", project, "{'retry': rq.Retry(max=1)}")
    story.until(HALF)
    for horse in children(worker):
        horse.kill()
    lines = without_begin(story.until("1: complete"))
    # The retry may begin before the worker could say that it follows.
    assert [line for line in lines if "tried again" not in line] == [HALF, "1: 50%, half", "1: complete"]


@pytest.mark.usefixtures("worker")
def test_a_job_that_is_stopped_is_cancelled(workers: Workers, story: Story, project: str) -> None:
    job = enqueue(workers, "long", project)
    story.until(HALF)
    workers.run(TELL, "stop", job)
    cancelled = "0: failed, cancelled, Cancelled"
    assert without_begin(story.until(cancelled)) == [HALF, cancelled]


@pytest.mark.usefixtures("worker")
def test_a_job_that_is_cancelled_in_its_queue_is_told(workers: Workers, story: Story, project: str) -> None:
    queue = ENQUEUE.replace("rq.Queue(", "rq.Queue('nobody', ")
    job = workers.run(queue, "make_video", project, "{}")
    workers.run(TELL, "cancel", job)
    story.until("0: failed, cancelled, Cancelled")


@pytest.mark.usefixtures("worker")
def test_a_job_without_a_project_is_left_alone(workers: Workers, module_redis: RedisServer) -> None:
    enqueue(workers, "untracked", "film_1")
    wait_for(lambda: module_redis.command("GET", "ran") == b"film_1", "the job to run", 60)
