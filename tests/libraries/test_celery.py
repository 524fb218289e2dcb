"""`publisher.celery.install(app)` with a real prefork worker: what viewers see of each way in which a task can end."""

import os
import signal
import subprocess
from collections.abc import Iterator

import psutil  # type: ignore[import-untyped]
import pytest

from tests.contract.deadlines import wait_for
from tests.contract.processes import RedisServer
from tests.examples.test_redelivered import Workers
from tests.libraries.story import Story, heard

TASKS = """
import os, time
import redis
from celery import Celery
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from publisher import current_job
from publisher.sender import sender
from publisher.celery import install

URL = os.environ["REDIS_URL"]
app = Celery("tasks", broker=URL, backend=URL)
app.conf.update(broker_connection_retry_on_startup=True, broker_transport_options={"visibility_timeout": 300})
install(app)

def half(project_id):
    current_job().progress(50, "half")
    sender.flush(60)  # the next word would win
    return redis.Redis.from_url(URL).incr(f"tries of {project_id}")

def work_for_ever(project_id):
    if half(project_id) == 1:
        redis.Redis.from_url(URL).set(f"pid of {project_id}", os.getpid())
        time.sleep(300)

@app.task
def make_audio(project_id):
    half(project_id)

@app.task(bind=True, max_retries=1)
def retried(self, project_id):
    half(project_id)
    raise self.retry(exc=OSError("boom"), countdown=0)

@app.task(autoretry_for=(OSError,), retry_backoff=False, default_retry_delay=0, max_retries=1)
def flaky(project_id):
    if half(project_id) == 1:
        raise OSError("boom")

@app.task
def failing(project_id):
    half(project_id)
    raise ValueError("no voice")

@app.task
def ended(project_id):
    half(project_id)
    current_job().complete(file="a.mp3")

@app.task
def ignored(project_id):
    half(project_id)
    raise Ignore("made already")

@app.task
def rejected(project_id):
    half(project_id)
    raise Reject("no voice", requeue=False)

@app.task(acks_late=True)
def requeued(project_id):
    if half(project_id) == 1:
        raise Reject("no voice yet", requeue=True)

@app.task(soft_time_limit=3)
def soft(project_id):
    work_for_ever(project_id)

@app.task(time_limit=3)
def hard(project_id):
    work_for_ever(project_id)

@app.task
def long(project_id):
    work_for_ever(project_id)

@app.task(acks_late=True)
def late(project_id):
    work_for_ever(project_id)

@app.task(acks_late=True, reject_on_worker_lost=True)
def redelivered(project_id):
    work_for_ever(project_id)

@app.task
def untracked(film):
    current_job().progress(50)
    current_job().complete()
    return "ran"
"""

COMMAND = ("celery", "-A", "tasks", "worker", "--without-gossip", "--without-mingle", "--loglevel=INFO")


@pytest.fixture(scope="module")
def worker(workers: Workers) -> subprocess.Popen[bytes]:
    workers.write(tasks=TASKS)
    # One process: with two, a retry may begin before the first try has said that it follows.
    worker = workers.start(*COMMAND, "--concurrency=1")
    wait_for(lambda: "ready." in workers.log, "the worker", 60)
    return worker


@pytest.fixture
def story(module_redis: RedisServer, workers: Workers, project: str) -> Iterator[Story]:
    with heard(module_redis, project, workers) as story:
        yield story


def send(workers: Workers, task: str, *arguments: str, **options: object) -> str:
    code = f"import sys, tasks; print(tasks.{task}.apply_async(sys.argv[1:], **{options!r}).id)"
    return workers.run(code, *arguments)


def child_at(server: RedisServer, project: str, story: Story) -> int:
    """The process that is at the task for ever, once viewers were told so."""
    story.until("0: 50%, half")
    wait_for(lambda: server.command("GET", f"pid of {project}") is not None, "the task to be half done", 60)
    return int(server.command("GET", f"pid of {project}"))


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("task", "lines"),
    [
        ("make_audio", ["0: 0%", "0: 50%, half", "0: complete"]),
        ("ended", ["0: 0%", "0: 50%, half", "0: complete"]),
        ("failing", ["0: 0%", "0: 50%, half", "0: failed, error, ValueError: no voice"]),
        (
            "retried",
            ["0: 0%", "0: 50%, half", "0: 50%, OSError: boom; it will be tried again", "1: 0%", "1: 50%, half",
             "1: failed, error, OSError: boom"],
        ),
        (
            "flaky",
            ["0: 0%", "0: 50%, half", "0: 50%, OSError: boom; it will be tried again", "1: 0%", "1: 50%, half",
             "1: complete"],
        ),
        ("ignored", ["0: 0%", "0: 50%, half", "0: failed, cancelled, Ignored: made already"]),
        ("rejected", ["0: 0%", "0: 50%, half", "0: failed, error, Rejected: no voice"]),
        (
            "requeued",
            ["0: 0%", "0: 50%, half", "0: 50%, Rejected: no voice yet; it will be tried again", "1: 0%",
             "1: 50%, half", "1: complete"],
        ),
        ("soft", ["0: 0%", "0: 50%, half", "0: failed, timed_out, Timed out"]),
        ("hard", ["0: 0%", "0: 50%, half", "0: failed, timed_out, Timed out"]),
    ],
)  # fmt: skip
def test_what_a_task_does_is_told(workers: Workers, story: Story, project: str, task: str, lines: list[str]) -> None:
    send(workers, task, project)
    assert without_begin(story.until(*lines)) == without_begin(lines)


