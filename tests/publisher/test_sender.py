"""The thread that sends for tracked jobs: one for all, never past what is on its way, and what breaks it not."""

import contextvars
import gc
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from publisher import direct, tracking
from publisher import sender as module
from publisher.events import Event, JobComplete, Progress
from publisher.job_state import JobState
from publisher.publication import NOT_SENT, Publication, Sent
from publisher.sender import Sender
from publisher.settings import PublisherSettings
from publisher.tracking import TrackedJob
from tests.conftest import forget_jobs
from tests.contract.deadlines import STALL_SECONDS, wait_for
from tests.contract.processes import RedisServer, environment, run_python

PATIENCE = 60.0


class FakeDelivery:
    def __init__(self, count: int, *, is_given_up: bool) -> None:
        self.given_up = set(range(count)) if is_given_up else set()
        self.sent = [NOT_SENT if is_given_up else Sent(7)] * count


class FakeRedis:
    """Stands where `deliver` does. `hold` makes it slow, `is_away` lets it give up, `error` is raised."""

    def __init__(self) -> None:
        self.batches: list[list[Event]] = []
        self.is_away = False
        self.error: BaseException | None = None
        self.is_flowing = threading.Event()
        self.is_flowing.set()
        self.in_it = 0
        self.meanwhile: Callable[[], object] = lambda: None

    def __call__(self, settings: PublisherSettings, publications: Sequence[Publication]) -> FakeDelivery:
        self.in_it += 1
        assert self.is_flowing.wait(PATIENCE)
        self.meanwhile()
        self.in_it -= 1
        if self.error is not None:
            raise self.error
        if not self.is_away:
            self.batches.append([publication.event for publication in publications])
        return FakeDelivery(len(publications), is_given_up=self.is_away)

    def bars(self, sentence: str | None = None, job: str = "j") -> list[object]:
        events = [event for batch in list(self.batches) for event in batch]
        mine = [event for event in events if (event.job_id, event.sentence_id) == (job, sentence)]
        return [event.progress if isinstance(event, Progress) else event.type for event in mine]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeRedis]:
    fake = FakeRedis()
    monkeypatch.setattr("publisher.transport.sync_driver.send", fake)
    monkeypatch.setattr("publisher.job_state.RETRY_SECONDS", 0.05)
    yield fake
    fake.is_flowing.set()


@pytest.fixture
def sender(fake: FakeRedis, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sender]:
    """One that has begun nothing yet."""
    sender = Sender()
    for user in (direct, tracking):
        monkeypatch.setattr(user, "sender", sender)
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.1)
    yield sender
    fake.is_flowing.set()
    forget_jobs(sender)
    wait_for(lambda: sender._thread is None, "the thread to end")


def new_job(job_id: str = "j", **options: Any) -> TrackedJob:
    job = TrackedJob(JobState(PublisherSettings(), "p", job_id=job_id, job_type="audio", **options))
    job._begin()
    return job


def threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "publisher-jobs"}


# One thread


def test_one_thread_sends_for_a_thousand_jobs_many_at_once_and_ends_when_they_have(
    sender: Sender, fake: FakeRedis
) -> None:
    before = threads()
    jobs = [new_job(str(number), heartbeat=0.2) for number in range(1_000)]
    wait_for(lambda: all(fake.bars(job=job.job_id)[:1] == [0] for job in jobs[::100]), "all to begin")
    assert threads() - before == {sender._thread}
    assert len(fake.batches) < 200
    for job in jobs:
        job.complete()
    wait_for(lambda: threads() <= before, "the thread to end")
    new_job("again").complete()
    assert fake.bars(job="again")[-1] == "job_complete"


def test_jobs_of_two_redis_are_sent_to_each_in_a_batch_of_its_own(sender: Sender, fake: FakeRedis) -> None:
    fake.is_flowing.clear()
    new_job("first")
    wait_for(lambda: fake.in_it == 1, "the thread to send")
    for number, url in enumerate(["redis://a", "redis://b"] * 2):
        sender.begin(JobState(PublisherSettings(url), "p", job_id=f"{url} {number}", job_type="audio"))
    fake.is_flowing.set()
    wait_for(lambda: len(fake.batches) >= 3, "three batches")
    assert [{event.job_id[:9] for event in batch} for batch in fake.batches[1:3]] == [{"redis://a"}, {"redis://b"}]


