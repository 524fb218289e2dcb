"""A tracked job's state and the schedule of its sender: no I/O, and a clock that the test moves."""

from decimal import Decimal
from math import inf, nan
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from publisher.events import Event, JobComplete, JobFailed, Progress
from publisher.job_state import (
    LEAST_PAUSE_SECONDS,
    LEAST_SWEEP,
    MOST_HEARTBEAT_SECONDS,
    RETRY_SECONDS,
    TRANSITIONS,
    JobState,
    Phase,
    Schedule,
    Step,
    shown_percent,
)
from publisher.publication import MAX_JOBS, Sent
from publisher.settings import PublisherSettings


def new_job(job_id: str = "j", **options: Any) -> JobState:
    return JobState(PublisherSettings(), "p", job_id=job_id, job_type="audio", **options)


def say(state: JobState, percent: float, message: str | None = None) -> None:
    state.say(state.check_progress(percent, message))


def complete(state: JobState) -> JobComplete:
    return JobComplete(**state.identity)


def take(state: JobState) -> list[Event]:
    return state.take()


def sent(state: JobState, now: float = 0.0) -> list[Event]:
    """Take what there is, and send it."""
    events = take(state)
    state.settle(now, is_sent=True)
    return events


def texts(events: list[Event]) -> list[object]:
    return [event.progress if isinstance(event, Progress) else event.type for event in events]


# What is said


def test_a_job_begins_with_a_progress_of_nothing_that_is_due_at_once() -> None:
    state = new_job()
    assert state.due() == -inf
    assert texts(sent(state)) == [0]


def test_the_latest_wins() -> None:
    state = new_job()
    for percent in (10, 20, 30):
        say(state, percent)
    assert texts(sent(state)) == [30]


def test_a_bar_never_goes_backward_and_a_text_stays_until_there_is_another() -> None:
    state = new_job()
    say(state, 40, "a")
    say(state, 20)
    assert (state.last.progress, state.last.message) == (40, "a")
    say(state, 20, "b")
    assert (state.last.progress, state.last.message) == (40, "b")


def test_the_next_is_due_a_tenth_of_a_second_after_the_last_was_sent() -> None:
    state = new_job()
    sent(state, now=100)
    say(state, 10)
    assert state.due() == 100 + LEAST_PAUSE_SECONDS


def test_what_is_said_while_something_is_on_its_way_is_due_afterwards() -> None:
    state = new_job()
    take(state)
    say(state, 10)
    assert state.due() == inf
    state.settle(5, is_sent=True)
    assert texts(sent(state)) == [10]


def test_what_could_not_be_sent_is_tried_again_unless_something_newer_was_said() -> None:
    state = new_job()
    say(state, 10)
    take(state)
    say(state, 20)
    state.settle(5, is_sent=False)
    assert 5 < state.due() < 10
    assert texts(sent(state)) == [20]


def test_the_last_progress_goes_before_the_end_and_the_end_once() -> None:
    state = new_job(begins=False)
    say(state, 99)
    state.finish(complete(state))
    assert texts(sent(state)) == [99, "job_complete"]
    assert state.is_over
    assert state.due() == inf


def test_an_end_alone_where_all_was_said() -> None:
    state = new_job()
    sent(state)
    state.finish(complete(state))
    assert texts(sent(state)) == ["job_complete"]


def test_an_end_that_could_not_be_sent_is_due_again_with_what_went_before_it() -> None:
    state = new_job(begins=False)
    say(state, 99)
    state.finish(complete(state))
    take(state)
    state.settle(5, is_sent=False)
    assert state.due() < inf
    assert texts(sent(state)) == [99, "job_complete"]


