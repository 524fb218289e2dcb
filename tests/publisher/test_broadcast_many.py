"""Many events in one pipeline, and the last event of a job, from ordinary and from `async` code."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
import redis

import publisher
from publisher import Progress, aio
from publisher.field_errors import EventError
from publisher.publication import BATCH, Publication, Sent
from publisher.settings import PublisherSettings
from publisher.transport import circuit as outage
from publisher.transport.circuit import unsent
from publisher.transport.sending import Sending
from tests.contract.processes import RedisServer, free_port
from tests.listener import Listener


def awaited(function: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
    async def call(arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        return await function(*arguments, **named)

    return lambda *arguments, **named: asyncio.run(call(arguments, named))


@pytest.fixture(params=["sync", "aio"])
def broadcast_many(request: pytest.FixtureRequest) -> Callable[..., list[int | None]]:
    return publisher.broadcast_many if request.param == "sync" else awaited(aio.broadcast_many)


@pytest.fixture(params=["sync", "aio"])
def last_event(request: pytest.FixtureRequest) -> Callable[..., publisher.Event | None]:
    return publisher.last_event if request.param == "sync" else awaited(aio.last_event)


@pytest.fixture
def server(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> RedisServer:
    monkeypatch.setenv("REDIS_URL", redis_server.url)
    return redis_server


def progress(job: str, percent: float = 1, **fields: object) -> dict[str, Any]:
    return {"type": "progress", "jobId": job, "jobType": "audio", "progress": percent, **fields}


def test_each_event_has_its_seq_in_order(server: RedisServer, project: str, broadcast_many: Any) -> None:
    events = [(project, progress(f"job_{number}")) for number in range(2 * BATCH + 3)]
    seqs = broadcast_many(events)
    assert seqs == sorted(set(seqs))
    assert len(seqs) == len(events)


def test_events_go_to_the_projects_they_name(server: RedisServer, project: str, broadcast_many: Any) -> None:
    other = f"{project}.other"
    event = Progress(job_id="b", job_type="audio", progress=2)
    first, second = broadcast_many([(project, progress("a")), (other, event)])
    assert publisher.last_event(project, "a") == Progress(job_id="a", job_type="audio", progress=1, seq=first)
    assert publisher.last_event(other, "b") == event.model_copy(update={"seq": second})
    assert publisher.last_event(other, "a") is None


def test_nothing_is_nothing(broadcast_many: Any) -> None:
    assert broadcast_many([]) == []


def test_what_the_attempt_rule_refuses_is_none_and_the_others_go_on(
    server: RedisServer, project: str, broadcast_many: Any
) -> None:
    percents = (50, 40, 60)
    seqs = broadcast_many([(project, progress("a", percent, attempt=0)) for percent in percents])
    assert [seq is None for seq in seqs] == [False, True, False]


def test_all_are_checked_before_any_is_sent(server: RedisServer, project: str, broadcast_many: Any) -> None:
    with pytest.raises(EventError, match="progress"):
        broadcast_many([(project, progress("a")), (project, progress("b", 101))])
    assert server.keys(project) == []


def test_the_script_is_loaded_where_it_is_missing(server: RedisServer, project: str, broadcast_many: Any) -> None:
    server.command("SCRIPT", "FLUSH")
    seqs = broadcast_many([(project, progress(f"job_{number}")) for number in range(5)])
    assert seqs == sorted(set(seqs))


def test_without_replay_it_is_plain_publishes(
    server: RedisServer, project: str, broadcast_many: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROGRESS_REPLAY", "off")
    assert broadcast_many([(project, progress("a")), (project, progress("b"))]) == [None, None]
    assert server.keys(project) == []


def test_one_project_that_redis_refuses_costs_the_others_nothing(
    server: RedisServer, project: str, broadcast_many: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server.command("SET", f"{{project:{project}}}:jobs", "no hash")
    events = [(f"{project}.a", progress("a")), (project, progress("b")), (f"{project}.c", progress("c"))]
    seqs = broadcast_many(events)
    assert [seq is None for seq in seqs] == [False, True, False]
    assert [message.count("WRONGTYPE") for message in caplog.messages] == [1]
    assert "'b'" in caplog.text
    with pytest.raises(redis.ResponseError):
        broadcast_many(events, strict=True)


def test_a_batch_that_is_interrupted_by_a_failover_goes_on_after_it(
    own_redis: RedisServer, project: str, broadcast_many: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that was made a replica answers READONLY to each event, until it is none any more."""
    monkeypatch.setenv("REDIS_URL", own_redis.url)
    own_redis.command("REPLICAOF", "127.0.0.1", free_port())
    again = threading.Timer(0.5, own_redis.command, ("REPLICAOF", "NO", "ONE"))
    again.start()
    seqs = broadcast_many([(project, progress(f"job_{number}")) for number in range(10)])
    again.join()
    assert seqs == sorted(set(seqs))


