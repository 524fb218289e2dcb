"""The command line: `serve`, `publish`, `watch`, `demo`, and the one line of each error."""

import json
import re
import signal
import socket
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .client import connect, watching
from .conftest import Launch
from .deadlines import PATIENCE, eventually, wait_for
from .events import complete, failed, progress
from .processes import (
    Finished,
    Process,
    PublisherProcess,
    RedisServer,
    Replica,
    environment,
    free_port,
    run,
    run_gateway,
    run_gateways,
)

COMMANDS = ["serve", "demo", "publish", "watch", "healthcheck", "canary"]
BAD_URLS = ["nonsense", "http://127.0.0.1:6379", "redis://127.0.0.1:port/0", "redis://127.0.0.1:99999/0", "://"]
EVENT = json.dumps(progress("job"))


def one_line(done: Finished, *statuses: int) -> str:
    """Check that it printed one line and no traceback, with one of `statuses`; return the line."""
    assert done.returncode in (statuses or (1, 2)), f"status {done.returncode}: {done.stderr}"
    assert "Traceback" not in done.stderr + done.stdout
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, f"one line was due: {done.stderr!r}"
    return lines[0]


def test_help_says_how() -> None:
    calls = [[], *([command] for command in COMMANDS)]
    finished = run_gateways(*(([*words, "--help"], environment(None)) for words in calls))
    for words, done in zip(calls, finished, strict=True):
        assert done.returncode == 0, words
        assert "Usage" in done.stdout, words
        assert done.stderr == "", words
        assert all(command in done.stdout for command in (words or COMMANDS)), words


def test_the_installed_command_is_the_same() -> None:
    command = Path(sysconfig.get_path("scripts")) / "progress-gateway"
    done = run([str(command), "--help"], environment(None), within=30)
    assert done.returncode == 0
    assert all(word in done.stdout for word in COMMANDS)


def wrong_words(done: Finished) -> None:
    assert done.returncode == 2, done.args
    assert done.stderr, done.args
    assert "Traceback" not in done.stderr, done.args


def test_wrong_words_end_with_2_and_no_traceback() -> None:
    calls = [["nonsense"], ["serve", "--nonsense"], ["publish"], ["watch"], ["publish", "p"]]
    for done in run_gateways(*((words, environment(None)) for words in calls)):
        wrong_words(done)


@pytest.mark.parametrize("command", ["serve", "demo"])
def test_a_taken_port_is_said_in_one_line(redis_server: RedisServer, command: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        line = one_line(run_gateway(command, "--port", port, env=environment(redis_server.url)), 1)
        assert port in line


@pytest.mark.parametrize("words", [["serve"], ["publish", "p", EVENT]], ids=lambda words: words[0])
def test_a_wrong_redis_url_is_said_in_one_line(words: list[str]) -> None:
    for done in run_gateways(*((words, environment(url, GATEWAY_PORT=free_port())) for url in BAD_URLS)):
        one_line(done, 78 if words[0] == "serve" else 2)


@pytest.mark.parametrize("command", ["serve", "demo"])
def test_an_unreachable_redis_is_said_in_one_line_and_never_replaced(command: str) -> None:
    port = free_port()
    env = environment(f"redis://127.0.0.1:{port}/0", GATEWAY_PORT=free_port(), GATEWAY_REDIS_WAIT_SECONDS=0.3)
    assert str(port) in one_line(run_gateway(command, env=env), 75)


def test_the_password_of_a_redis_url_is_not_said() -> None:
    url = f"redis://user:hunter2@127.0.0.1:{free_port()}/0"
    env = environment(url, GATEWAY_PORT=free_port(), GATEWAY_REDIS_WAIT_SECONDS=0.3)
    done = run_gateway("serve", env=env)
    one_line(done, 75)
    assert "hunter2" not in done.stderr + done.stdout


def test_an_unreachable_redis_ends_publish_with_1() -> None:
    done = run_gateway("publish", "p", EVENT, env=environment(f"redis://127.0.0.1:{free_port()}"))
    assert done.returncode == 1
    one_line(done)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "70000"),
        ("MAX_CONNECTIONS", "-1"),
        ("LINGER_SECONDS", "nan"),
        ("MAX_MESSAGE_BYTES", ""),
    ],
)
def test_a_wrong_setting_is_said_by_its_name(redis_server: RedisServer, name: str, value: str) -> None:
    variables = {"GATEWAY_PORT": str(free_port()), f"GATEWAY_{name}": value}
    by_variable, by_flag = run_gateways(
        (["serve"], environment(redis_server.url, **variables)),
        (["serve", f"--{name.lower().replace('_', '-')}", value], environment(redis_server.url)),
    )
    said = re.compile(name.replace("_", "[-_]"), re.IGNORECASE)
    assert said.search(one_line(by_variable, 78))
    assert said.search(one_line(by_flag, 78))


async def test_a_flag_of_serve_wins_over_its_variable(redis_server: RedisServer, tmp_path: Path) -> None:
    port = free_port()
    env = environment(redis_server.url, GATEWAY_PORT=free_port(), GATEWAY_MAX_PROJECTS=5)
    flags = ["--port", str(port), "--max-projects", "1"]
    process = Process([sys.executable, "-m", "gateway", "serve", *flags], env, tmp_path / "serve.log")
    try:
        await eventually(lambda: f":{port}" in process.log, "serve to say where it listens")
        async with connect(f"ws://127.0.0.1:{port}/ws") as client:
            await client.subscribe("one")
            await client.send("subscribe", projectId="two")
            await client.error()
    finally:
        process.end()


