"""Redis away: how long a publication is tried, when the circuit opens, what is said. No Redis."""

import contextlib
import logging
import os
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import exceptions
from redis.exceptions import RedisError

from publisher.publication import Publication
from publisher.settings import PublisherSettings
from publisher.transport import async_driver, conversation, sync_driver
from publisher.transport.circuit import (
    GIVE_UP_SECONDS,
    GRACE_SECONDS,
    LOG_PAUSE_SECONDS,
    RETRY_DELAYS_SECONDS,
    Circuit,
    NotAsked,
    Patience,
    Unremembered,
    Unsent,
    circuit_of,
    is_worth_retrying,
)
from publisher.transport.options import SOCKET_TIMEOUT_SECONDS
from publisher.transport.sending import Sending
from tests.contract.deadlines import PATIENCE, wait_for

AWAY = exceptions.ConnectionError("refused")
SETTINGS = PublisherSettings("redis://:secret@host:1/0")


# What is retried


@pytest.mark.parametrize(
    "error",
    [
        exceptions.ConnectionError("x"),
        exceptions.TimeoutError("x"),
        exceptions.BusyLoadingError("x"),
        exceptions.ReadOnlyError("x"),
        exceptions.MasterDownError("x"),
    ],
)
def test_a_redis_that_is_away_or_fails_over_is_tried_again(error: RedisError) -> None:
    assert is_worth_retrying(error)
    assert Patience(Circuit()).delay_after(error) is not None


@pytest.mark.parametrize(
    "error",
    [
        exceptions.AuthenticationError("x"),
        exceptions.AuthenticationWrongNumberOfArgsError("x"),
        exceptions.AuthorizationError("x"),
        exceptions.NoPermissionError("x"),
        exceptions.ResponseError("WRONGTYPE"),
        exceptions.OutOfMemoryError("x"),
        exceptions.DataError("x"),
    ],
)
def test_a_redis_that_says_no_is_not_asked_again(error: RedisError) -> None:
    assert not is_worth_retrying(error)
    assert Patience(Circuit()).delay_after(error) is None


# How long


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("publisher.transport.circuit.time.monotonic", clock.monotonic)
    return clock


def play(clock: Clock, try_seconds: float) -> list[float]:
    """When each try began, for tries that fail after so long; the end comes last."""
    patience, began, tries = Patience(Circuit()), clock.now, [0.0]
    clock.now += try_seconds
    while (delay := patience.delay_after(AWAY)) is not None:
        clock.now += delay
        tries.append(clock.now - began)
        clock.now += try_seconds
    return [*tries, clock.now - began]


@pytest.mark.parametrize("try_seconds", [0.0, 0.001, 0.3, 1.0, 2 * SOCKET_TIMEOUT_SECONDS])
@pytest.mark.parametrize("jitter", [0.5, 0.75, 1.0])
def test_however_its_tries_fail_it_ends_within_five_seconds(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, try_seconds: float, jitter: float
) -> None:
    monkeypatch.setattr("publisher.transport.circuit.random.uniform", lambda low, high: jitter)
    *tries, end = play(clock, try_seconds)
    assert end <= GIVE_UP_SECONDS
    assert len(tries) >= 2


@pytest.mark.parametrize(("try_seconds", "away_seconds"), [(0.0, 4.0), (1.0, 3.0)])
@pytest.mark.parametrize("jitter", [0.5, 1.0])
def test_a_redis_that_is_back_within_three_seconds_gets_the_event(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, try_seconds: float, away_seconds: float, jitter: float
) -> None:
    """Refused at once, as by a server that restarts, or after a second, as by a frozen one."""
    monkeypatch.setattr("publisher.transport.circuit.random.uniform", lambda low, high: high * jitter)
    *tries, _ = play(clock, try_seconds)
    assert max(tries) >= away_seconds


def test_the_pauses_grow_and_are_spread() -> None:
    assert list(RETRY_DELAYS_SECONDS) == sorted(RETRY_DELAYS_SECONDS)
    random.seed(1)
    first = {Patience(Circuit()).delay_after(AWAY) for _ in range(50)}
    assert len(first) > 10
    assert all(delay is not None and RETRY_DELAYS_SECONDS[0] / 2 <= delay <= RETRY_DELAYS_SECONDS[0] for delay in first)


