"""`progress-gateway token` and `revoke`."""

import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway.auth.keys import secret_keys
from gateway.auth.tokens import Rules, read_token
from gateway.commands import cli
from gateway.settings import Settings
from publisher.names import jobs_key
from publisher.revocation import revoked_channel
from publisher.tokens import mint
from tests.auth.keys import OLD_SECRET, SECRET
from tests.contract.processes import RedisServer, Replica, environment, free_port, run_gateway, run_gateways


def token(*words: str) -> Result:
    return CliRunner().invoke(cli.main, ["token", *words])


def test_a_token_is_printed_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret"
    path.write_text(f"{SECRET}\n{OLD_SECRET}\n")
    monkeypatch.setenv("GATEWAY_JWT_SECRET_FILE", str(path))
    done = token("a", "b*", "--sub", "user_1", "--seconds", "60", "--publish", "c")
    assert (done.exit_code, done.stderr) == (0, "")
    grant = read_token(done.stdout.strip(), secret_keys([SECRET]), Rules(60), time.time())
    assert (grant.sub, grant.covers("a"), grant.covers("bc"), grant.covers("c")) == ("user_1", True, True, False)
    assert grant.publish.covers("c")


def test_what_is_wrong_is_one_line_without_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    for word, secret, said in (
        ("a", "", "no secret: set GATEWAY_JWT_SECRET or GATEWAY_JWT_SECRET_FILE, or pass secret="),
        ("a", "hunter2", "the secret is too short: use 32 or more random bytes"),
        ("a*b", SECRET, "projects: 'a*b' is not a project id, or the beginning of ids"),
    ):
        monkeypatch.setenv("GATEWAY_JWT_SECRET", secret)
        done = token(word)
        assert (done.exit_code, done.stdout) == (2, "")
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
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_text(mint("canary", secret=SECRET) + "\n")
    bad.write_text(mint("canary", secret=OLD_SECRET))
    here = environment(redis_server.url, GATEWAY_PORT=replica.port)
    by_file, by_variable, without, other, missing, refused = run_gateways(
        (["canary", "--token-file", str(good)], here),
        (["canary"], here | {"PROGRESS_TOKEN": good.read_text().strip()}),
        (["canary", "--seconds", "2"], here),
        (["watch", "other", "--url", replica.ws, "--token-file", str(good)], here),
        (["watch", "canary", "--url", replica.ws, "--token-file", "/nowhere"], here),
        (["watch", "canary", "--url", replica.ws, "--token-file", str(bad)], here),
    )
    assert (by_file.returncode, by_variable.returncode, without.returncode) == (0, 0, 1)
    assert "the gateway refused: Your token does not cover this project." in other.stderr
    assert "--token-file must be the path of a file that can be read" in missing.stderr
    assert "answered HTTP 401: Not authorised: bad token." in refused.stderr
    assert replica.stop() == 0
    assert "eyJ" not in replica.log


def test_serve_warns_once_where_nobody_is_asked(redis_server: RedisServer, tmp_path: Path) -> None:
    open_to_all, unused = "can watch every project: set GATEWAY_AUTH to jwt", "are set, but GATEWAY_AUTH is none"
    replica = Replica(redis_server.url, tmp_path / "log", host="0.0.0.0", jwt_secret=SECRET).wait_ready()
    assert replica.stop() == 0
    assert [replica.log.count(words) for words in (open_to_all, unused)] == [1, 1]
    asked: dict[str, Any] = {"auth": "jwt", "jwt_secret": SECRET}
    for settings in (Settings(), Settings(host="::1"), Settings(host="0.0.0.0", **asked)):
        assert list(cli._openness(settings)) == []
