"""Redis away in the middle of a tracked job, for a while and for good: nothing lost, little delay, one log line."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import pytest

from publisher.events import event_from_json

from .client import watching
from .conftest import Launch
from .deadlines import PATIENCE, STALL_SECONDS, wait_for
from .processes import RedisServer, environment, free_port

AWAY_SECONDS = 3.0
GIVE_UP_SECONDS = 5.0
LATE_SECONDS = 8.0

SYNC = """
import sys, time
import redis.asyncio  # else the first event loads it, which takes seconds on a busy machine
from publisher import track_job
pause = time.sleep
def job(job_id, body):
    with track_job(sys.argv[1], job_id, "audio", heartbeat=0.2) as job:
        for seconds in body(job):
            pause(seconds)
"""
ASYNC = """
import asyncio, sys, time
from publisher.aio import track_job
def job(job_id, body):
    async def main():
        async with track_job(sys.argv[1], job_id, "audio", heartbeat=0.2) as job:
            for seconds in body(job):
                await asyncio.sleep(seconds)
    asyncio.run(main())
"""
KINDS = {"sync": SYNC, "async": ASYNC, "uvloop": ASYNC.replace("asyncio.run(", "__import__('uvloop').run(")}

# Five seconds of work, in the middle of which Redis is away for three; the machine may take more until it is back.
MIDDLE = """
import publisher.transport.circuit
publisher.transport.circuit.GIVE_UP_SECONDS = 60
def body(job):
    print("begun", flush=True)
    for step in range(500):
        job.progress(step / 5, f"step {step}")
        yield 0.01
    job.complete(file="a.mp3")
job(sys.argv[2], body)
"""
# Each of a thousand words takes its turn, so that async code cannot say them in one.
FOR_GOOD = """
def body(job):
    for step in range(1_000):
        job.progress(step / 10)
        yield 0
for job_id in ("first", "second", "third"):
    began = time.monotonic()
    job(job_id, body)
    print(time.monotonic() - began, flush=True)
"""
# The worker lives on after the job, and says nothing more.
AT_THE_END = """
def body(job):
    job.progress(70, "nearly")
    yield 0.3
    print("begun", flush=True)
    sys.stdin.readline()
job(sys.argv[2], body)
print("ended", flush=True)
sys.stdin.readline()
"""

KILLED, FROZEN = "killed", "frozen"


class Worker:
    """A program that tracks jobs, told what to do by lines."""

    def __init__(self, kind: str, code: str, redis_url: str, job_id: str) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-c", KINDS[kind] + code, "p", job_id],
            env=environment(redis_url), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def says(self, line: str) -> None:
        assert self.popen.stdout is not None
        assert self.popen.stdout.readline() == f"{line}\n"

    def tell(self) -> None:
        assert self.popen.stdin is not None
        self.popen.stdin.write("\n")
        self.popen.stdin.flush()

    def ended(self) -> tuple[str, list[str]]:
        """What it wrote, and the lines of its log."""
        stdout, stderr = self.popen.communicate(timeout=PATIENCE)
        assert self.popen.returncode == 0, stderr
        return stdout, stderr.strip().splitlines()

    def kill(self) -> None:
        self.popen.kill()
        self.popen.communicate()


@contextmanager
def a_redis() -> Iterator[RedisServer]:
    server = RedisServer()
    try:
        yield server
    finally:
        server.thaw()
        server.kill()


@contextmanager
def workers(**started: Worker) -> Iterator[dict[str, Worker]]:
    try:
        yield started
    finally:
        for worker in started.values():
            worker.kill()


def last_type(server: RedisServer, job_id: str) -> str | None:
    """What the last event of a job is, as a late viewer will see it."""
    keys = server.keys("p")
    payload = server.command("HGET", keys[0], f"{job_id}\n") if keys else None
    return None if payload is None else event_from_json(payload).type


class Middle(NamedTuple):
    logs: list[list[str]]
    last: set[str | None]
    server: RedisServer


def away_in_the_middle(stack: ExitStack) -> Middle:
    """A server that is killed and comes back empty, and one that is frozen."""
    killed, frozen = stack.enter_context(a_redis()), stack.enter_context(a_redis())
    started = {
        f"{kind}_{server.port}": Worker(kind, MIDDLE, server.url, kind) for server in (killed, frozen) for kind in KINDS
    }
    with workers(**started) as jobs:
        for worker in jobs.values():
            worker.says("begun")
        time.sleep(0.5)
        killed.kill()
        frozen.freeze()
        time.sleep(AWAY_SECONDS)
        killed.start()
        frozen.thaw()
        logs = [worker.ended()[1] for worker in jobs.values()]
    return Middle(logs, {last_type(server, kind) for server in (killed, frozen) for kind in KINDS}, killed)


class ForGood(NamedTuple):
    seconds: list[list[float]]
    """Of each worker's three jobs."""
    logs: list[list[str]]


