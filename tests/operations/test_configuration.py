"""Configuration: all problems at once, variables that are not settings, and the source of each value."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway.commands import cli
from gateway.operations.configuration import WrongConfiguration, accepted, configure
from gateway.settings import Settings
from publisher.settings import PublisherSettings
from tests.test_settings import BAD, KEY, variable_of

LINKS = {
    # What Kubernetes sets in a pod for a Service named `gateway-redis`.
    "GATEWAY_REDIS_SERVICE_HOST": "10.0.0.7",
    "GATEWAY_REDIS_SERVICE_PORT": "6379",
    "GATEWAY_REDIS_SERVICE_PORT_REDIS": "6379",
    "GATEWAY_REDIS_PORT": "tcp://10.0.0.7:6379",
    "GATEWAY_REDIS_PORT_6379_TCP": "tcp://10.0.0.7:6379",
    "GATEWAY_REDIS_PORT_6379_TCP_PROTO": "tcp",
    "GATEWAY_REDIS_PORT_6379_TCP_PORT": "6379",
    "GATEWAY_REDIS_PORT_6379_TCP_ADDR": "10.0.0.7",
    # For a Service named `gateway`, except GATEWAY_PORT.
    "GATEWAY_SERVICE_HOST": "10.0.0.8",
    "GATEWAY_SERVICE_PORT": "3001",
    "GATEWAY_PORT_3001_TCP": "tcp://10.0.0.8:3001",
    "GATEWAY_PORT_3001_TCP_ADDR": "10.0.0.8",
}


def serve(*flags: str) -> Result:
    return CliRunner().invoke(cli.main, ["serve", *flags])


def problems(**flags: Any) -> list[str]:
    with pytest.raises(WrongConfiguration) as caught:
        configure(flags)
    return caught.value.problems


def setenv(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


# Wrong values


def test_everything_that_is_wrong_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for field, values in BAD.items():
        monkeypatch.setenv(variable_of(field), values[0])
    monkeypatch.setenv("GATEWAY_NOTHING_OF_THE_KIND", "1")
    found = problems()
    assert len(found) == len(BAD) + 1
    for field in BAD:
        assert [problem for problem in found if problem.startswith(f"{variable_of(field)} (--")], field


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("port", "a whole number from 0 up to 65535"),
        ("admin_port", "a whole number from 0 up to 65535"),
        ("ping_seconds", "a number above 0 up to 86400"),
        ("linger_seconds", "a number from 0 up to 3600"),
        ("subscribe_rate", "a number above 0"),
        ("log_level", "debug, info, warning, error"),
        ("log_format", "auto, text, json"),
        ("replay", "on or off"),
        ("host", "text"),
    ],
)
def test_what_a_setting_accepts_is_said(field: str, words: str) -> None:
    assert accepted(Settings.model_fields[field]) == words


def test_a_value_cannot_forge_a_line_and_is_not_repeated_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_PORT", "1\n12:00:00 INFO all is well\x1b[2J" + "9" * 5_000)
    (problem,) = problems()
    assert problem.isprintable()
    assert len(problem) < 200
    assert "1\\n12:00" in problem


# Variables that are not settings


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("GATEWAY_MAX_CONECTIONS", "GATEWAY_MAX_CONNECTIONS"),
        ("GATEWAY_PING_SECOND", "GATEWAY_PING_SECONDS"),
        ("gateway_ping_second", "GATEWAY_PING_SECONDS"),
        ("GATEWAY_LOGLEVEL", "GATEWAY_LOG_LEVEL"),
        ("GATEWAY_PUBLISH_KEY", "GATEWAY_PUBLISH_KEYS"),
    ],
)
def test_an_unknown_variable_is_named_with_the_nearest_known_one(
    monkeypatch: pytest.MonkeyPatch, name: str, near: str
) -> None:
    monkeypatch.setenv(name, "1")
    assert problems() == [f"{name} is not a setting; did you mean {near}?"]
    assert serve().exit_code == 78


def test_one_that_is_like_none_leads_to_the_help(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_XYZZY_QUUX", "1")
    assert problems() == ["GATEWAY_XYZZY_QUUX is not a setting; see progress-gateway serve --help"]


@pytest.mark.parametrize(
    ("host", "trusted", "is_warned"),
    [("127.0.0.1", "", True), ("127.0.0.1", "127.0.0.1", False), ("0.0.0.0", "", False)],
)
def test_a_limit_of_an_address_that_would_be_the_proxys_is_told(host: str, trusted: str, is_warned: bool) -> None:
    flags = {"host": host, "max_connections_per_address": "5", "trusted_proxies": trusted}
    assert [("GATEWAY_TRUSTED_PROXIES" in remark) for remark in configure(flags).remarks] == [True] * is_warned


@pytest.mark.parametrize(
    "name", ["GATEWAYS", "MY_GATEWAY_PORT", "GATEWAY_URL", "GATEWAY_KEY", "PROGRESS_ELSE", "REDIS_PASSWORD"]
)
def test_variables_of_others_are_their_business(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    assert configure({}).remarks == []


@pytest.mark.parametrize("name", ["gateway_port", "Gateway_Port", "GATEWAY_port"])
def test_a_setting_in_other_letters_is_none_and_the_right_one_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "4000")
    assert problems() == [f"{name} is not a setting; did you mean GATEWAY_PORT?"]


@pytest.mark.parametrize("name", ["redis_url", "Redis_Url", "progress_namespace", "progress_replay", "redis_url_file"])
def test_shared_variables_in_lower_case_are_passed_over_as_publishers_do(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A gateway that obeyed them would use another Redis than its publishers."""
    monkeypatch.setenv(name, "nonsense")
    assert configure({}).settings == Settings()
    assert PublisherSettings.from_environment() == PublisherSettings()


