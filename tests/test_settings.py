"""The settings: each has a variable and a flag, each has an effect, and one class documents them all."""

import ast
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pydantic import SecretStr, ValidationError

import gateway
from gateway.commands import cli
from gateway.settings import Settings
from publisher.settings import PublisherSettings
from tests.auth.keys import OLD_SECRET, SECRET

KEY, OTHER_KEY = "0123456789abcdef", "~!\"#$%&'()*+-./:;<=>?@[]"
OTHER: dict[str, tuple[str, object]] = {
    # field: a value that is not the default, as text, and as it is read
    "redis_url": ("redis://elsewhere:1/2", "redis://elsewhere:1/2"),
    "embedded_redis": ("ON", "on"),
    "namespace": ("staging", "staging"),
    "replay": ("Off", False),
    "host": ("127.0.0.2", "127.0.0.2"),  # serve on an address that is not loopback needs REDIS_URL
    "port": ("4000", 4000),
    "admin_port": ("4001", 4001),
    "admin_host": ("::1", "::1"),
    "hosts": (" A.example, [2001:DB8::0:1],, localhost.", ("a.example", "2001:db8::1", "localhost")),
    "origins": ("https://a.example, HTTPS://B.example/ ,,", ("https://a.example", "https://b.example")),
    "jwt_secret": (f" {SECRET}, {OLD_SECRET},", (SecretStr(SECRET), SecretStr(OLD_SECRET))),
    "jwt_jwks_url": ("https://a.example/jwks.json", "https://a.example/jwks.json"),
    "jwt_audience": ("gateway", "gateway"),
    "jwt_issuer": ("app", "app"),
    "jwt_max_seconds": ("60.5", 60.5),
    "auth_seconds": ("0.5", 0.5),
    "anonymous_projects": (" demo, public_*,", ("demo", "public_*")),
    "max_connections": ("7", 7),
    "max_connections_per_address": ("6", 6),
    "trusted_proxies": ("127.0.0.1, 10.1.2.3/8", ("127.0.0.1", "10.0.0.0/8")),
    "max_projects": ("8", 8),
    "max_watched_projects": ("11", 11),
    "subscribe_rate": ("0.5", 0.5),
    "subscribe_burst": ("9", 9),
    "message_rate": ("1.5", 1.5),
    "message_burst": ("10", 10),
    "max_message_bytes": ("100", 100),
    "max_bad_messages": ("3", 3),
    "max_header_bytes": ("200", 200),
    "request_seconds": ("1.5", 1.5),
    "ping_seconds": ("2.5", 2.5),
    "slow_seconds": ("3.5", 3.5),
    "buffer_bytes": ("300", 300),
    "linger_seconds": ("0", 0),
    "drain_seconds": ("0", 0),
    "drain_rate": ("0.5", 0.5),
    "lame_duck_seconds": ("1.5", 1.5),
    "max_age_seconds": ("3600", 3_600),
    "redis_wait_seconds": ("0", 0),
    "redis_grace_seconds": ("0", 0),
    "publish_keys": (f" {KEY}, {OTHER_KEY},,", (SecretStr(KEY), SecretStr(OTHER_KEY))),
    "admin_keys": (f" {KEY}, {OTHER_KEY},,", (SecretStr(KEY), SecretStr(OTHER_KEY))),
    "publish_max_bytes": ("400", 400),
    "publish_max_events": ("10", 10),
    "publish_rate": ("1.5", 1.5),
    "publish_burst": ("20", 20),
    "log_level": ("debug", "debug"),
    "log_format": ("json", "json"),
}
BAD: dict[str, list[str]] = {
    "namespace": ["-a", "a b", "a{b}", "a" * 129, "project", "a:project:b"],
    "port": ["-1", "65536", "http", "3001.5"],
    "max_connections": ["0", "-1", "many", "10000001"],
    "max_connections_per_address": ["-1", "many"],
    "trusted_proxies": ["proxy.example", "10.0.0.0/33", "*"],
    "max_projects": ["0"],
    "max_watched_projects": ["0"],
    "subscribe_rate": ["0", "-1", "fast", "nan"],
    "subscribe_burst": ["0", "1.5"],
    "message_rate": ["0", "0.5", "nan"],
    "message_burst": ["0", "9", "1.5", "10000001"],
    "max_message_bytes": ["0", "16k"],
    "max_bad_messages": ["0"],
    "max_header_bytes": ["0"],
    "request_seconds": ["0", "-1", "inf", "nan"],
    "ping_seconds": ["0", "86401"],
    "slow_seconds": ["0"],
    "buffer_bytes": ["0"],
    "linger_seconds": ["-1", "3601", "nan"],
    "drain_seconds": ["-1", "3601", "nan"],
    "drain_rate": ["0", "-1", "nan"],
    "lame_duck_seconds": ["-1", "3601", "nan"],
    "max_age_seconds": ["-1", "2592001", "nan"],
    "embedded_redis": ["maybe", "redis://h"],
    "redis_grace_seconds": ["-1", "3601", "nan"],
    "redis_wait_seconds": ["-1", "inf"],
    "replay": ["maybe", "2"],
    "publish_keys": ["short", KEY[1:], f"{KEY},short", f"{KEY} {KEY}", f"{KEY}\x7f", f"{KEY}é", f"{KEY}\n{KEY}"],
    "admin_keys": ["short", f"{KEY},short", f"{KEY} {KEY}", f"{KEY}é"],
    "jwt_secret": ["short", f"{SECRET},short", "x" * 31],
    "jwt_jwks_url": ["nonsense", "file:///etc/passwd", "ftp://h/x", "https://"],
    "jwt_max_seconds": ["0", "-1", "nan", "2592001"],
    "auth_seconds": ["0", "nan", "86401"],
    "anonymous_projects": ["a*b", "-x", "demo,é"],
    "publish_max_bytes": ["0", "1M"],
    "publish_max_events": ["0"],
    "publish_rate": ["0", "nan"],
    "publish_burst": ["0", "1.5"],
    "log_level": ["loud", "INFO ", ""],
    "log_format": ["xml", "JSON", ""],
    "redis_url": [
        "nonsense",
        "http://h",
        "redis://h:port",
        "redis://h:99999",
        "://",
        "redis:h",
        "redis+sentinel://h",
        "redis+cluster://h/1",
    ],
    "admin_port": ["-1", "65536", "http"],
    "host": ["a..b", "a" * 70, "http://0.0.0.0", "0.0.0.0:3001", "a b", "10.0.0.256", "[::1]:3001", "-a", "*"],
    "admin_host": ["a..b", "localhost:4001"],
    "hosts": [
        "http://a.example",
        "a.example:443",
        "a.example:",
        "a b",
        "*.example.com",
        "[::1",
        "a/b",
        "\u00fc.example",
    ],
    "origins": [
        "app.example.com",
        "https://x/path",
        "https://*.example.com",
        "foo",
        "null",
        "https://a.example;https://b",
        "https://a.example:99999",
    ],
}
FILES = {
    "redis_url_file": "redis_url",
    "publish_keys_file": "publish_keys",
    "admin_keys_file": "admin_keys",
    "jwt_secret_file": "jwt_secret",
}  # file setting to the setting that it fills; tested separately

