"""The sentence that a person reads when a job failed: type and message, in one line, without secrets."""

import asyncio
import errno
import time
from collections.abc import Callable

import pytest
from billiard.exceptions import SoftTimeLimitExceeded, Terminated, TimeLimitExceeded, WorkerLostError
from celery.exceptions import Retry
from dramatiq.errors import Retry as DramatiqRetry
from dramatiq.middleware.time_limit import TimeLimitExceeded as DramatiqTimeLimit
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from rq.timeouts import JobTimeoutException

from publisher.events import RULES, Progress, check_event
from publisher.failure import describe, reason_for
from publisher.field_errors import EventError
from publisher.job import retry_text
from publisher.names import PROJECT_ID_RULE, check_project_id


class SpeechlessError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ValueError("no voice"), "ValueError: no voice"),
        (ValueError("two\n  lines\tof it"), "ValueError: two lines of it"),
        (ValueError(), "ValueError"),
        (ValueError("  "), "ValueError"),
        (KeyError("voice"), "KeyError: 'voice'"),
        (SpeechlessError(), "SpeechlessError"),
        (FileNotFoundError(2, "No such file", "a.mp3"), "FileNotFoundError: [Errno 2] No such file: 'a.mp3'"),
        ("The voice is not there", "The voice is not there"),
    ],
)
def test_an_exception_is_its_type_and_message_and_a_text_is_itself(error: Exception | str, sentence: str) -> None:
    assert describe(error) == sentence


class RepeatsError(Exception):
    def __str__(self) -> str:
        return f"RepeatsError({', '.join(map(repr, self.args))})"


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (RepeatsError(), "RepeatsError"),
        (RepeatsError("no voice"), "RepeatsError: no voice"),
        (RepeatsError(3), "RepeatsError"),
        (ConnectionError("ConnectionError: no answer"), "ConnectionError: no answer"),
        (ValueError("ValueErrors are many"), "ValueError: ValueErrors are many"),
    ],
)
def test_a_type_is_not_said_twice(error: Exception, sentence: str) -> None:
    assert describe(error) == sentence


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (TimeoutError(), "Timed out"),
        (TimeoutError("no answer in 5 s"), "Timed out: no answer in 5 s"),
        (SoftTimeLimitExceeded(), "Timed out"),
        (SoftTimeLimitExceeded(5), "Timed out"),
        (TimeLimitExceeded(5), "Timed out"),
        (JobTimeoutException("Task exceeded maximum timeout value (180 seconds)"), "Timed out: Task exceeded maximum "
         "timeout value (180 seconds)"),
        (DramatiqTimeLimit(), "Timed out"),
    ],
)  # fmt: skip
def test_a_time_out_is_called_so(error: Exception, sentence: str) -> None:
    assert describe(error) == sentence
    assert reason_for(error) == "timed_out"


def test_a_connection_that_timed_out_is_an_error_of_its_own() -> None:
    error = TimeoutError(errno.ETIMEDOUT, "Connection timed out")
    assert describe(error) == f"TimeoutError: [Errno {errno.ETIMEDOUT}] Connection timed out"
    assert reason_for(error) is None


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (Retry(exc=OSError("boom"), when=1), "OSError: boom"),
        (Retry("the service rests", when=1), "the service rests"),
        (Retry(when=1), ""),
        (DramatiqRetry("the service rests", delay=1), "the service rests"),
    ],
)
def test_the_retry_that_a_library_asks_for_is_told_by_its_cause(error: Exception, sentence: str) -> None:
    """Viewers read `Retry: Retry in 1s: OSError('boom'); it will be tried again`."""
    assert describe(error) == sentence


def test_a_retry_that_was_raised_from_an_error_is_told_by_it() -> None:
    error = Retry(when=1)
    error.__cause__ = ValueError("no voice")
    assert describe(error) == "ValueError: no voice"
    assert retry_text("") == "It will be tried again"
    assert retry_text("no voice") == "no voice; it will be tried again"


