"""Tracked jobs, in ordinary and in async code, as a real subscriber hears them. What differs: test_aio_tracking.py.

A test's job is a generator, which yields what it waits for; so one text runs in both kinds of code, since what the
methods of an async job return need not be awaited.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from math import inf, nan
from typing import Any

import pytest

import publisher.aio
from publisher import JobComplete, current_job, job_state, last_event, track, track_job
from publisher.transport import circuit as outage
from tests.contract.deadlines import STALL_SECONDS, eventually, wait_for
from tests.contract.processes import RedisServer, free_port
from tests.listener import Listener

Condition = Callable[[], bool]
Body = Callable[[Any], Iterator[Condition]]
Run = Callable[..., None]


@pytest.fixture
def server(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> RedisServer:
    monkeypatch.setenv("REDIS_URL", redis_server.url)
    return redis_server


@pytest.fixture
def listener(server: RedisServer, project: str) -> Iterator[Listener]:
    listener = Listener(server, project)
    yield listener
    listener.close()


def run_sync(body: Body, project: str, **options: Any) -> None:
    with track_job(project, options.pop("job_id", "j"), options.pop("job_type", "audio"), **options) as job:
        for condition in body(job):
            wait_for(condition, "what the job waits for")


def run_async(body: Body, project: str, **options: Any) -> None:
    async def main() -> None:
        ids = (project, options.pop("job_id", "j"), options.pop("job_type", "audio"))
        async with publisher.aio.track_job(*ids, **options) as job:
            for condition in body(job):
                await eventually(condition, "what the job waits for")

    asyncio.run(main())


@pytest.fixture(params=[run_sync, run_async], ids=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Run:
    run: Run = request.param
    return run


def nothing(job: Any) -> Iterator[Condition]:
    yield from ()


def for_seconds(seconds: float) -> Condition:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() >= end


# How a job ends


def test_leaving_quietly_completes(run: Run, listener: Listener, project: str) -> None:
    run(nothing, project)
    events = listener.until("job_complete")
    assert listener.bars() == [0, "job_complete"]
    assert events[-1]["result"] == {}


def test_an_exception_is_a_failure_in_a_clean_sentence_and_is_raised_on(
    run: Run, listener: Listener, project: str
) -> None:
    error = ValueError("no voice\n at https://a/b?token=hunter2")

    def body(job: Any) -> Iterator[Condition]:
        job.progress(30)
        yield from ()
        raise error

    with pytest.raises(ValueError, match="no voice") as raised:
        run(body, project)
    assert raised.value is error
    events = listener.until("job_failed")
    assert listener.bars() in ([0, 30, "job_failed"], [30, "job_failed"])
    assert events[-1]["error"] == "ValueError: no voice at https://a/b?token=***"


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (KeyboardInterrupt(), "Interrupted"),
        (SystemExit(1), "Stopped: its worker ended"),
        (asyncio.CancelledError(), "Cancelled"),
    ],
)
def test_an_interruption_is_a_failure_too(
    run: Run, listener: Listener, project: str, error: BaseException, sentence: str
) -> None:
    def body(job: Any) -> Iterator[Condition]:
        yield from ()
        raise error

    with pytest.raises(type(error)):
        run(body, project)
    assert listener.until("job_failed")[-1]["error"] == sentence


def test_complete_says_what_was_made(run: Run, listener: Listener, project: str) -> None:
    def body(job: Any) -> Iterator[Condition]:
        job.progress(99.5, "last words")
        job.complete(file="a.mp3", duration=Decimal("3.5"))
        assert job.is_ended
        yield listener.has("job_complete")

    run(body, project)
    assert listener.bars()[-2:] == [99.5, "job_complete"]
    assert listener.of()[-2]["message"] == "last words"
    assert listener.of()[-1]["result"] == {"file": "a.mp3", "duration": 3.5}


@pytest.mark.parametrize(
    ("error", "sentence"), [("no voice", "no voice"), (KeyError("v"), "KeyError: 'v'"), ("", "Failed")]
)
def test_fail_says_why(run: Run, listener: Listener, project: str, error: Any, sentence: str) -> None:
    def body(job: Any) -> Iterator[Condition]:
        job.fail(error)
        yield listener.has("job_failed")

    run(body, project)
    assert listener.of()[-1]["error"] == sentence
    assert listener.bars().count("job_failed") == 1


def test_after_the_end_there_is_a_warning_and_nothing_is_sent(
    run: Run, listener: Listener, project: str, caplog: pytest.LogCaptureFixture
) -> None:
    def body(job: Any) -> Iterator[Condition]:
        job.complete()
        job.progress(50)
        job.complete(file="b.mp3")
        job.fail("no")
        job.sentence("s1").progress(10)
        yield for_seconds(0.3)

    run(body, project, heartbeat=0.1)
    assert [event["type"] for event in listener.events if event["type"] != "progress"] == ["job_complete"]
    assert listener.bars("s1") == []
    assert len(caplog.records) == 5
    assert all((record.name, record.levelno) == ("publisher", logging.WARNING) for record in caplog.records)
    assert "progress 50" in caplog.messages[0]


# What is said on the way


def hammer(job: Any) -> Iterator[Condition]:
    """Ten thousand words in a second."""
    end = time.monotonic() + 1
    for step in range(100):
        for part in range(100):
            job.progress(step + part / 100, f"{step}.{part}")
        wait = end - 1 + (step + 1) / 100
        yield lambda wait=wait: time.monotonic() >= wait  # type: ignore[misc]


def test_ten_a_second_at_most_are_sent_and_the_last_before_the_end(run: Run, listener: Listener, project: str) -> None:
    run(hammer, project)
    events = listener.until("job_complete")
    assert 8 <= len(events) <= 15
    assert events[-2]["progress"] == 99.9
    assert events[-2]["message"] == "99.99"


def test_without_the_pause_it_is_a_flood(
    run: Run, listener: Listener, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the test above."""
    monkeypatch.setattr(job_state, "LEAST_PAUSE_SECONDS", 0)
    run(hammer, project)
    assert len(listener.until("job_complete")) > 20  # 15 at most with it


