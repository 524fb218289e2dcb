"""One event on its way: what is sent, how long it is tried, what is said when it is given up. No Redis, no waiting."""

import hashlib
import logging
import random
from typing import Any

import pytest
from pydantic import ValidationError
from redis import exceptions
from redis.connection import Connection
from redis.exceptions import RedisError

from publisher.publication import (
    CLIENT_OPTIONS,
    LAST_TRY_SECONDS,
    RETRY_DELAYS_SECONDS,
    SCRIPT,
    SCRIPT_SHA,
    SOCKET_TIMEOUT_SECONDS,
    Patience,
    Publication,
    Unsent,
    is_worth_retrying,
)
from publisher.settings import PublisherSettings

PROGRESS = {"type": "progress", "jobId": "j", "jobType": "audio", "progress": 40}
AWAY = exceptions.ConnectionError("refused")


# What is sent


def test_a_progress_is_put_into_the_scripts_arguments() -> None:
    publication = Publication.of("p", PROGRESS | {"attempt": 2, "sentenceId": "s"}, "")
    assert publication.script_arguments == (
        1, "{project:p}:jobs", "project:p", publication.payload, "j\ns", 2, 40, 1_000, 125, 3_600,
    )  # fmt: skip


@pytest.mark.parametrize(
    "event",
    [
        PROGRESS,
        PROGRESS | {"jobId": "työ ✓", "sentenceId": "$7", "progress": 0.1 + 0.2, "attempt": 2**53 - 1, "message": "é"},
        PROGRESS | {"progress": 1e-320},
        {"type": "job_complete", "jobId": "j", "jobType": "audio"},
    ],
)
def test_evalsha_is_what_redis_py_would_send(event: dict[str, object]) -> None:
    publication = Publication.of("p", event, "staging")
    connection: Any = Connection  # redis-py's is not typed
    packed = connection().pack_command("EVALSHA", SCRIPT_SHA, *publication.script_arguments)
    assert publication.evalsha == b"".join(packed)


def test_an_end_has_no_progress_and_where_there_is_no_attempt_it_is_empty() -> None:
    publication = Publication.of("p", {"type": "job_complete", "jobId": "j", "jobType": "audio"}, "")
    assert (publication.attempt, publication.progress) == ("", "")


def test_the_namespace_stands_in_the_channel_and_in_the_key() -> None:
    publication = Publication.of("p", PROGRESS, "staging")
    assert (publication.channel, publication.key) == ("staging:project:p", "{staging:project:p}:jobs")


def test_a_seq_of_the_callers_is_not_sent() -> None:
    """The script gives a new one; two in one object would be two answers to one question."""
    assert b"seq" not in Publication.of("p", PROGRESS | {"seq": 7}, "").payload


@pytest.mark.parametrize(
    ("project", "event"), [("", PROGRESS), ("a b", PROGRESS), (None, PROGRESS), ("p", {}), ("p", {"type": "x"})]
)
def test_a_bad_project_id_or_event_is_a_value_error_before_anything_is_sent(
    project: str, event: dict[str, object]
) -> None:
    with pytest.raises(ValidationError) as caught:
        Publication.of(project, event, "")
    assert isinstance(caught.value, ValueError)


def test_the_summary_names_the_job_and_none_of_its_texts() -> None:
    summary = Publication.of("p", PROGRESS | {"message": "a secret"}, "").summary
    assert all(word in summary for word in ("progress", "'j'", "'p'"))
    assert "secret" not in summary


def test_the_hash_is_that_of_the_script() -> None:
    assert hashlib.sha1(SCRIPT.encode()).hexdigest() == SCRIPT_SHA


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
    assert Patience().delay_after(error) is not None


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
    assert Patience().delay_after(error) is None


# How long


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("publisher.publication.time.monotonic", clock.monotonic)
    return clock


def play(clock: Clock, try_seconds: float) -> list[float]:
    """When each try began, for tries that fail after so long; the end comes last."""
    patience, began, tries = Patience(), clock.now, [0.0]
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
    monkeypatch.setattr("publisher.publication.random.uniform", lambda low, high: jitter)
    *tries, end = play(clock, try_seconds)
    assert max(tries) <= LAST_TRY_SECONDS
    assert end <= 5
    assert len(tries) >= 2


def test_a_redis_that_is_back_within_two_seconds_gets_the_event(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("publisher.publication.random.uniform", lambda low, high: high)
    *tries, _ = play(clock, 0.0)
    assert max(tries) >= 2


def test_the_pauses_grow_and_are_spread() -> None:
    assert list(RETRY_DELAYS_SECONDS) == sorted(RETRY_DELAYS_SECONDS)
    random.seed(1)
    first = {Patience().delay_after(AWAY) for _ in range(50)}
    assert len(first) > 10
    assert all(delay is not None and RETRY_DELAYS_SECONDS[0] / 2 <= delay <= RETRY_DELAYS_SECONDS[0] for delay in first)


def test_after_the_last_pause_of_the_list_it_stays_the_same(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("publisher.publication.random.uniform", lambda low, high: high)
    patience = Patience()
    delays = [patience.delay_after(AWAY) for _ in range(8)]
    assert delays == [*RETRY_DELAYS_SECONDS, 0.8, 0.8, 0.8]


def test_the_clients_do_not_retry_by_themselves() -> None:
    assert CLIENT_OPTIONS["retry"] is None
    assert CLIENT_OPTIONS["socket_timeout"] + CLIENT_OPTIONS["socket_connect_timeout"] + LAST_TRY_SECONDS <= 5


# What is said


def test_an_event_that_was_given_up_is_counted_and_logged_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    unsent = Unsent()
    publication = Publication.of("p", PROGRESS | {"message": "a text"}, "")
    unsent.report(publication, PublisherSettings("redis://:secret@host:1/0"), AWAY, 3.14)
    assert unsent.count == 1
    assert [(record.name, record.levelno) for record in caplog.records] == [("publisher", logging.ERROR)]
    line = caplog.messages[0]
    assert "\n" not in line
    assert all(word in line for word in ("3.1 s", "'j'", "'p'", "host:1", "refused"))
    assert "secret" not in line
    assert "a text" not in line
