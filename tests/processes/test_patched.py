"""gevent and eventlet, patched wholly, in part, and after the import: no job breaks, and every event arrives."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.contract.deadlines import wait_for
from tests.contract.processes import RedisServer
from tests.listener import Listener

from .programs import PREFIX, play

PATIENCE = 60.0
JOBS = 40

GEVENT = "from gevent import monkey\nmonkey."
EVENTLET = "import eventlet\neventlet.monkey_patch("
USED = """
broadcast_to_project(project, event("before"))
with track_job(project, "before", "audio") as job:
    job.progress(50)
"""
# What is patched before the import of the publisher, and after it; and who runs the jobs.
PATCHED = {
    "gevent": (f"{GEVENT}patch_all()", "", "gevent"),
    "gevent, without threads": (f"{GEVENT}patch_all(thread=False)", "", "gevent"),
    "gevent, sockets only": (f"{GEVENT}patch_socket()", "", "gevent"),
    "gevent, its thread pool": (f"{GEVENT}patch_all()", "", "gevent.threadpool"),
    "gevent, after the import": ("", f"{GEVENT}patch_all()", "gevent"),
    "gevent, after the first job": ("", f"{USED}{GEVENT}patch_all()", "gevent"),
    "eventlet": (f"{EVENTLET})", "", "eventlet"),
    "eventlet, without threads": (f"{EVENTLET}thread=False)", "", "eventlet"),
    "eventlet, sockets only": (f"{EVENTLET}all=False, socket=True)", "", "eventlet"),
    "eventlet, after the import": ("", f"{EVENTLET})", "eventlet"),
}
QUICK = ("gevent", "gevent, without threads", "gevent, its thread pool", "gevent, after the first job", "eventlet")
RUNNERS = {
    "gevent": "from gevent.pool import Pool\npool = Pool(20)\nspawn, wait = pool.spawn, pool.join",
    "gevent.threadpool": "from gevent.threadpool import ThreadPool\npool = ThreadPool(6)\n"
    "spawn, wait = pool.spawn, pool.join",
    "eventlet": "from eventlet import GreenPool\npool = GreenPool(20)\nspawn, wait = pool.spawn, pool.waitall",
}
WORK = """
broken = []
def work(number):
    try:
        for step in range(3):
            assert broadcast_to_project(project, event(f"single_{number}", step)), "not sent"
        with track_job(project, f"tracked_{number}", "audio") as job:
            job.progress(50)
            time.sleep(0.01)
    except BaseException as error:
        broken.append(repr(error))
"""
CHECK = f"""
for number in range({JOBS}):
    spawn(work, number)
wait()
assert not broken, broken[:3]
descriptors = len(os.listdir("/proc/self/fd"))
assert descriptors < 70, descriptors
"""


@pytest.mark.parametrize(
    "names", [pytest.param(QUICK, id="some"), pytest.param(tuple(PATCHED), id="all", marks=pytest.mark.soak)]
)
def test_patched(redis_server: RedisServer, project: str, names: tuple[str, ...]) -> None:
    def run(name: str) -> None:
        before, after, runner = PATCHED[name]
        own = f"{project}_{list(PATCHED).index(name)}"
        listener = Listener(redis_server, own)
        code = "\n".join([after, RUNNERS[runner], WORK, CHECK])
        done = play(code, redis_server.url, own, prefix=f"{before}\n{PREFIX}", options=("-W", "ignore"))
        assert done.status == 0, f"{name}: {done.err[-3000:]}"
        expected = {(f"single_{number}", "progress") for number in range(JOBS)}
        expected |= {(f"tracked_{number}", "job_complete") for number in range(JOBS)}
        wait_for(
            lambda: {(event["jobId"], event["type"]) for event in listener.events} >= expected,
            f"{name}: all events", PATIENCE,
        )  # fmt: skip
        ends = [event["jobId"] for event in listener.events if event["type"] == "job_complete"]
        assert len(ends) == len(set(ends)), name
        listener.close()

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(run, names))
