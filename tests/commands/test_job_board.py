"""The board of `watch`: the cases of tests/cases/ live and as one replay, what a replay changes, and the bounds."""

import random
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.commands import job_board
from gateway.commands.job_board import JobBoard, published_at
from publisher.events import Event, check_event
from tests.job_cases import Given, Model, State, cases, full, rounded
from tests.test_job_rules import events


def event_of(given: Given) -> Event:
    return check_event(full(given))


def board_of(*events: Given, now: float = 0.0) -> JobBoard:
    """A board that was given these events live."""
    board = JobBoard()
    for event in events:
        board.apply(event_of(event), now)
    return board


def replayed(*events: Given, board: JobBoard | None = None) -> JobBoard:
    board = board or JobBoard()
    board.replay([event_of(event) for event in events], 0.0)
    return board


def state_of(board: JobBoard) -> State:
    """What the board shows, in the words of a case."""
    return {
        job.id: {
            "status": job.state,
            "percent": job.percent,
            **({} if job.attempt is None else {"attempt": job.attempt}),
            "sentences": {
                key: {"status": part.view.status, "percent": part.view.percent}
                for key, part in job.parts.items()
                if key is not None
            },
        }
        for job in board.jobs.values()
    }


def picture(board: JobBoard, job: str = "j") -> tuple[str, float]:
    return board.jobs[job].state, board.jobs[job].percent


COMPLETE: Given = {"type": "job_complete", "result": {}}
FAILED: Given = {"type": "job_failed", "error": "no voice"}


# --- The shared cases -------------------------------------------------------------------------------------------------


def accepted(case: Mapping[str, Any]) -> list[Given]:
    """The events of a case as the gateway delivers them: without those that are refused, numbered, with a seq."""
    events = []
    for seq, (event, answer) in enumerate(zip(case["events"], case["answers"], strict=True), 1):
        if isinstance(answer, int):
            events.append({**event, "attempt": answer, "seq": seq})
        elif answer == "news":
            events.append({**event, "seq": seq})
    return events


@pytest.mark.parametrize("case", cases(), ids=lambda case: case["name"])
def test_a_case_live_event_by_event(case: Any) -> None:
    assert rounded(state_of(board_of(*accepted(case)))) == rounded(case["jobs"])


def remembered(events: list[Given]) -> list[Given]:
    """What Redis remembers after these events: the last of each part, without what an attempt replaced."""
    model = Model()
    for event in events:
        model.publish(event)
    seqs = {(full(event)["jobId"], event.get("sentenceId", "")): event for event in events}
    return [seqs[job_id, part] for job_id, job in model.jobs.items() for part in job.parts]


@pytest.mark.parametrize("case", cases(), ids=lambda case: case["name"])
def test_a_case_as_one_replay(case: Any) -> None:
    """In any order: a replay is one step, so the order of its events does not matter."""
    events = remembered(accepted(case))
    for seed in range(5):
        random.Random(seed).shuffle(events)
        assert rounded(state_of(replayed(*events))) == rounded(case["jobs"])


@pytest.mark.parametrize("case", cases(), ids=lambda case: case["name"])
def test_a_case_whose_second_half_is_replayed_after_a_break(case: Any) -> None:
    """Events without numbers may begin a job anew unseen; their jobs are compared where numbers tell it."""
    events = accepted(case)
    for cut in range(len(events)):
        board = board_of(*events[:cut])
        missed = [event for event in remembered(events) if event["seq"] > cut]
        replayed(*missed, board=board)
        if any("attempt" not in event for event in events):
            continue
        assert rounded(state_of(board)) == rounded(case["jobs"])


@given(st.lists(events, max_size=40), st.data())
@settings(deadline=None)
def test_random_events_live_and_as_a_replay(published: list[Given], data: st.DataObject) -> None:
    """At every moment the board shows what the rules say, and what a board that begins now shows."""
    model, live, delivered = Model(), JobBoard(), []
    for seq, given_event in enumerate(published, 1):
        answer = model.publish(given_event)
        if answer in ("replaced", "ended", "lower"):
            continue
        event = given_event | {"seq": seq} | ({"attempt": answer} if isinstance(answer, int) else {})
        delivered.append(event)
        live.apply(event_of(event), 0)
        assert rounded(state_of(live)) == rounded(model.state())
    last = data.draw(st.permutations(remembered(delivered)))
    assert rounded(state_of(replayed(*last))) == rounded(model.state())


# --- What is shown ----------------------------------------------------------------------------------------------------


def test_a_bar_shows_the_last_event_alone() -> None:
    board = board_of({"progress": 40, "message": "a", "data": {"voice": 2}}, {"progress": 20})
    assert picture(board) == ("running", 20)
    event = board.jobs["j"].newest.event
    assert (getattr(event, "message", None), event.data) == (None, None)


def test_a_failed_job_is_at_0_on_every_page() -> None:
    assert picture(board_of({"progress": 40}, FAILED)) == ("failed", 0)


def test_a_job_without_events_of_its_own_takes_its_type_and_failure_from_its_sentences() -> None:
    board = board_of(
        {"sentenceId": "s2", "jobType": "thumbnails", "seq": 3, **FAILED, "reason": "cancelled", "error": "late"},
        {"sentenceId": "s1", "seq": 2, **FAILED, "error": "early"},
    )
    job = board.jobs["j"]
    assert job.newest.event.job_type == "thumbnails"
    assert job.failure is not None
    assert getattr(job.failure.event, "error", None) == "late"
    assert getattr(job.failure.event, "reason", None) == "cancelled"


