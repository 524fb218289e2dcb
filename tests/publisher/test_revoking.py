"""Revocations on their way to Redis: what is written, published and bounded."""

import time

import pytest
import redis

from publisher import aio, revoke_viewer
from publisher.names import jobs_key
from publisher.revocation import SCRIPT, read_revocation, revocation, revoked_channel
from publisher.settings import PublisherSettings
from publisher.transport import async_driver
from tests.contract.processes import RedisServer, free_port


@pytest.fixture
def namespace(redis_server: RedisServer, project: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("REDIS_URL", redis_server.url)
    monkeypatch.setenv("PROGRESS_NAMESPACE", project)
    return project


def remembered(server: RedisServer, namespace: str) -> dict[str, int]:
    found = server.command("HGETALL", jobs_key(revoked_channel(namespace)))
    return {sub.decode(): int(at) for sub, at in found.items()}


def test_a_revocation_is_remembered_and_published_by_the_clock_of_redis(
    redis_server: RedisServer, namespace: str
) -> None:
    with redis.Redis.from_url(redis_server.url) as client, client.pubsub() as listener:
        listener.subscribe(revoked_channel(namespace))
        assert listener.get_message(timeout=20)
        before = redis_server.clock_us()
        revoke_viewer("user 1")
        message = None
        while message is None:
            message = listener.get_message(timeout=20, ignore_subscribe_messages=True)
        after = redis_server.clock_us()
    sub, revoked_at = read_revocation(message["data"]) or ("", 0)
    assert sub == "user 1"
    assert before <= revoked_at <= after
    assert remembered(redis_server, namespace) == {"user 1": revoked_at}
    assert 0 < redis_server.command("TTL", jobs_key(revoked_channel(namespace))) <= 30 * 86_400


async def test_a_later_revocation_counts_and_one_that_is_repeated_changes_nothing(
    redis_server: RedisServer, namespace: str
) -> None:
    await aio.revoke_viewer("user_1")
    first = remembered(redis_server, namespace)["user_1"]
    await async_driver.revoke(PublisherSettings.from_environment(), "user_1", first - 5)
    assert remembered(redis_server, namespace) == {"user_1": first}
    await aio.revoke_viewer("user_1")
    assert remembered(redis_server, namespace)["user_1"] > first


def test_beyond_the_bound_the_oldest_are_forgotten(redis_server: RedisServer, namespace: str) -> None:
    key = jobs_key(revoked_channel(namespace))
    now = int(time.time() * 1_000_000)
    redis_server.command("HSET", key, *(word for n in range(20) for word in (f"user_{n}", now - 1_000 + n)))
    words = ["1", key, revoked_channel(namespace), "new", "0", "20", "3600", "PUBLISH"]
    redis_server.command("EVAL", SCRIPT, *words)
    assert set(remembered(redis_server, namespace)) == {"new", *(f"user_{n}" for n in range(3, 20))}


def test_redis_away_is_an_error_and_not_a_line_in_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(redis.RedisError):
        revoke_viewer("user_1")


@pytest.mark.parametrize("sub", ["", "x" * 257, "a\nb", 5, None])
def test_what_cannot_be_a_user_is_refused(sub: object) -> None:
    with pytest.raises(ValueError, match="sub must be the user's id"):
        revocation(sub, "")


def test_payloads_of_others_are_no_revocations() -> None:
    for payload in (b"", b"x", b"5", b"5 ", b"x user", b"-5 user", b"5 \xff", b"9" * 17 + b" user", b"5 a\nb"):
        assert read_revocation(payload) is None, payload
    assert read_revocation(b"5 a b") == ("a b", 5)
