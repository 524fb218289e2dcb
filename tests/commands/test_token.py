"""`progress-gateway token` and `revoke`."""

import time
from pathlib import Path

from gateway.auth.keys import secret_keys
from gateway.auth.tokens import Rules, read_token
from publisher.names import jobs_key
from publisher.revocation import revoked_channel
from tests.auth.keys import OLD_SECRET, SECRET
from tests.contract.processes import RedisServer, environment, free_port, run_gateway


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