def test_a_lower_progress_leaves_the_bar_and_a_text_stays_until_the_next(
    run: Run, listener: Listener, project: str
) -> None:
    def body(job: Any) -> Iterator[Condition]:
        job.progress(40, "voice 2")
        yield listener.has(40)
        job.progress(20)
        assert job.percent == 40
        yield for_seconds(0.15)
        job.progress(50)
        yield listener.has(50)

    run(body, project)
    assert listener.until("job_complete")[-2]["message"] == "voice 2"
    assert [bar for bar in listener.bars() if bar not in (0, 40, 50)] == ["job_complete"]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"project": "no project"}, "project"),
        ({"job_id": ""}, "jobId"),
        ({"job_type": "two words"}, "jobType"),
        ({"sentence_id": "\n"}, "sentenceId"),
        ({"attempt": -1}, "attempt"),
        ({"attempt": "x"}, "attempt"),
        ({"heartbeat": 0}, "heartbeat"),
        ({"heartbeat": "often"}, "heartbeat"),
    ],
)
def test_a_job_that_does_not_fit_is_refused_by_the_name_of_its_field(
    run: Run, listener: Listener, project: str, options: dict[str, Any], field: str
) -> None:
    with pytest.raises(ValueError, match=field):
        run(nothing, **{"project": project} | options)
    assert listener.events == []