@pytest.mark.parametrize("is_sent", [True, False])
def test_an_end_waits_for_what_is_on_its_way_and_is_due_at_once_then(is_sent: bool) -> None:
    """Whoever ended the job waits for it to be tried: no pause goes before it."""
    state = new_job(begins=False)
    take(state)
    state.finish(complete(state))
    assert state.due() == inf
    state.settle(5, is_sent=is_sent)
    assert state.due() == -inf
    assert texts(sent(state)) == (["job_complete"] if is_sent else [0, "job_complete"])


@pytest.mark.parametrize("step", Step)
@pytest.mark.parametrize("phase", Phase)
def test_a_step_that_no_phase_knows_is_a_bug(phase: Phase, step: Step) -> None:
    state = new_job()
    state.phase = phase
    if (phase, step) in TRANSITIONS:
        state._go(step)
        assert state.phase in Phase
    else:
        with pytest.raises(KeyError):
            state._go(step)


def test_a_job_of_a_forked_child_is_told_of_and_not_renewed() -> None:
    """Whatever was on its way in the parent may not arrive; the parent renews the job."""
    for words in ([], ["end"]):
        parents, childs, state = Schedule(), Schedule(), new_job()
        parents.put(state)
        take(state)
        if words:
            state.finish(complete(state))
        childs.put(state)
        assert childs.pop_due(10) == [state]
        assert texts(sent(state)) == ([0, "job_complete"] if words else [0])
        childs.put(state)
        assert childs.next_due() == inf


# The begin of an attempt


def answer(state: JobState, *outcomes: Sent, now: float = 0.0) -> None:
    """Redis answers what was taken."""
    for outcome in outcomes:
        state.note(outcome)
    state.settle(now, is_sent=True)


def attempts(state: JobState, events: list[Event]) -> list[object]:
    return [state.publication(event).attempt for event in events]


def test_the_first_event_asks_for_the_number_and_what_follows_carries_it() -> None:
    state = new_job(attempt=2, heartbeat=5)
    assert attempts(state, take(state)) == ["+2"]
    assert state.attempt.number is None
    answer(state, Sent(7, attempt=4))
    assert state.attempt.number == 4
    assert attempts(state, take(state)) == [4], "a heartbeat"
    answer(state, Sent(8))
    state.finish(complete(state))
    assert attempts(state, take(state)) == [4]


def test_a_job_that_ended_before_its_begin_was_answered_begins_first() -> None:
    state = new_job()
    say(state, 40)
    state.finish(complete(state))
    begin = take(state)
    assert (texts(begin), attempts(state, begin)) == ([40], ["+0"])
    assert state.phase is Phase.ENDING_NEXT
    answer(state, Sent(7, attempt=1))
    assert state.due() == -inf
    end = take(state)
    assert (texts(end), attempts(state, end)) == (["job_complete"], [1])


def test_a_job_that_is_left_before_its_begin_was_answered_has_only_begun() -> None:
    state = new_job()
    state.leave()
    assert texts(take(state)) == [0]
    answer(state, Sent(7, attempt=0))
    assert state.is_over


@pytest.mark.parametrize("ends", [False, True])
def test_a_begin_that_did_not_arrive_is_tried_again_after_a_pause_and_with_news(ends: bool) -> None:
    state = new_job()
    if ends:
        state.finish(complete(state))
    take(state)
    if not ends:
        say(state, 30)
    state.settle(100, is_sent=False)
    assert state.due() == 100 + RETRY_SECONDS
    begin = take(state)
    assert (texts(begin), attempts(state, begin)) == ([0 if ends else 30], ["+0"])


def test_sentences_wait_for_the_begin_of_their_job_and_share_its_number() -> None:
    schedule, job = Schedule(), new_job()
    part, other = job.of_sentence("s"), job.of_sentence("t")
    for state in (job, part, other):
        schedule.put(state)
    say(part, 20)
    schedule.put(part)
    other.finish(complete(other))
    schedule.put(other)
    assert schedule.pop_due(0) == [job]
    take(job)
    job.note(Sent(7, attempt=3))
    schedule.settle([job], 0, is_sent=True)
    due = schedule.pop_due(0)
    assert set(due) == {part, other}
    assert (attempts(part, take(part)), attempts(other, take(other))) == ([3], [3, 3])


