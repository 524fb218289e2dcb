"""What is peculiar to tracked jobs in async code: awaiting, cancellation, loops that end, and threads beside them."""

import asyncio
import gc
import itertools
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from publisher import job_state
from publisher.aio import current_job, track, track_job
from publisher.aio import tracking as aio_tracking
from publisher.aio.tracking import AsyncTrackedJob
from publisher.sender import WAIT_SECONDS, sender
from publisher.transport import circuit as outage
from publisher.transport import sync_driver
from tests.contract.deadlines import eventually, wait_for
from tests.contract.processes import RedisServer, environment, of_forks, run_python
from tests.listener import Listener


@pytest.fixture
def server(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> RedisServer:
    monkeypatch.setenv("REDIS_URL", redis_server.url)
    return redis_server


@pytest.fixture
def listener(server: RedisServer, project: str) -> Iterator[Listener]:
    listener = Listener(server, project)
    yield listener
    listener.close()


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Nothing is sent before it is set."""
    gate, send = threading.Event(), sync_driver.send

    def late(*args: Any) -> Any:
        assert gate.wait(10)
        return send(*args)

    monkeypatch.setattr(sync_driver, "send", late)
    yield gate
    gate.set()


# Awaiting


async def test_what_the_methods_return_may_be_awaited(listener: Listener, project: str) -> None:
    async with track_job(project, "j", "audio") as job:
        assert await job.progress(10) is None  # type: ignore[func-returns-value]
        seq = await job.complete(file="a.mp3")
        assert await job.complete() is None
        assert await job.progress(20) is None  # type: ignore[func-returns-value]
    assert seq == listener.until("job_complete")[-1]["seq"]


async def test_the_end_was_sent_when_the_block_is_left(listener: Listener, project: str) -> None:
    async with track_job(project, "j", "audio") as job:
        job.complete()
    assert listener.bars()[-1:] == ["job_complete"] or listener.until("job_complete")


async def test_a_thousand_jobs_have_one_thread_and_no_task_or_timer(
    listener: Listener, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    others, loop = threads() - {"publisher-jobs"}, asyncio.get_running_loop()
    timers: list[asyncio.TimerHandle] = []

    def call_later(*args: Any, call: Any = loop.call_later) -> asyncio.TimerHandle:
        timers.append(call(*args))
        return timers[-1]

    monkeypatch.setattr(loop, "call_later", call_later)
    may_end = asyncio.Event()
    async with asyncio.TaskGroup() as group:

        async def work(number: int) -> None:
            async with track_job(project, str(number), "audio", heartbeat=0.2):
                await may_end.wait()

        tasks = {group.create_task(work(number)) for number in range(1_000)}
        await eventually(lambda: len({event["jobId"] for event in listener.events}) == 1_000, "all to begin")
        assert asyncio.all_tasks() == {*tasks, asyncio.current_task()}
        assert not [timer for timer in timers if "publisher" in repr(timer)]
        assert threads() - others == {"publisher-jobs"}
        may_end.set()
    await eventually(lambda: len([e for e in listener.events if e["type"] == "job_complete"]) == 1_000, "all ends")


async def test_the_loop_is_not_stopped_while_redis_is_away(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch, project: str
) -> None:
    monkeypatch.setenv("REDIS_URL", own_redis.url)
    monkeypatch.setattr(outage, "GIVE_UP_SECONDS", 0.5)
    own_redis.freeze()
    laps = []

    async def count() -> None:
        while True:
            laps.append(time.monotonic())
            await asyncio.sleep(0.01)

    counting = asyncio.create_task(count())
    async with track_job(project, "j", "audio") as job:
        for percent in range(100):
            await job.progress(percent)
    counting.cancel()
    assert max(later - earlier for earlier, later in itertools.pairwise(laps)) < 0.3


# Cancellation


async def test_a_cancelled_task_says_so_and_its_cancellation_goes_on(listener: Listener, project: str) -> None:
    async def work() -> None:
        async with track_job(project, "j", "audio") as job:
            job.progress(30)
            await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await eventually(listener.has(30), "the job to run")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert listener.until("job_failed")[-1]["error"] == "Cancelled"


async def test_who_is_cancelled_while_the_end_is_sent_goes_and_the_end_is_sent(
    listener: Listener, project: str, gate: threading.Event
) -> None:
    async def work() -> None:
        async with track_job(project, "j", "audio"):
            pass

    task = asyncio.create_task(work())
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert listener.events == []
    gate.set()
    await eventually(listener.has("job_complete"), "the end")


async def test_who_cancels_every_task_loses_no_end(
    listener: Listener, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some servers do so when they end; the tasks that send are among them, perhaps before their first step."""
    monkeypatch.setattr(job_state, "RETRY_SECONDS", 0.05)
    running = track_job(project, "running", "audio", heartbeat=None)
    job = await running.__aenter__()
    ended = await track_job(project, "j", "audio").__aenter__()
    ended.complete()
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    await eventually(listener.has("job_complete"), "the end")
    job.progress(70)
    await eventually(lambda: 70 in listener.bars(job="running"), "the other job to go on")
    await running.__aexit__(None, None, None)


async def test_a_task_group_that_fails_says_which_error_it_was(listener: Listener, project: str) -> None:
    async def fail() -> None:
        raise ValueError("no voice")

    with pytest.raises(ExceptionGroup):
        async with track_job(project, "j", "audio"), asyncio.TaskGroup() as group:
            group.create_task(fail())
    assert listener.until("job_failed")[-1]["error"] == "ValueError: no voice"


async def test_an_error_that_nobody_knows_breaks_no_job_and_is_logged_once(
    listener: Listener, project: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sender, "_complained_at", float("-inf"))

    def fail(*args: Any) -> Any:
        raise ZeroDivisionError("in a library")

    monkeypatch.setattr(job_state, "RETRY_SECONDS", 0.05)
    with monkeypatch.context() as broken:
        broken.setattr(sync_driver, "send", fail)
        async with track_job(project, "j", "audio") as job:
            await asyncio.sleep(0.2)
            job.progress(50)
    assert await asyncio.to_thread(listener.until, "job_complete")
    assert len(caplog.records) == 1


# Loops that end


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outage, "GIVE_UP_SECONDS", 0.1)
    monkeypatch.setattr(job_state, "RETRY_SECONDS", 0.05)