def test_a_batch_is_given_its_time_anew_after_each_part(
    own_redis: RedisServer, project: str, broadcast_many: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each part takes 2 of the 5 seconds by this clock. A failover before the last part is waited for all the same."""
    monkeypatch.setenv("REDIS_URL", own_redis.url)
    monkeypatch.setattr("publisher.transport.sending.BATCH", 2)
    take, delay_after, clock, seconds, errors = Sending.take, Sending.delay_after, time.monotonic, [0.0], []

    def take_in_two_seconds(sending: Sending, answers: Any) -> None:
        take(sending, answers)
        seconds[0] += 2
        if seconds[0] == 8:
            own_redis.command("REPLICAOF", "127.0.0.1", free_port())

    def delay_while_it_is_promoted(sending: Sending, error: Exception) -> float | None:
        delay = delay_after(sending, error)
        own_redis.command("REPLICAOF", "NO", "ONE")
        errors.append(error)
        return delay

    monkeypatch.setattr(Sending, "take", take_in_two_seconds)
    monkeypatch.setattr(Sending, "delay_after", delay_while_it_is_promoted)
    monkeypatch.setattr(outage, "time", SimpleNamespace(monotonic=lambda: clock() + seconds[0]))
    assert None not in broadcast_many([(project, progress(f"job_{number}")) for number in range(10)])
    assert [type(error) for error in errors] == [redis.ReadOnlyError]


def test_a_redis_that_is_away_is_given_up_for_all_of_them_at_once(
    broadcast_many: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{free_port()}")
    monkeypatch.setattr(outage, "GIVE_UP_SECONDS", 0.1)
    before = unsent.count
    assert broadcast_many([("p", progress("a"))] * 3) == [None] * 3
    assert unsent.count == before + 3
    with pytest.raises(redis.ConnectionError):
        broadcast_many([("p", progress("a"))] * 3, strict=True)


def test_the_last_event_is_that_of_the_job_or_of_its_sentence(
    server: RedisServer, project: str, last_event: Any
) -> None:
    assert last_event(project, "a") is None
    events = [progress("a", 1, attempt=3), progress("a", 2, sentenceId="s", attempt=3)]
    publisher.broadcast_many([(project, event) for event in events])
    assert (last_event(project, "a").progress, last_event(project, "a", "s").attempt) == (1, 3)


def test_what_somebody_else_wrote_there_is_no_event(server: RedisServer, project: str, last_event: Any) -> None:
    publisher.broadcast_to_project(project, progress("a"))
    server.command("HSET", f"{{project:{project}}}:jobs", "a\n", "{nonsense")
    assert last_event(project, "a") is None


def test_the_last_event_cannot_be_asked_for_where_redis_is_away(
    last_event: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{free_port()}")
    with pytest.raises(redis.ConnectionError):
        last_event("p", "a")
    with pytest.raises(ValueError, match=r"^projectId: must be 1 to 128 characters of A-Z"):
        last_event("no project", "a")


# Attempts


@pytest.fixture(params=["sync", "aio"])
def broadcast(request: pytest.FixtureRequest) -> Callable[..., int | None]:
    return publisher.broadcast_to_project if request.param == "sync" else awaited(aio.broadcast_to_project)


def test_redis_numbers_the_next_attempt_and_the_last_event_tells_the_number(
    server: RedisServer, project: str, broadcast: Any, last_event: Any
) -> None:
    server.command("SCRIPT", "FLUSH")  # the first is sent by EVAL
    for number in range(3):
        seq = broadcast(project, progress("j", 10, attempt="next"))
        known = last_event(project, "j")
        assert (known.seq, known.attempt) == (seq, number)


def test_many_events_may_begin_attempts(
    server: RedisServer, project: str, broadcast_many: Any, last_event: Any
) -> None:
    begins = [(project, progress(job, percent, attempt="next")) for percent in (3, 2) for job in ("a", "b", "a")]
    seqs = broadcast_many([*begins, (project, progress("c", 5))])
    assert seqs == sorted(set(seqs))
    assert [(last_event(project, job).attempt, last_event(project, job).progress) for job in "ab"] == [(3, 2), (1, 2)]


def test_with_replay_off_the_next_attempt_has_no_number(
    server: RedisServer, project: str, broadcast: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROGRESS_REPLAY", "off")
    listener = Listener(server, project)
    assert broadcast(project, progress("j", 10, attempt="next")) is None
    assert listener.until(10) == [progress("j", 10)]
    listener.close()


def test_a_worker_whose_job_was_begun_again_is_warned_once_a_minute(
    server: RedisServer,
    project: str,
    broadcast: Any,
    broadcast_many: Any,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for percent in (0, 1, 2, 3):
        broadcast(project, progress("job_7", percent, attempt="next"))
    late = progress("job_7", 50, attempt=1)
    with caplog.at_level("WARNING", "publisher"):
        assert broadcast(project, late) is None
        assert broadcast_many([(project, late), (project, progress("job_7", 60, attempt=3)), (project, late)])[::2] == [
            None,
            None,
        ]
    said = (
        f"job 'job_7' of project '{project}' was begun again elsewhere, as attempt 3; this attempt is no longer shown"
    )
    assert [record.getMessage() for record in caplog.records] == [said]
    monkeypatch.setattr("publisher.replaced.LOG_PAUSE_SECONDS", 0.0)
    broadcast(project, late)
    assert [record.getMessage() for record in caplog.records] == [said, said]


def test_an_event_that_is_refused_for_another_reason_warns_nobody(
    server: RedisServer, project: str, broadcast: Any, caplog: pytest.LogCaptureFixture
) -> None:
    broadcast(project, progress("j", 40, attempt=1))
    assert broadcast(project, progress("j", 30, attempt=1)) is None
    assert caplog.records == []


def test_an_event_behind_a_begin_that_was_not_taken_is_sent_again() -> None:
    """The attempt that begins late would drop it, also where it is of a sentence."""
    settings = PublisherSettings("redis://127.0.0.1:1")
    events = [progress("j", attempt="next"), progress("j", sentenceId="s"), progress("other")]
    publications = Publication.of_many([("p", event) for event in events], "")
    sending = Sending(settings, publications)
    with pytest.raises(redis.exceptions.ConnectionError):
        sending.take([redis.exceptions.BusyLoadingError("LOADING"), 7, 8])
    assert list(sending.batch) == publications[:2]
    sending.take([[9, 4], 10])
    assert sending.sent == [Sent(9, attempt=4), Sent(10), Sent(8)]


@pytest.mark.parametrize("answer", [[], [1], [b"x", 1], [1, b"x"], b"OK", [[], 1]])
def test_an_answer_that_makes_no_sense_is_an_event_that_was_not_sent(
    answer: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unsent, "_logged_at", -1e9)
    sending = Sending(PublisherSettings("redis://127.0.0.1:1"), Publication.of_many([("p", progress("j"))], ""))
    sending.take([answer])
    assert sending.sent == [Sent(None)]
    assert "cannot be read" in caplog.text


def test_what_the_script_returns_is_read_as_old_clients_give_it() -> None:
    """Without RESP3 everything is an integer or bytes."""
    assert Sent.of(5) == Sent(5)
    assert Sent.of(None) == Sent(None)
    assert Sent.of([5, 2]) == Sent(5, attempt=2)
    assert Sent.of([0, 3]) == Sent(None, replaced_by=3)
    assert Sent.of([5, -1, b"OOM"]) == Sent(5, unremembered="OOM")
    assert Sent.of([5, 2, b"OOM"]) == Sent(5, attempt=2, unremembered="OOM")