def test_the_end_of_a_sentence_hurries_a_begin_that_failed() -> None:
    """Who ends a sentence waits for one try."""
    schedule, job = Schedule(), new_job()
    part = job.of_sentence("s")
    for state in (job, part):
        schedule.put(state)
    take(schedule.pop_due(0)[0])
    schedule.settle([job], 100, is_sent=False)
    assert schedule.pop_due(100) == []
    part.finish(complete(part))
    schedule.put(part)
    assert schedule.pop_due(100) == [job]


@pytest.mark.parametrize("which", ["job", "sentence"])
def test_an_attempt_that_was_replaced_is_over_with_all_its_parts(which: str) -> None:
    schedule, job = Schedule(), new_job()
    part, other = job.of_sentence("s"), job.of_sentence("t")
    schedule.put(job)
    take(*schedule.pop_due(0))
    job.note(Sent(7, attempt=0))
    schedule.settle([job], 0, is_sent=True)
    for state in (part, other):
        schedule.put(state)
    refused = job if which == "job" else part
    say(refused, 50)
    schedule.put(refused)
    for state in schedule.pop_due(10):
        take(state)
        if state is refused:
            state.note(Sent(None, replaced_by=1))
    schedule.settle([refused], 10, is_sent=True)
    assert job.is_over
    assert part.is_over
    assert other.is_over
    assert job.attempt.replaced_by == 1
    assert schedule.next_due() == inf


def test_of_a_job_that_is_forgotten_its_waiting_sentences_are_too() -> None:
    schedule, job = Schedule(), new_job()
    part = job.of_sentence("s")
    for state in (job, part):
        schedule.put(state)
    job.forget()
    assert part.is_over


def test_a_begin_that_redis_refuses_for_good_leaves_the_job_without_a_number() -> None:
    state = new_job()
    take(state)
    answer(state, Sent(None))
    state.finish(complete(state))
    assert attempts(state, take(state)) == [""]


@pytest.mark.parametrize(
    ("options", "attempt"),
    [
        ({"settings": PublisherSettings(replay=False)}, ""),
        ({"settings": PublisherSettings(replay=False), "attempt": 3}, 3),
        ({"sentence_id": "s"}, ""),  # other workers may be at the job's other sentences
        ({"sentence_id": "s", "attempt": "3"}, 3),
        ({"begins": False, "attempt": 5}, 5),
        ({"attempt": "next"}, "+0"),
        ({"attempt": "3"}, "+3"),
    ],
)
def test_what_begins_no_attempt_carries_the_number_that_was_given(options: dict[str, Any], attempt: object) -> None:
    given = {"settings": PublisherSettings()} | options
    state = JobState(given.pop("settings"), "p", job_id="j", job_type="audio", **given)
    assert attempts(state, take(state)) == [attempt]


@pytest.mark.parametrize("is_known", [False, True])
def test_a_forked_child_begins_nothing_and_carries_the_number_that_it_knows(is_known: bool) -> None:
    """A second begin would replace the parent's, and the parent's end with it."""
    parents, childs, job = Schedule(), Schedule(), new_job()
    part = job.of_sentence("s")
    for state in (job, part):
        parents.put(state)
    take(*parents.pop_due(0))
    if is_known:
        job.note(Sent(7, attempt=2))
        parents.settle([job], 0, is_sent=True)
    added = job.of_sentence("t")  # by the child
    for state in (added, part):
        say(state, 10)
        childs.put(state)
    assert set(childs.pop_due(10)) == {added, part}
    for state in (added, part):
        assert attempts(state, take(state)) == [2 if is_known else ""]
    say(job, 10)
    childs.put(job)
    assert attempts(job, take(job)) == [2 if is_known else ""]


