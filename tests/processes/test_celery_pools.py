"""Celery's pools: prefork, solo, threads, gevent, eventlet. What a task publishes arrives from each of them."""

import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.contract.deadlines import wait_for
from tests.contract.processes import Process, RedisServer, environment
from tests.listener import Listener

PATIENCE = 60.0
TASKS = 12

APP = """
import os
from celery import Celery
from publisher import broadcast_to_project, track_job
project = os.environ["PROJECT"]
app = Celery("jobs", broker=os.environ["REDIS_URL"])
app.conf.update(task_default_queue=project, broker_connection_retry_on_startup=True)
broadcast_to_project(project, {"type": "progress", "jobId": "at_import", "jobType": "audio", "progress": 1})
@app.task
def work(number):
    event = {"type": "progress", "jobId": f"single_{number}", "jobType": "audio", "progress": 1}
    assert broadcast_to_project(project, event), "not sent"
    with track_job(project, f"tracked_{number}", "audio") as job:
        job.progress(50)
"""
SEND = "import jobs\nfor number in range(12): jobs.work.delay(number)"
POOLS = ("prefork", "solo", "threads", "gevent", "eventlet")


@pytest.mark.soak
def test_each_pool(redis_server: RedisServer, project: str, tmp_path: Path) -> None:
    (tmp_path / "jobs.py").write_text(APP)

    def run(pool: str) -> None:
        own = f"{project}_{pool}"
        listener = Listener(redis_server, own)
        env = environment(redis_server.url, PROJECT=own, PYTHONPATH=f"{tmp_path}{os.pathsep}{os.getcwd()}")
        command = [sys.executable, "-m", "celery", "-A", "jobs", "worker", "-P", pool, "-c", "2", "-l", "warning"]
        worker = Process([*command, "-n", own], env, tmp_path / f"{pool}.log")
        sender = Process([sys.executable, "-c", SEND], env, tmp_path / f"{pool}.sent.log")
        try:
            assert sender.wait("the tasks to be sent", PATIENCE) == 0, sender.log
            expected = {(f"single_{number}", "progress") for number in range(TASKS)}
            expected |= {(f"tracked_{number}", "job_complete") for number in range(TASKS)}
            wait_for(
                lambda: {(event["jobId"], event["type"]) for event in listener.events} >= expected,
                f"{pool}: all events; its log: {worker.log[-2000:]}", PATIENCE,
            )  # fmt: skip
            worker.signal(signal.SIGTERM)
            worker.wait(f"{pool} to end", PATIENCE)
            assert "Traceback" not in worker.log, f"{pool}: {worker.log}"
            ends = [event["jobId"] for event in listener.events if event["type"] != "progress"]
            assert len(ends) == len(set(ends)) == TASKS, pool
        finally:
            worker.end()
            sender.end()
            listener.close()

    with ThreadPoolExecutor(3) as executor:
        list(executor.map(run, POOLS))
