"""A fork at any moment: the child publishes, and waits for nothing that a thread of its parent has."""

import pytest

from tests.contract.deadlines import wait_for
from tests.contract.processes import RedisServer
from tests.listener import Listener

from .programs import play

PATIENCE = 60.0

# Each try is a process of its own: its threads load, look up and connect for the first time while it forks.
AT_THE_FIRST_EVENT = """
def run(number):
    threads = [threading.Thread(target=broadcast_to_project, args=(project, event(f"{number}_t{i}"))) for i in range(4)]
    for thread in threads:
        thread.start()
    children = []
    for child in range(4):
        time.sleep(number % 5 / 1_000)
        if (pid := FORK()) == 0:
            broadcast_to_project(project, event(f"{number}_c{child}"))
            os._exit(0)
        children.append(pid)
    for thread in threads:
        thread.join()
    wait_for(*children)
for number in range(int(sys.argv[2])):
    if (pid := os.fork()) == 0:
        run(number)
        os._exit(0)
    wait_for(pid)
"""


def jobs_heard(listener: Listener) -> list[str]:
    return sorted(event["jobId"] for event in listener.events)


@pytest.mark.parametrize("tries", [pytest.param(10, id="some"), pytest.param(50, id="fifty", marks=pytest.mark.soak)])
def test_a_child_that_is_forked_at_the_first_event_of_other_threads_publishes(
    redis_server: RedisServer, project: str, tries: int
) -> None:
    """The child waited for ever: for a module that a thread was loading, or for a lock that it held."""
    listener = Listener(redis_server, project)
    done = play(AT_THE_FIRST_EVENT.replace("FORK", "os.fork"), redis_server.url, project, str(tries))
    assert (done.status, done.err) == (0, "")
    expected = sorted(f"{number}_{who}{i}" for number in range(tries) for who in "tc" for i in range(4))
    wait_for(lambda: jobs_heard(listener) == expected, "one event of each thread and child", PATIENCE)
    listener.close()


# As in uWSGI, whose master starts no thread of ours: a child of such a fork may hang if a thread waits for the
# interpreter in that moment, whoever's thread it is.
UWSGI = """
import types
master = os.getpid()
sys.modules["uwsgi"] = types.SimpleNamespace(worker_id=lambda: int(os.getpid() != master), mule_id=lambda: 0)
"""
UNTOLD = {
    # uWSGI's master loads the application while Redis is away, publishes, and forks; then Redis is back.
    "Redis was away while the application was loaded": (
        """
url, os.environ["REDIS_URL"] = os.environ["REDIS_URL"], "redis://127.0.0.1:1"
import publisher.transport.circuit
publisher.transport.circuit.GIVE_UP_SECONDS = 0.2
broadcast_to_project(project, event("lost"))
children = []
assert threading.active_count() == 1
for child in range(3):
    if (pid := untold_fork()) == 0:
        assert not publisher.transport.circuit.circuit_of("redis://127.0.0.1:1").is_open
        os.environ["REDIS_URL"] = url
        assert broadcast_to_project(project, event(f"child_{child}"))
        os._exit(0)
    children.append(pid)
wait_for(*children)
""",
        {"child_0", "child_1", "child_2"},
    ),
    "the parent has published": (
        """
with track_job(project, "before", "audio"):
    broadcast_to_project(project, event("before"))
children = []
for child in range(3):
    if (pid := untold_fork()) == 0:
        with track_job(project, f"child_{child}", "audio") as job:
            job.progress(50)
            until(lambda: percent(f"child_{child}") == 50)
        os._exit(0)
    children.append(pid)
wait_for(*children)
""",
        {"before", "child_0", "child_1", "child_2"},
    ),
}


@pytest.mark.parametrize("name", UNTOLD)
def test_a_child_of_which_python_was_not_told_publishes(redis_server: RedisServer, project: str, name: str) -> None:
    code, expected = UNTOLD[name]
    listener = Listener(redis_server, project)
    done = play(UWSGI + code, redis_server.url, project)
    assert done.status == 0, done.err
    wait_for(lambda: set(jobs_heard(listener)) == expected, "an event of each child", PATIENCE)
    listener.close()


# The parent says no more, as uWSGI's master does: no thread runs there.
BEGUN_AT_IMPORT = """
job = track_job(project, "j", "audio", heartbeat=0.1).__enter__()
until(lambda: last_event(project, "j"))
if (pid := untold_fork()) == 0:
    os.kill(os.getppid(), signal.SIGSTOP)
    job.progress(40)
    until(lambda: percent("j") == 40)
    seq = last_event(project, "j").seq
    until(lambda: last_event(project, "j").seq > seq, "a renewal")
    job.complete()
    os.kill(os.getppid(), signal.SIGCONT)
    os._exit(0)
wait_for(pid)
os._exit(0)
"""


def test_a_job_that_was_begun_at_import_goes_on_in_such_a_child(redis_server: RedisServer, project: str) -> None:
    listener = Listener(redis_server, project)
    done = play(UWSGI + BEGUN_AT_IMPORT, redis_server.url, project)
    assert (done.status, done.err) == (0, "")
    assert listener.until("job_complete", within=PATIENCE)[0]["attempt"] == 0
    listener.close()


BEGUN_BY_THE_CHILD = """
job = track_job(project, "j", "audio", heartbeat=0.1)
from publisher.sender import sender
sender._start_thread = lambda: None  # it did not come to anything before the fork
sender._send_here_for_want_of_a_thread = lambda: None
job = job.__enter__()
del sender._start_thread, sender._send_here_for_want_of_a_thread
if (pid := untold_fork()) == 0:
    job.progress(40)
    job.complete()
    assert job.attempt == 0
    os._exit(0)
wait_for(pid)
os._exit(0)
"""


def test_a_job_whose_begin_was_not_sent_before_such_a_fork_begins_in_the_child(
    redis_server: RedisServer, project: str
) -> None:
    listener = Listener(redis_server, project)
    done = play(UWSGI + BEGUN_BY_THE_CHILD, redis_server.url, project)
    assert (done.status, done.err) == (0, "")
    assert [event.get("attempt") for event in listener.until("job_complete", within=PATIENCE)] == [0, 0]
    listener.close()
