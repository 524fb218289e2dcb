"""`progress-gateway top`: what it shows of replicas, and what it says when it cannot ask."""

import io
import json
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from gateway.commands import cli, top, top_views
from gateway.commands.top import Look, Replicas
from publisher import broadcast_to_project
from tests.contract.client import watching
from tests.contract.processes import RedisServer, Replica, free_port

KEY = "an-admin-key-0123456789"
EVENT = {"type": "progress", "jobId": "j", "jobType": "audio", "progress": 40}


class Served(Replica):
    @property
    def admin(self) -> str:
        line = next(line for line in self.log.splitlines() if "for operators" in line)
        found = re.search(r"http://[\d.:]+", line)
        assert found is not None
        return found[0]


@pytest.fixture(scope="module")
def replicas(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Served]]:
    logs = tmp_path_factory.mktemp("top")
    with ExitStack() as stack:
        made = []
        for number in range(2):
            settings: dict[str, Any] = {"admin_port": free_port(), "log_format": "text"}
            made.append(Served(redis_server.url, logs / f"{number}.log", **settings))
            stack.callback(made[-1].end)
        yield [replica.wait_ready() for replica in made]


def run(*words: str) -> Result:
    return CliRunner().invoke(cli.main, ["top", *words])


async def test_clients_and_projects_of_all_replicas_are_shown(
    replicas: list[Served], project: str, monkeypatch: pytest.MonkeyPatch, redis_server: RedisServer
) -> None:
    monkeypatch.setenv("REDIS_URL", redis_server.url)
    one, two = replicas
    async with watching(one.ws, project), watching(one.ws, project), watching(two.ws, project) as client:
        broadcast_to_project(project, EVENT)
        await client.until_type("progress")
        done = run("--once", "--interval", "0.5", "--url", one.admin, "--url", f"{two.admin}/")
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert lines[0].startswith("3 clients of 2 replicas")
    assert [line.split()[1:4] for line in lines if line.startswith("http")] == [["2", "0", "1"], ["1", "0", "1"]]
    assert sum("127.0.0.1" in line and not line.startswith("http") for line in lines) == 3
    (row,) = [line for line in lines if line.startswith(project)]
    assert row.split()[1:3] == ["3", "1"]
    assert row.endswith("ago")


