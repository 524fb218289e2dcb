"""Publishing from ordinary code: threads, forks, and a Redis that is away, slow, new or unwilling."""

import json
import logging
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from publisher import JobComplete, Progress, broadcast_to_project
from publisher.field_errors import EventError
from publisher.names import jobs_key
from publisher.transport import circuit as module
from publisher.transport.circuit import unsent
from tests.contract.deadlines import PATIENCE, STALL_SECONDS
from tests.contract.processes import RedisServer, environment, free_port, run

EVENT = {"type": "progress", "jobId": "j", "jobType": "audio", "progress": 40}


@pytest.fixture
def server(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> RedisServer:
    monkeypatch.setenv("REDIS_URL", redis_server.url)
    return redis_server


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given up after a fifth of a second instead of three."""
    monkeypatch.setattr(module, "GIVE_UP_SECONDS", 0.2)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not given up before the test would be: the machine may need seconds for what the publisher waits for."""
    monkeypatch.setattr(module, "GIVE_UP_SECONDS", PATIENCE)


def remembered(server: RedisServer, project: str, namespace: str = "") -> dict[bytes, bytes]:
    state: dict[bytes, bytes] = server.command("HGETALL", jobs_key(f"{namespace}project:{project}"))
    return state


def last(server: RedisServer, project: str, field: bytes = b"j\n") -> dict[str, Any]:
    event: dict[str, Any] = json.loads(remembered(server, project)[field])
    return event


# Sent


def test_a_mapping_is_published_and_its_seq_returned(server: RedisServer, project: str) -> None:
    seq = broadcast_to_project(project, EVENT)
    assert last(server, project) == EVENT | {"seq": seq}


def test_a_model_is_published_and_its_seq_returned(server: RedisServer, project: str) -> None:
    first = broadcast_to_project(project, Progress(job_id="j", job_type="audio", progress=1))
    second = broadcast_to_project(project, JobComplete(job_id="j", job_type="audio"))
    assert first is not None
    assert second is not None
    assert first < second
    assert last(server, project)["type"] == "job_complete"


def test_an_event_that_the_attempt_rule_refuses_is_none_and_no_error(
    server: RedisServer, project: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = unsent.count
    assert broadcast_to_project(project, EVENT | {"attempt": 2}) is not None
    assert broadcast_to_project(project, EVENT | {"attempt": 2, "progress": 1}, strict=True) is None
    assert unsent.count == before
    assert caplog.records == []


def test_without_replay_it_is_a_plain_publish(
    server: RedisServer, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROGRESS_REPLAY", "off")
    with redis.Redis.from_url(server.url) as client, client.pubsub(ignore_subscribe_messages=True) as pubsub:
        pubsub.subscribe(f"project:{project}")
        pubsub.get_message(timeout=30)
        assert broadcast_to_project(project, EVENT) is None
        message = pubsub.get_message(timeout=30)
    assert message is not None
    assert json.loads(message["data"]) == EVENT
    assert remembered(server, project) == {}


def test_the_namespace_parts_two_environments(
    server: RedisServer, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROGRESS_NAMESPACE", "staging")
    assert broadcast_to_project(project, EVENT)
    assert remembered(server, project) == {}
    assert remembered(server, project, "staging:")


def test_an_event_costs_one_round_trip(own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch, project: str) -> None:
    monkeypatch.setenv("REDIS_URL", own_redis.url)
    broadcast_to_project(project, EVENT)

    def calls() -> dict[str, int]:
        stats = own_redis.command("INFO", "commandstats")
        names = ("hello", "auth", "ping", "evalsha", "eval", "script|load", "publish", "client|setinfo", "select")
        return {name: stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in names}

    before = calls()
    for _ in range(10):
        broadcast_to_project(project, EVENT)
    after = calls()
    more = {name: after[name] - before[name] for name in after if after[name] != before[name]}
    assert more == {"evalsha": 10, "publish": 10}  # the script's own PUBLISH is counted too


# Bad events


@pytest.mark.parametrize(
    ("project_id", "event"), [("", EVENT), ("a b", EVENT), ("p", {}), ("p", EVENT | {"progress": 101})]
)
def test_a_bad_event_or_project_id_is_raised_at_once_even_without_a_redis(
    monkeypatch: pytest.MonkeyPatch, project_id: str, event: dict[str, Any]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(EventError):
            broadcast_to_project(project_id, event)
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):  # nobody has connected
            listener.accept()


# Redis comes and goes


def test_the_script_is_loaded_again_after_script_flush(server: RedisServer, project: str) -> None:
    assert broadcast_to_project(project, EVENT)
    server.command("SCRIPT", "FLUSH")
    assert broadcast_to_project(project, EVENT)
    assert broadcast_to_project(project, EVENT)


def test_a_redis_that_was_restarted_between_two_events_gets_both(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch, project: str, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("REDIS_URL", own_redis.url)
    first = broadcast_to_project(project, EVENT)
    own_redis.kill()
    own_redis.start()
    second = broadcast_to_project(project, EVENT)
    assert first is not None
    assert second is not None
    assert first < second
    assert caplog.records == []


def test_an_event_waits_for_a_redis_that_comes_back_soon(
    own_redis: RedisServer, patient: None, monkeypatch: pytest.MonkeyPatch, project: str
) -> None:
    monkeypatch.setenv("REDIS_URL", own_redis.url)
    own_redis.kill()
    starting = threading.Timer(0.4, own_redis.start)
    starting.start()
    try:
        assert broadcast_to_project(project, EVENT, strict=True) is not None
    finally:
        starting.join()


def test_a_redis_that_is_away_costs_five_seconds_one_log_line_and_a_count(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Frozen is the slowest way to be away: it takes connections and never answers.

    test_circuit.py holds the five seconds, on a clock of its own; without a bound this would not end.
    """
    monkeypatch.setenv("REDIS_URL", own_redis.url)
    own_redis.freeze()
    count, before = unsent.count, time.monotonic()
    assert broadcast_to_project("p", EVENT) is None
    assert time.monotonic() - before < module.GIVE_UP_SECONDS + STALL_SECONDS
    assert unsent.count == count + 1
    assert [(record.name, record.levelno) for record in caplog.records] == [("publisher", logging.ERROR)]
    assert "\n" not in caplog.messages[0]


def test_with_strict_it_raises_and_counts_as_well(hurried: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{free_port()}")
    count = unsent.count
    with pytest.raises(redis.ConnectionError):
        broadcast_to_project("p", EVENT, strict=True)
    assert unsent.count == count + 1


def test_a_refused_connection_is_tried_more_than_once(hurried: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{free_port()}")
    before = time.monotonic()
    assert broadcast_to_project("p", EVENT) is None
    assert time.monotonic() - before >= 0.05


@pytest.mark.parametrize("strict", [False, True])
def test_a_wrong_password_is_not_tried_again(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, strict: bool
) -> None:
    monkeypatch.setenv("REDIS_URL", f"redis://nobody:wrong-secret@127.0.0.1:{server.port}/0")
    slept: list[float] = []
    monkeypatch.setattr("publisher.transport.sync_driver.time.sleep", slept.append)
    if strict:
        with pytest.raises(redis.AuthenticationError):
            broadcast_to_project("p", EVENT, strict=True)
    else:
        assert broadcast_to_project("p", EVENT) is None
    assert not any(slept)
    assert len(caplog.records) == 1
    assert "wrong-secret" not in caplog.text


def test_a_state_of_another_type_is_logged_and_not_tried_again(
    server: RedisServer, project: str, caplog: pytest.LogCaptureFixture
) -> None:
    server.command("SET", jobs_key(f"project:{project}"), "a string")
    assert broadcast_to_project(project, EVENT) is None
    assert "WRONGTYPE" in caplog.messages[0]
    assert len(caplog.messages) == 1


def test_after_a_loss_the_next_event_goes_through(
    own_redis: RedisServer, hurried: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", own_redis.url)
    own_redis.kill()
    assert broadcast_to_project("p", EVENT) is None
    own_redis.start()
    assert broadcast_to_project("p", EVENT) is not None


def test_another_url_is_another_redis_at_once(
    server: RedisServer, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch, project: str
) -> None:
    assert broadcast_to_project(project, EVENT)
    monkeypatch.setenv("REDIS_URL", own_redis.url)
    assert broadcast_to_project(project, EVENT | {"progress": 50})
    assert last(server, project)["progress"] == 40
    assert last(own_redis, project)["progress"] == 50


def test_a_redis_that_became_a_replica_is_left_and_connected_to_anew(
    own_redis: RedisServer, patient: None, monkeypatch: pytest.MonkeyPatch, project: str
) -> None:
    monkeypatch.setenv("REDIS_URL", own_redis.url)
    assert broadcast_to_project(project, EVENT)
    connections = own_redis.command("INFO", "stats")["total_connections_received"]
    own_redis.command("REPLICAOF", "127.0.0.1", free_port())
    promotion = threading.Timer(0.3, own_redis.command, ("REPLICAOF", "NO", "ONE"))
    promotion.start()
    try:
        seq = broadcast_to_project(project, EVENT, strict=True)
    finally:
        promotion.join()
    assert last(own_redis, project)["seq"] == seq
    assert own_redis.command("INFO", "stats")["total_connections_received"] > connections


def test_a_redis_that_is_busy_with_a_script_is_waited_for(
    own_redis: RedisServer, patient: None, monkeypatch: pytest.MonkeyPatch, project: str
) -> None:
    monkeypatch.setenv("REDIS_URL", own_redis.url)
    own_redis.command("CONFIG", "SET", "busy-reply-threshold", 10)
    with redis.Redis(port=own_redis.port) as client, ThreadPoolExecutor(2) as threads:
        script = threads.submit(client.eval, "while true do end", 0)
        time.sleep(0.2)
        kill = threading.Timer(0.4, own_redis.command, ("SCRIPT", "KILL"))
        kill.start()
        assert broadcast_to_project(project, EVENT, strict=True) is not None
        assert isinstance(script.exception(PATIENCE), redis.ResponseError)
        kill.join()


def test_an_answer_that_was_not_awaited_is_nobody_elses(
    own_redis: RedisServer, patient: None, monkeypatch: pytest.MonkeyPatch, project: str
) -> None:
    """Ctrl-C, or a worker's time limit, between a question and its answer, which comes after the next question."""
    monkeypatch.setenv("REDIS_URL", own_redis.url)
    assert broadcast_to_project(project, EVENT)

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    own_redis.freeze()
    with monkeypatch.context() as patch:
        patch.setattr("redis.connection.Connection.read_response", interrupted)
        with pytest.raises(KeyboardInterrupt):
            broadcast_to_project(project, EVENT | {"jobId": "unheard"})
    thawing = threading.Timer(0.2, own_redis.thaw)
    thawing.start()
    try:
        seq = broadcast_to_project(project, EVENT, strict=True)
    finally:
        thawing.join()
    assert last(own_redis, project)["seq"] == seq


# Threads and forks


def test_threads_share_a_pool_and_every_answer_is_its_askers_own(server: RedisServer, project: str) -> None:
    def publish(number: int) -> tuple[int, int | None]:
        return number, broadcast_to_project(project, EVENT | {"jobId": f"job_{number}"})

    with ThreadPoolExecutor(8) as threads:
        answers = dict(threads.map(publish, range(400)))
    assert len(set(answers.values())) == 400
    state = remembered(server, project)
    assert all(json.loads(state[f"job_{number}\n".encode()])["seq"] == seq for number, seq in answers.items())


FORK = """
import os, sys
from publisher import broadcast_to_project
def publish(who):
    for number in range(30):
        event = {"type": "progress", "jobId": who, "jobType": "audio", "progress": number}
        assert isinstance(broadcast_to_project(sys.argv[1], event, strict=True), int)
publish("before")
children = []
for number in range(3):
    child = os.fork()
    if not child:
        publish(f"child {number}")
        sys.exit(0)  # in order, so that what is closed there is seen
    children.append(child)
publish("parent")
for child in children:
    assert os.waitpid(child, 0)[1] == 0
publish("after")
"""


def test_forked_workers_and_their_parent_publish_side_by_side(server: RedisServer, project: str) -> None:
    finished = run([sys.executable, "-c", FORK, project], environment(server.url), within=30)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert set(remembered(server, project)) == {
        b"seq", b"from", b"format", b"before\n", b"parent\n", b"after\n", b"child 0\n", b"child 1\n", b"child 2\n",
    }  # fmt: skip


def test_a_forked_worker_closes_the_sockets_that_are_its_parents(server: RedisServer, project: str) -> None:
    """redis-py only drops them: a worker that was forked and publishes has a ResourceWarning for each."""
    finished = run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", FORK, project], environment(server.url), within=30
    )
    assert finished.stderr == ""


def test_a_script_that_publishes_once_and_ends_leaves_no_warning(server: RedisServer, project: str) -> None:
    code = f"from publisher import broadcast_to_project as b; print(b({project!r}, {EVENT!r}))"
    finished = run([sys.executable, "-W", "error", "-X", "dev", "-c", code], environment(server.url), within=30)
    assert finished.stderr == ""
    assert int(finished.stdout) == last(server, project)["seq"]
