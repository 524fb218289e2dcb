"""The main thread has ended, or the interpreter is ending. No thread starts any more; events are sent all the same."""

import pytest

from tests.contract.deadlines import wait_for
from tests.contract.processes import RedisServer
from tests.listener import Listener

from .programs import play

PATIENCE = 60.0

# A host name, because a loop looks up names in threads.
WORK = """
import publisher.aio
async def asynchronous():
    assert await publisher.aio.broadcast_to_project(project, event("async"))
    async with publisher.aio.track_job(project, "async_tracked", "audio") as job:
        job.progress(50)
def work():
    if threading.current_thread() is not threading.main_thread():
        threading.main_thread().join()
    assert broadcast_to_project(project, event("sync"))
    with track_job(project, "tracked", "audio") as job:
        job.progress(50)
    asyncio.run(asynchronous())
    os.environ["REDIS_URL"] = os.environ["REDIS_URL"].replace("127.0.0.1", "localhost")
    assert asyncio.run(publisher.aio.broadcast_to_project(project, event("looked up")))
"""
MOMENTS = {
    "after the main thread": "threading.Thread(target=work).start()",
    "in atexit": "atexit.register(work)",
    "in atexit, after the publisher's own": "atexit._clear(); atexit.register(work)",
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_first_event_is_sent(redis_server: RedisServer, project: str, moment: str) -> None:
    """It raised `RuntimeError` into the job: "can't register atexit after shutdown"."""
    listener = Listener(redis_server, project)
    done = play(WORK + MOMENTS[moment], redis_server.url, project)
    assert (done.status, done.err) == (0, "")
    expected = {
        ("sync", "progress"), ("async", "progress"), ("looked up", "progress"),
        ("tracked", "job_complete"), ("async_tracked", "job_complete"),
    }  # fmt: skip
    wait_for(lambda: {(one["jobId"], one["type"]) for one in listener.events} >= expected, "all events", PATIENCE)
    listener.close()


# 300 loops would do; 40 show it.
LOOPS = """
import gc, publisher.aio
for number in range(40):
    loop = asyncio.new_event_loop()
    assert loop.run_until_complete(publisher.aio.broadcast_to_project(project, event(f"job_{{number}}")))
    {end}
gc.collect()
descriptors = len(os.listdir("/proc/self/fd"))
assert descriptors < 30, descriptors
assert threading.active_count() == 1
"""


@pytest.mark.parametrize("end", ["del loop", "loop.close()"])
def test_loops_that_are_thrown_away_leave_no_descriptor(redis_server: RedisServer, project: str, end: str) -> None:
    code = "warnings.simplefilter('ignore', ResourceWarning)\n" + LOOPS.format(end=end)
    done = play(code, redis_server.url, project)
    assert (done.status, done.err) == (0, "")
