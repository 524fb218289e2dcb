"""However the process of a tracked job ends, or forks, what was said arrives, and nothing hangs."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from tests.listener import Listener

from .deadlines import wait_for
from .processes import RedisServer, environment, of_forks, run_python

BOUND_SECONDS = 60.0  # ends a program that hangs; many start side by side

PREFIX = """
import multiprocessing, os, signal, sys, threading, time, warnings
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)  # to fork is the point here
from concurrent.futures import ProcessPoolExecutor
from publisher import last_event, track, track_job
from publisher.sender import sender
project = sys.argv[1]
def begin(**options):
    job = track_job(project, "j", "audio", **{"heartbeat": 0.2} | options).__enter__()
    until(0)
    return job
def until(percent):
    while (event := last_event(project, "j")) is None or event.progress < percent:
        time.sleep(0.005)
fork = multiprocessing.get_context("fork")
"""

NO_END = "no end"
STOPPED = "Stopped: its worker ended"


class Program(NamedTuple):
    code: str
    last: float
    """The highest progress that is heard."""
    end: str
    status: int = 0


EXITS = {
    "the interpreter ends with a word unsent": Program("begin().progress(77)", 77, STOPPED),
    "os._exit, the control, loses it": Program("begin().progress(77); os._exit(0)", 0, NO_END),
    "a daemon thread is left": Program(
        "def work():\n"
        "    with track_job(project, 'j', 'audio') as job:\n"
        "        until(0)\n"
        "        job.progress(55)\n"
        "        said.set()\n"
        "        time.sleep(60)\n"
        "said = threading.Event()\n"
        "threading.Thread(target=work, daemon=True).start()\n"
        "said.wait()\n",
        55, STOPPED,
    ),
    "sys.exit in the block": Program(
        "with track_job(project, 'j', 'audio') as job:\n    job.progress(30)\n    sys.exit(3)\n",
        30, STOPPED, 3,
    ),
    "an exception in the block": Program(
        "with track_job(project, 'j', 'audio') as job:\n    job.progress(30)\n    1 / 0\n",
        30, "ZeroDivisionError: division by zero", 1,
    ),
    "a loop that is never ended": Program(
        "pages = track(range(10), project, 'j', 'audio')\nnext(pages)\nuntil(0)\nnext(pages)\n", 10, STOPPED
    ),
    "SIGTERM": Program(
        "begin().progress(20)\nuntil(20)\nos.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(60)\n",
        20, STOPPED, -signal.SIGTERM,
    ),
    "SIGTERM as most workers take it": Program(
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
        "with track_job(project, 'j', 'audio') as job:\n"
        "    job.progress(30)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(60)\n",
        30, STOPPED,
    ),
    "Ctrl-C": Program(
        "with track_job(project, 'j', 'audio') as job:\n"
        "    job.progress(30)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    time.sleep(60)\n",
        30, "Interrupted", -signal.SIGINT,
    ),
}  # fmt: skip

# The child says 30 and ends; the parent says 90 and completes. What the children hold would be renewed each 0.1 s. What
# is sent last is not asked of Redis here: the parent renews its own 5 meanwhile.
FORKS = {
    "os._exit": "if os.fork() == 0: job.progress(30); sender.flush(60); os._exit(0)\nos.wait()",
    "sys.exit": "if os.fork() == 0: job.progress(30); sys.exit(0)\nos.wait()",
    "an exception": "if os.fork() == 0: job.progress(30); raise ValueError('in the child')\nos.wait()",
    "a sentence in the child": "if os.fork() == 0:\n    with job.sentence('s1') as part: part.progress(5)\n"
    "    job.progress(30); sys.exit(0)\nos.wait()",
    "a process of multiprocessing": "child = fork.Process(target=work, args=(30,)); child.start(); child.join()",
    "a pool that outlives the job": "pool = fork.Pool(1); pool.map(work, [10, 20, 30]); time.sleep(0.5)",
    "an executor that outlives the job": "pool = ProcessPoolExecutor(1, mp_context=fork)\n"
    "list(pool.map(work, [10, 20, 30])); time.sleep(0.5)",
    "children under fire": "threads = [threading.Thread(target=hammer) for _ in range(4)]\n"
    "for thread in threads: thread.start()\n"
    "for number in range(15):\n"
    "    if os.fork() == 0: job.progress(30); job.sentence('s1'); sys.exit(0)\n"
    "fired.set()\n"
    "for thread in threads: thread.join()\n"
    "for number in range(15): os.wait()",
}
FORK = """
fired = threading.Event()
def hammer():
    while not fired.is_set():
        job.progress(30)
def work(percent):
    job.progress(percent)
    sender.flush(60)  # each is sent before the next; another worker's last word may follow
with track_job(project, "j", "audio", heartbeat=0.1) as job:
    job.progress(5)
    {here}
    job.progress(90)
