"""One event on its way to Redis: what is sent. No Redis, no waiting."""

import hashlib
import json
from typing import Any

import pytest
from redis.connection import Connection

from publisher.field_errors import EventError
from publisher.publication import SCRIPT, SCRIPT_SHA, Publication, where_remembered

PROGRESS = {"type": "progress", "jobId": "j", "jobType": "audio", "progress": 40}


# What is sent


def test_a_progress_is_put_into_the_scripts_arguments() -> None:
    publication = Publication.of("p", PROGRESS | {"attempt": 2, "sentenceId": "s"}, "")
    assert publication.script_arguments() == (
        1, "{project:p}:jobs", "project:p", publication.payload, "j\ns", 2, 40, "1000:10000:8388608", 3_600, "PUBLISH",
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
    packed = connection().pack_command("EVALSHA", SCRIPT_SHA, *publication.script_arguments())
    assert publication.evalsha() == b"".join(packed)


def test_an_end_has_no_progress_and_where_there_is_no_attempt_it_is_empty() -> None:
    publication = Publication.of("p", {"type": "job_complete", "jobId": "j", "jobType": "audio"}, "")
    assert (publication.attempt, publication.progress) == ("", "")


def test_the_namespace_stands_in_the_channel_and_in_the_key() -> None:
    publication = Publication.of("p", PROGRESS, "staging")
    assert (publication.redis_channel, publication.key) == ("staging:project:p", "{staging:project:p}:jobs")


def test_a_seq_of_the_callers_is_not_sent() -> None:
    """The script gives a new one; two in one object would be two answers to one question."""
    assert b"seq" not in Publication.of("p", PROGRESS | {"seq": 7}, "").payload


@pytest.mark.parametrize(
    ("project", "event"), [("", PROGRESS), ("a b", PROGRESS), (None, PROGRESS), ("p", {}), ("p", {"type": "x"})]
)
def test_a_bad_project_id_or_event_is_a_value_error_before_anything_is_sent(
    project: str, event: dict[str, object]
) -> None:
    with pytest.raises(EventError):
        Publication.of(project, event, "")


def test_the_summary_names_the_job_and_none_of_its_texts() -> None:
    summary = Publication.of("p", PROGRESS | {"message": "a secret"}, "").summary
    assert all(word in summary for word in ("progress", "'j'", "'p'"))
    assert "secret" not in summary


def test_the_hash_is_that_of_the_script() -> None:
    assert hashlib.sha1(SCRIPT.encode()).hexdigest() == SCRIPT_SHA


def test_where_a_job_is_remembered_is_where_the_script_puts_it() -> None:
    publication = Publication.of("p", PROGRESS | {"sentenceId": "s"}, "staging")
    assert where_remembered("p", "j", "s", "staging") == (publication.key, publication.field)
    with pytest.raises(EventError):
        where_remembered("no project", "j", None, "")


# The next attempt


@pytest.mark.parametrize("least", [None, 0, 4])
def test_the_next_attempt_is_asked_for_with_the_least_number_it_may_get(least: int | None) -> None:
    publication = Publication.of("p", PROGRESS | {"attempt": "next"}, "", least_attempt=least)
    assert publication.attempt == f"+{least or 0}"
    assert publication.payload.count(b',"attempt":"next",') == 1
    assert publication.payload_without_replay == publication.payload.replace(b',"attempt":"next"', b"")


def test_texts_that_look_like_the_field_are_left_alone() -> None:
    text = ',"attempt":0,'
    event = PROGRESS | {"attempt": "next", "jobId": text, "sentenceId": text, "message": text, "data": {"attempt": 0}}
    read = json.loads(Publication.of("p", event, "").payload)
    assert read == event | {"sentenceId": text}


@pytest.mark.parametrize("kind", ["job_complete", "job_failed"])
def test_an_end_begins_no_attempt(kind: str) -> None:
    event = {"type": kind, "jobId": "j", "jobType": "audio", "error": "e", "attempt": "next"}
    with pytest.raises(EventError, match=r"attempt: must be .* begins with a progress"):
        Publication.of("p", event, "")


def test_a_payload_of_a_given_attempt_is_the_same_without_the_script() -> None:
    for attempt in (None, 3):
        publication = Publication.of("p", PROGRESS | {"attempt": attempt}, "")
        assert publication.payload_without_replay == publication.payload


@pytest.mark.parametrize("progress", [0, 0.0, -0.0])
def test_every_zero_is_the_same_to_the_script(progress: float) -> None:
    assert Publication.of("p", PROGRESS | {"progress": progress}, "").progress == 0
    assert str(Publication.of("p", PROGRESS | {"progress": progress}, "").progress) == "0"