def test_a_redis_url_that_is_none_is_refused_at_the_beginning(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was raised at the end, instead of the job's own exception, and logged each second meanwhile."""
    monkeypatch.setenv("REDIS_URL", "nonsense")
    with pytest.raises(ValueError, match="Redis URL"):
        run(lambda job: pytest.fail("it began"), "p")


@pytest.mark.parametrize(
    ("say", "field"),
    [
        (lambda job: job.progress(nan), "progress"),
        (lambda job: job.progress(inf), "progress"),
        (lambda job: job.progress(101), "progress"),
        (lambda job: job.progress(-1), "progress"),
        (lambda job: job.progress(None), "progress"),
        (lambda job: job.progress(Decimal("NaN")), "progress"),
        (lambda job: job.progress(1, 2), "message"),
        (lambda job: job.complete(file=5), "file"),
        (lambda job: job.complete(duration=nan), "duration"),
        (lambda job: job.complete(duration=-1), "duration"),
        (lambda job: job.fail(None), "error"),
        (lambda job: job.fail(404), "error"),
        (lambda job: job.sentence(""), "sentenceId"),
    ],
)
def test_what_does_not_fit_is_refused_by_the_name_of_its_field_and_the_job_goes_on(
    run: Run, listener: Listener, project: str, say: Callable[[Any], object], field: str
) -> None:
    def body(job: Any) -> Iterator[Condition]:
        yield listener.has(0)
        with pytest.raises(ValueError, match=field):
            say(job)

    run(body, project)
    listener.until("job_complete")
    assert listener.bars() == [0, "job_complete"]
    assert len(listener.events) == 2


# Silence


def test_a_job_without_news_renews_its_last_progress_with_a_promise(run: Run, listener: Listener, project: str) -> None:
    def body(job: Any) -> Iterator[Condition]:
        job.progress(40, "voice 2")
        yield lambda: listener.bars().count(40) >= 4

    run(body, project, heartbeat=0.1)
    *events, end = listener.until("job_complete")
    assert all(event["nextWithin"] == 0.2 for event in events)
    assert all(event["message"] == "voice 2" for event in events if event["progress"] == 40)
    assert "nextWithin" not in end


def test_without_a_heartbeat_nothing_is_promised_or_renewed(run: Run, listener: Listener, project: str) -> None:
    """The control of the test above."""

    def body(job: Any) -> Iterator[Condition]:
        job.progress(40)
        yield listener.has(40)
        yield for_seconds(0.5)

    run(body, project, heartbeat=None)
    events = listener.until("job_complete")
    assert listener.bars().count(40) == 1
    assert not any("nextWithin" in event for event in events)


def test_after_the_end_nothing_is_renewed(run: Run, listener: Listener, project: str) -> None:
    def body(job: Any) -> Iterator[Condition]:
        job.sentence("s1").progress(10)
        job.complete()
        yield for_seconds(0.5)

    run(body, project, heartbeat=0.1)
    assert listener.bars()[-1] == "job_complete"
    assert listener.bars("s1")[-1] == "job_complete"


# Attempts


def test_what_a_late_attempt_says_is_heard_by_nobody(run: Run, listener: Listener, project: str) -> None:
    def late(zombie: Any) -> Iterator[Condition]:
        zombie.progress(80)
        yield listener.has(80)

        def retry(job: Any) -> Iterator[Condition]:
            job.progress(10)
            yield listener.has(10)
            zombie.progress(90)
            yield for_seconds(0.3)
            zombie.fail("too late")
            yield for_seconds(0.1)

        with track_job(project, "j", "audio", attempt=1) as job:
            yield from retry(job)

    run(late, project, attempt=0, heartbeat=0.05)
    told = [(event["attempt"], event.get("progress", event["type"])) for event in listener.until("job_complete")]
    assert [attempt for attempt, _ in told] == sorted(attempt for attempt, _ in told)
    assert told[-1] == (1, "job_complete")
    assert (0, 90) not in told
    assert (0, "job_failed") not in told


def test_each_run_of_a_job_is_the_next_attempt_and_its_end_is_seen(run: Run, listener: Listener, project: str) -> None:
    """What was redelivered, requeued or started again after its end: Redis numbers it, and nothing is refused."""

    def fail(job: Any) -> Iterator[Condition]:
        assert job.attempt is None
        yield lambda: job.attempt is not None
        job.sentence("s1").progress(70)
        yield listener.has(70, "s1")
        job.fail("no voice")

    def succeed(job: Any) -> Iterator[Condition]:
        job.progress(30)
        yield listener.has(30)

    run(fail, project)
    run(succeed, project)
    run(nothing, project, attempt=5)  # at least 5
    run(nothing, project, attempt=1)  # a library's own count sends no job back
    wait_for(lambda: listener.bars().count("job_complete") == 3, "three ends")
    told = [(event["attempt"], event["type"]) for event in listener.of() if event["type"] != "progress"]
    assert told == [(0, "job_failed"), (1, "job_complete"), (5, "job_complete"), (6, "job_complete")]
    known = last_event(project, "j")
    assert known is not None
    assert (known.type, known.attempt) == ("job_complete", 6)
    assert last_event(project, "j", "s1") is None, "the later attempts dropped it"


def test_a_worker_whose_job_was_begun_again_elsewhere_is_warned_once(
    run: Run, listener: Listener, project: str, caplog: pytest.LogCaptureFixture
) -> None:
    def zombie(job: Any) -> Iterator[Condition]:
        part = job.sentence("s1")
        part.progress(20)
        yield listener.has(20, "s1")
        publisher.broadcast_to_project(
            project, {"type": "progress", "jobId": "j", "jobType": "audio", "progress": 1, "attempt": "next"}
        )
        part.progress(30)
        yield lambda: job.is_ended
        assert part.is_ended
        job.progress(40)
        part.complete()
        job.sentence("s2").progress(1)
        job.complete()

    with caplog.at_level("WARNING", "publisher"):
        run(zombie, project, heartbeat=0.05)
    said = f"job 'j' of project '{project}' was begun again elsewhere, as attempt 1; this attempt is no longer shown"
    wait_for(lambda: bool(caplog.records), "the warning: the sender logs it after the job has ended")
    wait_for(lambda: listener.of()[-1]["attempt"] == 1, "the later attempt")
    assert [record.getMessage() for record in caplog.records] == [said]
    assert (listener.bars("s1")[-1], listener.of("s2")) == (20, [])


def test_an_end_that_is_refused_because_of_a_later_attempt_gives_no_seq(listener: Listener, project: str) -> None:
    with track_job(project, "j", "audio", heartbeat=None) as job:
        wait_for(lambda: job.attempt == 0, "the number")
        with track_job(project, "j", "audio"):
            assert job.complete() is None
    assert {event["attempt"] for event in listener.until("job_complete") if event["type"] == "job_complete"} == {1}


def test_with_replay_off_there_are_no_numbers_but_those_that_were_given(
    run: Run, listener: Listener, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROGRESS_REPLAY", "off")

    def body(job: Any) -> Iterator[Condition]:
        yield listener.has(0)
        job.sentence("s1")

    run(body, project)
    assert all("attempt" not in event for event in [*listener.until("job_complete"), *listener.of("s1")])
    run(body, project, attempt=3)
    assert listener.until("job_complete")[-1]["attempt"] == 3


def test_one_sentence_of_a_job_begins_no_attempt(run: Run, listener: Listener, project: str) -> None:
    """Workers that share a job each track a sentence: none of them may replace the others."""
    run(nothing, project, sentence_id="s1")
    run(nothing, project, sentence_id="s2")
    assert all("attempt" not in event for event in listener.of("s1") + listener.until("job_complete", "s2"))
    assert last_event(project, "j", "s1") is not None
    run(nothing, project, attempt=2)
    run(nothing, project, sentence_id="s3", attempt=2)
    assert last_event(project, "j", "s1") is None
    assert {event["attempt"] for event in listener.until("job_complete", "s3")} == {2}


def test_data_and_reasons(run: Run, listener: Listener, project: str) -> None:
    def body(job: Any) -> Iterator[Condition]:
        yield listener.has(0)
        assert listener.of()[-1]["data"] == {"voices": 5}
        job.progress(40, data={"voice": 2})
        yield listener.has(40)
        job.progress(50)
        yield listener.has(50)
        job.complete(file="a.mp3", data={"made": ["a"]})

    run(body, project, data={"voices": 5})
    *_, progress, end = listener.until("job_complete")
    assert (progress["data"], end["data"]) == ({"voice": 2}, {"made": ["a"]})

    def stopped(job: Any) -> Iterator[Condition]:
        job.sentence("s1")
        job.fail("Stopped by Ann", reason="cancelled", data={"by": "Ann"})
        yield from ()

    run(stopped, project)
    end, part = listener.until("job_failed")[-1], listener.of("s1")[-1]
    assert (end["error"], end["reason"], end["data"]) == ("Stopped by Ann", "cancelled", {"by": "Ann"})
    assert (part["reason"], "data" in part) == ("cancelled", False)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (asyncio.CancelledError(), "cancelled"),
        (TimeoutError(), "timed_out"),
        (TimeoutError(110, "Connection timed out"), None),  # of a socket
        (ValueError("x"), None),
    ],
)
def test_an_exception_tells_its_reason_where_that_is_sure(
    listener: Listener, project: str, error: BaseException, reason: str | None
) -> None:
    with pytest.raises(type(error)), track_job(project, "j", "audio"):
        raise error
    assert listener.until("job_failed")[-1].get("reason") == reason