def test_data_stay_until_there_are_others_and_are_not_the_callers_to_change() -> None:
    state, data = new_job(), {"voices": [1]}
    state.say(state.check_progress(10, None, data))
    data["voices"].append(2)
    say(state, 20)
    assert state.last.data == {"voices": [1]}
    state.say(state.check_progress(20, None, {}))
    assert state.last.data == {}


# The promise


@pytest.mark.parametrize(("heartbeat", "promised"), [(15, 30), (0.2, 0.4), (None, None), (Decimal("0.5"), 1)])
def test_each_progress_promises_the_next_within_two_heartbeats(heartbeat: Any, promised: float | None) -> None:
    (event,) = sent(new_job(heartbeat=heartbeat))
    assert isinstance(event, Progress)
    assert event.next_within == promised


def test_without_news_the_last_progress_is_renewed_at_each_heartbeat() -> None:
    state = new_job(heartbeat=15)
    say(state, 40, "voice 2")
    before = sent(state, now=100)
    assert state.due() == 115
    assert sent(state, now=115) == before
    assert state.due() == 130


def test_without_a_heartbeat_nothing_is_due() -> None:
    state = new_job(heartbeat=None)
    sent(state)
    assert state.due() == inf


def test_a_tiny_heartbeat_is_no_flood() -> None:
    state = new_job(heartbeat=1e-9)
    sent(state, now=100)
    assert state.due() == 100 + LEAST_PAUSE_SECONDS


def test_the_progress_before_an_end_promises_nothing() -> None:
    state = new_job(begins=False)
    state.finish(complete(state))
    progress, _ = sent(state)
    assert isinstance(progress, Progress)
    assert progress.next_within is None


def test_a_job_that_is_left_takes_its_promise_back() -> None:
    state = new_job()
    sent(state)
    state.leave()
    (progress,) = sent(state)
    assert isinstance(progress, Progress)
    assert progress.next_within is None
    assert state.is_over


@pytest.mark.parametrize("is_sent", [True, False])
def test_a_job_that_is_left_while_its_promise_is_on_its_way_takes_it_back_too(is_sent: bool) -> None:
    state = new_job()
    take(state)
    state.leave()
    state.settle(5, is_sent=is_sent)
    assert not state.is_over
    (progress,) = sent(state)
    assert isinstance(progress, Progress)
    assert progress.next_within is None
    assert state.is_over


def test_a_job_that_is_left_and_has_promised_nothing_has_nothing_to_say() -> None:
    state = new_job(heartbeat=None)
    sent(state)
    state.leave()
    assert state.is_over


@pytest.mark.parametrize("heartbeat", [0, -1, nan, inf, MOST_HEARTBEAT_SECONDS + 1, "often", [], 10**400])
def test_a_heartbeat_that_is_none_is_named(heartbeat: Any) -> None:
    with pytest.raises(ValueError, match="heartbeat"):
        new_job(heartbeat=heartbeat)


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (nan, "progress"),
        (inf, "progress"),
        (101, "progress"),
        (-0.1, "progress"),
        (None, "progress"),
        ("x", "progress"),
    ],
)
def test_a_progress_that_is_none_is_named_and_changes_nothing(value: Any, field: str) -> None:
    state = new_job()
    with pytest.raises(ValueError, match=field):
        state.check_progress(value, None)
    assert state.last.progress == 0


@pytest.mark.parametrize("value", [0, 100, 33.3, Decimal("33.3"), Decimal(40)])
def test_ints_floats_and_decimals_are_progress(value: Any) -> None:
    assert float(new_job().check_progress(value, None).progress) == float(value)


@pytest.mark.parametrize(
    ("value", "shown"), [(100 / 60, 1.7), (200 / 3, 66.7), (99.96, 99.9), (100.0, 100.0), (0.04, 0.0), (33, 33)]
)
def test_one_decimal_of_a_percentage_is_sent_and_100_is_for_what_is_done(value: float, shown: float) -> None:
    """Viewers read `1.6666666666666667%`."""
    assert new_job().check_progress(value, None).progress == shown


