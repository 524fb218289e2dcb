"""The command line: its output, and the one line and exit status of each error."""

import json
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from gateway.commands import cli
from gateway.operations.ports import bind, listen
from gateway.settings import Settings
from publisher.names import jobs_key
from publisher.transport import circuit as outage
from tests.contract.processes import RedisServer, environment, free_port, run


def gateway(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(cli.main, arguments, input=stdin)


def fails(status: int, *arguments: str, stdin: str | None = None) -> str:
    """The one line that it prints."""
    result = gateway(*arguments, stdin=stdin)
    assert result.exit_code == status, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("progress-gateway: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


# Help


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["-h"],
        *([name, "--help"] for name in ("serve", "demo", "publish", "watch", "healthcheck", "canary", "top")),
    ],
)
def test_help_is_shown(arguments: list[str]) -> None:
    result = gateway(*arguments)
    assert result.exit_code == 0
    assert result.output.startswith("Usage: ")


def test_the_commands_are_there() -> None:
    names = {"serve", "demo", "publish", "watch", "healthcheck", "canary", "top", "token", "revoke"}
    assert set(cli.main.commands) == names


def test_the_version_is_that_of_the_distribution() -> None:
    assert version("progress-gateway") in gateway("--version").output


@pytest.mark.parametrize(
    "arguments", [["nothing"], ["serve", "--nothing"], ["publish"], ["watch"], ["publish", "p", "--attempt", "last"]]
)
def test_what_it_does_not_know_is_a_usage_error(arguments: list[str]) -> None:
    result = gateway(*arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_python_dash_m_gateway_is_the_same() -> None:
    finished = run([sys.executable, "-W", "error", "-m", "gateway", "publish", "a b"], environment(None), within=30)
    assert finished.returncode == 2
    assert finished.stderr.startswith("progress-gateway: ")
    assert finished.stderr.count("\n") == 1


# publish


@pytest.fixture
def remembered(
    redis_server: RedisServer, project: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, Any]]:
    """What is remembered of a job of the project."""
    monkeypatch.setenv("REDIS_URL", redis_server.url)

    def read(field: str = "j\n", channel: str = f"project:{project}") -> dict[str, Any]:
        state: dict[bytes, bytes] = redis_server.command("HGETALL", jobs_key(channel))
        event: dict[str, Any] = json.loads(state[field.encode()])
        return event

    return read


Remembered = Callable[..., dict[str, Any]]


def test_an_event_in_json_is_published_and_its_seq_printed(remembered: Remembered, project: str) -> None:
    text = '{"type":"progress","jobId":"j","jobType":"audio","progress":12.5}'
    result = gateway("publish", project, text)
    assert (result.exit_code, result.stderr) == (0, "")
    assert remembered() == json.loads(text) | {"seq": int(result.stdout)}


def test_a_dash_reads_the_event_from_standard_input(remembered: Remembered, project: str) -> None:
    text = '{"type":"job_failed","jobId":"j","jobType":"audio","error":"é"}'
    assert gateway("publish", project, "-", stdin=text).exit_code == 0
    assert remembered()["error"] == "é"


@pytest.mark.parametrize(
    ("flags", "fields"),
    [
        (["--progress", "40"], {"type": "progress", "jobType": "script", "progress": 40}),
        (["--progress", "12.5", "--type", "video"], {"type": "progress", "jobType": "video", "progress": 12.5}),
        (
            ["--progress", "1", "--message", "m", "--next-within", "30", "--attempt", "2"],
            {"type": "progress", "jobType": "script", "progress": 1, "message": "m", "nextWithin": 30, "attempt": 2},
        ),
        (["--complete"], {"type": "job_complete", "jobType": "script", "result": {}}),
        (
            ["--complete", "--file", "f.mp3", "--duration", "3.5"],
            {"type": "job_complete", "jobType": "script", "result": {"file": "f.mp3", "duration": 3.5}},
        ),
        (["--fail", "no disk"], {"type": "job_failed", "jobType": "script", "error": "no disk"}),
        (["--fail", ""], {"type": "job_failed", "jobType": "script", "error": ""}),
        (
            ["--fail", "by the user", "--reason", "cancelled", "--data", '{"at": ["é", 1.5, null]}'],
            {
                "type": "job_failed",
                "jobType": "script",
                "error": "by the user",
                "reason": "cancelled",
                "data": {"at": ["é", 1.5, None]},
            },
        ),
        (
            ["--complete", "--type", "thumb.nails:v2"],
            {"type": "job_complete", "jobType": "thumb.nails:v2", "result": {}},
        ),
    ],
)
def test_an_event_is_put_together_by_flags(
    remembered: Remembered, project: str, flags: list[str], fields: dict[str, Any]
) -> None:
    result = gateway("publish", project, "--job", "j", *flags)
    assert result.exit_code == 0, result.output
    assert remembered() == fields | {"jobId": "j", "seq": int(result.stdout)}