def test_the_replica_of_this_environment_is_the_default(
    replicas: list[Served], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_ADMIN_PORT", replicas[0].admin.rpartition(":")[2])
    assert run("--once", "--interval", "0.5").exit_code == 0
    monkeypatch.delenv("GATEWAY_ADMIN_PORT")
    done = run("--once")
    assert (done.exit_code, done.stderr) == (
        2, "progress-gateway: name an admin port with --url, or set GATEWAY_ADMIN_PORT\n",
    )  # fmt: skip


def test_what_is_no_admin_port_is_said_in_one_line(replicas: list[Served], tmp_path: Path) -> None:
    wrong, empty = tmp_path / "wrong", tmp_path / "empty"
    wrong.write_text(KEY)
    empty.write_text("")
    for words, says in (
        (["--url", f"http://127.0.0.1:{replicas[0].port}"], "is not an admin port: name that of GATEWAY_ADMIN_PORT"),
        (["--url", f"http://127.0.0.1:{free_port()}"], "does not answer (["),
        (["--url", "ws://127.0.0.1:1/ws"], "is not the address of a replica; use one such as http://127.0.0.1:3002"),
        (["--url", replicas[0].admin, "--key-file", str(wrong)], "answers programs of its own machine only"),
        (["--url", replicas[0].admin, "--key-file", str(empty)], "--key-file: the file"),
    ):
        done = run("--once", *words)
        assert done.exit_code in (1, 2)
        assert says in done.stderr
        assert done.stderr.count("\n") == 1
        assert KEY not in done.output


def test_a_key_is_asked_for_and_taken_from_its_file(redis_server: RedisServer, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text(f"{KEY}\nanother-key-0123456789\n")
    settings: dict[str, Any] = {"admin_port": free_port(), "admin_keys": KEY, "log_format": "text"}
    replica = Served(redis_server.url, tmp_path / "log", **settings)
    try:
        url = replica.wait_ready().admin
        wrong = tmp_path / "wrong"
        wrong.write_text("wrong-key-0123456789")
        refused = run("--once", "--url", url, "--key-file", str(wrong))
        assert refused.exit_code == 1
        assert "wants a key of GATEWAY_ADMIN_KEYS: name a file that holds one with --key-file" in refused.stderr
        assert run("--once", "--interval", "0.5", "--url", url, "--key-file", str(key)).exit_code == 0
    finally:
        replica.end()


def test_a_replica_that_is_away_is_shown_beside_the_others(replicas: list[Served]) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    done = run("--once", "--interval", "0.5", "--url", replicas[0].admin, "--url", away)
    assert done.exit_code == 1
    assert f"{away} does not answer" in done.stderr
    assert replicas[0].admin in done.output


def test_all_pages_are_read_up_to_the_bound(replicas: list[Served], monkeypatch: pytest.MonkeyPatch) -> None:
    pages = {"": ("a", "a"), "a": ("b", "b"), "b": ("c", None)}
    asked: list[str] = []

    def get(self: object, path: str) -> bytes:
        after = path.rpartition("after=")[2]
        asked.append(after)
        name, following = pages[after]
        return json.dumps({"clients": [{"clientId": name}], "next": following, "total": 3}).encode()

    monkeypatch.setattr("gateway.commands.top._Replica.get", get)
    replica = top._Replica("http://127.0.0.1:1", None)
    assert replica.all_rows("clients", "clientId") == ([{"clientId": name} for name in "abc"], 3)
    monkeypatch.setattr(top, "MOST_ROWS", 2)
    assert len(replica.all_rows("clients", "clientId")[0]) == 2


def client(number: int, **fields: Any) -> dict[str, Any]:
    known: dict[str, Any] = {
        "address": "192.0.2.1",
        "sub": None,
        "since": "2026-01-01T00:00:00.000Z",
        "projects": ["p"],
    }
    known |= {"behindBy": 0, "behindSeconds": 0.0, "unsentBytes": 0}
    return {"clientId": f"{number:021x}"} | known | fields


def shown(*looks: Look, rows: int = 20, width: int = 160) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(top_views.page(looks, rows))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_those_who_are_behind_come_first_and_controls_are_not_obeyed() -> None:
    clients = [client(1), client(2, behindBy=7, behindSeconds=65.0, unsentBytes=70_000, sub="a\x1b[31mb")]
    text = shown(Look("http://a", 0.0, clients=clients, total_clients=2))
    rows = [line for line in text.splitlines() if line.startswith("0")]
    assert [row.split()[0][-1] for row in rows] == ["2", "1"]
    assert "\x1b" not in text
    assert "68.4 KB" in rows[0]


def test_a_small_screen_shows_some_of_both() -> None:
    rest = {"waiting": 0, "jobs": 1, "bytes": 10, "seq": 0}
    projects = [{"projectId": f"p{number}", "viewers": number} | rest for number in range(50)]
    look = Look("http://a", 0.0, clients=[client(number) for number in range(50)], projects=projects, total_clients=50)
    text = shown(look, rows=10)
    assert len(re.findall(r"^0", text, re.MULTILINE)) == 5
    assert re.findall(r"^p\d+", text, re.MULTILINE) == ["p49", "p48", "p47", "p46", "p45"]
    assert len(re.findall(r"^p\d+", shown(look, rows=100), re.MULTILINE)) == 50


def test_rates_are_those_between_two_looks(replicas: list[Served]) -> None:
    asked = Replicas([replicas[0].admin], None)
    (first,) = asked.look()
    assert set(first.rates.values()) == {None}
    time.sleep(0.01)
    (second,) = asked.look()
    assert all(rate is not None and rate >= 0 for rate in second.rates.values())
