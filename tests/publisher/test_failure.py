"""The sentence that a person reads when a job failed: type and message, in one line, without secrets."""

import asyncio
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from publisher.events import RULES, Progress, check_event
from publisher.failure import describe
from publisher.field_errors import EventError
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


@pytest.mark.parametrize("text", ["a-", "ab_cd-", "token", "x", "://", "://a:", "a: ", "token ", "Bearer "])
def test_a_long_text_costs_no_time(text: str) -> None:
    """An exception may hold a whole document; a job is not to stand still over it: 4,000 letters were seconds."""
    before = time.process_time()
    describe(ValueError(text * (1_000_000 // len(text))))
    assert time.process_time() - before < 0.5
