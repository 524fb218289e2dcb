"""Making tokens: what is refused is refused here, before a page gets it."""

import base64
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from publisher.tokens import mint
from tests.auth.keys import OLD_SECRET, SECRET


def claims_of(token: str) -> dict[str, Any]:
    body = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return claims


def test_a_token_says_what_was_asked_for() -> None:
    claims = claims_of(
        mint(["a", "b*"], sub="user_1", seconds=60, publish="c", audience="gateway", issuer="app", secret=SECRET)
    )
    assert abs(claims.pop("exp") - 60 - time.time()) < 30
    assert abs(claims.pop("iat") - time.time()) < 30
    assert claims == {"projects": ["a", "b*"], "sub": "user_1", "publish": ["c"], "aud": "gateway", "iss": "app"}


def test_a_project_alone_may_be_a_string_and_all_else_left_out() -> None:
    claims = claims_of(mint("film_1", secret=SECRET))
    assert claims["projects"] == ["film_1"]
    assert set(claims) == {"projects", "iat", "exp"}
    assert type(claims["exp"]) is int


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"projects": []}, "projects must name 1 to 100 projects, got 0"),
        ({"projects": ["a"] * 101}, "got 101"),
        ({"projects": ["a*b"]}, "projects: 'a[*]b' is not a project id, or the beginning"),
        ({"projects": ["a", 5]}, "projects: int is not"),
        ({"publish": ["-"]}, "publish: '-' is not"),
        ({"sub": ""}, "sub must be a text of 1 to 256"),
        ({"sub": 5}, "sub must be"),
        ({"seconds": 0}, "seconds must be a number above 0"),
        ({"seconds": True}, "seconds must be"),
        ({"secret": "short"}, "secret is too short: use 32"),
        ({"projects": [f"{n}{'x' * 100}" for n in range(100)]}, "may have 4096: use `prefix[*]`"),
    ],
)
def test_what_the_gateway_would_refuse_raises(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words) as error:
        mint(**{"projects": ["a"], "secret": SECRET} | arguments)
    assert "short" not in str(error.value) or "too short" in str(error.value)


def test_the_secret_is_the_first_of_the_environment_or_of_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def signed_with(secret: str) -> bool:
        token = mint("a")
        return mint("a", secret=secret).split(".")[0] == token.split(".")[0] and is_of(token, secret)

    with pytest.raises(ValueError, match="set GATEWAY_JWT_SECRET or GATEWAY_JWT_SECRET_FILE"):
        mint("a")
    monkeypatch.setenv("GATEWAY_JWT_SECRET", f" {SECRET} , {OLD_SECRET}")
    assert signed_with(SECRET)
    path = tmp_path / "secret"
    monkeypatch.setenv("GATEWAY_JWT_SECRET_FILE", str(path))
    with pytest.raises(ValueError, match="both set"):
        mint("a")
    monkeypatch.delenv("GATEWAY_JWT_SECRET")
    with pytest.raises(ValueError, match="path of a readable file"):
        mint("a")
    path.write_text(f"{OLD_SECRET}\n{SECRET}\n")
    assert signed_with(OLD_SECRET)


def is_of(token: str, secret: str) -> bool:
    from gateway.auth.keys import secret_keys
    from gateway.auth.tokens import Rules, read_token

    return bool(read_token(token, secret_keys([secret]), Rules(86_400), time.time()))


def test_no_library_of_tokens_is_needed() -> None:
    """redis-py loads them where they are installed."""
    hidden = "import sys; sys.modules.update(jwt=None, cryptography=None)"
    program = f"{hidden}; from publisher.tokens import mint; print(mint('p', secret='{SECRET}'))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert is_of(done.stdout.strip(), SECRET)
