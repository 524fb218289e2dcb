"""Publishing from wherever job handlers run: threads, forked workers, event loops; and while Redis is away."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from .client import connect, watching
from .deadlines import PATIENCE, STALL_SECONDS
from .events import progress
from .processes import (
    PublisherProcess,
    RedisServer,
    Replica,
    environment,
    free_port,
    run_python,
)

BOUND_SECONDS = 5.0
EVENT = 'event = lambda job: {"type": "progress", "jobId": job, "jobType": "script", "progress": 1}\n'

THREADS = """
import sys, concurrent.futures
from publisher import broadcast_to_project
def work(number):
    return [broadcast_to_project(sys.argv[1], event(f"job_{number}_{step}")) for step in range(25)]
with concurrent.futures.ThreadPoolExecutor(8) as pool:
    print(*(seq for seqs in pool.map(work, range(8)) for seq in seqs))
"""
FORK = """
import os, sys
from publisher import broadcast_to_project
def work(name, count):
    seqs = [broadcast_to_project(sys.argv[1], event(f"{name}_{step}")) for step in range(count)]
    os.write(1, f"{' '.join(map(str, seqs))}\\n".encode())  # in one piece: five processes share the pipe
work("before", 1)
for number in range(4):
    if os.fork() == 0:
        work(f"child_{number}", 10)
        os._exit(0)
work("after", 10)
for number in range(4):
    assert os.wait()[1] == 0
"""
LOOPS = """
import asyncio, sys
from publisher.aio import broadcast_to_project
async def main(number):
    jobs = [f"job_{number}_{step}" for step in range(20)]
    return await asyncio.gather(*(broadcast_to_project(sys.argv[1], event(job)) for job in jobs))
for number in range(3):
    print(*asyncio.run(main(number)))
"""
LOOPS_IN_THREADS = """
import asyncio, sys, concurrent.futures
from publisher.aio import broadcast_to_project
async def main(number):
    return [await broadcast_to_project(sys.argv[1], event(f"job_{number}_{step}")) for step in range(10)]
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    print(*(seq for seqs in pool.map(lambda number: asyncio.run(main(number)), range(4)) for seq in seqs))
"""
MIXED = """
import asyncio, sys, publisher, publisher.aio
print(publisher.broadcast_to_project(sys.argv[1], event("sync")))
async def main():
    print(await publisher.aio.broadcast_to_project(sys.argv[1], event("async")))
asyncio.run(main())
print(publisher.broadcast_to_project(sys.argv[1], event("sync again")))
"""
PLACES = {
    "threads": (THREADS, 200),
    "forked workers": (FORK, 51),
    "one event loop after another": (LOOPS, 60),
    "event loops side by side": (LOOPS_IN_THREADS, 40),
    "both kinds of handlers": (MIXED, 3),
}


@pytest.mark.parametrize("place", PLACES)
async def test_every_event_is_delivered_once_from(
    replica: Replica, redis_server: RedisServer, project: str, place: str
) -> None:
    code, count = PLACES[place]
    async with watching(replica.ws, project) as client:
        done = await asyncio.to_thread(run_python, EVENT + code, environment(redis_server.url), project)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        seqs = sorted(map(int, done.stdout.split()))
        assert len(set(seqs)) == count
        events = await client.events(count)
        assert [event["seq"] for event in events] == seqs
        assert len({event["jobId"] for event in events}) == count


AIO_BAD = """
import asyncio
from publisher.aio import broadcast_to_project
async def main():
    for project, job in (("p", ""), ("no project", "job")):
        try:
            await broadcast_to_project(project, event(job))
        except ValueError as error:
            print(type(error).__module__)
asyncio.run(main())
"""


def test_the_async_publisher_raises_the_same_value_error() -> None:
    done = run_python(EVENT + AIO_BAD, environment("redis://127.0.0.1:1/0"))
    assert done.stdout.split() == ["publisher.field_errors"] * 2, done.stderr


TIMED = """
import sys, time, asyncio, logging, publisher, publisher.aio
logging.basicConfig(level="WARNING")
start = time.monotonic()
try:
    print({call})
except ValueError:
    print("ValueError")