def test_after_the_last_pause_of_the_list_it_stays_the_same(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("publisher.transport.circuit.random.uniform", lambda low, high: high)
    patience = Patience(Circuit())
    delays = [patience.delay_after(AWAY) for _ in range(8)]
    assert delays == [*RETRY_DELAYS_SECONDS, 0.8, 0.8, 0.8]


# The circuit


class Server:
    """A probe that raises while this is down, and counts how often it was asked."""

    def __init__(self) -> None:
        self.error: Exception | None = AWAY
        self.asked = 0

    def __call__(self) -> None:
        self.asked += 1
        if self.error is not None:
            raise self.error


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.error = None  # the thread that asks is to end


@pytest.fixture
def circuit(server: Server) -> Circuit:
    """One that was opened a while ago."""
    circuit = Circuit()
    circuit.open(server)
    with contextlib.suppress(NotAsked):
        sync_driver.run(conversation.wait_for(circuit))
    return circuit


def test_while_it_is_open_nobody_asks_but_the_probe_and_nobody_is_kept_waiting(
    circuit: Circuit, server: Server
) -> None:
    before = time.monotonic()
    for _ in range(1_000):
        with pytest.raises(NotAsked):
            sync_driver.run(conversation.wait_for(circuit))
    assert time.monotonic() - before < 100 * GRACE_SECONDS, "a tenth of them waited"
    wait_for(lambda: server.asked > 2, "the probe to ask again")


async def test_so_it_is_in_async_code(circuit: Circuit) -> None:
    before = time.monotonic()
    for _ in range(1_000):
        with pytest.raises(NotAsked):
            await async_driver.run(conversation.wait_for(circuit))
    assert time.monotonic() - before < 100 * GRACE_SECONDS, "a tenth of them waited"


@pytest.mark.parametrize("error", [None, exceptions.NoPermissionError("x")], ids=["answers", "says no"])
def test_it_closes_when_redis_answers(circuit: Circuit, server: Server, error: Exception | None) -> None:
    server.error = error
    wait_for(lambda: not circuit.is_open, "the circuit to close")
    sync_driver.run(conversation.wait_for(circuit))


@pytest.mark.parametrize("error", [AWAY, exceptions.ReadOnlyError("x"), exceptions.BusyLoadingError("x"), OSError("x")])
def test_it_stays_open_while_the_probe_fails(server: Server, error: Exception) -> None:
    server.error = error
    circuit = Circuit()
    circuit.open(server)
    wait_for(lambda: server.asked > 1, "the probe to ask again")
    assert circuit.is_open


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe asks each tenth of a second, if the machine lets it."""
    monkeypatch.setattr("publisher.transport.circuit.GRACE_SECONDS", PATIENCE)


def test_the_first_event_after_the_outage_waits_for_the_probe(server: Server, patient: None) -> None:
    circuit = Circuit()
    circuit.open(server)
    server.error = None
    sync_driver.run(conversation.wait_for(circuit))


async def test_so_does_the_first_one_of_async_code(server: Server, patient: None) -> None:
    circuit = Circuit()
    circuit.open(server)
    server.error = None
    await async_driver.run(conversation.wait_for(circuit))


def test_of_several_threads_that_give_up_one_asks(server: Server) -> None:
    circuit = Circuit()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: circuit.open(server), range(8)))
    assert [thread.name for thread in threading.enumerate()].count("publisher-probe") == 1


def test_where_no_thread_is_to_be_had_an_event_asks_after_a_while(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each that asks may take 5 seconds, and a job may have a thousand events."""

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    circuit = Circuit()
    circuit.open(server)
    assert circuit.is_open
    circuit._open_until = time.monotonic()
    assert not circuit.is_open
    sync_driver.run(conversation.wait_for(circuit))


def test_who_is_trying_when_another_gives_up_gives_up_too(circuit: Circuit) -> None:
    assert Patience(circuit).delay_after(AWAY) is None


def test_a_forked_child_finds_out_for_itself(server: Server) -> None:
    """The thread that asks is not there any more."""
    circuit_of("redis://a").open(server)
    wait_for(lambda: server.asked > 0, "the probe to ask")
    time.sleep(0.02)  # then it rests: coverage's tracer holds a lock in it at times, which the child would wait for
    if (pid := os.fork()) == 0:
        os._exit(1 if circuit_of("redis://a").is_open else 0)
    assert os.waitpid(pid, 0)[1] == 0
    assert circuit_of("redis://a").is_open


def test_each_url_has_one_circuit() -> None:
    assert circuit_of("redis://a") is circuit_of("redis://a")
    assert circuit_of("redis://a") is not circuit_of("redis://b")


# What is said


def publication(job: str) -> Publication:
    return Publication.of("p", {"type": "progress", "jobId": job, "jobType": "audio", "progress": 40}, "")


def test_an_event_that_was_given_up_is_counted_and_logged_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    unsent = Unsent()
    unsent.report(publication("j"), 1, SETTINGS, AWAY, 3.14)
    assert unsent.count == 1
    assert [(record.name, record.levelno) for record in caplog.records] == [("publisher", logging.ERROR)]
    line = caplog.messages[0]
    assert "\n" not in line
    assert all(word in line for word in ("3.1 s", "'j'", "'p'", "host:1", "refused"))
    assert "more" not in line
    assert "secret" not in line


def test_it_is_said_once_a_minute_and_nothing_is_left_out(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    unsent = Unsent()
    for _ in range(10):
        unsent.report(publication("j"), 1, SETTINGS, AWAY, 5)
        clock.now += LOG_PAUSE_SECONDS / 10
    assert len(caplog.messages) == 1
    unsent.report(publication("k"), 3, SETTINGS, AWAY, 5)
    assert len(caplog.messages) == 2
    assert "'k' in project 'p' and 11 more events" in caplog.messages[1]
    assert unsent.count == 13
    clock.now += 1
    unsent.report(publication("j"), 2, SETTINGS, AWAY, 5)
    unsent.tell_the_rest()
    unsent.tell_the_rest()
    assert [("2 more events" in message) for message in caplog.messages] == [False, False, True]


def test_what_could_not_be_sent_is_said_with_what_to_do(caplog: pytest.LogCaptureFixture) -> None:
    publication = Publication.of("p", {"type": "progress", "jobId": "j", "jobType": "audio", "progress": 1}, "")
    error = exceptions.ReadOnlyError("You can't write against a read only replica.")
    Unsent().report(publication, 1, SETTINGS, error, 5.0)
    assert "point REDIS_URL to the primary" in caplog.text


# What it says of events that were sent and cannot be remembered


def test_events_that_cannot_be_remembered_are_said_once_a_minute_with_what_to_do(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_000.0
    monkeypatch.setattr("publisher.transport.circuit.time.monotonic", lambda: now)
    publication = Publication.of("p", {"type": "progress", "jobId": "j", "jobType": "audio", "progress": 1}, "")
    reports = Unremembered()
    for _ in range(1_000):
        reports.report(publication, SETTINGS, "OOM command not allowed when used memory > 'maxmemory'.")
    now += LOG_PAUSE_SECONDS
    reports.report(publication, SETTINGS, "-OOM command not allowed when used memory > 'maxmemory'.")
    first, second = [record.getMessage() for record in caplog.records]
    assert "not remembered" in first
    assert "Raise maxmemory" in first
    assert "1001 so far" in second
    assert "secret" not in caplog.text


def test_an_event_that_cannot_be_remembered_has_its_seq_all_the_same() -> None:
    events = [
        Publication.of("p", {"type": "job_failed", "jobId": j, "jobType": "audio", "error": ""}, "") for j in "ab"
    ]
    sending = Sending(SETTINGS, events, strict=True)
    sending.take([[7, -1, b"OOM command not allowed"], 8])
    assert sending.seqs == [7, 8]