@pytest.mark.parametrize(
    ("say", "field"),
    [
        (lambda job: job.progress(1, data={"x": object()}), "data"),
        (lambda job: job.progress(1, data={"x": "x" * 8_200}), "data"),
        (lambda job: job.complete(data=[1]), "data"),
        (lambda job: job.fail("x", reason="sad"), "reason"),
    ],
)
def test_bad_data_and_reasons_are_refused_and_the_job_goes_on(
    run: Run, listener: Listener, project: str, say: Callable[[Any], object], field: str
) -> None:
    def body(job: Any) -> Iterator[Condition]:
        with pytest.raises(ValueError, match=field):
            say(job)
        yield from ()

    run(body, project)
    assert listener.until("job_complete")[-1]["attempt"] == 0


def test_an_exception_is_no_end_where_the_job_is_tried_again(run: Run, listener: Listener, project: str) -> None:
    def body(job: Any) -> Iterator[Condition]:
        job.progress(40)
        job.sentence("s1").progress(10)
        yield listener.has(10, "s1")
        raise ValueError("no voice")

    with pytest.raises(ValueError, match="no voice"):
        run(body, project, attempt=0, will_retry=True, heartbeat=0.1)
    wait_for(lambda: "nextWithin" not in listener.of("s1")[-1], "the sentence's promise to be taken back")
    last = listener.of()[-1]
    assert (last["progress"], last["message"]) == (40, "ValueError: no voice; it will be tried again")
    assert "nextWithin" not in last
    heard = len(listener.events)
    time.sleep(0.3)  # nothing is renewed
    assert len(listener.events) == heard
    run(nothing, project, attempt=1)
    assert listener.until("job_complete")[-2]["progress"] == 0