def test_a_sentence_makes_it_another_job(remembered: Remembered, project: str) -> None:
    assert gateway("publish", project, "--job", "j", "--sentence", "s", "--progress", "1").exit_code == 0
    assert remembered("j\ns")["sentenceId"] == "s"


def test_flags_name_another_redis_and_namespace(
    remembered: Remembered, redis_server: RedisServer, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1")
    monkeypatch.setenv("PROGRESS_NAMESPACE", "a")
    where = ["--redis-url", redis_server.url, "--namespace", "staging"]
    assert gateway("publish", project, "--job", "j", "--progress", "1", *where).exit_code == 0
    assert remembered(channel=f"staging:project:{project}")["progress"] == 1


def test_without_replay_there_is_no_seq_to_print(
    remembered: Remembered, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROGRESS_REPLAY", "off")
    result = gateway("publish", project, "--job", "j", "--progress", "1")
    assert (result.exit_code, result.output) == (0, "")


def test_a_refused_event_is_exit_1(remembered: Remembered, project: str) -> None:
    assert gateway("publish", project, "--job", "j", "--complete", "--attempt", "1").exit_code == 0
    assert "attempt" in fails(1, "publish", project, "--job", "j", "--progress", "1", "--attempt", "1")


def test_the_next_attempt_is_numbered_and_its_number_printed(remembered: Remembered, project: str) -> None:
    for number in range(3):
        result = gateway("publish", project, "--job", "j", "--progress", "0", "--attempt", "next")
        assert (result.exit_code, result.stderr) == (0, "")
        seq, printed = result.stdout.split()
        assert int(printed) == number
        assert (remembered()["seq"], remembered()["attempt"]) == (int(seq), number)
    event = '{"type":"progress","jobId":"j","jobType":"audio","progress":0,"attempt":"next"}'
    assert gateway("publish", project, event).stdout.split()[1] == "3"


def test_a_refused_event_names_the_attempt_that_replaced_its_own(remembered: Remembered, project: str) -> None:
    assert gateway("publish", project, "--job", "job_7", "--progress", "0", "--attempt", "3").exit_code == 0
    for event in (["--progress", "50"], ["--complete"], ["--complete", "--sentence", "s1"]):
        said = fails(1, "publish", project, "--job", "job_7", "--attempt", "2", *event)
        assert said == "progress-gateway: refused: job_7 was begun again elsewhere, as attempt 3\n"


def test_a_shell_completes_the_well_known_types_and_next() -> None:
    def completed(name: str, incomplete: str) -> list[str]:
        [option] = [option for option in cli.publish.params if option.name == name]
        return [item.value for item in option.shell_complete(click.Context(cli.publish), incomplete)]

    assert completed("jobType", "") == ["script", "audio", "image", "video", "export"]
    assert completed("jobType", "e") == ["export"]
    assert completed("attempt", "n") == ["next"]
    assert completed("reason", "t") == ["timed_out"]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["p", "{"], "JSON"),
        (["p", ""], "JSON"),
        (["p", "[]"], "object"),
        (["p", "-"], "JSON"),
        (["p"], "--progress"),
        (["p", "--job", "j"], "--progress"),
        (["p", "--progress", "1"], "jobId"),
        (["p", "--job", "j", "--progress", "101"], "progress"),
        (["p", "--job", "j", "--progress", "nan"], "progress"),
        (["p", "--job", "j", "--progress", "inf"], "progress"),
        (["p", "--job", "", "--complete"], "jobId"),
        (["p", "--job", "j", "--complete", "--duration", "-1"], "duration"),
        (["p", "{}"], "type"),
        (["p", "--job", "j", "--complete", "--type", "two words"], "jobType"),
        (["p", "--job", "j", "--complete", "--data", "{"], "--data is not JSON"),
        (["p", "--job", "j", "--complete", "--data", "[1]"], "--data must be a JSON object"),
        (["p", "--job", "j", "--complete", "--data", '{"a":' * 16 + "{}" + "}" * 16], "data: "),
        (["p", "--job", "j", "--complete", "--data", '{"a":"' + "x" * 8_192 + '"}'], "data: "),
        (["p", "--job", "j", "--complete", "--attempt", "next"], "attempt: "),
        (["p", '{"type":"x"}'], "type: must be 'progress', 'job_complete' or 'job_failed', got str"),
        (["p", '{"type":"progress","jobId":"\\ud800","jobType":"audio","progress":1}'], "jobId"),
        (["a b", "--job", "j", "--complete"], "PROJECT"),
        (["", "--job", "j", "--complete"], "PROJECT"),
    ],
)
def test_what_is_no_event_is_exit_2_and_names_what_is_wrong(arguments: list[str], word: str) -> None:
    said = fails(2, "publish", *arguments, stdin="")
    assert word in said
    assert "Value error" not in said