WITH_OTHERS = {"auth", "jwt_cookie", "jwt_public_keys_file"}  # need others, or a file: tests/auth/test_auth_settings.py
WITH_OTHERS |= {"log_level_file", "tls_cert", "tls_key"}  # tests/operations/test_reload.py, test_tls.py


def variable_of(field: str) -> str:
    special = {
        "redis_url_file": "REDIS_URL_FILE",
        "redis_url": "REDIS_URL",
        "namespace": "PROGRESS_NAMESPACE",
        "replay": "PROGRESS_REPLAY",
    }
    return special.get(field, f"GATEWAY_{field.upper()}")


def flag_of(field: str) -> str:
    return f"--{field.replace('_', '-')}"


def by_flags(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Settings:
    """The settings that `serve` would use."""
    read: list[Settings] = []
    monkeypatch.setattr(cli, "_serve", lambda settings, remarks, **_: read.append(settings))
    result = CliRunner().invoke(cli.main, ["serve", *arguments])
    assert result.exit_code == 0, result.output
    return read[0]


def test_every_setting_is_tested_here() -> None:
    assert set(OTHER) | set(FILES) | WITH_OTHERS == set(Settings.model_fields)
    assert set(BAD) <= set(OTHER)


@pytest.mark.parametrize("field", OTHER)
def test_a_variable_has_an_effect_on_its_setting_and_on_no_other(monkeypatch: pytest.MonkeyPatch, field: str) -> None:
    before = Settings().model_dump()
    text, value = OTHER[field]
    assert before[field] != value
    monkeypatch.setenv(variable_of(field), text)
    assert Settings().model_dump() == before | {field: value}


@pytest.mark.parametrize("field", OTHER)
def test_a_flag_has_an_effect_on_its_setting_and_on_no_other(monkeypatch: pytest.MonkeyPatch, field: str) -> None:
    text, value = OTHER[field]
    assert by_flags(monkeypatch, flag_of(field), text).model_dump() == Settings().model_dump() | {field: value}


@pytest.mark.parametrize("field", OTHER)
def test_a_flag_wins_over_its_variable(monkeypatch: pytest.MonkeyPatch, field: str) -> None:
    text, value = OTHER[field]
    default = Settings().model_dump()[field]
    monkeypatch.setenv(
        variable_of(field), {"log_level": "error", "log_format": "text"}.get(field) or str(default or "1") or "1"
    )
    if field in ("namespace", "origins", "admin_host"):
        monkeypatch.setenv(variable_of(field), "a")
    if field == "trusted_proxies":
        monkeypatch.setenv(variable_of(field), "192.0.2.1")
    if field == "redis_url":
        monkeypatch.setenv(variable_of(field), "redis://another")
    if field in ("publish_keys", "admin_keys"):
        monkeypatch.setenv(variable_of(field), "another key of the environment")
    assert by_flags(monkeypatch, flag_of(field), text).model_dump()[field] == value


@pytest.mark.parametrize(("field", "text"), [(field, text) for field, texts in BAD.items() for text in texts])
def test_a_bad_value_names_its_variable_and_its_flag_in_one_line(
    monkeypatch: pytest.MonkeyPatch, field: str, text: str
) -> None:
    monkeypatch.setenv(variable_of(field), text)
    with pytest.raises(ValidationError):
        Settings()
    monkeypatch.delenv(variable_of(field))
    result = CliRunner().invoke(cli.main, ["serve", f"{flag_of(field)}={text}"])
    assert result.exit_code == 78
    assert result.stderr.count("\n") == 1
    assert f"{flag_of(field)} ({variable_of(field)})" in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize("keys", ["tooshort", f"{KEY} hunter2", f"{KEY},{OTHER_KEY}é", f"{KEY},hunter2"])
def test_a_key_is_never_printed_whatever_is_wrong(monkeypatch: pytest.MonkeyPatch, keys: str) -> None:
    secrets = [KEY, OTHER_KEY, "tooshort", "hunter2"]
    result = CliRunner().invoke(cli.main, ["serve", f"--publish-keys={keys}"])
    assert "GATEWAY_PUBLISH_KEYS" in result.stderr
    monkeypatch.setenv("GATEWAY_PUBLISH_KEYS", keys)
    with pytest.raises(ValidationError) as caught:
        Settings()
    for text in (result.output, str(caught.value), repr(caught.value)):
        assert [secret for secret in secrets if secret in text] == []


def test_an_error_of_the_publishers_own_names_its_variable_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROGRESS_REPLAY", "maybe")
    result = CliRunner().invoke(cli.main, ["serve", "--check-config", "--namespace", "a b"])
    assert "  --namespace (PROGRESS_NAMESPACE) is 'a b'; use 1 to 128 characters of " in result.stderr
    assert "  PROGRESS_REPLAY (--replay) is 'maybe'; use on or off\n" in result.stderr


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ("short", "key 1 is too short: use 16 or more printable ASCII characters"),
        (f"{KEY},a b", "key 2 is too short: use 16 or more printable ASCII characters"),
        (f"{KEY} {KEY}", "key 1 contains a space or a character that is not allowed: use 16 or more printable ASCII"),
    ],
)
def test_a_bad_key_is_numbered_and_the_rule_is_told(keys: str, says: str) -> None:
    result = CliRunner().invoke(cli.main, ["serve", "--check-config", f"--publish-keys={keys}"])
    assert f"--publish-keys (GATEWAY_PUBLISH_KEYS): {says}" in result.stderr