# The schedule


def test_jobs_are_due_in_the_order_of_their_times_each_once() -> None:
    schedule, states = Schedule(), [new_job(str(number), heartbeat=5 - number) for number in range(3)]
    for state in states:
        sent(state, now=0)
        schedule.put(state)
        schedule.put(state)
    assert schedule.next_due() == 3
    assert schedule.pop_due(2.9) == []
    assert schedule.pop_due(4) == [states[2], states[1]]
    assert schedule.pop_due(4) == []
    assert list(schedule) == [states[0]]


def test_a_job_that_was_left_while_it_was_on_its_way_is_not_taken_twice() -> None:
    schedule, state = Schedule(), new_job()
    schedule.put(state)
    (state,) = schedule.pop_due(0)
    take(state)
    state.leave()
    schedule.put(state)
    assert schedule.next_due() == inf
    schedule.settle([state], 0, is_sent=True)
    assert schedule.pop_due(10) == [state]
    take(state)
    assert schedule.pop_due(10) == []


def test_of_jobs_that_end_together_sentences_go_first() -> None:
    """A job ends when its own event says so; what comes after it would be refused."""
    schedule, job = Schedule(), new_job(begins=False)
    part = job.of_sentence("s")
    for state in (job, part):
        schedule.put(state)
        state.finish(complete(state))
        schedule.put(state)
    assert schedule.pop_due(0) == [part, job]


def test_the_schedule_does_not_grow_with_what_a_job_says_nor_keeps_jobs_that_ended() -> None:
    """Each progress leaves an entry for the heartbeat that it made needless, and that may be hours away."""
    schedule = Schedule()
    for number in range(100):
        state = new_job(str(number), heartbeat=MOST_HEARTBEAT_SECONDS)
        for second in range(100):
            say(state, second)
            schedule.put(state)
            assert schedule.pop_due(second + 1) == [state]
            take(state)
            schedule.settle([state], second, is_sent=True)
        state.finish(complete(state))
        take(state)
        schedule.settle([state], 100, is_sent=True)
    assert len(schedule._heap) <= LEAST_SWEEP


def test_of_the_jobs_that_ended_while_redis_was_away_the_oldest_are_forgotten() -> None:
    schedule, states = Schedule(), [new_job(str(number)) for number in range(MAX_JOBS + 2)]
    for state in states:
        state.finish(complete(state))
        take(state)
        schedule.settle([state], 0, is_sent=False)
    assert [state.is_over for state in states] == [True, True] + [False] * MAX_JOBS
    assert len(list(schedule)) == MAX_JOBS


def test_to_hurry_makes_due_what_is_unsent_and_renews_nothing() -> None:
    waiting, idle = new_job(), new_job()
    for state in (waiting, idle):
        sent(state, now=100)
    say(waiting, 10)
    for state in (waiting, idle):
        state.hurry()
    assert waiting.due() == -inf
    assert idle.due() > 100


# Any order of all that


class Tracked:
    """A job of the machine, with what Redis has of it, and what was said last."""

    def __init__(self, state: JobState) -> None:
        self.state = state
        self.flight: list[Event] = []
        self.arrived: list[Event] = []
        self.said: Progress = state.last
        self.settled_at = -inf


