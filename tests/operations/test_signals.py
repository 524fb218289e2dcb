"""Exit statuses, and signals before the server handles them: which commands do, how early, and under nohup."""

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from gateway.operations.signals import ExitStatus
from tests.contract.deadlines import wait_for
from tests.contract.processes import Process, RedisServer, Replica, environment, free_port, run_python

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "operating.md"
HANDLED = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
ENDING = [signal.SIGTERM, signal.SIGINT]  # of `serve`
Serve = Callable[..., Process]


def test_the_exit_statuses_are_those_of_sysexits() -> None:
    assert (ExitStatus.REDIS_AWAY, ExitStatus.CONFIGURATION) == (os.EX_TEMPFAIL, os.EX_CONFIG)


def test_the_document_lists_each_exit_status() -> None:
    table = DOCUMENT.read_text().partition("## Start and end")[2].partition("\n## ")[0]
    listed = [int(status) for status in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)]
    assert listed == [*ExitStatus]


@pytest.fixture
def serve(redis_server: RedisServer, tmp_path: Path) -> Iterator[Serve]:
    """Starts a replica that logs JSON, and waits for nothing."""
    started: list[Process] = []

    def start(*command: str) -> Process:
        env = environment(redis_server.url, GATEWAY_PORT=free_port(), GATEWAY_LOG_FORMAT="json")
        command = command or (sys.executable, "-m", "gateway", "serve")
        started.append(Process([*command], env, tmp_path / f"{len(started)}.log"))
        return started[-1]

    yield start
    for process in started:
        process.end()


def handled(process: Process, mask_of: str = "SigCgt") -> set[int]:
    """The signals that the process handles (or, by `SigIgn`, ignores) by now, as the kernel knows them."""
    (mask,) = re.findall(mask_of + r":\s*(\w+)", Path(f"/proc/{process.popen.pid}/status").read_text())
    return {number for number in HANDLED if int(mask, 16) >> (number - 1) & 1}


def has_begun(process: Process) -> None:
    """Python itself has started: no signal can be handled earlier."""
    while handled(process) != set(HANDLED):
        assert process.running(), process.log


def ended_in_order(process: Process) -> None:
    assert process.wait("the end after a signal") == 0, process.log
    for line in process.log.splitlines():
        assert "exception" not in json.loads(line), line


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("number", ENDING)
def test_a_signal_is_obeyed_before_anything_is_loaded_that_takes_time(serve: Serve, number: signal.Signals) -> None:
    """The first process of a container gets no signal that it does not handle."""
    process = serve()
    has_begun(process)
    loaded = Path(f"/proc/{process.popen.pid}/maps").read_text()
    process.signal(number)
    ended_in_order(process)
    assert process.log == ""
    assert "pydantic_core" not in loaded


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("number", ENDING)
@pytest.mark.parametrize("times", [1, 2, 3])
def test_signals_at_any_moment_of_the_start_end_it_in_order(serve: Serve, number: signal.Signals, times: int) -> None:
    for delay in (0.1, 0.25, 0.45, 0.75):
        process = serve()
        has_begun(process)
        time.sleep(delay)
        for _ in range(times):
            if process.running():
                process.signal(number)
            time.sleep(0.003)
        ended_in_order(process)


@pytest.mark.parametrize("number", ENDING)
def test_two_signals_when_it_begins_to_listen_end_it_in_order(serve: Serve, number: signal.Signals) -> None:
    for pause in (0, 0.002, 0.005, 0.01):
        process = serve()
        wait_for(lambda process=process: "Listening" in process.log, "the replica to listen")  # type: ignore[misc]
        time.sleep(pause)
        for _ in range(2):
            if process.running():
                process.signal(number)
            time.sleep(0.003)
        ended_in_order(process)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_nohup_is_obeyed_from_the_beginning_to_the_end(redis_server: RedisServer, tmp_path: Path) -> None:
    port = free_port()
    env = environment(redis_server.url, GATEWAY_PORT=port)
    process = Process(["nohup", sys.executable, "-m", "gateway", "serve"], env, tmp_path / "log")
    try:
        while handled(process, "SigIgn") != {signal.SIGHUP}:
            assert process.running(), process.log
        while "Listening" not in process.log:
            assert process.running(), process.log
            process.signal(signal.SIGHUP)
            time.sleep(0.02)
        process.signal(signal.SIGHUP)
        time.sleep(0.5)
        assert process.running(), process.log
        process.signal(signal.SIGTERM)
        assert process.wait("the end") == 0
    finally:
        process.end()


def test_the_end_of_the_terminal_is_the_end_of_the_demo(redis_server: RedisServer, tmp_path: Path) -> None:
    replica = Replica(redis_server.url, tmp_path / "log", command="demo").wait_ready()
    replica.signal(signal.SIGHUP)
    assert replica.wait("the end") == 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_hangup_while_serve_starts_ends_nothing_and_is_not_forgotten(serve: Serve) -> None:
    process = serve()
    has_begun(process)
    process.signal(signal.SIGHUP)
    wait_for(lambda: "Read again" in process.log, "the files to be read again")
    assert process.running()
    process.signal(signal.SIGTERM)
    ended_in_order(process)


@pytest.mark.parametrize(
    ("words", "are_taken"),
    [
        (["serve"], True),
        (["demo", "--port", "1"], True),
        (["serve", "--check-config"], False),
        (["serve", "--print-config"], False),
        (["publish", "serve"], False),
        (["watch", "p"], False),
        (["canary"], False),
        (["healthcheck"], False),
        ([], False),
    ],
)
def test_only_what_runs_for_long_takes_them(words: list[str], are_taken: bool) -> None:
    code = (
        "import gateway.commands.cli, signal; print(signal.getsignal(15) != signal.SIG_DFL, signal.getsignal(2) is not "
    )
    done = run_python(code + "signal.default_int_handler)", environment(None), *words)
    assert done.stdout == f"{are_taken} {are_taken}\n", done.stderr


def fill(pipe: int) -> None:
    """Write blanks until the pipe takes no more, so that whoever reads from it makes room."""
    os.set_blocking(pipe, False)
    with suppress(BlockingIOError):
        while True:
            os.write(pipe, b" " * 4096)


def test_ctrl_c_ends_a_command_that_is_no_server_as_before(redis_server: RedisServer) -> None:
    """`publish` waits for its event on standard input."""
    command = [sys.executable, "-m", "gateway", "publish", "p", "-"]
    process = subprocess.Popen(
        command, env=environment(redis_server.url), stdin=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin is not None
    fill(process.stdin.fileno())
    assert select.select([], [process.stdin], [], 30)[1], "it reads: there is room in the pipe again"
    process.send_signal(signal.SIGINT)
    os.set_blocking(process.stdin.fileno(), True)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (1, b"\nAborted!\n")