# What Kubernetes sets


def test_service_links_are_passed_over_with_a_remark(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Service that is added to the namespace must not end the next start."""
    setenv(monkeypatch, LINKS)
    configuration = configure({})
    assert configuration.settings == Settings()
    (remark,) = configuration.remarks
    assert "enableServiceLinks: false" in remark
    assert all(name in remark for name in LINKS)
    checked = serve("--check-config")
    assert (checked.exit_code, checked.stdout) == (0, "ok\n")
    assert "enableServiceLinks" in checked.stderr


@pytest.mark.parametrize(("name", "flag"), [("GATEWAY_PORT", "port"), ("GATEWAY_ADMIN_PORT", "admin_port")])
def test_a_link_in_the_place_of_a_setting_is_an_error_that_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, name: str, flag: str
) -> None:
    monkeypatch.setenv(name, "tcp://10.0.0.8:3001")
    (problem,) = problems()
    assert problem.startswith(f"{name} is 'tcp://10.0.0.8:3001'")
    assert "enableServiceLinks: false" in problem
    assert getattr(configure({flag: "4000"}).settings, flag) == 4000, "a flag wins, so nothing is wrong"


def test_a_port_that_looks_like_no_link_is_no_link(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_METRICS_PORT", "9090")
    assert "did you mean" in problems()[0]


# --check-config, --print-config


def test_check_config_says_ok() -> None:
    result = serve("--check-config")
    assert (result.exit_code, result.output) == (0, "ok\n")


@pytest.mark.parametrize("flag", ["--check-config", "--print-config"])
def test_both_say_all_problems(flag: str) -> None:
    result = serve(flag, "--port=x", "--max-projects=0")
    assert (result.exit_code, result.stdout) == (78, "")
    assert result.stderr.count("expected:") == 2


def test_neither_opens_a_port_nor_asks_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "_serve", lambda *_, **__: pytest.fail("it serves"))
    for flag in ("--check-config", "--print-config"):
        assert serve(flag, "--redis-url", "redis://127.0.0.1:1").exit_code == 0


def printed(*flags: str) -> dict[str, tuple[str, str]]:
    result = serve("--print-config", *flags)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    settings = (setting.removeprefix("# ").partition("=") for setting in lines[1::2])
    sources = (source.removeprefix("# ") for source in lines[::2])
    return {name: (value, source) for (name, _, value), source in zip(settings, sources, strict=True)}


def as_environment_file(text: str) -> dict[str, str]:
    """As systemd, Docker and `env` read it."""
    lines = (line.partition("=") for line in text.splitlines() if not line.startswith("#"))
    return {name: value for name, _, value in lines}


def test_print_config_shows_each_setting_and_where_it_comes_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text(KEY)
    setenv(monkeypatch, {"GATEWAY_ORIGINS": "https://a.example,*", "GATEWAY_PUBLISH_KEYS_FILE": str(secret)})
    monkeypatch.setenv("PROGRESS_REPLAY", "off")
    monkeypatch.setenv("GATEWAY_PORT", "5000")
    shown = printed("--port=4000", "--ping-seconds=2.5")
    assert set(shown) == {variable_of(field) for field in Settings.model_fields}
    assert shown["GATEWAY_PORT"] == ("4000", "flag")
    assert shown["GATEWAY_PING_SECONDS"] == ("2.5", "flag")
    assert shown["GATEWAY_ORIGINS"] == ("https://a.example,*", "environment")
    assert shown["PROGRESS_REPLAY"] == ("off", "environment")
    assert shown["GATEWAY_PUBLISH_KEYS"] == ("***", f"file {secret}")
    assert shown["GATEWAY_MAX_CONNECTIONS"] == ("10000", "default")
    assert shown["GATEWAY_ADMIN_PORT"] == ("", "default")


@pytest.mark.parametrize("number", ["1", "0.5", "12345.678", "1234567", "0.1234567891", "1e+300"])
def test_a_number_is_shown_with_all_its_digits(number: str) -> None:
    """1234567 was shown as 1.23457e+06, and read again as another rate."""
    assert printed(f"--publish-rate={number}")["GATEWAY_PUBLISH_RATE"] == (number, "flag")


@pytest.mark.parametrize(("field", "held"), [("redis_url", "redis://h:1/2"), ("publish_keys", KEY)])
def test_a_flag_of_a_file_wins_over_the_variable_of_what_it_holds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, field: str, held: str
) -> None:
    (tmp_path / "secret").write_text(held)
    monkeypatch.setenv(variable_of(field), {"redis_url": "redis://other:1", "publish_keys": "k" * 20}[field])
    configuration = configure({f"{field}_file": str(tmp_path / "secret")})
    expected = getattr(configure({field: held}).settings, field)
    assert getattr(configuration.settings, field) == expected
    assert configuration.sources[field] == f"file {tmp_path / 'secret'}"
    assert getattr(configure({f"{field}_file": ""}).settings, field) != expected, "an empty name is no file"


@pytest.mark.parametrize("field", ["redis_url", "publish_keys"])
def test_two_flags_for_one_secret_are_still_one_too_many(tmp_path: Path, field: str) -> None:
    (tmp_path / "secret").write_text(KEY)
    (problem,) = problems(**{field: KEY, f"{field}_file": str(tmp_path / "secret")})
    assert "unset one" in problem


def test_print_config_shows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_PUBLISH_KEYS", f"{KEY},{KEY}2")
    shown = printed("--redis-url=rediss://user:hunter2@h:1/0?password=hunter2&db=1")
    assert shown["GATEWAY_PUBLISH_KEYS"] == ("***,***", "environment")
    assert shown["REDIS_URL"] == ("rediss://user:***@h:1/0?password=***&db=1", "flag")


def test_what_is_printed_can_be_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    flags = {"origins": "https://a.example", "linger_seconds": "0.5", "namespace": "n", "replay": "off"}
    flags |= {"subscribe_rate": "1234567", "ping_seconds": "12345.678", "drain_rate": "1e300"}
    result = serve("--print-config", *(f"--{name.replace('_', '-')}={value}" for name, value in flags.items()))
    settings = configure(flags).settings
    setenv(monkeypatch, as_environment_file(result.stdout))
    assert configure({}).settings == settings


def test_a_secret_is_not_read_again_from_what_is_printed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "url").write_text("redis://h:1")
    monkeypatch.setenv("REDIS_URL_FILE", str(tmp_path / "url"))
    monkeypatch.setenv("GATEWAY_PUBLISH_KEYS", KEY)
    again = as_environment_file(serve("--print-config").stdout)
    assert {"REDIS_URL", "GATEWAY_PUBLISH_KEYS"} & again.keys() == set()
    monkeypatch.delenv("GATEWAY_PUBLISH_KEYS")
    setenv(monkeypatch, again)
    assert configure({}).settings.redis_url == "redis://h:1"