class AnyOrder(RuleBasedStateMachine):
    """A thread that sends what is due, callers that say, end and leave, and a Redis that comes and goes."""

    @initialize(heartbeats=st.lists(st.sampled_from([None, 0.05, 1, 15]), min_size=1, max_size=3))
    def begin(self, heartbeats: list[float | None]) -> None:
        self.now, self.schedule = 1_000.0, Schedule()
        self.jobs = [Tracked(new_job(str(n), heartbeat=heartbeat)) for n, heartbeat in enumerate(heartbeats)]
        for job in self.jobs:
            self.schedule.put(job.state)

    def job(self, number: int) -> Tracked:
        return self.jobs[number % len(self.jobs)]

    @rule(number=st.integers(0, 2), percent=st.floats(0, 100), message=st.sampled_from([None, "a", "b"]))
    def say(self, number: int, percent: float, message: str | None) -> None:
        job = self.job(number)
        if job.state.is_open:
            say(job.state, percent, message)
            assert job.state.last.progress == max(shown_percent(percent), job.said.progress)
            job.said = job.state.last
            self.schedule.put(job.state)

    @rule(number=st.integers(0, 2), is_end=st.booleans(), is_well=st.booleans())
    def end_or_leave(self, number: int, is_end: bool, is_well: bool) -> None:
        state = self.job(number).state
        if state.is_open:
            end = complete(state) if is_well else JobFailed(**state.identity, error="x")
            state.finish(end) if is_end else state.leave()
            self.schedule.put(state)

    @rule(seconds=st.sampled_from([0.01, 0.1, 0.5, 2, 20]))
    def time_passes_and_what_is_due_is_taken(self, seconds: float) -> None:
        self.now += seconds
        for state in self.schedule.pop_due(self.now):
            (job,) = [job for job in self.jobs if job.state is state]
            assert not state.is_open or self.now >= job.settled_at + LEAST_PAUSE_SECONDS, "more than ten a second"
            self.take(job)

    def take(self, job: Tracked) -> None:
        assert not job.flight, "two at once"
        assert not job.state.is_over, "after the end"
        job.flight = take(job.state)
        assert job.flight, "nothing to send"

    @precondition(lambda self: any(job.flight for job in self.jobs))
    @rule(is_sent=st.booleans())
    def settle(self, *, is_sent: bool) -> None:
        landed = [job for job in self.jobs if job.flight]
        self.schedule.settle([job.state for job in landed], self.now, is_sent=is_sent)
        for job in landed:
            if is_sent:
                job.arrived += job.flight
                job.settled_at = self.now
            job.flight = []

    @invariant()
    def what_is_unsent_is_due_or_somebodys(self) -> None:
        for job in getattr(self, "jobs", ()):
            state = job.state
            if state.has_unsent and not job.flight:
                assert state.due() < inf
                assert state in list(self.schedule)
            if job.flight or state.is_over:
                assert state.due() == inf

    @invariant()
    def bars_rise_and_an_end_is_the_last_and_only_one(self) -> None:
        for job in getattr(self, "jobs", ()):
            told = texts(job.arrived)
            bars = [percent for percent in told if not isinstance(percent, str)]
            assert bars == sorted(bars)  # type: ignore[type-var]
            assert all(not isinstance(percent, str) for percent in told[:-1])

    def teardown(self) -> None:
        """Redis stays: all arrives."""
        for _ in range(4):
            self.settle(is_sent=True)
            self.time_passes_and_what_is_due_is_taken(20)
        for job in getattr(self, "jobs", ()):
            last = [event for event in job.arrived if isinstance(event, Progress)][-1]
            assert (last.progress, last.message) == (job.said.progress, job.said.message)
            if not job.state.is_open:
                assert job.state.end in (None, job.arrived[-1])
                assert last.next_within is None or job.state.end is not None
                assert job.state.is_over


AnyOrder.TestCase.settings = settings(stateful_step_count=30)
TestAnyOrder = AnyOrder.TestCase


def test_the_pace_may_be_another() -> None:
    state = new_job(per_second=2)
    state.take()
    state.settle(100, is_sent=True)
    state.say(state.check_progress(10, None))
    assert state.due() == 100.5
    assert state.of_sentence("s").take()


@pytest.mark.parametrize("per_second", [0, -1, float("nan"), 1_001])
def test_a_pace_that_is_none_is_refused(per_second: float) -> None:
    with pytest.raises(ValueError, match="per_second"):
        new_job(per_second=per_second)