def test_a_good_key_is_not_shown_by_the_settings_nor_by_the_help_nor_by_another_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GATEWAY_PUBLISH_KEYS", KEY)
    settings = Settings()
    assert [key.get_secret_value() for key in settings.publish_keys] == [KEY]
    texts = [repr(settings), str(settings), settings.model_dump_json(), str(settings.model_dump())]
    texts.append(CliRunner().invoke(cli.main, ["serve", "--help"]).output)
    texts.append(CliRunner().invoke(cli.main, ["serve", "--port=x"]).output)
    with pytest.raises(ValidationError) as caught:
        Settings(port=-1)
    texts.append(str(caught.value))
    assert [text for text in texts if KEY in text] == []


@pytest.mark.parametrize("value", ["", ",", " , "])
def test_no_key_is_no_key(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("GATEWAY_PUBLISH_KEYS", value)
    assert Settings().publish_keys == ()


@pytest.mark.parametrize("value", ["", "on", "1", "TRUE", "yes"])
def test_replay_is_on_as_the_publisher_reads_it(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("PROGRESS_REPLAY", value)
    assert Settings().replay is PublisherSettings.from_environment().replay is True


def test_several_bad_values_are_named_at_once() -> None:
    result = CliRunner().invoke(cli.main, ["serve", "--port", "x", "--max-projects", "0"])
    assert result.exit_code == 78
    assert result.stderr.splitlines() == [
        "progress-gateway: 2 settings are wrong:",
        "  --port (GATEWAY_PORT) is 'x'; expected: a whole number from 0 up to 65535",
        "  --max-projects (GATEWAY_MAX_PROJECTS) is '0'; expected: a whole number above 0 up to 10000000",
    ]


@pytest.mark.parametrize("field", [*OTHER, *FILES])
def test_a_setting_is_described_once_and_the_help_shows_it(field: str) -> None:
    description = Settings.model_fields[field].description
    assert description
    assert description.endswith(".")
    for command in ("serve", "demo"):
        text = " ".join(CliRunner().invoke(cli.main, [command, "--help"], terminal_width=110).output.split())
        assert flag_of(field) in text
        assert variable_of(field) in text
        assert " ".join(description.split()) in text


def test_an_empty_host_is_the_default_and_not_every_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_HOST", "")
    assert Settings().host == "127.0.0.1"
    assert by_flags(monkeypatch, "--host=").host == "127.0.0.1"


def test_an_empty_redis_url_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "")
    assert Settings().redis_url is None


def test_an_unknown_variable_is_the_command_lines_business(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_UNHEARD_OF", "1")
    Settings()


def test_settings_do_not_change_afterwards() -> None:
    with pytest.raises(ValidationError):
        Settings().port = 1


def test_the_defaults_are_those_of_the_contract() -> None:
    settings: dict[str, Any] = Settings().model_dump()
    assert (settings["host"], settings["port"]) == ("127.0.0.1", 3001)
    assert settings["redis_url"] is None
    assert settings["max_message_bytes"] == 16 * 1024
    assert settings["origins"] == ()


def test_a_default_passes_its_own_checks() -> None:
    settings = Settings()
    assert Settings.model_validate(settings.model_dump()) == settings


def test_one_class_is_the_only_place_of_settings() -> None:
    classes = [
        node.name
        for path in Path(gateway.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef) and any("BaseSettings" in ast.unparse(base) for base in node.bases)
    ]
    assert classes == ["Settings"]


@pytest.mark.parametrize(("command", "others"), [("serve", {"check_config", "print_config"}), ("demo", set())])
def test_no_flag_stands_beside_the_settings(command: str, others: set[str]) -> None:
    params = cli.main.commands[command].params
    assert {parameter.name for parameter in params} == set(Settings.model_fields) | others


# Secrets in files

HELD = {"redis_url": "redis://:secret@h/1", "publish_keys": f"{KEY},{OTHER_KEY}", "admin_keys": KEY}


@pytest.mark.parametrize("field", HELD)
@pytest.mark.parametrize("by_flag", [True, False])
def test_a_secret_may_come_from_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, field: str, by_flag: bool
) -> None:
    monkeypatch.setenv(variable_of(field), HELD[field])
    expected = getattr(Settings(), field)
    monkeypatch.delenv(variable_of(field))
    path = tmp_path / "secret"
    path.write_text(f"  {HELD[field]}\n")
    if not by_flag:
        monkeypatch.setenv(variable_of(f"{field}_file"), str(path))
    settings = by_flags(monkeypatch, *([flag_of(f"{field}_file"), str(path)] if by_flag else []))
    assert getattr(settings, field) == expected


@pytest.mark.parametrize("end", ["\n", "\r\n", ",\n", "\n\n"])
def test_a_file_may_hold_a_key_a_line(tmp_path: Path, end: str) -> None:
    path = tmp_path / "keys"
    path.write_bytes(f"{KEY}{end}{OTHER_KEY}{end}".encode())
    assert Settings(publish_keys_file=path).publish_keys == (SecretStr(KEY), SecretStr(OTHER_KEY))


@pytest.mark.parametrize("field", HELD)
def test_a_flag_wins_over_the_variable_of_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, field: str) -> None:
    monkeypatch.setenv(variable_of(f"{field}_file"), str(tmp_path / "nowhere"))
    assert getattr(by_flags(monkeypatch, flag_of(field), HELD[field]), field)