def test_what_is_wrong_is_said_once_for_each_field_and_in_no_inner_names_of_pydantic() -> None:
    said = fails(2, "publish", "p", "--job", "j", "--progress", "101", "--next-within", "0")
    assert said == (
        "progress-gateway: progress: must be a number from 0 to 100, got int (out of range); "
        "nextWithin: must be a number of seconds above 0, and at most 86400, got float (out of range)\n"
    )


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--complete", "--fail", "x"], ["--complete", "--fail"]),
        (["--complete", "--progress", "0"], ["--complete", "--progress"]),
        (["--fail", "", "--progress", "50"], ["--fail", "--progress"]),
        (["--progress", "1", "--file", "f"], ["--file", "--progress"]),
        (["--fail", "x", "--duration", "0"], ["--duration", "--fail"]),
        (["--complete", "--message", ""], ["--message", "--complete"]),
        (["--fail", "x", "--message", "m"], ["--message", "--fail"]),
        (["--complete", "--next-within", "3"], ["--next-within", "--complete"]),
        (["{}", "--progress", "0", "--attempt", "0"], ["EVENT", "--progress", "--attempt", "--job"]),
        (["{}", "--type", "script"], ["EVENT", "--type", "--job"]),
        (["{}", "--data", "{}"], ["EVENT", "--data", "--job"]),
        (["--complete", "--reason", "lost"], ["--reason", "--fail", "--complete"]),
        (["-", "--complete"], ["EVENT", "--complete", "--job"]),
    ],
)
def test_flags_that_say_two_things_are_exit_2_and_both_are_named(
    remembered: Remembered, redis_server: RedisServer, project: str, arguments: list[str], names: list[str]
) -> None:
    """`--complete --fail TEXT` told everybody that the job was complete."""
    said = fails(2, "publish", project, "--job", "j", *arguments, stdin="{}")
    assert [name for name in names if name not in said] == []
    assert redis_server.command("EXISTS", jobs_key(f"project:{project}")) == 0


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "1" * 10_000])
def test_hostile_json_is_exit_2(text: str) -> None:
    fails(2, "publish", "p", "-", stdin=text)


def test_a_redis_that_is_away_is_exit_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outage, "GIVE_UP_SECONDS", 0.1)
    monkeypatch.setenv("REDIS_URL", f"redis://:secret@127.0.0.1:{free_port()}")
    said = fails(1, "publish", "p", "--job", "j", "--complete")
    assert "REDIS_URL" in said
    assert "secret" not in said


