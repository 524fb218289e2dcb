"""Job code under the servers that fork, thread or patch: every event arrives, and nothing is left behind."""

import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil  # type: ignore[import-untyped, unused-ignore]
import pytest

from tests.contract.deadlines import wait_for
from tests.contract.processes import Process, RedisServer, environment, free_port
from tests.listener import Listener

PATIENCE = 60.0
SOME, MORE = 8, 24

# At import Redis is away for a moment, and a job is begun: as in an application that tells of its start.
APP = """
import os, signal, time
import publisher.transport.circuit
from publisher import broadcast_to_project, track_job
project, url = os.environ["PROJECT"], os.environ["REDIS_URL"]
def event(job):
    return {"type": "progress", "jobId": job, "jobType": "audio", "progress": 1}
patience, publisher.transport.circuit.GIVE_UP_SECONDS = publisher.transport.circuit.GIVE_UP_SECONDS, 0.1
os.environ["REDIS_URL"] = "redis://127.0.0.1:1"
broadcast_to_project(project, event("lost"))
publisher.transport.circuit.GIVE_UP_SECONDS = patience
broadcast_to_project(project, event("lost too"))
os.environ["REDIS_URL"] = url
broadcast_to_project(project, event("at_import"))
if os.environ["IS_FORKED"] == "True":  # Redis is away once more; what this process knows says nothing of its workers
    from redis.exceptions import ConnectionError
    def probe():
        raise ConnectionError
    publisher.transport.circuit.circuit_of(url).open(probe)
def application(environ, start_response):
    number = environ["PATH_INFO"].strip("/")
    try:
        assert broadcast_to_project(project, event(f"single_{number}")), "not sent"
        with track_job(project, f"tracked_{number}", "audio") as job:
            job.progress(50)
        said = "fine"
    except BaseException as error:
        said = repr(error)
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Pid", str(os.getpid()))])
    return [said.encode()]
"""
BIN = Path(sys.executable).parent


def gunicorn(*options: str) -> list[str]:
    return [str(BIN / "gunicorn"), "app:application", "--workers", "2", "--bind", "127.0.0.1:PORT", *options]


def uwsgi(*options: str) -> list[str]:
    fixed = ["--http-socket", "127.0.0.1:PORT", "--wsgi-file", "app.py", "--master", "--processes", "2"]
    return [str(BIN / "uwsgi"), *fixed, "--need-app", "--die-on-term", *options]


SERVERS = {
    "gunicorn sync": gunicorn(),
    "gunicorn sync --preload": gunicorn("--preload"),
    "gunicorn gthread": gunicorn("--worker-class", "gthread", "--threads", "4"),
    "gunicorn gthread --preload": gunicorn("--worker-class", "gthread", "--threads", "4", "--preload"),
    "gunicorn gevent": gunicorn("--worker-class", "gevent"),
    "gunicorn gevent --preload": gunicorn("--worker-class", "gevent", "--preload"),
    "uWSGI": uwsgi(),
    "uWSGI --enable-threads": uwsgi("--enable-threads"),
    "uWSGI --threads": uwsgi("--enable-threads", "--threads", "4"),
    "uWSGI --py-call-osafterfork": uwsgi("--enable-threads", "--py-call-osafterfork"),
    "uWSGI --lazy-apps": uwsgi("--lazy-apps"),
}
QUICK = ("gunicorn gthread --preload", "gunicorn gevent", "uWSGI")


def ask(port: int, numbers: range) -> set[int]:
    """One request for each number; returns the processes that answered."""

    def one(number: int) -> int:
        with httpx.Client(trust_env=False, timeout=PATIENCE) as client:
            answer = client.get(f"http://127.0.0.1:{port}/{number}")
        assert answer.text == "fine"
        return int(answer.headers["x-pid"])

    with ThreadPoolExecutor(4) as pool:
        return set(pool.map(one, numbers))


def answers(port: int) -> bool:
    try:
        ask(port, range(1))
    except httpx.TransportError:
        return False
    return True


def serve(name: str, redis_server: RedisServer, project: str, path: Path) -> None:
    path.mkdir()
    (path / "app.py").write_text(APP)
    listener, port = Listener(redis_server, project), free_port()
    is_forked = "--preload" in name or ("uWSGI" in name and "--lazy-apps" not in name)
    command = [word.replace("PORT", str(port)) for word in SERVERS[name]]
    env = environment(
        redis_server.url, PROJECT=project, IS_FORKED=is_forked, PYTHONPATH=f"{path}{os.pathsep}{os.getcwd()}"
    )
    process = Process(["env", "-C", str(path), *command], env, path / "log")
    try:
        wait_for(lambda: answers(port) or not process.running(), f"{name} to answer; its log: {process.log}", PATIENCE)
        before = {pid: psutil.Process(pid).num_fds() for pid in ask(port, range(1, SOME))}
        for pid in ask(port, range(SOME, MORE)) & before.keys():
            assert psutil.Process(pid).num_fds() <= before[pid] + 6, f"{name}: descriptors"
            assert psutil.Process(pid).num_threads() < 20, f"{name}: threads"
        expected = {(f"single_{number}", "progress") for number in range(MORE)}
        expected |= {(f"tracked_{number}", "job_complete") for number in range(MORE)} | {("at_import", "progress")}
        wait_for(
            lambda: {(event["jobId"], event["type"]) for event in listener.events} >= expected,
            f"{name}: all events", PATIENCE,
        )  # fmt: skip
        process.signal(signal.SIGTERM)
        process.wait(f"{name} to end", PATIENCE)
        assert "Traceback" not in process.log, f"{name}: {process.log}"
    except AssertionError as error:
        raise AssertionError(f"{name}: {error}\n{process.log[-3000:]}") from error
    finally:
        process.end()
        listener.close()


@pytest.mark.parametrize(
    "names",
    [pytest.param(QUICK, id="some"), pytest.param(tuple(SERVERS), id="all", marks=pytest.mark.soak)],
)
def test_under(redis_server: RedisServer, project: str, tmp_path: Path, names: tuple[str, ...]) -> None:
    def run(name: str) -> None:
        number = list(SERVERS).index(name)
        serve(name, redis_server, f"{project}_{number}", tmp_path / str(number))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, names))