@pytest.mark.parametrize("field", HELD)
def test_an_empty_name_is_no_file(monkeypatch: pytest.MonkeyPatch, field: str) -> None:
    monkeypatch.setenv(variable_of(f"{field}_file"), "")
    assert not getattr(Settings(), field)


@pytest.mark.parametrize("field", HELD)
@pytest.mark.parametrize("trouble", ["missing", "directory", "empty", "binary", "long", "both", "bad"])
def test_a_file_that_holds_no_such_secret_is_named_and_what_it_holds_is_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, field: str, trouble: str
) -> None:
    path = tmp_path / "secret"
    hunter = b"hunter2"
    content = {"empty": b" \n", "binary": hunter + b"\xff", "long": hunter * 20_000, "both": hunter, "bad": hunter}
    if trouble == "directory":
        path.mkdir()
    elif trouble != "missing":
        path.write_bytes(content[trouble])
    monkeypatch.setenv(variable_of(f"{field}_file"), str(path))
    if trouble == "both":
        monkeypatch.setenv(variable_of(field), HELD[field])
    result = CliRunner().invoke(cli.main, ["serve"])
    assert result.exit_code == 78
    assert variable_of(field) in result.stderr
    assert trouble == "bad" or str(path) in result.stderr
    assert result.stderr.count("\n") == 1
    assert not [word for word in ("hunter2", "secret@", KEY) if word in result.output]