# Sentences and loops


def test_a_sentence_has_a_bar_of_its_own_and_ends_with_its_job_at_the_latest(
    run: Run, listener: Listener, project: str
) -> None:
    def body(job: Any) -> Iterator[Condition]:
        assert job.sentence("s1") is job.sentence("s1")
        job.sentence("s1").progress(50)
        job.sentence("s2").progress(10)
        job.sentence("s1").complete(file="s1.mp3")
        job.complete(file="all.mp3")
        yield listener.has("job_complete")

    run(body, project, attempt=3)
    assert listener.bars("s1")[-2:] == [50, "job_complete"]
    assert listener.bars("s2")[-2:] == [10, "job_complete"]
    assert listener.of("s1")[-1]["result"] == {"file": "s1.mp3"}
    assert listener.of("s2")[-1]["result"] == {}
    assert listener.events[-1]["result"] == {"file": "all.mp3"}, "the job's end comes last"
    assert {event["attempt"] for event in listener.events} == {3}


def test_sentences_that_are_open_fail_as_their_job_does(run: Run, listener: Listener, project: str) -> None:
    def body(job: Any) -> Iterator[Condition]:
        job.sentence("s1").complete()
        job.sentence("s2").progress(10)
        yield listener.has("job_complete", "s1")
        raise ValueError("no voice")

    with pytest.raises(ValueError, match="no voice"):
        run(body, project)
    listener.until("job_failed")
    assert listener.bars("s1")[-1] == "job_complete"
    assert listener.of("s2")[-1]["error"] == "ValueError: no voice"


