"""What a publisher reads from the environment, and what it does not take."""

import itertools

import pytest

from publisher.names import channel_name
from publisher.settings import DEFAULT_REDIS_URL, PublisherSettings, check_namespace, mask_url


def read(monkeypatch: pytest.MonkeyPatch, **variables: str) -> PublisherSettings:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return PublisherSettings.from_environment()


def test_without_variables_it_is_the_default_redis_with_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(monkeypatch) == PublisherSettings("redis://127.0.0.1:6379/0", "", True)


def test_the_url_is_that_of_redis_url(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(monkeypatch, REDIS_URL="redis://elsewhere").redis_url == "redis://elsewhere"


def test_an_empty_url_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(monkeypatch, REDIS_URL="").redis_url == DEFAULT_REDIS_URL


def test_the_namespace_is_that_of_progress_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(monkeypatch, PROGRESS_NAMESPACE="staging").namespace == "staging"


@pytest.mark.parametrize("value", ["", "1", "on", "ON", "true", "yes", "True"])
def test_replay_is_on(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    assert read(monkeypatch, PROGRESS_REPLAY=value).replay is True


@pytest.mark.parametrize("value", ["0", "off", "OFF", "false", "no", "False"])
def test_replay_is_off(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    assert read(monkeypatch, PROGRESS_REPLAY=value).replay is False


@pytest.mark.parametrize("value", ["2", "maybe", " on", "-"])
def test_a_replay_that_is_neither_is_named(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    with pytest.raises(ValueError, match="PROGRESS_REPLAY"):
        read(monkeypatch, PROGRESS_REPLAY=value)


def test_a_change_needs_no_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(monkeypatch, PROGRESS_NAMESPACE="a").namespace == "a"
    assert read(monkeypatch, PROGRESS_NAMESPACE="b").namespace == "b"


@pytest.mark.parametrize("namespace", ["", "a", "staging", "projects", "my-project", "a.b-c:d_9", "a" * 128])
def test_a_namespace_has_the_form_of_a_project_id(namespace: str) -> None:
    assert check_namespace(namespace) == namespace


@pytest.mark.parametrize("namespace", ["-a", "a b", "a{", "a*", "a" * 129, "é", ":", "\n", "staging\n"])
def test_a_namespace_of_another_form_is_named(monkeypatch: pytest.MonkeyPatch, namespace: str) -> None:
    """The line feed at the end is what reading a variable from a file leaves there."""
    with pytest.raises(ValueError, match="PROGRESS_NAMESPACE"):
        read(monkeypatch, PROGRESS_NAMESPACE=namespace)


@pytest.mark.parametrize("namespace", ["project", "project:a", "a:project", "a:project:b", "project:"])
def test_a_namespace_that_does_not_separate_is_named(monkeypatch: pytest.MonkeyPatch, namespace: str) -> None:
    with pytest.raises(ValueError, match=r"^PROGRESS_NAMESPACE is .*use one without the part 'project'$"):
        read(monkeypatch, PROGRESS_NAMESPACE=namespace)


def test_no_two_namespaces_have_a_channel_in_common() -> None:
    names = [
        ":".join(parts) for length in (1, 2, 3) for parts in itertools.product(["project", "a", "b"], repeat=length)
    ]
    namespaces = [name for name in ["", *names] if is_namespace(name)]
    assert 10 < len(namespaces) < len(names)
    channels = [channel_name(project, namespace) for namespace in namespaces for project in names]
    assert len(set(channels)) == len(channels)


def is_namespace(name: str) -> bool:
    try:
        return check_namespace(name) == name
    except ValueError:
        return False


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("redis://:secret@host:6379/0", "redis://:***@host:6379/0"),
        ("rediss://user:secret@host", "rediss://user:***@host"),
        ("redis+sentinel://:secret@a:1,b:2/0", "redis+sentinel://:***@a:1,b:2/0"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
        (
            "redis+sentinel://u:secret@a:1,b/m?sentinel_username=u&sentinel_password=secret&ssl_ca_certs=/c.pem",
            "redis+sentinel://u:***@a:1,b/m?sentinel_username=u&sentinel_password=***&ssl_ca_certs=/c.pem",
        ),
        ("rediss+cluster://:secret@[::1]:1,b:2", "rediss+cluster://:***@[::1]:1,b:2"),
        ("redis://secret@host", "redis://***@host"),
        ("https://token@host/path", "https://***@host/***"),
        ("redis://secret:@host", "redis://***@host"),
        ("user:secret@host:6379", "user:***@host:6379"),
        ("host:6379/3", "host:6379/3"),
        ("not a url", "not a url"),
        (
            "redis://h:1/0?socket_timeout=2&DB=1&ssl_cert_reqs=none",
            "redis://h:1/0?socket_timeout=2&DB=1&ssl_cert_reqs=none",
        ),
        ("redis://h/0?pasword=secret&db=1", "redis://h/0?pasword=***&db=1"),
        ("rediss://h?ssl_password=secret", "rediss://h?ssl_password=***"),
        ("redis://h/secret", "redis://h/***"),
        ("redis://user:secret", "redis://user:***"),
        ("user:secret", "user:***"),
        ("redis+cluster://[::1]:1,[::2]:secret", "redis+cluster://[::1]:1,[::2]:***"),
        ("redis+sentinel://h/my%20primary/3", "redis+sentinel://h/my%20primary/3"),
        ("unix:///run/a:b.sock?db=1", "unix:///run/a:b.sock?db=1"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, masked: str) -> None:
    assert mask_url(url) == masked


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:se/cret@host",
        "redis://user:se:cret@host",
        "redis://user:se@cret@host",
        "redis://user:se?cret@host",
        "redis+sentinel://h/m?sentinel_password=se@cret",
        "redis+cluster://u:secret@h1,u:secret@h2",
        "unix://user:secret@/run/redis.sock",
        "redis://host:6379/0?password=secret",
        "unix:///run/redis.sock?username=u&password=secret&db=1",
        "redis://user:secret@[::1]:6379/0",
        "redis://h/0?PASSWORD=secret",
        "redis://h/0?auth=secret",
        "redis://h/0?secret",
        "redis://h/0?socket_timeout=secret",
        "redis://h/0#secret",
        "redis://user:se/cret",
        "redis://user:se?cret",
        "redis://user:secret#@h",
        "redis//user:secret@h",
        "redis:secret",
        "redis://user:1?a=secret@h",
        "redis://user:1?db=secret@h",
        "redis+sentinel://user:se/cret/x",
        "redis+sentinel://h/m/secret",
        "unix://user:secret/run/redis.sock",
        "reddis://h/secret",
        "redis://user:se\ncret",
        "redis://secret?token@h",
        "redis://user:[secret]@h",
        "redis://user:[secret]",
        "redis://user:secret\u2100@h",
    ],
)
def test_no_part_of_a_password_is_shown_however_it_is_given(url: str) -> None:
    shown = mask_url(url)
    assert "secret" not in shown
    assert "cret" not in shown