@pytest.mark.parametrize(
    "variables", [{"REDIS_URL": "nonsense"}, {"PROGRESS_NAMESPACE": "a b"}, {"PROGRESS_REPLAY": "maybe"}]
)
def test_a_wrong_variable_is_exit_2(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    fails(2, "publish", "p", "--job", "j", "--complete")


# serve and demo


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[Settings, str]]]:
    """What would be served, with which demo jobs; logging and signals of this process are not changed."""
    signals = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    served: list[tuple[Settings, str]] = []
    jobs: list[str] = []

    @contextmanager
    def demo_jobs(redis_url: str, namespace: str, *, log_level: str, log_format: str) -> Iterator[None]:
        jobs.append(f"{namespace}@{redis_url} {log_level} {log_format}")
        yield
        jobs.pop()

    monkeypatch.setattr(cli, "_start_logging", lambda settings: "text")
    monkeypatch.setattr("gateway.commands.demo.DemoJobs", demo_jobs)

    def serve(settings: Settings, listener: socket.socket, admin: object, *, ends_on_hangup: bool) -> None:
        assert ends_on_hangup is bool(jobs)
        served.append((settings, ",".join(jobs)))

    monkeypatch.setattr("gateway.server.serve", serve)
    yield served
    for number, handler in signals.items():
        signal.signal(number, handler)


def test_serve_serves_with_the_redis_that_was_found(
    served: list[tuple[Settings, str]], redis_server: RedisServer
) -> None:
    result = gateway("serve", "--port", "0", "--redis-url", redis_server.url, "--max-projects", "7")
    assert result.exit_code == 0, result.output
    (settings, jobs), *more = served
    assert not more
    assert (settings.redis_url, settings.max_projects, jobs) == (redis_server.url, 7, "")


def test_demo_serves_with_demo_jobs_of_the_same_redis_namespace_and_log(
    served: list[tuple[Settings, str]], redis_server: RedisServer
) -> None:
    result = gateway("demo", "--port", "0", "--redis-url", redis_server.url, "--namespace", "n", "--log-level", "error")
    assert result.exit_code == 0, result.output
    assert served[0][1] == f"n@{redis_server.url} error text"
    assert "/?project=demo" in result.stderr


def test_the_page_is_a_record_where_the_log_is_read_by_a_program(
    served: list[tuple[Settings, str]],
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(cli, "_start_logging", lambda settings: "json")
    with caplog.at_level("INFO"):
        result = gateway("demo", "--port", "0", "--redis-url", redis_server.url)
    assert (result.exit_code, result.output) == (0, "")
    assert "/?project=demo" in caplog.text


def test_ctrl_c_before_it_serves_is_an_orderly_end(
    served: list[tuple[Settings, str]], redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gateway.server.serve", interrupted)
    assert gateway("serve", "--port", "0", "--redis-url", redis_server.url).exit_code == 0


@pytest.mark.parametrize("command", ["serve", "demo"])
def test_a_port_in_use_is_exit_1(served: list[tuple[Settings, str]], command: str) -> None:
    with bind("127.0.0.1", 0) as listener:
        listen(listener)
        port = str(listener.getsockname()[1])
        said = fails(1, command, "--port", port)
    assert port in said
    assert "--port" in said
    assert not served


@pytest.mark.parametrize("command", ["serve", "demo"])
def test_a_wrong_redis_url_is_exit_78(served: list[tuple[Settings, str]], command: str) -> None:
    assert "REDIS_URL" in fails(78, command, "--port", "0", "--redis-url", "nonsense")
    assert not served


def test_a_redis_that_is_away_at_the_start_is_exit_75(served: list[tuple[Settings, str]]) -> None:
    url = f"redis://127.0.0.1:{free_port()}"
    assert "REDIS_URL" in fails(75, "serve", "--port", "0", "--redis-url", url, "--redis-wait-seconds", "0")
    assert not served


# watch


@pytest.mark.parametrize("project", ["", "a b", "-", "a" * 129])
def test_watching_a_project_id_that_is_none_is_exit_2(project: str) -> None:
    fails(2, "watch", "--", project)


def test_watch_passes_on_what_it_was_asked_and_its_status(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    async def watch(url: str, project: str, *, as_json: bool, get_token: Callable[[], str | None]) -> int:
        asked.append((url, project, as_json, get_token()))
        return 1

    monkeypatch.setattr("gateway.commands.watch.watch", watch)
    assert gateway("watch", "p").exit_code == 1
    monkeypatch.setenv("PROGRESS_TOKEN", "a.b.c")
    assert gateway("watch", "p", "--json", "--url", "ws://other/ws").exit_code == 1
    assert asked == [("ws://127.0.0.1:3001/ws", "p", False, None), ("ws://other/ws", "p", True, "a.b.c")]