@pytest.mark.parametrize(
    ("field", "secret"),
    [
        ("publish_keys", KEY),
        ("publish_keys", f"{KEY},{OTHER_KEY}"),
        ("publish_keys", KEY * 100),
        ("redis_url", "redis://u:hunter2@h"),
        ("redis_url", "hunter2/hunter2"),
    ],
)
@pytest.mark.parametrize("is_both", [False, True])
@pytest.mark.parametrize("by_flag", [False, True])
def test_a_secret_in_the_place_of_its_file_is_not_repeated(
    monkeypatch: pytest.MonkeyPatch, field: str, secret: str, is_both: bool, by_flag: bool
) -> None:
    if is_both:
        monkeypatch.setenv(variable_of(field), HELD[field])
    if not by_flag:
        monkeypatch.setenv(variable_of(f"{field}_file"), secret)
    flags = [flag_of(f"{field}_file"), secret] if by_flag else []
    result = CliRunner().invoke(cli.main, ["serve", "--check-config", *flags])
    assert result.exit_code == 78
    assert f"{variable_of(f'{field}_file')} must be the path of an existing file" in result.stderr
    assert not [word for word in ("hunter2", KEY, OTHER_KEY) if word in result.output]


@pytest.mark.parametrize("field", HELD)
def test_a_path_may_be_relative(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, field: str) -> None:
    (tmp_path / "secret").write_text(HELD[field])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable_of(f"{field}_file"), "secret")
    assert getattr(Settings(), field)


def test_the_two_ports_are_two() -> None:
    with pytest.raises(ValidationError, match=r"admin_port\n.*4000 is GATEWAY_PORT, too"):
        Settings(port=4000, admin_port=4000)
    Settings(port=4000, admin_port=4000, admin_host="10.0.0.1")
    Settings(port=0, admin_port=0)


def test_two_ports_that_are_one_are_named_beside_what_else_is_wrong() -> None:
    result = CliRunner().invoke(cli.main, ["serve", "--admin-port=3001", "--drain-rate=x"])
    assert result.exit_code == 78
    said = "--admin-port (GATEWAY_ADMIN_PORT): 3001 is GATEWAY_PORT, too; use another port"
    assert said in result.stderr
    assert "--drain-rate (GATEWAY_DRAIN_RATE) is 'x'" in result.stderr


def test_an_empty_admin_port_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_ADMIN_PORT", "")
    assert Settings().admin_port is None
