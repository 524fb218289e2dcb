"""The lines of docs/tokens.md that make a token, run as they stand. Node.js is what `make test` asks for."""

import re
import subprocess
import time
from pathlib import Path

import pytest

from gateway.auth.keys import secret_keys
from gateway.auth.tokens import Rules, read_token
from tests.auth.keys import SECRET
from tests.contract.processes import environment

ROOT = Path(__file__).parent.parent.parent


def snippet(language: str) -> str:
    text = (ROOT / "docs" / "tokens.md").read_text()
    found = re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(found) == 1
    return str(found[0])


def test_node_makes_a_token_with_jose() -> None:
    program = snippet("js") + "console.log(token);"
    done = subprocess.run(
        ["node", "--input-type=module", "--eval", program],
        cwd=ROOT / "frontend",  # where jose is installed
        env=environment(None, GATEWAY_JWT_SECRET=SECRET),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    check(done.stdout.strip())


def test_python_makes_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_JWT_SECRET", SECRET)
    names: dict[str, str] = {}
    exec(snippet("python"), names)
    check(names["token"])


def check(token: str) -> None:
    grant = read_token(token, secret_keys([SECRET]), Rules(3_600), time.time())
    assert grant.sub == "user_42"
    assert list(filter(grant.covers, ["film_7", "film_8", "team_3.x"])) == ["film_7", "team_3.x"]
    assert grant.issued_at is not None
