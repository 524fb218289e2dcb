"""`progress-gateway token` and `revoke`."""

import time
from pathlib import Path
from typing import Any

import pytest

from gateway.auth.keys import secret_keys
from gateway.auth.tokens import Rules, read_token
from publisher.names import jobs_key
from publisher.revocation import revoked_channel
from publisher.tokens import mint
from tests.auth.keys import OLD_SECRET, SECRET
from tests.contract.processes import RedisServer, Replica, environment, free_port, run_gateway


def test_a_token_is_printed_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text(f"{SECRET}\n{OLD_SECRET}\n")
    flags = ["--sub", "user_1", "--seconds", "60", "--publish", "c"]
    done = run_gateway("token", "a", "b*", *flags, env=environment(None, GATEWAY_JWT_SECRET_FILE=path))
    assert (done.returncode, done.stderr) == (0, "")
    grant = read_token(done.stdout.strip(), secret_keys([SECRET]), Rules(60), time.time())
    assert (grant.sub, grant.covers("a"), grant.covers("bc"), grant.covers("c")) == ("user_1", True, True, False)
    assert grant.publish.covers("c")


def test_what_is_wrong_is_one_line_without_the_secret() -> None:
    for words, env, said in (
        (["a"], {}, "no secret: set GATEWAY_JWT_SECRET or GATEWAY_JWT_SECRET_FILE, or pass secret="),
        (["a"], {"GATEWAY_JWT_SECRET": "hunter2"}, "the secret is too short: use 32 or more random bytes"),
        (["a*b"], {"GATEWAY_JWT_SECRET": SECRET}, "projects: 'a*b' is not a project id, or the beginning of ids"),
    ):
        done = run_gateway("token", *words, env=environment(None, **env))
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"progress-gateway: {said}")
        assert "hunter2" not in done.stderr


def test_revoke_tells_redis_and_says_where_it_could_not(redis_server: RedisServer, project: str) -> None:
    done = run_gateway("revoke", "user_1", env=environment(redis_server.url, PROGRESS_NAMESPACE=project))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert redis_server.command("HKEYS", jobs_key(revoked_channel(project))) == [b"user_1"]
    away = run_gateway("revoke", "user_1", env=environment(f"redis://127.0.0.1:{free_port()}/0"))
    assert away.returncode == 1
    assert away.stderr.startswith("progress-gateway: not revoked: ")
    assert run_gateway("revoke", "a\nb", env=environment(redis_server.url)).returncode == 2


def test_watch_and_canary_show_a_token(redis_server: RedisServer, tmp_path: Path) -> None:
    replica = Replica(redis_server.url, tmp_path / "log", auth="jwt", jwt_secret=SECRET).wait_ready()
    path = tmp_path / "token"
    path.write_text(mint("canary", secret=SECRET) + "\n")
    here: dict[str, object] = {"GATEWAY_PORT": replica.port}
    assert run_gateway("canary", "--token-file", str(path), env=environment(redis_server.url, **here)).returncode == 0
    by_variable = environment(redis_server.url, PROGRESS_TOKEN=path.read_text().strip(), **here)
    assert run_gateway("canary", env=by_variable).returncode == 0
    without = run_gateway("canary", "--seconds", "1", env=environment(redis_server.url, **here))
    assert without.returncode == 1
    for words, said in (
        (["watch", "other", "--token-file", str(path)], "the gateway refused: Your token does not cover this project."),
        (["watch", "canary", "--token-file", "/nowhere"], "--token-file must be the path of a file that can be read"),
    ):
        done = run_gateway(*words, "--url", replica.ws, env=environment(None))
        assert (done.returncode != 0, said in done.stderr) == (True, True), done
    path.write_text(mint("canary", secret=OLD_SECRET))
    refused = run_gateway("watch", "canary", "--url", replica.ws, "--token-file", str(path), env=environment(None))
    assert "answered HTTP 401: Not authorised: bad token." in refused.stderr
    assert replica.stop() == 0
    assert "eyJ" not in replica.log


@pytest.mark.parametrize(
    ("settings", "warned"),
    [
        ({"host": "0.0.0.0"}, ["Anyone who reaches 0.0.0.0 can watch every project: set GATEWAY_AUTH to jwt"]),
        ({"jwt_secret": SECRET}, ["Keys for tokens are set, but GATEWAY_AUTH is none"]),
        ({"host": "0.0.0.0", "auth": "jwt", "jwt_secret": SECRET}, []),
        ({}, []),
    ],
)
def test_serve_warns_once_where_nobody_is_asked(
    redis_server: RedisServer, tmp_path: Path, settings: dict[str, Any], warned: list[str]
) -> None:
    replica = Replica(redis_server.url, tmp_path / "log", **settings).wait_ready()
    assert replica.stop() == 0
    for words in (
        "can watch every project: set GATEWAY_AUTH to jwt",
        "Keys for tokens are set, but GATEWAY_AUTH is none",
    ):
        assert replica.log.count(words) == sum(words in warning for warning in warned)
