"""The routes of examples/ that give a page its token: FastAPI, Django, and Next.js run by Node.js alone."""

import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.auth.grant import Grant
from gateway.auth.keys import secret_keys
from gateway.auth.tokens import Rules, read_token
from tests.auth.keys import OLD_SECRET, SECRET
from tests.contract.processes import environment

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_JWT_SECRET", f"{SECRET},{OLD_SECRET}")


def check(token: str, user: str) -> None:
    grant: Grant = read_token(token, secret_keys([SECRET]), Rules(3_601), time.time())
    assert grant.sub == user
    assert list(filter(grant.covers, ["film_7", "film_8", "team_3.x"])) == ["film_7", "team_3.x"]
    assert grant.expires_at > time.time() + 3_000


async def test_fastapi() -> None:
    from examples.tokens.fastapi_tokens import app

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client:
        assert (await client.post("/progress-token")).status_code == 401
        assert (await client.post("/progress-token", headers={"Cookie": "session=x"})).status_code == 401
        assert (await client.get("/progress-token")).status_code == 405
        answer = await client.post("/progress-token", headers={"Cookie": "session=session-of-ann"})
    assert answer.headers["Cache-Control"] == "no-store"
    check(answer.text, "ann")


class User:
    """Django's user, as far as the view sees it."""

    def __init__(self, *, is_authenticated: bool) -> None:
        self.is_authenticated = is_authenticated
        self.pk = 42


def test_django() -> None:
    from django.conf import settings

    if not settings.configured:
        settings.configure(ALLOWED_HOSTS=["*"], DEFAULT_CHARSET="utf-8")
    from django.test import RequestFactory

    from examples.tokens.django_tokens import progress_token

    def ask(method: str, *, is_authenticated: bool) -> Any:
        request = getattr(RequestFactory(), method)("/progress-token")
        request.user = User(is_authenticated=is_authenticated)
        return progress_token(request)

    assert ask("get", is_authenticated=True).status_code == 405
    assert ask("post", is_authenticated=False).status_code == 401
    answer = ask("post", is_authenticated=True)
    assert "no-store" in answer["Cache-Control"]
    check(answer.content.decode(), "42")


ROUTE = """
import { POST } from "./examples/next/route.js";
const ask = (cookie) => POST(new Request("http://app/progress-token", { method: "POST", headers: { cookie } }));
const answers = [await ask(""), await ask("session=toString"), await ask("a=b; session=session-of-ann")];
console.log(answers.map((answer) => answer.status).join(" "), answers[2].headers.get("cache-control"));
console.log(await answers[2].text());
"""


def test_next() -> None:
    done = subprocess.run(
        ["node", "--input-type=module", "--eval", ROUTE],
        cwd=ROOT / "frontend",
        env=environment(None, GATEWAY_JWT_SECRET=f"{SECRET},{OLD_SECRET}"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    statuses, token = done.stdout.splitlines()
    assert statuses == "401 401 200 no-store"
    check(token, "ann")