async def work(project: str) -> None:
    async with track_job(project, "j", "audio") as job:
        job.progress(40)


def test_without_another_try_an_end_is_lost_with_its_redis(
    hurried: None, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch, project: str
) -> None:
    """The control of test_tracking.test_an_end_that_could_not_be_sent_is_sent_when_redis_is_back."""
    monkeypatch.setenv("REDIS_URL", own_redis.url)
    monkeypatch.setattr(job_state, "RETRY_SECONDS", 100.0)
    own_redis.kill()
    asyncio.run(work(project))
    own_redis.start()
    time.sleep(0.5)
    assert own_redis.keys(project) == []


def test_an_end_that_is_on_its_way_when_the_loop_ends_arrives(
    listener: Listener, project: str, gate: threading.Event
) -> None:
    async def main() -> None:
        job = await track_job(project, "j", "audio").__aenter__()
        job.complete(file="a.mp3")
        await asyncio.sleep(0.05)

    asyncio.run(main())
    assert listener.events == []
    gate.set()
    assert listener.until("job_complete")[-1]["result"] == {"file": "a.mp3"}


async def test_who_waits_for_an_end_is_woken_at_once(
    listener: Listener, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aio_tracking, "LOST_WAKE_UP_SECONDS", 60.0)
    monkeypatch.setattr(aio_tracking, "WAIT_SECONDS", 60.0)
    async with asyncio.timeout(30), track_job(project, "j", "audio") as job:
        seq = await job.complete()
    assert seq == listener.until("job_complete")[-1]["seq"]


async def test_nothing_that_an_event_loop_calls_waits_for_what_is_being_sent(
    listener: Listener, project: str, gate: threading.Event
) -> None:
    job = await track_job(project, "j", "audio").__aenter__()
    await asyncio.sleep(0.05)  # the thread is sending
    for step in range(100):
        job.progress(step)
        job.sentence(f"s{step}")
    sent = job.complete()
    assert listener.events == []
    gate.set()
    assert await sent is not None


@pytest.mark.parametrize("has_closed", [True, False])
def test_a_coroutine_that_is_thrown_away_has_failed(listener: Listener, project: str, has_closed: bool) -> None:
    """It cannot wait for anything, and its loop may be closed; warnings are errors here."""
    loop = asyncio.new_event_loop()
    waiting = loop.create_future()

    async def wait() -> None:
        async with track_job(project, "j", "audio") as job:
            job.progress(30)
            await waiting

    async def drive() -> Any:
        coroutine = wait()
        coroutine.send(None)
        await asyncio.sleep(0.1)
        return coroutine

    coroutine = loop.run_until_complete(drive())

    async def close() -> None:
        coroutine.close()
        await asyncio.sleep(0.1)

    if not has_closed:
        loop.run_until_complete(close())
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    coroutine.close()
    assert listener.until("job_failed")[-1]["error"] == "Stopped before its end"
    gc.collect()


