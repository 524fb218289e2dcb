"""The commands of the runbook are run as they stand there, against a real replica and the shipped redis.conf."""

import os
import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.contract.processes import Replica, environment, free_port

from .test_redis_conf import PASSWORDS, Redis
from .tools import ROOT

TEXT = (ROOT / "docs" / "runbook.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
COMMANDS = list(dict.fromkeys(line for block in BLOCKS[1:] for line in block.splitlines()))


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of the operator who has read the head of the runbook, with addresses of their own."""
    folder = tmp_path_factory.mktemp("runbook")
    redis = Redis("redis", folder)
    admin = free_port()
    redis.wait()
    replica = Replica(redis.url("gateway-publishing"), folder / "replica.log", admin_port=admin, publish_keys="k" * 32)
    try:
        replica.wait_ready()
        path = f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}"
        yield environment(redis.url("jobs"), PATH=path, REDISCLI_AUTH=PASSWORDS["operator"]) | {
            "G": f"http://127.0.0.1:{admin}",
            "W": replica.ws,
            "R": f"redis-cli -p {redis.port} --user operator",
        }
    finally:
        replica.end()
        redis.process.kill()
        redis.process.wait()


def run(command: str, env: dict[str, str]) -> tuple[int, str]:
    words = ["bash", "-o", "pipefail", "-c", command]
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=30, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_works(shell: dict[str, str], command: str) -> None:
    status, text = run(command, shell)
    assert status == 0, text
    assert not re.search(r"^\(?(error|ERR|NOAUTH|NOPERM|WRONGPASS)", text, re.MULTILINE | re.IGNORECASE), text
    assert text


def anchors(text: str) -> set[str]:
    """Where a link to a part of a document may lead."""
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^a-z0-9_ -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_links_lead_somewhere() -> None:
    for place in re.findall(r"\]\(([^)]+)\)", TEXT):
        file, _, anchor = place.partition("#")
        target = ROOT / "docs" / (file or "runbook.md")
        assert target.exists(), place
        assert not anchor or anchor in anchors(target.read_text()), place


def test_every_entry_says_what_users_see_and_what_to_do() -> None:
    for entry in re.split(r"^### ", TEXT, flags=re.MULTILINE)[1:]:
        if entry.startswith("Gateway"):
            for part in ("**Users see**", "**Look", "**Done when**"):
                assert part in entry, (entry.splitlines()[0], part)
            assert "**Do**" in entry or "**Look and do**" in entry, entry.splitlines()[0]
            assert re.match(r"\w+\n(Page|Ticket)\. ", entry), entry.splitlines()[0]
