"""What a publisher reads from the environment, and what it does not take."""

import itertools

import pytest

from publisher.names import redis_channel_of
from publisher.settings import DEFAULT_REDIS_URL, PublisherSettings, check_namespace


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
    channels = [redis_channel_of(project, namespace) for namespace in namespaces for project in names]
    assert len(set(channels)) == len(channels)


def is_namespace(name: str) -> bool:
    try:
        return check_namespace(name) == name
    except ValueError:
        return False