def test_sentences_are_announced_and_their_progress_rolls_up(run: Run, listener: Listener, project: str) -> None:
    def body(job: Any) -> Iterator[Condition]:
        for sentence in job.sentences(f"s{number}" for number in range(4)):
            if sentence.sentence_id == "s1":
                yield listener.has(0, "s3")
                sentence.progress(50)
                assert job.percent == 37.5
                yield listener.has(37.5)

    run(body, project)
    listener.until("job_complete")
    assert all(listener.bars(f"s{number}")[-1] == "job_complete" for number in range(4))
    assert listener.bars()[-2:] == [100, "job_complete"]


def test_a_loop_counts_what_is_done(run: Run, listener: Listener, project: str) -> None:
    def body(job: Any) -> Iterator[Condition]:
        for page in job.track(["a", "b", "c"], "page {n} of {total}"):
            if page == "b":
                yield listener.has(33.3)
        for number in job.track(iter(range(5)), "chapter {n}"):
            assert number < 5
            assert job.percent == 100

    run(body, project)
    events = listener.until("job_complete")
    assert next(event["message"] for event in events if event.get("progress") == 33.3) == "page 1 of 3"
    assert events[-2]["message"] == "chapter 5"


def test_for_page_in_track(listener: Listener, project: str) -> None:
    assert list(track(["a", "b"], project, "j", "script", message="page {n}")) == ["a", "b"]
    assert listener.until("job_complete")[-2]["message"] == "page 2"
    assert listener.bars()[-2:] == [100, "job_complete"]


def test_a_loop_that_is_left_before_its_end_has_failed(listener: Listener, project: str) -> None:
    for page in track(range(10), project, "j", "script"):
        if page == 3:
            break
    assert listener.until("job_failed")[-1]["error"] == "Stopped before its end"
    assert listener.bars()[-2] == 30


def test_a_loop_whose_items_raise_has_failed(listener: Listener, project: str) -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        list(track(items(), project, "j", "script"))
    assert listener.until("job_failed")[-1]["error"] == "OSError: no more"


# The decorator


def test_a_decorated_function_is_a_job_for_each_call(listener: Listener, project: str) -> None:
    @track_job("{project_id}", "job {number:03} of {who[name]}", "audio", attempt="{attempt}")
    def voice(project_id: str, number: int, who: dict[str, str], attempt: int = 2) -> str:
        """Speak."""
        current_job().progress(50, who["name"])
        wait_for(lambda: current_job().attempt == attempt, "the number")
        return "spoken"

    assert voice.__doc__ == "Speak."
    assert voice(project, 7, who={"name": "Ann"}) == "spoken"
    assert voice(project, 8, {"name": "Bo"}, attempt=0) == "spoken"

    def ended() -> list[tuple[str, int]]:
        return [(event["jobId"], event["attempt"]) for event in listener.events if event["type"] == "job_complete"]

    wait_for(lambda: ended() == [("job 007 of Ann", 2), ("job 008 of Bo", 0)], "two jobs")
    with pytest.raises(LookupError):
        current_job()


def test_a_decorator_that_names_no_parameter_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="job_id"):

        @track_job("{project_id}", "{job_id}", "audio")
        def voice(project_id: str) -> None: ...