time.sleep(0.7)  # whoever renews still would be heard
if "pool" in globals():
    pool.shutdown() if isinstance(pool, ProcessPoolExecutor) else (pool.close(), pool.join())
"""


class Heard(NamedTuple):
    bars: list[object]
    errors: list[str]
    status: int
    stderr: str


def play(server: RedisServer, project: str, code: str, ends_with: object) -> Heard:
    """Run a program, and hear what its job says until that."""
    listener = Listener(server, project)
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PREFIX + code, project],
        env=of_forks(server.url), stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        _, stderr = process.communicate(timeout=BOUND_SECONDS)
        wait_for(lambda: ends_with in listener.bars(), f"{ends_with} of {project}: {listener.bars()}")
        errors = [event["error"] for event in listener.of() if event["type"] == "job_failed"]
        return Heard(listener.bars(), errors, process.returncode, stderr)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # children hold the pipe too
        process.communicate()
        listener.close()


def play_all(server: RedisServer, project: str, programs: Mapping[str, tuple[str, object]]) -> dict[str, Heard]:
    """Side by side: most of their time is the start of a Python."""
    with ThreadPoolExecutor(4) as pool:
        futures = {
            name: pool.submit(play, server, f"{project}_{number}", *program)
            for number, (name, program) in enumerate(programs.items())
        }
        return {name: future.result() for name, future in futures.items()}


def test_however_a_process_ends_its_last_words_arrive(redis_server: RedisServer, project: str) -> None:
    programs = {
        name: (program.code, program.last if program.end == NO_END else "job_failed") for name, program in EXITS.items()
    }
    for name, heard in play_all(redis_server, project, programs).items():
        program = EXITS[name]
        assert heard.status == program.status, (name, heard)
        assert max(bar for bar in heard.bars if isinstance(bar, int | float)) == program.last, (name, heard)
        assert heard.errors == ([] if program.end == NO_END else [program.end]), (name, heard)
        assert heard.stderr == "" or program.status != 0, (name, heard)


def test_however_a_fork_ends_the_job_ends_once_and_is_its_parents(redis_server: RedisServer, project: str) -> None:
    programs = {name: (FORK.format(here=here.replace("\n", "\n    ")), "job_complete") for name, here in FORKS.items()}
    for name, heard in play_all(redis_server, project, programs).items():
        assert (heard.status, heard.errors) == (0, []), (name, heard)
        assert heard.stderr == "" or name == "an exception", (name, heard)
        assert 30 in heard.bars, (name, heard)
        assert heard.bars.count("job_complete") == 1, (name, heard)
        assert heard.bars[-2:] == [90, "job_complete"], f"{name}: what a child held went on after the end: {heard}"


FORKED_EARLY = """
for number in range(15):
    first = os.fork()
    if first == 0:  # a process that has never connected
        with track_job(project, f"job_{number}", "audio") as job:
            time.sleep(number / 4_000)
            if os.fork() == 0:
                job.progress(30)
                sys.exit(0)
            os.wait()
        sys.exit(0)
    os.wait()
"""


def test_a_fork_while_the_thread_connects_for_the_first_time_is_none_in_the_middle_of_an_import(
    redis_server: RedisServer, project: str
) -> None:
    """The child of such a fork had no IDNA: it could not connect, and sometimes waited for ever."""
    listener = Listener(redis_server, project)
    # Fifteen processes after one another load redis-py: half a minute on a busy machine.
    done = run_python(PREFIX + FORKED_EARLY, of_forks(redis_server.url), project, within=100)
    assert (done.returncode, done.stderr) == (0, "")
    for number in range(15):
        wait_for(lambda job=f"job_{number}": 30 in listener.bars(job=job), f"the child's word of job {number}")  # type: ignore[misc]
    listener.close()


def test_a_process_that_exits_while_redis_is_frozen_takes_a_bound(own_redis: RedisServer, project: str) -> None:
    """What is unsent has two seconds; the thread is in the middle of a try, which has five elsewhere."""
    own_redis.freeze()
    watchdog = threading.Timer(BOUND_SECONDS, os.kill, (own_redis.pid, signal.SIGCONT))
    watchdog.start()
    code = (
        "import atexit, publisher.transport.circuit\n"
        "publisher.transport.circuit.GIVE_UP_SECONDS = 100\n"
        "job = track_job(project, 'j', 'audio').__enter__()\n"
        "job.progress(5)\n"
        "began = time.monotonic()\n"
        "atexit._run_exitfuncs()\n"
        "print(time.monotonic() - began)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", PREFIX + code, project],
        env=environment(own_redis.url), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        out, _ = process.communicate(timeout=BOUND_SECONDS)
        assert 1.5 < float(out) < BOUND_SECONDS / 2
        assert process.returncode == 0
    finally:
        process.kill()
        process.communicate()
        watchdog.cancel()
        own_redis.thaw()
