"""Programs of job authors, run in processes of all kinds: each says what it did, and ends by itself."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from typing import NamedTuple

from tests.contract.processes import of_forks

BOUND_SECONDS = 100.0  # ends a program that hangs; it may start dozens of processes on a busy machine

PREFIX = """
import asyncio, atexit, ctypes, logging, os, signal, sys, threading, time, warnings
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)  # to fork is the point here
from publisher import broadcast_to_project, last_event, track_job
project = sys.argv[1]
def event(job, progress=1):
    return {"type": "progress", "jobId": job, "jobType": "audio", "progress": progress}
def percent(job):
    return getattr(last_event(project, job), "progress", None)
def until(condition, what="a condition"):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.005)
def wait_for(*pids):
    for pid in pids:
        assert os.waitpid(pid, 0)[1] == 0, f"process {pid}"
untold_fork = ctypes.PyDLL(None).fork  # as uWSGI forks: Python is not told
"""


class Done(NamedTuple):
    status: int
    out: str
    err: str


def play(
    code: str, redis_url: str, *words: str, prefix: str = PREFIX, options: tuple[str, ...] = ("-W", "error")
) -> Done:
    """Run a program to its end, with what `PREFIX` gives."""
    process = subprocess.Popen(
        [sys.executable, *options, "-c", prefix + code, *words],
        env=of_forks(redis_url), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    watchdog = threading.Timer(BOUND_SECONDS, end_group, (process.pid,))
    watchdog.start()
    try:
        out, err = process.communicate()
        return Done(process.returncode, out, err)
    finally:
        watchdog.cancel()
        end_group(process.pid)


def end_group(pid: int) -> None:
    """End a program and all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