def test_where_no_thread_is_to_be_had_the_caller_sends_and_the_next_word_tries_again(
    sender: Sender, fake: FakeRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as without_threads:
        without_threads.setattr(threading.Thread, "start", refuse)
        job, other = new_job(), new_job("other")
        job.progress(10)
        job.complete()
    assert fake.bars() == [0, 10, "job_complete"]
    other.progress(20)
    wait_for(lambda: 20 in fake.bars(job="other"), "the other job's progress")


LOADED = """
import sys, threading, time
from publisher import track_job
loaded = []
threading.Thread.start = lambda self, start=threading.Thread.start: (loaded.append(set(sys.modules)), start(self))
with track_job(sys.argv[1], "j", "audio") as job:
    job.progress(0.5)
    time.sleep(0.3)
print(sorted(set(sys.modules) - loaded[0]))
"""


def test_the_thread_imports_nothing(redis_server: RedisServer, project: str) -> None:
    """A child that is forked meanwhile would never get it; test_tracked_exits.py forks at that moment."""
    done = run_python(LOADED, environment(redis_server.url), project)
    assert (done.stdout, done.stderr) == ("[]\n", "")


# Order


def test_an_end_waits_for_what_is_on_its_way(sender: Sender, fake: FakeRedis) -> None:
    fake.is_flowing.clear()
    job = new_job()
    wait_for(lambda: fake.in_it == 1, "the thread to send")
    job.progress(60)
    with ThreadPoolExecutor(1) as pool:
        ending = pool.submit(job.complete)
        wait_for(lambda: job.is_ended, "the end to be said")
        assert fake.in_it == 1, "nothing is sent past it"
        fake.is_flowing.set()
        assert ending.result(PATIENCE) == 7
    assert fake.bars() == [0, 60, "job_complete"]


def test_who_is_interrupted_while_waiting_leaves_the_end_to_the_thread(sender: Sender, fake: FakeRedis) -> None:
    """Ctrl-C while Redis is away: the end was lost, though the process went on."""
    fake.is_flowing.clear()
    job = new_job()
    wait_for(lambda: fake.in_it == 1, "the thread to send")
    interrupt = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    interrupt.start()
    with pytest.raises(KeyboardInterrupt):
        job.complete(file="a.mp3")
    interrupt.join()
    fake.is_flowing.set()
    wait_for(lambda: fake.bars()[-1:] == ["job_complete"], "the end")
    assert fake.bars() == [0, "job_complete"]


def test_a_generator_that_the_garbage_collector_closes_in_the_thread_does_not_stop_it(
    sender: Sender, fake: FakeRedis
) -> None:
    """The thread would wait for itself to have sent the job that it is sending."""
    ring: list[Any] = []

    def close() -> None:
        if threading.current_thread() is sender._thread and ring:
            ring.clear()
            gc.collect()

    def pages() -> Iterator[int]:
        with new_job() as job:
            ring.append(job)
            yield 1

    generator = pages()
    fake.is_flowing.clear()
    contextvars.copy_context().run(next, generator)
    ring.append([generator, ring])
    del generator
    wait_for(lambda: fake.in_it == 1, "the thread to send")
    fake.meanwhile = close
    fake.is_flowing.set()
    wait_for(lambda: fake.bars()[-1:] == ["job_failed"], "the end")


# Threads side by side


def test_threads_that_hammer_one_job_are_all_heard_and_it_ends_once(sender: Sender, fake: FakeRedis) -> None:
    job = new_job(heartbeat=0.01)

    def hammer(number: int) -> None:
        for step in range(300):
            job.progress(step / 3)
            job.sentence(f"s{step % 20}").progress(step / 3)
        job.complete()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(hammer, range(8)))
    for sentence in (None, *(f"s{number}" for number in range(20))):
        bars = fake.bars(sentence)
        assert bars.count("job_complete") == 1
        assert bars[-1] == "job_complete"
        assert bars[:-1] == sorted(bars[:-1])  # type: ignore[type-var]
    wait_for(lambda: not list(sender._schedule), "nothing more to be due")


