"""A process that is told to stop ends its jobs, and then does what it would have done."""

import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import httpx

from tests.contract.deadlines import wait_for
from tests.contract.processes import Process, RedisServer, environment, free_port
from tests.listener import Listener

from .programs import play

PATIENCE = 60.0
STOPPED = "Stopped: its worker ended"

AT_WORK = """
def stop_when_at_work(number=signal.SIGTERM):
    until(lambda: percent("j") == 20)
    os.kill(os.getpid(), number)
def work(**options):
    with track_job(project, "j", "audio", **options) as job:
        job.progress(20)
        time.sleep(600)
threading.Thread(target=stop_when_at_work, daemon=True).start()
"""


class Stop(NamedTuple):
    code: str
    last: tuple[object, object]
    """The text and the reason of the last event."""
    status: int = -signal.SIGTERM


STOPS = {
    "in the main thread": Stop("work()", (STOPPED, "lost")),
    "in a thread, with the decorator": Stop(
        """
@track_job(project, "j", "audio")
def decorated():
    from publisher import current_job
    current_job().progress(20)
    time.sleep(600)
thread = threading.Thread(target=decorated)
thread.start()
thread.join()
""",
        (STOPPED, "lost"),
    ),
    "it will be tried again": Stop("work(will_retry=True)", (f"{STOPPED}; it will be tried again", None)),
    "in asyncio": Stop(
        """
import publisher.aio
async def main():
    async with publisher.aio.track_job(project, "j", "audio") as job:
        job.progress(20)
        await asyncio.sleep(600)
asyncio.run(main())
""",
        (STOPPED, "lost"),
    ),
    "asyncio cancels": Stop(
        """
import publisher.aio
async def main():
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)
    async with publisher.aio.track_job(project, "j", "audio") as job:
        job.progress(20)
        await asyncio.sleep(600)
try:
    asyncio.run(main())
except asyncio.CancelledError:
    sys.exit(4)
""",
        ("Cancelled", "cancelled"),
        4,
    ),
    "the program's own handler": Stop("signal.signal(signal.SIGTERM, lambda *_: os._exit(7))\nwork()", (None, None), 7),
    "a handler that is set later": Stop(
        "job = track_job(project, 'j', 'audio')\n"
        "before = signal.signal(signal.SIGTERM, lambda *given: (print('mine'), before(*given)))\n"
        "work()",
        (STOPPED, "lost"),
    ),
    "switched off": Stop("os.environ['PROGRESS_SIGTERM'] = 'off'\nwork()", (None, None)),
    "a child that has no job": Stop(
        """
reading, writing = os.pipe()
with track_job(project, "j", "audio") as job:
    if (child := os.fork()) == 0:
        os.write(writing, b"x")
        time.sleep(600)
    os.read(reading, 1)  # Python forgets a signal that comes while it begins a child
    os.kill(child, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
    job.progress(20)
    time.sleep(600)
""",
        (STOPPED, "lost"),
    ),
}


def test_sigterm_ends_the_job_and_then_the_process(redis_server: RedisServer, project: str) -> None:
    def stop(name: str) -> None:
        own = f"{project}_{list(STOPS).index(name)}"
        expected = STOPS[name]
        listener = Listener(redis_server, own)
        done = play(AT_WORK + expected.code, redis_server.url, own)
        assert (done.status, done.err) == (expected.status, ""), name
        wait_for(lambda: said(listener) == expected.last, f"{name}: {expected.last}, not {said(listener)}", PATIENCE)
        assert [event["type"] for event in listener.of()].count("job_failed") == (expected.last[1] is not None), name
        listener.close()

    with ThreadPoolExecutor(4) as pool:  # most of their time is the start of a Python
        list(pool.map(stop, STOPS))


def said(listener: Listener) -> tuple[object, object]:
    last = listener.of()[-1] if listener.of() else {}
    return last.get("error", last.get("message")), last.get("reason")


APP = """
import asyncio, os
from fastapi import BackgroundTasks, FastAPI
from publisher.aio import current_job, track_job
app = FastAPI()
@app.post("/")
async def start(background: BackgroundTasks) -> None:
    background.add_task(export)
@track_job(os.environ["PROJECT"], "j", "export")
async def export() -> None:
    current_job().progress(20)
    await asyncio.sleep(600)
"""


def test_uvicorn_that_cancels_a_background_task_and_dies_gives_it_an_end(
    redis_server: RedisServer, project: str, tmp_path: Path
) -> None:
    """uvicorn raises SIGTERM again a few turns of the loop after it has cancelled the task."""
    (tmp_path / "app.py").write_text(APP)
    listener, port = Listener(redis_server, project), free_port()
    command = [sys.executable, "-m", "uvicorn", "app:app", "--port", str(port), "--timeout-graceful-shutdown", "1"]
    env = environment(redis_server.url, PROJECT=project, PYTHONPATH=f"{tmp_path}{os.pathsep}{os.getcwd()}")
    server = Process([*command, "--app-dir", str(tmp_path)], env, tmp_path / "log")
    try:
        wait_for(lambda: has_started(port), "uvicorn", PATIENCE)
        listener.until(20, within=PATIENCE)
        server.signal(signal.SIGTERM)
        server.wait("uvicorn to end", PATIENCE)
        (end,) = [event for event in listener.until("job_failed") if event["type"] == "job_failed"]
        assert (end["error"], end["reason"]) == ("Cancelled", "cancelled")
    finally:
        server.end()
        listener.close()


def has_started(port: int) -> bool:
    try:
        with httpx.Client(trust_env=False, timeout=30) as client:
            return client.post(f"http://127.0.0.1:{port}/").status_code == 200
    except httpx.TransportError:
        return False


def test_a_job_in_a_daemon_thread_ends_with_the_interpreter(redis_server: RedisServer, project: str) -> None:
    """And what its thread still says is no warning."""
    code = """
def talk():
    with track_job(project, "j", "audio") as job:
        while True:
            job.progress(20)
threading.Thread(target=talk, daemon=True).start()
until(lambda: percent("j") == 20)
"""
    listener = Listener(redis_server, project)
    done = play(code, redis_server.url, project)
    assert (done.status, done.err) == (0, "")
    listener.until("job_failed", within=PATIENCE)
    assert said(listener) == (STOPPED, "lost")
    listener.close()