@pytest.mark.parametrize(
    ("error", "sentence", "reason"),
    [
        (WorkerLostError("Worker exited prematurely: signal 9 (SIGKILL)."), "Stopped: its worker ended", "lost"),
        (SystemExit(0), "Stopped: its worker ended", "lost"),
        (Terminated(15), "Cancelled", "cancelled"),
        (KeyboardInterrupt(), "Interrupted", "cancelled"),
        (ValueError("no voice"), "ValueError: no voice", None),
    ],
)
def test_who_ended_it_is_told(error: BaseException, sentence: str, reason: str | None) -> None:
    assert describe(error) == sentence
    assert reason_for(error) == reason


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"error": {"message": "no quota", "code": 3}}', "no quota"),
        ('[{"msg": "no key"}, {"msg": "no voice"}]', "no key"),
        ('Error 401: {"detail": [{"loc": ["body"], "msg": "no key"}]}', "Error 401: no key"),
        ('Error 401 - {"code": 7}', "Error 401"),
        ('{"code": 7}', ""),
        ('{"message": "two\\nlines"}', "two lines"),
        ("scenes [1, 2]", "scenes [1, 2]"),
        ("the set {1} is empty", "the set {1} is empty"),
        ('{"a": 1} is not allowed', '{"a": 1} is not allowed'),
        ('{"message": "cut o', '{"message": "cut o'),
        ('{"message":' * 9 + '"deep"' + "}" * 9, ""),
    ],
)
def test_json_is_put_into_words(text: str, sentence: str) -> None:
    assert describe(text) == sentence
    assert describe(ValueError(text)) == (f"ValueError: {sentence}" if sentence else "ValueError")


class Voice(BaseModel):
    speed: int | float
    names: list[str]


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            lambda: Progress(job_id="j", job_type="audio", progress=101),
            "ValidationError: progress: Input should be less than or equal to 100",
        ),
        (
            lambda: check_event({"type": "job_complete", "jobId": "j", "jobType": "audio", "result": {"duration": -1}}),
            f"EventError: result.duration: must be {RULES['result.duration']}, got int (out of range)",
        ),
        (
            lambda: check_project_id("a b"),
            f"EventError: projectId: must be {PROJECT_ID_RULE}, got str (of another form)",
        ),
        (
            lambda: Voice(speed=1, names=["a", 7]),  # type: ignore[list-item]
            "ValidationError: names.1: Input should be a valid string",
        ),
    ],
)
def test_what_pydantic_refuses_is_told_without_its_inner_names_and_address(
    call: Callable[[], object], sentence: str
) -> None:
    """Viewers read `progress.constrained-int Input should be ... For further information visit https://...`."""
    with pytest.raises((ValidationError, EventError)) as caught:
        call()
    assert describe(caught.value) == sentence


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (asyncio.CancelledError(), "Cancelled"),
        (KeyboardInterrupt(), "Interrupted"),
        (SystemExit(3), "Stopped: its worker ended"),
        (GeneratorExit(), "Stopped before its end"),
    ],
)
def test_an_end_from_outside_is_told_in_words(error: BaseException, sentence: str) -> None:
    assert describe(error) == sentence


def test_a_group_of_one_error_is_that_error() -> None:
    """A TaskGroup raises `unhandled errors in a TaskGroup (1 sub-exception)`, which nobody can use."""
    group = ExceptionGroup("unhandled errors in a TaskGroup", [ValueError("no voice")])
    assert describe(group) == "ValueError: no voice"
    assert describe(BaseExceptionGroup("outer", [group])) == "ValueError: no voice"
    assert "2 sub-exceptions" in describe(ExceptionGroup("several", [ValueError("a"), ValueError("b")]))


SECRETS = st.sampled_from(
    ["redis://me:hunter2@host/0", "https://a/b?token=hunter2", "password=hunter2", "Bearer hunter2"]
)
AROUND = st.text(alphabet="ab1:/@?&=\"' \n\x00\u2028-_", max_size=60)


@given(AROUND, SECRETS, AROUND)
def test_whatever_stands_around_a_secret_it_is_masked_and_the_sentence_is_one_line(
    before: str, secret: str, after: str
) -> None:
    sentence = describe(f"{before} {secret} {after}")
    assert "hunter2" not in sentence
    assert len(describe(sentence).splitlines()) == 1


@pytest.mark.parametrize(
    "text", ["a-", "ab_cd-", "token", "x", "://", "://a:", "a: ", "token ", "Bearer ", "{", "[{", '{"a":', "["]
)
def test_a_long_text_costs_no_time(text: str) -> None:
    """An exception may hold a whole document; a job is not to stand still over it: 4,000 letters were seconds."""
    before = time.process_time()
    describe(ValueError(text * (1_000_000 // len(text))))
    assert time.process_time() - before < 5