def test_of_threads_that_ask_for_a_sentence_at_once_one_begins_it(
    sender: Sender, fake: FakeRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second one, which nobody ended, was renewed for ever."""
    job, both = new_job(), threading.Barrier(2)
    state_of = job._state.of_sentence

    def slowly(sentence_id: str) -> JobState:
        both.wait(PATIENCE)
        return state_of(sentence_id)

    monkeypatch.setattr(job._state, "of_sentence", slowly)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(job.sentence, ["s1", "s1"])
    assert first is second
    job.complete()
    assert not list(sender._schedule)


def test_a_sentence_that_begins_while_its_job_ends_ends_too_or_is_not_told(sender: Sender, fake: FakeRedis) -> None:
    for _ in range(50):
        job = new_job()
        with ThreadPoolExecutor(2) as pool:
            pool.submit(lambda: [job.sentence(str(number)) for number in range(20)])  # noqa: B023
            pool.submit(job.complete)
        assert not list(sender._schedule)


def test_a_sentence_that_ends_just_before_its_job_keeps_its_own_end(sender: Sender, fake: FakeRedis) -> None:
    fake.is_flowing.clear()
    job = new_job()
    sentence = job.sentence("s1")
    wait_for(lambda: fake.in_it == 1, "the thread to send")
    with ThreadPoolExecutor(2) as pool:
        pool.submit(sentence.complete, file="s1.mp3")
        wait_for(lambda: sentence.is_ended, "the sentence to end")
        pool.submit(job.fail, "no")
        wait_for(lambda: job.is_ended, "the job to end")
        fake.is_flowing.set()
    events = [event for batch in fake.batches for event in batch if event.sentence_id and event.type != "progress"]
    assert [event.result.file for event in events if isinstance(event, JobComplete)] == ["s1.mp3"]
    assert len(events) == 1


# What goes wrong


def test_what_could_not_be_sent_is_tried_again(sender: Sender, fake: FakeRedis) -> None:
    fake.is_away = True
    job = new_job()
    job.progress(30)
    assert job.complete() is None
    fake.is_away = False
    wait_for(lambda: fake.bars()[-1:] == ["job_complete"], "the end")
    assert fake.bars() == [30, "job_complete"]


def test_an_error_that_nobody_knows_breaks_no_job_and_no_thread_and_is_logged_once(
    sender: Sender, fake: FakeRedis, caplog: pytest.LogCaptureFixture
) -> None:
    fake.error = ZeroDivisionError("in a library")
    job, ended = new_job(), new_job("ended")
    assert ended.complete() is None
    time.sleep(0.2)  # a few more tries
    fake.error = None
    wait_for(lambda: fake.bars(job="ended")[-1:] == ["job_complete"], "the end")
    job.progress(50)
    wait_for(lambda: 50 in fake.bars(), "the job to go on")
    assert [(record.name, record.levelno) for record in caplog.records] == [("publisher", logging.ERROR)]


def test_to_flush_sends_what_waits_and_renews_nothing(sender: Sender, fake: FakeRedis) -> None:
    job, idle = new_job(), new_job("idle")
    wait_for(lambda: fake.bars() == [0] and fake.bars(job="idle") == [0], "both to begin")
    job.progress(40)
    sender.flush(PATIENCE)
    assert fake.bars() == [0, 40]
    assert fake.bars(job="idle") == [0]
    assert not idle.is_ended


@pytest.mark.parametrize("is_frozen", [True, False])
def test_to_flush_takes_its_bound_at_most(sender: Sender, fake: FakeRedis, is_frozen: bool) -> None:
    fake.is_away = True
    if is_frozen:
        fake.is_flowing.clear()
    new_job()
    before = time.monotonic()
    sender.flush(0.3)
    assert 0.25 < time.monotonic() - before < 0.3 + STALL_SECONDS, "without a bound it would wait for ever"


def test_a_job_that_came_by_a_fork_is_told_of_and_not_renewed(
    sender: Sender, fake: FakeRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its parent renews it, and a child would do so even after its end."""
    job = new_job(heartbeat=0.1)
    wait_for(lambda: fake.bars()[:1] == [0], "the job to begin")
    child = Sender()
    monkeypatch.setattr(job, "_sender", child)
    job.progress(50)
    wait_for(lambda: 50 in fake.bars(), "the child's word")
    child.flush(PATIENCE)
    assert not list(child._schedule)
    wait_for(lambda: child._thread is None, "the child's thread to end")
