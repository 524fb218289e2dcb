"""What all tests share: one seed for a run, an order of the files, no settings from the shell, one real server."""

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import settings

from publisher.sender import Sender, sender
from publisher.transport.circuit import circuits, unremembered, unsent
from tests.contract.processes import RedisServer

# `derandomize` is on where CI is set, unless it is given; no deadline, since a shared machine stalls now and then.
for name, examples in (("test", 100), ("soak", 5_000)):
    settings.register_profile(name, deadline=None, derandomize=False, max_examples=examples)
settings.load_profile(os.environ.get("TEST_EXAMPLES", "test"))

OURS = ("GATEWAY_", "PROGRESS_", "REDIS_URL")
TESTS = Path(__file__).parent
# A file goes to one worker. What takes longest goes first, or one worker ends long after the others.
FIRST = ("rolling/test_rolling", "rolling", "libraries", "deploy/test_containers", "contract", "deploy", "feed")
# Each of these tests takes as long as a file. They may go to different workers.
APART = ("rolling/test_rolling",)
# These files share what takes long to build.
TOGETHER = {"deploy/test_dockerfile": "deploy/test_containers"}


def file_of(node_id: str) -> str:
    """The file of a test, below tests/ and without its ending."""
    return node_id.partition("::")[0].removeprefix("tests/").removesuffix(".py")


def rank(item: pytest.Item) -> int:
    file = file_of(item.nodeid)
    return next((place for place, start in enumerate(FIRST) if file.startswith(start)), len(FIRST))


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """One seed for all examples of a run, so that it can be played again. xdist hands the option to its workers."""
    if config.option.hypothesis_seed is None:
        config.option.hypothesis_seed = str(random.SystemRandom().randrange(100_000))


def pytest_report_header(config: pytest.Config) -> str:
    return f"the same examples again: make test SEED={config.option.hypothesis_seed}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if " at 0x" in item.nodeid:
            raise pytest.UsageError(f"an address is in the name of {item.nodeid}: each worker would have another name")
    items.sort(key=rank)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

    class ByFile(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = file_of(nodeid)
            return nodeid if file in APART else TOGETHER.get(file, file)

    config.option.loadscopereorder = False  # it would begin with the files of many tests, which are quick
    return ByFile(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Most tests wait for processes: two workers for a core."""
    return 2 * (os.cpu_count() or 1)


@pytest.hookimpl(wrapper=True)
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> Iterator[None]:
    yield
    if terminalreporter.stats.get("failed"):
        terminalreporter.write_line(pytest_report_header(config))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A test that was skipped has shown nothing, so the run has failed."""
    reporter: Any = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and reporter.stats.get("skipped") and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def forget_jobs(sender: Sender) -> None:
    """Drop all that this sender has not sent."""
    with sender._changed:
        for state in [*sender._schedule, *sender._on_their_way]:
            state.forget()
            sender._put(state)
        sender._changed.notify_all()


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(OURS) or name.lower() in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _no_outage_is_remembered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let each test begin without what publishers keep for as long as the process lives.

    They log once a minute, and try to reach a Redis that was away until it is back.
    """
    for counter in (unsent, unremembered):
        monkeypatch.setattr(counter, "_logged_at", float("-inf"))
    monkeypatch.setattr(unsent, "_counted", unsent.count)
    yield
    forget_jobs(sender)
    for circuit in circuits.values():
        circuit.close()
    circuits.clear()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A real server that nobody kills, freezes or flushes; a test that does so asks for `own_redis`."""
    server = RedisServer()
    yield server
    server.kill()


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A real server that the test may kill."""
    server = RedisServer()
    yield server
    server.thaw()
    server.kill()


@pytest.fixture
def project() -> str:
    """A project that no other test uses."""
    return f"project_{uuid4().hex[:16]}"
