"""`publisher.dramatiq.install(broker)` with a real worker: what viewers see of each way in which a message can end."""

from collections.abc import Iterator

import pytest

from tests.contract.processes import RedisServer
from tests.examples.test_redelivered import Workers
from tests.libraries.story import Story, heard
from tests.libraries.test_celery import without_begin

ACTORS = """
import os, time
import dramatiq, redis
from dramatiq.brokers.redis import RedisBroker
from publisher import current_job
from publisher.sender import sender
from publisher.dramatiq import install

URL = os.environ["REDIS_URL"]
broker = RedisBroker(url=URL, heartbeat_timeout=1_000, maintenance_chance=1_000_000)
install(broker)
dramatiq.set_broker(broker)

def half(project_id):
    current_job().progress(50, "half")
    sender.flush(60)  # the next word would win
    return redis.Redis.from_url(URL).incr(f"tries of {project_id}")

@dramatiq.actor
def make_image(project_id):
    half(project_id)

@dramatiq.actor(max_retries=1, min_backoff=1)
def failing(project_id):
    half(project_id)
    raise ValueError("no voice")

@dramatiq.actor(time_limit=3_000, max_retries=0)
def slow(project_id):
    half(project_id)
    for _ in range(3_000):
        time.sleep(0.1)

@dramatiq.actor
def long(project_id):
    if half(project_id) == 1:
        time.sleep(300)
"""
COMMAND = ("dramatiq", "actors", "--processes", "1", "--threads", "1")
HALF = "0: 50%, half"


@pytest.fixture(scope="module", autouse=True)
def _worker(workers: Workers) -> None:
    workers.write(actors=ACTORS)
    workers.start(*COMMAND)


@pytest.fixture
def story(module_redis: RedisServer, workers: Workers, project: str) -> Iterator[Story]:
    with heard(module_redis, project, workers) as story:
        yield story


@pytest.mark.parametrize(
    ("actor", "lines"),
    [
        ("make_image", [HALF, "0: complete"]),
        (
            "failing",
            [HALF, "0: 50%, ValueError: no voice; it will be tried again", "1: 50%, half",
             "1: failed, error, ValueError: no voice"],
        ),
        ("slow", [HALF, "0: failed, timed_out, Timed out"]),
    ],
)  # fmt: skip
def test_what_an_actor_does_is_told(workers: Workers, story: Story, project: str, actor: str, lines: list[str]) -> None:
    workers.run(f"import sys, actors; actors.{actor}.send(sys.argv[1])", project)
    assert without_begin(story.until(*lines)) == lines


def test_the_message_of_a_killed_worker_is_seen_again(workers: Workers, story: Story, project: str) -> None:
    workers.run("import sys, actors; actors.long.send(sys.argv[1])", project)
    story.until(HALF)
    workers.kill_all()
    workers.start(*COMMAND)
    assert without_begin(story.until("1: complete")) == [HALF, "1: 50%, half", "1: complete"]