def test_a_thread_that_outlives_its_loop_is_not_broken_by_it(listener: Listener, project: str) -> None:
    jobs: list[AsyncTrackedJob] = []

    async def main() -> None:
        jobs.append(await track_job(project, "j", "audio").__aenter__())
        await asyncio.sleep(0.05)

    asyncio.run(main())
    jobs[0].progress(60)
    wait_for(listener.has(60), "what the thread said")
    jobs[0].complete(file="a.mp3")
    jobs[0].progress(70)
    assert listener.until("job_complete")[-1]["result"] == {"file": "a.mp3"}


def test_a_loop_that_is_left_at_once_closes_its_job(listener: Listener, project: str) -> None:
    async def main() -> None:
        async for page in track(range(10), project, "j", "script"):
            if page == 3:
                break

    asyncio.run(main())
    assert listener.until("job_failed")[-1]["error"] in ("Stopped before its end", "Cancelled")


def test_loops_in_threads_come_and_go(listener: Listener, project: str) -> None:
    """Each looks for those that were closed; two that found the same one broke."""

    async def main(number: int) -> None:
        async with track_job(project, str(number), "audio") as job:
            job.progress(50)

    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(lambda number: asyncio.run(main(number)), range(100)):
            pass
    wait_for(lambda: len([e for e in listener.events if e["type"] == "job_complete"]) == 100, "all ends")


# Other code


async def test_threads_that_the_code_starts_may_tell_too(listener: Listener, project: str) -> None:
    def work(job: AsyncTrackedJob, part: int) -> None:
        for step in range(100):
            job.progress(step)
            job.sentence(f"s{part % 2}").progress(step)

    async with track_job(project, "j", "audio") as job:
        await asyncio.gather(*(asyncio.to_thread(work, job, part) for part in range(4)))
        assert job.percent == 99
    for sentence in (None, "s0", "s1"):
        bars = [event.get("progress", event["type"]) for event in listener.until("job_complete", sentence)]
        assert bars[-2:] == [99, "job_complete"]
        assert bars[:-1] == sorted(bars[:-1])  # type: ignore[type-var]


async def test_async_items_are_counted(listener: Listener, project: str) -> None:
    async def pages() -> AsyncIterator[int]:
        for page in range(4):
            yield page

    assert [page async for page in track(pages(), project, "j", "script", total=4)] == [0, 1, 2, 3]
    assert [page async for page in track([1, 2], project, "k", "script")] == [1, 2]
    await eventually(listener.has("job_complete"), "the end")
    assert listener.bars()[-2:] == [100, "job_complete"]


async def test_a_decorated_coroutine_function_is_a_job_for_each_call(listener: Listener, project: str) -> None:
    @track_job("{project_id}", "job_{number}", "audio")
    async def voice(project_id: str, number: int) -> int:
        await asyncio.sleep(0.05)
        current_job().progress(number)
        return number

    assert [*await asyncio.gather(voice(project, 1), voice(project, 2))] == [1, 2]
    await eventually(lambda: listener.bars(job="job_2")[-1:] == ["job_complete"], "the second end")
    assert listener.bars(job="job_1")[-2:] == [1, "job_complete"]
    assert listener.bars(job="job_2")[-2:] == [2, "job_complete"]
    with pytest.raises(LookupError):
        current_job()


def test_ordinary_functions_are_refused() -> None:
    def voice() -> None: ...

    with pytest.raises(TypeError, match=r"publisher\.track_job"):
        track_job("p", "j", "audio")(voice)  # type: ignore[arg-type]


# Whole programs. Warnings are errors in them, and what asyncio says of its own is heard.

