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