async def test_publish_sends_json_and_prints_the_seq(replica: Replica, redis_server: RedisServer, project: str) -> None:
    events = [progress("job_7", 40, message="ü", sentenceId="s"), complete("job_7", result={"file": "a"}), failed("j")]
    async with watching(replica.ws, project) as client:
        for event in events:
            done = run_gateway("publish", project, json.dumps(event), env=environment(redis_server.url))
            assert done.returncode == 0, done.stderr
            seq = int(done.stdout.split()[-1])
            assert await client.events(1) == [event | {"projectId": project, "seq": seq}]


async def test_publish_puts_an_event_together_from_flags(
    replica: Replica, redis_server: RedisServer, project: str
) -> None:
    base = ["--job", "job_7", "--type", "audio"]
    expected = {
        ("--progress", "40"): progress("job_7", 40),
        ("--progress", "50", "--message", "half", "--sentence", "s1"): progress(
            "job_7", 50, message="half", sentenceId="s1"
        ),
        ("--complete", "--file", "a.mp3", "--duration", "3.5"): complete(
            "job_7", result={"file": "a.mp3", "duration": 3.5}
        ),
        ("--fail", "no such voice", "--attempt", "2"): failed("job_7", "no such voice", attempt=2),
    }
    async with watching(replica.ws, project) as client:
        for flags, event in expected.items():
            done = run_gateway("publish", project, *base, *flags, env=environment(redis_server.url))
            assert done.returncode == 0, done.stderr
            assert await client.events(1) == [event | {"projectId": project, "seq": int(done.stdout.split()[-1])}]


def test_publish_says_what_is_no_event(redis_server: RedisServer) -> None:
    calls = [
        ["p", "{"],
        ["p", "[]"],
        ["p", json.dumps(progress("job", 101))],
        ["no project", EVENT],
        ["p", "--job", "j", "--type", "audio", "--progress", "101"],
        ["p", "--job", "", "--type", "audio", "--progress", "1"],
        ["p", "--progress", "1"],
    ]
    for done in run_gateways(*((["publish", *words], environment(redis_server.url)) for words in calls)):
        wrong_words(done)


def test_publish_ends_with_1_where_the_attempt_rule_refuses(
    redis_server: RedisServer, publisher: PublisherProcess, project: str
) -> None:
    publisher.seq(project, complete("job", attempt=1))
    event = json.dumps(progress("job", 5, attempt=1))
    done = run_gateway("publish", project, event, env=environment(redis_server.url))
    assert done.returncode == 1
    one_line(done)


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def start(url: str, project: str, *flags: str) -> Process:
        command = [sys.executable, "-m", "gateway", "watch", project, "--url", url, *flags]
        started.append(Process(command, environment(None), tmp_path / f"watch_{len(started)}.log"))
        return started[-1]

    yield start
    for process in started:
        process.end()
        assert "Traceback" not in process.log, process.log


async def test_watch_prints_a_line_for_each_event_where_there_is_no_terminal(
    replica: Replica, publisher: PublisherProcess, watch: Callable[..., Process], project: str
) -> None:
    publisher.seq(project, progress("early", 10))
    plain, as_json = watch(replica.ws, project), watch(replica.ws, project, "--json")
    for process in (plain, as_json):
        await eventually(lambda process=process: "early" in process.log, "watch to print what is there")  # type: ignore[misc]
    seqs = publisher.publish_all(project, [progress("job_7", 40), complete("job_7"), failed("job_8", "broken voice")])
    for process in (plain, as_json):
        await eventually(lambda process=process: "broken voice" in process.log, "watch to print the last event")  # type: ignore[misc]
    assert "\x1b" not in plain.log
    assert [len(re.findall(name, plain.log)) for name in ("job_7", "job_8")] == [2, 1]
    printed = [json.loads(line) for line in as_json.log.splitlines() if line.startswith("{")]
    assert [event["seq"] for event in printed if event.get("jobId") != "early"] == seqs


async def test_watch_comes_back_to_a_replica_that_was_away(
    launch: Launch, redis_server: RedisServer, publisher: PublisherProcess, watch: Callable[..., Process], project: str
) -> None:
    first = launch()
    process = watch(first.ws, project)
    publisher.seq(project, progress("before"))
    await eventually(lambda: "before" in process.log, "watch to print the first event")
    first.signal(signal.SIGKILL)
    first.wait("the replica to be dead")
    publisher.seq(project, progress("meanwhile"))
    env = environment(redis_server.url, GATEWAY_PORT=first.port)
    again = Process([sys.executable, "-m", "gateway", "serve"], env, first.log_path.with_suffix(".again"))
    try:
        await eventually(lambda: "meanwhile" in process.log, "watch to print what it missed", within=30)
        assert process.log.count("before") == 1
    finally:
        again.end()


def test_watch_ends_with_ctrl_c(
    replica: Replica, publisher: PublisherProcess, watch: Callable[..., Process], project: str
) -> None:
    publisher.seq(project, progress("job_7"))
    process = watch(replica.ws, project)
    wait_for(lambda: "job_7" in process.log, "watch to print what is there")
    process.ctrl_c()
    process.wait("watch to end with Ctrl-C")


def test_watch_says_what_is_no_project(replica: Replica) -> None:
    done = run_gateway("watch", "no project", "--url", replica.ws, env=environment(None))
    assert done.returncode in (1, 2)
    assert done.stderr
    assert "Traceback" not in done.stderr


def test_publish_into_a_closed_pipe_is_no_traceback(redis_server: RedisServer, project: str) -> None:
    command = f"{sys.executable} -m gateway publish {project} '{EVENT}' | true"
    assert "Traceback" not in run(["sh", "-c", command], environment(redis_server.url), within=PATIENCE).stderr