PROGRAM = """
import asyncio, gc, os, signal, sys, time
from publisher.aio import track_job, track
project = sys.argv[1]
async def work(job_id="j", seconds=60, heartbeat=0.1):
    async with track_job(project, job_id, "audio", heartbeat=heartbeat) as job:
        job.progress(40)
        await asyncio.sleep(seconds)
def ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)
"""
INTERRUPTED = """
async def main():
    asyncio.get_running_loop().call_later(0.3, ctrl_c)
    await work()
try:
    runner(main())
except KeyboardInterrupt:
    print("interrupted")
"""
LEFT_BEHIND = """
async def main():
    task = asyncio.create_task(work())
    await asyncio.sleep(0.2)
runner(main())
"""
AT_ONCE = """
async def main():
    job = await track_job(project, "j", "audio").__aenter__()
    job.progress(40)
    job.fail("at once")
runner(main())
"""
BROKEN_OFF = """
async def main():
    async for page in track(range(10), project, "j", "audio"):
        if page == 4:
            break
runner(main())
"""
CLOSED = """
loop = new_loop()
task = loop.create_task(work())
task._log_destroy_pending = False  # what asyncio says of the program's own task
loop.call_later(0.3, loop.stop)
loop.run_forever()
loop.run_until_complete(loop.shutdown_asyncgens())
loop.close()
del task
gc.collect()
"""
FORGOTTEN = """
loop = new_loop()
loop.create_task(work("forgotten", heartbeat=None))._log_destroy_pending = False
loop.run_until_complete(work(seconds=0.3))
loop.run_until_complete(loop.shutdown_asyncgens())
loop.close()
"""
PROGRAMS = {
    "ended by Ctrl-C": INTERRUPTED,
    "left behind by asyncio.run": LEFT_BEHIND,
    "ended with the loop": AT_ONCE,
    "broken off": BROKEN_OFF,
    "open when the loop is closed": CLOSED,
    "open when the interpreter ends": FORGOTTEN,
}
LOOPS = {
    "asyncio": "runner, new_loop = asyncio.run, asyncio.new_event_loop\n",
    "uvloop": "import uvloop\nrunner, new_loop = uvloop.run, uvloop.new_event_loop\n",
}


@pytest.mark.parametrize("loop", LOOPS)
def test_however_a_program_ends_its_job_ends_too_without_a_warning(
    server: RedisServer, project: str, loop: str
) -> None:
    if loop == "uvloop":
        pytest.importorskip("uvloop")

    def play(name: str) -> tuple[Any, list[object]]:
        mine = f"{project}_{list(PROGRAMS).index(name)}"
        listener = Listener(server, mine)
        code = "import warnings; warnings.simplefilter('error')\n" + PROGRAM + LOOPS[loop] + PROGRAMS[name]
        env = environment(server.url, PYTHONDEVMODE=1)
        done = run_python(code, env, mine)
        wait_for(lambda: listener.bars()[-1:] in (["job_failed"], ["job_complete"]), f"the end of the job {name}")
        ends = [event.get("error", event["type"]) for event in listener.of() if event["type"] != "progress"]
        listener.close()
        return done, ends

    with ThreadPoolExecutor(len(PROGRAMS)) as pool:
        for name, (done, ends) in zip(PROGRAMS, pool.map(play, PROGRAMS), strict=True):
            # A busy machine is slow: asyncio, in development mode, says that too.
            said = [line for line in done.stderr.splitlines() if not line.startswith("Executing ")]
            assert (done.returncode, said) == (0, []), f"{name}: {done.stderr}"
            assert len(ends) == 1, name
            assert ends[0] in ("Cancelled", "at once", "Stopped before its end", "job_complete"), name


FORKED = """
async def main():
    async with track_job(project, 'j', 'audio') as job:
        await job.progress(10)
        if os.fork() == 0:
            {child}
        assert os.waitstatus_to_exitcode(os.wait()[1]) == 3
        await job.progress(90)
began = time.monotonic()
asyncio.run(main())
print(time.monotonic() - began)
"""
CHILDREN = {
    "leaves the block": "raise SystemExit(3)",
    "waits for the end of a sentence": "await job.sentence('s1').complete(); raise SystemExit(3)",
}


@pytest.mark.parametrize("child", CHILDREN)
def test_a_forked_child_that_leaves_the_block_does_not_end_the_job(
    server: RedisServer, project: str, child: str
) -> None:
    """It shares the epoll and the wake-up socket of its parent's loop: a wake-up of either may be lost."""
    listener = Listener(server, project)
    done = run_python(PROGRAM + FORKED.format(child=CHILDREN[child]), of_forks(server.url), project)
    assert done.returncode == 0, done.stderr
    assert listener.until("job_complete")[-2]["progress"] == 90
    assert "job_failed" not in listener.bars()
    assert float(done.stdout) < WAIT_SECONDS, "nobody waited in vain"
    listener.close()
