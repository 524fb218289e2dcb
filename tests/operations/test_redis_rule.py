"""Without REDIS_URL: where `serve` may begin, where it ends with 78, and which variables were probably meant."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.commands import cli
from gateway.operations.configuration import configure


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, arguments)


def check(*flags: str) -> Result:
    return invoke("serve", "--check-config", *flags)


@pytest.mark.parametrize("host", ["", "127.0.0.1", "127.0.0.2", "::1", "localhost", "a.localhost"])
def test_on_a_loopback_address_it_may_do_without(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("GATEWAY_HOST", host)
    result = check()
    assert (result.exit_code, result.stdout) == (0, "ok\n")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "gateway.internal"])
def test_on_any_other_address_it_needs_one(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    result = check("--host", host)
    assert result.exit_code == 78
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert f"REDIS_URL is not set, and GATEWAY_HOST is {host}" in result.stderr
    for what in ("REDIS_URL_FILE", "GATEWAY_EMBEDDED_REDIS=on", "redis://"):
        assert what in result.stderr, "it says what to set"
    monkeypatch.setenv("GATEWAY_HOST", host)
    assert check().exit_code == 78
    monkeypatch.setenv("REDIS_URL", "redis://redis:6379/0")
    assert check().exit_code == 0


def test_under_systemd_it_needs_one_on_loopback_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    result = check()
    assert result.exit_code == 78
    assert "REDIS_URL is not set, and this is a service (NOTIFY_SOCKET is set)" in result.stderr
    assert check("--redis-url", "redis://redis").exit_code == 0
    monkeypatch.setenv("NOTIFY_SOCKET", "")
    assert check().exit_code == 0


@pytest.mark.parametrize(
    ("value", "status"),
    [("on", 0), ("ON", 0), ("1", 0), ("true", 0), ("off", 78), ("0", 78), ("auto", 78), ("", 78), ("maybe", 78)],
)
def test_a_setting_overrides_the_rule(monkeypatch: pytest.MonkeyPatch, value: str, status: int) -> None:
    monkeypatch.setenv("GATEWAY_EMBEDDED_REDIS", value)
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    assert check("--host", "0.0.0.0").exit_code == status


def test_a_file_counts_and_an_empty_variable_does_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REDIS_URL", "")
    assert check("--host", "0.0.0.0").exit_code == 78
    (file := tmp_path / "url").write_text("redis://redis:6379/0\n")
    monkeypatch.setenv("REDIS_URL_FILE", str(file))
    assert check("--host", "0.0.0.0").exit_code == 0


def test_serve_itself_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "_serve", lambda *_, **__: pytest.fail("it was started"))
    result = invoke("serve", "--host", "0.0.0.0")
    assert result.exit_code == 78
    assert result.stderr == check("--host", "0.0.0.0").stderr


def test_what_is_set_can_still_be_printed() -> None:
    result = invoke("serve", "--print-config", "--host", "0.0.0.0")
    assert result.exit_code == 0
    assert "GATEWAY_HOST=0.0.0.0" in result.stdout
    assert "REDIS_URL is not set" in result.stderr


def test_the_demo_and_questions_about_a_replica_need_none(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[bool] = []
    monkeypatch.setattr(cli, "_serve", lambda *_, with_demo, **__: started.append(with_demo))
    assert invoke("demo", "--host", "0.0.0.0").exit_code == 0
    assert started == [True]
    monkeypatch.setenv("GATEWAY_HOST", "0.0.0.0")
    assert "REDIS_URL" not in invoke("healthcheck", "--seconds", "0.1").stderr


# Misspelt


@pytest.mark.parametrize(
    "name",
    [
        "REDIS_URI", "REDISURL", "REDIS_HOST", "REDIS_DSN", "REDIS_URLS", "REDS_URL", "redis_url", "Redis_Url",
        "REDIS_ADDR", "REDIS_ADDRESS", "REDIS_TLS_URL", "REDISCLOUD_URL", "REDIS_CONNECTION_STRING", "VALKEY_URL",
        "PROGRESS_REDIS_URL",
    ],
)  # fmt: skip
def test_a_variable_that_was_probably_meant_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "redis://:hunter2@redis")
    hint = f"{name} is set; did you mean REDIS_URL?"
    refused = check("--host", "0.0.0.0")
    assert refused.exit_code == 78
    assert refused.stderr.endswith(f" {hint}\n")
    assert configure({}).remarks == [f"REDIS_URL is not set. {hint}"], "on loopback it may be meant so"
    assert configure({"redis_url": "redis://redis"}).remarks == []
    assert "hunter2" not in refused.output


def test_several_are_named_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_HOST", "redis")
    monkeypatch.setenv("REDIS_URI", "redis://redis")
    assert "REDIS_HOST, REDIS_URI are set; did you mean REDIS_URL?" in check("--host", "::").stderr


@pytest.mark.parametrize(
    "name", ["REDIS_PASSWORD", "REDIS_USER", "REDIS_DB", "REDIS_PORT", "REDIS_SERVICE_HOST", "REDIS_PORT_6379_TCP"]
)
def test_other_variables_are_not(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    assert configure({}).remarks == []


def test_one_with_our_prefix_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_REDIS_URL", "redis://redis")
    result = check()
    assert result.exit_code == 78
    assert "GATEWAY_REDIS_URL is not a setting; did you mean REDIS_URL?" in result.stderr