def test_a_wrong_call_of_a_decorated_function_begins_no_job(listener: Listener, project: str) -> None:
    @track_job(project, "j", "audio")
    def voice(number: int) -> None: ...

    with pytest.raises(TypeError):
        voice()  # type: ignore[call-arg]
    time.sleep(0.05)
    assert listener.events == []


def test_functions_that_run_later_are_refused() -> None:
    async def coroutine() -> None: ...
    def generator() -> Iterator[int]:
        yield 1

    async def agen() -> Any:
        yield 1

    for function in (coroutine, generator, agen):
        with pytest.raises(TypeError, match=r"publisher\.aio"):
            track_job("p", "j", "audio")(function)


def test_the_same_object_may_be_entered_again_also_within_itself(listener: Listener, project: str) -> None:
    tracked = track_job(project, "j", "audio")
    with tracked as outer:
        with tracked as inner:
            assert current_job() is inner
        assert current_job() is outer
        assert inner.is_ended
        wait_for(lambda: outer.attempt == 0, "the number")
    with tracked as last:
        pass
    assert [inner.attempt, last.attempt] == [1, 2]
    # Each begins the job anew, so what the outer one says is no longer shown.
    ends = [event["attempt"] for event in listener.until("job_complete") if event["type"] == "job_complete"]
    assert ends == [1, 2]


# Where it goes


def test_it_goes_where_the_environment_says(
    run: Run, server: RedisServer, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROGRESS_NAMESPACE", "staging")
    monkeypatch.setenv("PROGRESS_REPLAY", "off")
    listener = Listener(server, project, namespace="staging:")
    run(nothing, project)
    assert "seq" not in listener.until("job_complete")[-1]
    listener.close()


# Redis away


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given up after a fifth of a second instead of five."""
    monkeypatch.setattr(outage, "GIVE_UP_SECONDS", 0.2)
    monkeypatch.setattr(job_state, "RETRY_SECONDS", 0.1)


def test_without_redis_a_job_is_neither_broken_nor_delayed_for_long(
    run: Run, hurried: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{free_port()}")
    before = time.monotonic()
    for body in (hammer, nothing, nothing):
        run(body, "p")
    assert time.monotonic() - before < 2.5 + STALL_SECONDS, "ten thousand words are not waited for one by one"
    assert len(caplog.records) == 1


def test_an_end_that_could_not_be_sent_is_sent_when_redis_is_back(
    run: Run, hurried: None, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch, project: str
) -> None:
    """Also where the event loop in which the job ran has ended by then."""
    monkeypatch.setenv("REDIS_URL", own_redis.url)
    own_redis.kill()

    def body(job: Any) -> Iterator[Condition]:
        job.progress(70)
        job.sentence("s1").progress(10)
        yield from ()

    run(body, project, heartbeat=0.1)
    own_redis.start()
    wait_for(lambda: isinstance(last_event(project, "j"), JobComplete), "the end")
    wait_for(lambda: isinstance(last_event(project, "j", "s1"), JobComplete), "the sentence's end")


def test_a_job_that_began_while_redis_was_away_is_numbered_when_it_is_back(
    run: Run, hurried: None, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch, project: str
) -> None:
    """Nothing overtakes its begin, which would drop the sentence. The end arrives though nobody waits any more."""
    monkeypatch.setenv("REDIS_URL", own_redis.url)
    own_redis.kill()

    def body(job: Any) -> Iterator[Condition]:
        job.progress(40)
        job.sentence("s1").complete(file="s1.mp3")
        yield for_seconds(0.3)
        assert job.attempt is None

    run(body, project)
    own_redis.start()
    wait_for(lambda: not outage.circuit_of(own_redis.url).is_open, "the circuit to close")
    for sentence in (None, "s1"):
        wait_for(lambda sentence=sentence: isinstance(last_event(project, "j", sentence), JobComplete), "the end")  # type: ignore[misc]
    known = [last_event(project, "j"), last_event(project, "j", "s1")]
    assert [event.attempt for event in known if event is not None] == [0, 0]
