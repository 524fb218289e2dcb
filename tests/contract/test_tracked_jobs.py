"""A tracked job as its viewers see it: silence after a kill, attempts, and a thousand jobs in one process."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .client import Client, watching
from .deadlines import PATIENCE, STALL_SECONDS, eventually, wait_for
from .processes import Process, RedisServer, Replica, environment, run_python

HEARTBEAT_SECONDS = 0.5
PROMISED_SECONDS = 2 * HEARTBEAT_SECONDS

WORKER = """
import sys, time
from publisher import track_job
heartbeat = float(sys.argv[2]) or None
with track_job(sys.argv[1], "j", "audio", heartbeat=heartbeat) as job:
    job.progress(40, "voice 2 of 5")
    time.sleep(60)
"""


class Terminal:
    """`progress-gateway watch` on a pseudo-terminal."""

    def __init__(self, url: str, project: str) -> None:
        self._ours, theirs = os.openpty()
        env = environment(None, TERM="xterm-256color", COLUMNS=100, LINES=30)
        command = [sys.executable, "-m", "gateway", "watch", "--url", url, project]
        self.popen = subprocess.Popen(command, env=env, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        self.shown = b""
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def _read(self) -> None:
        try:
            while more := os.read(self._ours, 65_536):
                self.shown += more
        except OSError:  # Linux says so when the other side is closed
            pass

    def end(self) -> None:
        self.popen.kill()
        self.popen.wait()
        self._reading.join()
        os.close(self._ours)


@pytest.fixture
def terminal() -> Iterator[Callable[[str, str], Terminal]]:
    opened: list[Terminal] = []

    def start(url: str, project: str) -> Terminal:
        opened.append(Terminal(url, project))
        return opened[-1]

    yield start
    for one in opened:
        one.end()


Start = Callable[..., Process]


@pytest.fixture
def start(redis_server: RedisServer, tmp_path: Path) -> Iterator[Start]:
    """Starts a program in a process of its own, or the command with these arguments."""
    started: list[Process] = []

    def launch(*arguments: str, redis_url: str = redis_server.url) -> Process:
        command = [sys.executable, *arguments]
        started.append(Process(command, environment(redis_url), tmp_path / f"process_{len(started)}.log"))
        return started[-1]

    yield launch
    for process in started:
        process.end()


async def until_renewed(client: Client, times: int) -> None:
    for _ in range(times):
        await client.until(lambda message: message.get("progress") == 40, "a renewal")


async def test_every_viewer_can_tell_that_a_worker_was_killed(
    replica: Replica, project: str, start: Start, terminal: Callable[[str, str], Terminal]
) -> None:
    """And the control: a job without a heartbeat promises nothing, so that its silence is not seen."""
    mute = f"{project}_mute"
    workers = [start("-c", WORKER, name, str(beat)) for name, beat in ((project, HEARTBEAT_SECONDS), (mute, 0))]
    bars, mute_bars = terminal(replica.ws, project), terminal(replica.ws, mute)
    lines = start("-m", "gateway", "watch", "--url", replica.ws, project)
    as_json = start("-m", "gateway", "watch", "--url", replica.ws, "--json", project)
    async with watching(replica.ws, project) as client, watching(replica.ws, mute) as other:
        await until_renewed(client, 4)
        events = [message for message in client.received if message["type"] == "progress"]
        assert all(event["nextWithin"] == PROMISED_SECONDS for event in events)
        assert events[-1]["message"] == "voice 2 of 5"
        await until_renewed(other, 1)
        for shown in (bars, mute_bars):
            await eventually(lambda shown=shown: b"voice 2 of 5" in shown.shown, "the bars")  # type: ignore[misc]
        await eventually(lambda: lines.log.count("voice 2 of 5") >= 2, "lines")
        await eventually(lambda: as_json.log.count("voice 2 of 5") >= 2, "lines of JSON")

        for worker in workers:
            worker.signal(signal.SIGKILL)
        bars.shown, killed_at = b"", time.monotonic()
        await client.ping()  # reads what the workers said while they lived
        heard = len(client.received)
        await eventually(lambda: b"silent for" in bars.shown, "`watch` to say that the job is silent")
        assert time.monotonic() - killed_at < PROMISED_SECONDS + 2.5 + STALL_SECONDS  # the view looks once a second
        await client.ping()
        assert len(client.received) <= heard + 2, "the worker is dead, and renewed once more at most"
        assert all(message["type"] in ("progress", "pong") for message in client.received[heard:])
        await asyncio.sleep(2 * PROMISED_SECONDS)
        assert await client.ping() == [], "nothing is renewed any more"
        assert b"silent for" not in mute_bars.shown
    told = [json.loads(line) for line in as_json.log.splitlines() if line.startswith("{")]
    assert all(event["nextWithin"] == PROMISED_SECONDS for event in told)


ATTEMPTS = """
import sys, time
from publisher import last_event, track_job
project = sys.argv[1]
def until(percent, attempt):
    while (event := last_event(project, "j")) is None or (event.attempt, event.progress) != (attempt, percent):
        time.sleep(0.01)