def test_sentences_are_in_the_order_in_which_people_count() -> None:
    job = board_of(*({"sentenceId": key, "progress": 0} for key in ("s10", "s2", "s1"))).jobs["j"]
    assert job.sentence_ids == ["s1", "s2", "s10"]
    job.put(event_of({"sentenceId": "s3", "progress": 0}), 0)
    assert job.sentence_ids == ["s1", "s2", "s3", "s10"]


def test_the_time_of_an_event_is_that_of_redis() -> None:
    assert published_at(event_of({"progress": 1, "seq": 1_800_000_000_123_999})) == 1_800_000_000_123
    assert published_at(event_of({"progress": 1})) is None


def test_the_attempt_is_that_of_the_last_events_as_on_a_new_page() -> None:
    board = board_of({"attempt": 3, "progress": 80})
    assert board.jobs["j"].attempt == 3
    board.apply(event_of({"progress": 0}), 0)
    assert board.jobs["j"].attempt is None
    board.apply(event_of({"sentenceId": "s1", "attempt": 3, "progress": 0}), 0)
    board.apply(event_of({"progress": 5}), 0)
    assert board.jobs["j"].attempt == 3


def test_silence_is_counted_while_an_event_could_arrive() -> None:
    job = board_of({"progress": 10, "nextWithin": 5}, now=100).jobs["j"]
    assert job.silence(0, 105) == 0
    assert job.silence(0, 106) == 6
    assert job.silence(104, 106) == 0  # connected two seconds ago: the event may come yet
    assert job.silence(None, 1_000) == 0  # not connected at all
    assert board_of({"progress": 10}, now=100).jobs["j"].silence(0, 1_000) == 0
    assert board_of({"progress": 10, "nextWithin": 5}, COMPLETE, now=100).jobs["j"].silence(0, 1_000) == 0


def test_the_sum_of_the_sentences_does_not_drift() -> None:
    board = JobBoard()
    for step in range(10_000):
        board.apply(event_of({"sentenceId": f"s{step % 7}", "progress": 0.1 * (step % 1_000)}), 0)
    for sentence in range(7):
        board.apply(event_of({"sentenceId": f"s{sentence}", "progress": 0}), 0)
    assert picture(board) == ("running", 0)


# --- A replay ---------------------------------------------------------------------------------------------------------


def test_what_is_known_is_no_news() -> None:
    board = board_of({"progress": 50, "seq": 10})
    events = [event_of({"progress": 60, "seq": 9}), event_of({"sentenceId": "s1", "progress": 5, "seq": 12})]
    assert board.replay(events, 0) == events[1:]
    assert picture(board) == ("running", 50)


def test_an_end_is_taken_even_if_its_seq_is_lower() -> None:
    """After a failover to a Redis whose clock is behind, the bar would otherwise never end."""
    board = board_of({"progress": 50, "seq": 10})
    assert picture(replayed({**COMPLETE, "seq": 9}, board=board)) == ("complete", 100)


def test_an_end_that_was_seen_does_not_end_the_run_after_it() -> None:
    board = board_of({**COMPLETE, "seq": 6}, {"progress": 0, "seq": 7})
    assert picture(replayed({**COMPLETE, "seq": 6}, board=board)) == ("running", 0)


def test_after_a_gap_jobs_that_ran_are_what_the_replay_says() -> None:
    board = board_of(
        {"jobId": "gone", "progress": 10, "seq": 1},
        {"jobId": "ended", **COMPLETE, "seq": 2},
        {"jobId": "anew", "sentenceId": "s1", "progress": 90, "seq": 3},
    )
    events = [event_of({"jobId": "ended", **COMPLETE, "seq": 2}), event_of({"jobId": "anew", "progress": 0, "seq": 9})]
    assert board.replay(events, 0, is_after_gap=True) == events[1:]
    assert list(board.jobs) == ["ended", "anew"]
    assert list(board.jobs["anew"].parts) == [None]


# --- The bounds -------------------------------------------------------------------------------------------------------


def test_whole_jobs_are_forgotten_those_that_ended_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_board, "MAX_JOBS", 3)
    board = board_of(
        {"jobId": "a", "progress": 1}, {"jobId": "b", "progress": 1}, {"jobId": "c", **COMPLETE},
        {"jobId": "a", "progress": 2}, {"jobId": "d", "progress": 1},
    )  # fmt: skip
    assert list(board.jobs) == ["b", "a", "d"]
    assert not board.left_out
    board.apply(event_of({"jobId": "e", "progress": 1}), 0)
    assert (list(board.jobs), list(board.left_out)) == (["a", "d", "e"], ["b"])
    board.apply(event_of({"jobId": "b", **COMPLETE}), 0)
    assert (list(board.jobs), list(board.left_out)) == (["a", "d", "e"], [])


def test_parts_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_board, "MAX_PARTS", 5)
    sentences = [{"jobId": "a", "sentenceId": f"s{number}", "progress": 1} for number in range(4)]
    board = board_of({"jobId": "a", "progress": 0}, *sentences)
    assert len(board.jobs["a"].parts) == 5
    board.apply(event_of({"jobId": "b", "progress": 1}), 0)
    assert (list(board.jobs), list(board.left_out)) == (["b"], ["a"])


def test_a_replay_beyond_the_bounds_keeps_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_board, "MAX_JOBS", 3)
    events = [{"jobId": f"j{number}", "progress": 1, "seq": number} for number in range(1, 6)]
    assert list(replayed(*events).jobs) == ["j3", "j4", "j5"]
