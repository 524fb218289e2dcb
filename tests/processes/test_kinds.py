"""One program in processes of all kinds: each event arrives, each job has one end, and nothing breaks."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.contract.deadlines import wait_for
from tests.contract.processes import RedisServer
from tests.listener import Listener

from .programs import play

PATIENCE = 60.0
COUNT = 6

WORK = """
import publisher.aio
def work(number):
    assert broadcast_to_project(project, event(f"single_{number}")), "not sent"
    with track_job(project, f"tracked_{number}", "audio") as job:
        job.progress(50)
async def work_async(number):
    assert await publisher.aio.broadcast_to_project(project, event(f"single_{number}")), "not sent"
    async with publisher.aio.track_job(project, f"tracked_{number}", "audio") as job:
        job.progress(50)
"""
# `multiprocessing` wants what it runs in a file.
POOL = """
import multiprocessing, pathlib, runpy, tempfile
source = pathlib.Path(tempfile.mkdtemp()) / "jobs_of_mine.py"
source.write_text(PREFIX_AND_WORK)
sys.path.insert(0, str(source.parent))
import jobs_of_mine
broadcast_to_project(project, event("before"))
with multiprocessing.get_context(METHOD).Pool(2) as pool:
    pool.map(jobs_of_mine.work, range(6), chunksize=1)
    pool.close()
    pool.join()
"""
KINDS = {
    "plain": "for number in range(6): work(number)",
    "threads": """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(3) as pool:
    list(pool.map(work, range(6)))
""",
    "asyncio.run again and again": "for number in range(6): asyncio.run(work_async(number))",
    "loops in threads": """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(3) as pool:
    list(pool.map(lambda number: asyncio.run(work_async(number)), range(6)))
""",
    "a signal handler": """
numbers = iter(range(6))
signal.signal(signal.SIGUSR1, lambda *_: work(next(numbers)))
with track_job(project, "around", "audio") as job:
    for _ in range(6):
        job.progress(1)
        os.kill(os.getpid(), signal.SIGUSR1)
""",
    "a garbage collector": """
import gc
class Last:
    def __init__(self, number):
        self.number, self.itself = number, self
    def __del__(self):
        work(self.number)
for number in range(6): Last(number)
gc.collect()
""",
    "multiprocessing, fork": POOL.replace("METHOD", '"fork"'),
    "multiprocessing, spawn": POOL.replace("METHOD", '"spawn"'),
    "multiprocessing, forkserver": POOL.replace("METHOD", '"forkserver"'),
    "frozen for a moment": """
if (pid := os.fork()) == 0:
    for number in range(6):
        work(number)
        time.sleep(0.2)
    os._exit(0)
time.sleep(0.5)
os.kill(pid, signal.SIGSTOP)
time.sleep(SECONDS)
os.kill(pid, signal.SIGCONT)
wait_for(pid)
""",
}
SLOW = {"multiprocessing, spawn", "multiprocessing, forkserver"}


@pytest.mark.parametrize("seconds", [pytest.param(0.5, id="some"), pytest.param(5, id="all", marks=pytest.mark.soak)])
def test_a_process_of_this_kind(redis_server: RedisServer, project: str, seconds: float) -> None:
    def run(name: str) -> None:
        own = f"{project}_{list(KINDS).index(name)}"
        listener = Listener(redis_server, own)
        code = KINDS[name].replace("SECONDS", str(seconds))
        if "PREFIX_AND_WORK" in code:
            code = code.replace("PREFIX_AND_WORK", "OWN")
            code = f"OWN = {MODULE.replace('PROJECT', own)!r}\n" + code
        done = play(WORK + code + CHECK, redis_server.url, own)
        assert (done.status, done.err) == (0, ""), name
        expected = {(f"single_{number}", "progress") for number in range(COUNT)}
        expected |= {(f"tracked_{number}", "job_complete") for number in range(COUNT)}
        wait_for(
            lambda: {(event["jobId"], event["type"]) for event in listener.events} >= expected,
            f"{name}: all events", PATIENCE,
        )  # fmt: skip
        ends = sorted(event["jobId"] for event in listener.events if event["type"] != "progress")
        assert len(ends) == len(set(ends)), (name, ends)
        listener.close()

    names = [name for name in KINDS if seconds > 1 or name not in SLOW]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, names))


# What the processes of a pool import.
MODULE = (
    "from publisher import broadcast_to_project, track_job\n"
    "project = 'PROJECT'\n"
    "def work(number):\n"
    "    event = {'type': 'progress', 'jobId': f'single_{number}', 'jobType': 'audio', 'progress': 1}\n"
    "    assert broadcast_to_project(project, event), 'not sent'\n"
    "    with track_job(project, f'tracked_{number}', 'audio') as job:\n"
    "        job.progress(50)\n"
)
CHECK = """
descriptors = len(os.listdir("/proc/self/fd"))
assert descriptors < 40, descriptors
assert threading.active_count() <= 2, threading.enumerate()
"""