def gone_for_good(stack: ExitStack) -> ForGood:
    """Refused at once, and frozen, which is the slowest way to be away."""
    frozen = stack.enter_context(a_redis())
    frozen.freeze()
    urls = (f"redis://127.0.0.1:{free_port()}", frozen.url)
    started = {f"{kind}{number}": Worker(kind, FOR_GOOD, url, "") for number, url in enumerate(urls) for kind in KINDS}
    with workers(**started) as jobs:
        told = [worker.ended() for worker in jobs.values()]
    return ForGood([list(map(float, stdout.split())) for stdout, _ in told], [log for _, log in told])


class AtTheEnd(NamedTuple):
    seconds_of_the_end: float
    seconds_until_sent: float
    last_of_the_dead: str | None
    logs: list[list[str]]


def gone_at_the_end(stack: ExitStack) -> AtTheEnd:
    """The control is a worker that does not live on."""
    server = stack.enter_context(a_redis())
    started = {kind: Worker(kind, AT_THE_END, server.url, kind) for kind in KINDS}
    with workers(dead=Worker("sync", AT_THE_END, server.url, "dead"), **started) as jobs:
        for worker in jobs.values():
            worker.says("begun")
        server.kill()
        gone_at = time.monotonic()
        for worker in jobs.values():
            worker.tell()
        for worker in jobs.values():
            worker.says("ended")
        ended_at = time.monotonic()
        jobs["dead"].popen.send_signal(signal.SIGKILL)
        jobs["dead"].popen.wait()
        time.sleep(max(0.0, gone_at + LATE_SECONDS - time.monotonic()))
        server.start()
        back_at = time.monotonic()
        wait_for(lambda: {last_type(server, kind) for kind in KINDS} == {"job_complete"}, "the ends")
        sent_at, dead = time.monotonic(), last_type(server, "dead")
        for kind in KINDS:
            jobs[kind].tell()
        return AtTheEnd(ended_at - gone_at, sent_at - back_at, dead, [jobs[kind].ended()[1] for kind in KINDS])


class Outages(NamedTuple):
    middle: "Future[Middle]"
    for_good: "Future[ForGood]"
    at_the_end: "Future[AtTheEnd]"


@pytest.fixture(scope="module")
def outages() -> Iterator[Outages]:
    """All side by side: they take seconds, and wait for nearly all of them."""
    with ExitStack() as stack, ThreadPoolExecutor(3) as pool:
        yield Outages(*(pool.submit(play, stack) for play in (away_in_the_middle, gone_for_good, gone_at_the_end)))  # type: ignore[arg-type]


async def test_three_seconds_without_redis_lose_nothing(outages: Outages, launch: Launch) -> None:
    middle = outages.middle.result(3 * PATIENCE)
    assert middle.logs == [[]] * 2 * len(KINDS)
    assert middle.last == {"job_complete"}
    async with watching(launch(middle.server.url).ws, "p") as late:
        events = await late.events(len(KINDS))
        assert {(event["jobId"], event["type"]) for event in events} == {(kind, "job_complete") for kind in KINDS}
        assert all(event["result"] == {"file": "a.mp3"} for event in events)


def test_redis_gone_for_good_delays_one_job_once_and_is_one_line_in_the_log(outages: Outages) -> None:
    for_good = outages.for_good.result(3 * PATIENCE)
    for first, second, third in for_good.seconds:
        assert first < GIVE_UP_SECONDS + STALL_SECONDS
        assert min(second, third) < 3, "each would wait for the same time"
    assert [len(log) for log in for_good.logs] == [1] * 2 * len(KINDS)


def test_an_end_that_redis_missed_arrives_when_it_is_back_while_the_process_lives(outages: Outages) -> None:
    """Also where the event loop of the job ended long before."""
    at_the_end = outages.at_the_end.result(3 * PATIENCE)
    assert at_the_end.seconds_of_the_end < GIVE_UP_SECONDS + STALL_SECONDS
    assert at_the_end.seconds_until_sent < 3 + STALL_SECONDS
    assert at_the_end.last_of_the_dead is None
    # Where more than one event was given up, a last line tells that Redis is back, and how many.
    assert [sum("Not sent" in line for line in log) for log in at_the_end.logs] == [1] * len(KINDS)
