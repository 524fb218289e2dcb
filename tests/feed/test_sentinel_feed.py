"""The feed of a primary that may be another server tomorrow: real servers; where the primary is, the test says."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
import redis
from redis.exceptions import ConnectionError

from gateway.feed import sentinel_feed as module
from gateway.feed.interfaces import FeedState
from gateway.feed.sentinel_feed import SentinelFeed
from publisher.transport.sentinels import Known
from publisher.transport.url import RedisUrl
from tests.contract.deadlines import eventually
from tests.contract.processes import RedisServer
from tests.recording_observer import RecordingObserver

URL = RedisUrl.parse("redis+sentinel://:secret@127.0.0.1:1/mymaster")


class Place:
    """What all Sentinels say."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.error: Exception | None = None
        self.asked = 0

    async def ask_sentinels(self, url: RedisUrl) -> Known:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return Known(1, "127.0.0.1", self.server.port, 12.5)


@pytest.fixture
def other_redis() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.kill()


@pytest.fixture
def place(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Place:
    place = Place(redis_server)
    monkeypatch.setattr(module, "ask_sentinels", place.ask_sentinels)
    monkeypatch.setattr(module, "LOCATE_SECONDS", 0.1)
    monkeypatch.setattr(module, "LEAVE_SECONDS", 0.3)
    monkeypatch.setattr(RedisUrl, "at", lambda url, host, port: f"redis://{host}:{port}/0")
    return place


@asynccontextmanager
async def running(*, live: bool = True) -> AsyncIterator[tuple[SentinelFeed, RecordingObserver]]:
    observer = RecordingObserver()
    feed = SentinelFeed(URL, observer, probe_channel=f"project:~probe:{uuid4().hex}", memory_channel="project:~memory")
    task = asyncio.create_task(feed.run())
    try:
        if live:
            await eventually(lambda: feed.state is FeedState.LIVE, "the feed to be live")
        yield feed, observer
    finally:
        task.cancel()
        await asyncio.wait([task], timeout=5)
        assert task.cancelled()


def publish(server: RedisServer, redis_channel: str, payload: str) -> int:
    with redis.Redis.from_url(server.url) as client:
        heard: Any = client.publish(redis_channel, payload)
    return int(heard)


async def test_the_feed_goes_where_the_primary_is_and_tells_the_loss(place: Place, other_redis: RedisServer) -> None:
    async with running() as (feed, observer):
        redis_channel = f"project:{uuid4().hex}"
        feed.subscribe(redis_channel)
        await eventually(lambda: redis_channel in observer.states, "the state")
        before = place.server
        place.server = other_redis
        await eventually(lambda: observer.told[-1] == "live" and observer.count("live") == 2, "the other server")
        assert observer.lost == [[redis_channel]]
        # Before it came, too, another primary may have been left a moment ago.
        assert [told for told in observer.told if "replaced" in told] == [
            "replaced 12.5 to 12.5 s ago", "replaced 12.5 to 0 s ago",
        ]  # fmt: skip
        assert observer.count(f"loaded {redis_channel}") == 2
        assert publish(before, redis_channel, "of a primary that was cut off") == 0, "nobody listens there any more"
        assert publish(other_redis, redis_channel, "news") == 1
        await eventually(lambda: observer.payloads(redis_channel) == [b"news"], "the news")


async def test_a_primary_that_is_none_any_more_is_heard_until_publishers_have_left_it(
    place: Place, other_redis: RedisServer
) -> None:
    async with running() as (feed, observer):
        redis_channel = f"project:{uuid4().hex}"
        feed.subscribe(redis_channel)
        await eventually(lambda: redis_channel in observer.states, "the state")
        before, asked = place.server, place.asked
        place.server = other_redis
        await eventually(lambda: place.asked > asked, "the question")
        assert publish(before, redis_channel, "late") == 1
        await eventually(lambda: observer.payloads(redis_channel) == [b"late"], "what is heard there only")
        await eventually(lambda: observer.count("live") == 2, "the other server")


async def test_sentinels_that_cannot_be_asked_say_nothing_against_a_primary_that_answers(place: Place) -> None:
    async with running() as (feed, observer):
        place.error = ConnectionError("no Sentinel tells where 'mymaster' is: refused")
        asked = place.asked
        await eventually(lambda: place.asked > asked + 3, "more questions")
        assert feed.is_proven
        assert observer.count("lost") == 0


async def test_sentinels_that_talk_nonsense_once_are_asked_again(
    place: Place, other_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with running() as (_, observer):
        place.error = OverflowError("int too large to convert to float")
        asked = place.asked
        await eventually(lambda: place.asked > asked + 2, "more questions")
        place.error = None
        place.server = other_redis
        await eventually(lambda: observer.count("live") == 2, "the other server")
    assert "Traceback" not in caplog.text


async def test_without_a_sentinel_there_is_no_feed_and_a_hint(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.error = ConnectionError("no Sentinel tells where 'mymaster' is: refused")
    async with running(live=False) as (feed, observer):
        await eventually(lambda: place.asked > 2, "more than one try")
        assert feed.trouble is not None
        assert "no Sentinel" in feed.trouble.error
        assert len(caplog.records) == 1, caplog.text
        assert "secret" not in caplog.text
        place.error = None
        await eventually(lambda: feed.state is FeedState.LIVE, "the feed to be live")
        assert observer.count("live") == 1


async def test_control_who_does_not_ask_again_listens_to_the_old_primary(
    place: Place, other_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOCATE_SECONDS", 60)
    async with running() as (feed, observer):
        redis_channel = f"project:{uuid4().hex}"
        feed.subscribe(redis_channel)
        await eventually(lambda: redis_channel in observer.states, "the state")
        place.server = other_redis
        await asyncio.sleep(0.5)
        assert publish(other_redis, redis_channel, "news") == 0
        assert feed.is_proven, "and it takes itself to be well"