def without_begin(lines: list[str]) -> list[str]:
    """A begin may be heard alone, or with what the job says first."""
    return [line for line in lines if not line.endswith(": 0%")]


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("task", ["long", pytest.param("late", marks=pytest.mark.soak)])
def test_a_child_that_is_killed_is_told_lost_by_its_parent(
    workers: Workers, module_redis: RedisServer, story: Story, project: str, task: str
) -> None:
    send(workers, task, project)
    os.kill(child_at(module_redis, project, story), signal.SIGKILL)
    lines = story.until("0: failed, lost, Stopped: its worker ended")
    assert without_begin(lines) == ["0: 50%, half", "0: failed, lost, Stopped: its worker ended"]


@pytest.mark.usefixtures("worker")
def test_a_child_whose_task_is_delivered_again_has_no_end(
    workers: Workers, module_redis: RedisServer, story: Story, project: str
) -> None:
    send(workers, "redelivered", project)
    os.kill(child_at(module_redis, project, story), signal.SIGKILL)
    assert without_begin(story.until("1: complete")) == ["0: 50%, half", "1: 50%, half", "1: complete"]


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("number", ["SIGTERM", pytest.param("SIGKILL", marks=pytest.mark.soak)])
def test_a_task_that_is_revoked_while_it_runs_is_cancelled(
    workers: Workers, module_redis: RedisServer, story: Story, project: str, number: str
) -> None:
    task_id = send(workers, "long", project)
    child_at(module_redis, project, story)
    workers.run(f"import tasks; tasks.app.control.revoke({task_id!r}, terminate=True, signal={number!r})")
    lines = story.until("0: failed, cancelled, Cancelled")
    assert without_begin(lines) == ["0: 50%, half", "0: failed, cancelled, Cancelled"]


@pytest.mark.usefixtures("worker")
def test_a_task_that_is_revoked_before_it_begins_is_cancelled(workers: Workers, story: Story, project: str) -> None:
    workers.run(f"import tasks; assert tasks.app.control.revoke({project!r}, reply=True, limit=1, timeout=60)")
    send(workers, "make_audio", project, task_id=project)
    assert story.until("0: failed, cancelled, Cancelled")[-1] == "0: failed, cancelled, Cancelled"


@pytest.mark.usefixtures("worker")
def test_a_task_that_expires_before_it_begins_timed_out(workers: Workers, story: Story, project: str) -> None:
    send(workers, "make_audio", project, expires=-1)
    story.until("0: failed, timed_out, Timed out before it began")


@pytest.mark.usefixtures("worker")
def test_a_task_without_a_project_is_left_alone(workers: Workers) -> None:
    result = workers.run("import tasks; print(tasks.untracked.delay('film_1').get(timeout=60))")
    assert result == "ran"


@pytest.mark.parametrize(
    ("task", "line"),
    [
        ("long", "0: failed, lost, Stopped: its worker ended"),
        ("late", "0: 50%, Stopped: its worker ended; it will be tried again"),
    ],
)
def test_a_cold_shutdown_is_an_end_only_of_what_is_not_delivered_again(
    workers: Workers, module_redis: RedisServer, story: Story, project: str, task: str, line: str
) -> None:
    """A worker of its own, and a queue of its own."""
    workers.write(tasks=TASKS)
    log = len(workers.log)
    own = workers.start(*COMMAND, "--concurrency=1", "--queues", project, "--hostname", f"{project}@%h")
    wait_for(lambda: "ready." in workers.log[log:], "the worker", 60)
    send(workers, task, project, queue=project)
    child_at(module_redis, project, story)
    own.send_signal(signal.SIGQUIT)
    assert without_begin(story.until(line)) == ["0: 50%, half", line]
    assert own.wait(60) is not None
    assert not psutil.pid_exists(own.pid) or own.poll() is not None