zombie = track_job(project, "j", "audio", attempt=0, heartbeat=0.1).__enter__()
zombie.progress(80)
until(80, 0)
with track_job(project, "j", "audio", attempt=1, heartbeat=0.1) as job:
    job.progress(10)
    until(10, 1)
    zombie.progress(90)
    time.sleep(0.4)
    zombie.fail("too late")
    job.progress(60)
"""


async def test_no_viewer_hears_a_late_attempt_and_no_bar_runs_backward(
    replica: Replica, redis_server: RedisServer, project: str
) -> None:
    async with watching(replica.ws, project) as client:
        done = await asyncio.to_thread(run_python, ATTEMPTS, environment(redis_server.url), project)
        assert done.returncode == 0
        # Once: neither the zombie's progress nor its end is a mistake of its own.
        said = (
            f"job 'j' of project '{project}' was begun again elsewhere, as attempt 1; this attempt is no longer shown"
        )
        assert done.stderr.splitlines() == [said]
        events = await client.until_type("job_complete")
    told = [(event["attempt"], event.get("progress", 101)) for event in events]
    assert told == sorted(told)
    assert {attempt for attempt, _ in told} == {0, 1}
    assert (0, 90) not in told
    async with watching(replica.ws, project) as late:
        assert [event["type"] for event in await late.events(1)] == ["job_complete"]


THOUSAND = """
import sys, threading, time
from publisher import track_job
jobs = [track_job(sys.argv[1], f"job_{number}", "audio", heartbeat=1).__enter__() for number in range(1_000)]
print("begun", flush=True)
sys.stdin.readline()
print([thread.name for thread in threading.enumerate()], flush=True)
"""


def test_a_thousand_jobs_have_one_more_thread_and_are_renewed_once_a_heartbeat(
    own_redis: RedisServer, project: str
) -> None:
    def renewals() -> int:
        return int(own_redis.command("INFO", "commandstats").get("cmdstat_evalsha", {}).get("calls", 0))

    process = subprocess.Popen(
        [sys.executable, "-c", THOUSAND, project],
        env=environment(own_redis.url), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        wait_for(lambda: renewals() >= 1_000, "all to begin")
        before, began = renewals(), time.monotonic()
        time.sleep(3)
        wait_for(lambda: renewals() >= before + 1_000, "each to be renewed")
        most = 1_000 * (time.monotonic() - began + 1)  # a machine that stood still sends what was due in that time, too
        assert renewals() - before < 1.15 * most, "twice as many would be the fault"
        out, _ = process.communicate("\n", timeout=PATIENCE)
        assert out.strip() == "['MainThread', 'publisher-jobs']"
    finally:
        process.kill()
        process.communicate()