except Exception as error:
    print("raised")
print(time.monotonic() - start)
"""
CALLS = {
    "sync": ('publisher.broadcast_to_project("p", event("job"))', "None"),
    "async": ('asyncio.run(publisher.aio.broadcast_to_project("p", event("job")))', "None"),
    "strict": ('publisher.broadcast_to_project("p", event("job"), strict=True)', "raised"),
    "strict async": ('asyncio.run(publisher.aio.broadcast_to_project("p", event("job"), strict=True))', "raised"),
}


def test_without_redis_publishing_gives_up_within_its_bound_and_logs_or_raises() -> None:
    """Side by side, since each takes its whole bound of 5 s."""
    env = environment(f"redis://127.0.0.1:{free_port()}/0")
    running = {
        name: subprocess.Popen(
            [sys.executable, "-c", EVENT + TIMED.format(call=call)],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name, (call, _) in CALLS.items()
    }
    try:
        for name, process in running.items():
            out, err = process.communicate(timeout=3 * PATIENCE)
            outcome, seconds = out.split()
            assert outcome == CALLS[name][1], name
            assert float(seconds) < BOUND_SECONDS + STALL_SECONDS, name
            assert "Traceback" not in err, name
            if outcome == "None":
                assert len(err.strip().splitlines()) == 1, f"{name}: one log line, not {err!r}"
    finally:
        for process in running.values():
            process.kill()
            process.communicate()


def test_a_redis_that_answers_nothing_is_given_up_within_the_bound(
    own_redis: RedisServer, publisher_of: Callable[..., PublisherProcess]
) -> None:
    publisher = publisher_of(own_redis.url)
    publisher.seq("p", progress("job", 1))
    own_redis.freeze()
    start = time.monotonic()
    assert publisher.publish("p", progress("job", 2)) is None
    assert time.monotonic() - start < BOUND_SECONDS + STALL_SECONDS
    own_redis.thaw()
    publisher.seq("p", progress("job", 3))


def test_a_redis_that_comes_back_within_the_bound_is_found(
    own_redis: RedisServer, publisher_of: Callable[..., PublisherProcess]
) -> None:
    publisher = publisher_of(own_redis.url)
    before = publisher.seq("p", progress("job", 1))
    own_redis.kill()
    own_redis.start()
    assert publisher.seq("p", progress("job", 2)) > before


LATE = (
    EVENT
    + """
from publisher import broadcast_to_project
print("publishing", flush=True)
print(broadcast_to_project("p", event("job")))
"""
)


def test_a_redis_that_starts_after_the_publisher_is_found(own_redis: RedisServer) -> None:
    own_redis.kill()
    process = subprocess.Popen(
        [sys.executable, "-c", LATE], env=environment(own_redis.url), stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "publishing\n"
        own_redis.start()
        out, _ = process.communicate(timeout=PATIENCE)
        assert int(out) > 0
    finally:
        process.kill()
        process.communicate()


async def test_a_namespace_keeps_two_environments_on_one_redis_apart(
    own_redis: RedisServer, launch: Callable[..., Replica], publisher_of: Callable[..., PublisherProcess]
) -> None:
    staging = launch(own_redis.url, PROGRESS_NAMESPACE="staging", ready=False)
    production = launch(own_redis.url, ready=False)
    to_staging = publisher_of(own_redis.url, PROGRESS_NAMESPACE="staging")
    to_production = publisher_of(own_redis.url)
    staging.wait_ready()
    production.wait_ready()
    async with watching(staging.ws, "p") as there, watching(production.ws, "p") as here:
        channels = set(own_redis.command("PUBSUB", "CHANNELS", "*project:*"))
        assert {b"project:p", b"staging:project:p"} <= channels
        to_staging.seq("p", progress("staged"))
        to_production.seq("p", progress("produced"))
        assert [event["jobId"] for event in await there.events(1)] == ["staged"]
        assert [event["jobId"] for event in await here.events(1)] == ["produced"]
    async with connect(staging.ws) as late:
        await late.subscribe("p")
        (event,) = await late.events(1)
        assert (event["jobId"], event["projectId"]) == ("staged", "p")
