"""The feed of a Cluster, on two real shards: channels are heard where they are, also while they move."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from uuid import uuid4

import hiredis
import pytest

from gateway.feed import cluster_feed as module
from gateway.feed import server_feed as feed_module
from gateway.feed import shard as shard_module
from gateway.feed.cluster_feed import ClusterFeed
from gateway.feed.interfaces import FeedState
from gateway.feed.link import Expected
from gateway.feed.shard import Shard
from gateway.feed.trouble_log import Trouble
from publisher.transport.url import RedisUrl
from tests.contract.deadlines import PATIENCE, STALL_SECONDS, eventually
from tests.contract.processes import free_port
from tests.recording_observer import RecordingObserver
from tests.small_cluster import Node, SmallCluster, slot_of


class Stage:
    """A feed that runs, its observer, and its Cluster."""

    def __init__(self, cluster: SmallCluster, url: str) -> None:
        self.cluster = cluster
        self.observer = RecordingObserver()
        self.feed = ClusterFeed(
            RedisUrl.parse(url),
            self.observer,
            probe_channel=f"project:~probe:{uuid4().hex}",
            memory_channel="project:~memory",
        )
        self.first, self.second = (self.channel_at(node) for node in cluster.nodes)

    def channel_at(self, node: Node) -> str:
        while self.cluster.owner(redis_channel := f"project:{uuid4().hex}") is not node:
            pass
        return redis_channel

    async def live(self) -> None:
        await eventually(lambda: self.feed.state is FeedState.LIVE, "the feed to be live")

    async def watch(self, *redis_channels: str) -> None:
        for redis_channel in redis_channels:
            self.feed.subscribe(redis_channel)
        await eventually(lambda: set(redis_channels) <= set(self.observer.states), "the states")

    async def hears(self, redis_channel: str, payload: str) -> None:
        assert await asyncio.to_thread(self.cluster.publish, redis_channel, payload) == 1, "nobody has subscribed there"
        await eventually(
            lambda: payload.encode() in self.observer.payloads(redis_channel), f"{payload} of {redis_channel}"
        )

    def loads(self, redis_channel: str) -> int:
        return self.observer.count(f"loaded {redis_channel}")


@asynccontextmanager
async def running(cluster: SmallCluster, *, url: str = "", live: bool = True) -> AsyncIterator[Stage]:
    stage = Stage(cluster, url or cluster.url)
    task = asyncio.create_task(stage.feed.run())
    try:
        if live:
            await stage.live()
        yield stage
    finally:
        task.cancel()
        await asyncio.wait([task], timeout=PATIENCE)
        assert task.cancelled(), "the feed cannot be ended"
        assert stage.feed.state is FeedState.CLOSED


@pytest.fixture(scope="module")
def cluster() -> Iterator[SmallCluster]:
    cluster = SmallCluster()
    yield cluster
    cluster.end()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine may hold up a move, or an answer, for longer than a feed of a replica waits."""
    monkeypatch.setattr(module, "MOVE_SECONDS", PATIENCE)
    for user in (feed_module, shard_module):
        monkeypatch.setattr(user, "PROBE_SECONDS", PATIENCE)
    monkeypatch.setattr(feed_module, "PROVEN_SECONDS", PATIENCE)


@pytest.fixture
async def stage(cluster: SmallCluster) -> AsyncIterator[Stage]:
    async with running(cluster) as stage:
        yield stage


@pytest.fixture
async def own_stage() -> AsyncIterator[Stage]:
    """On servers of the test's own, which it may stop."""
    cluster = SmallCluster()
    try:
        async with running(cluster) as stage:
            yield stage
    finally:
        cluster.end()


async def test_channels_of_every_shard_are_loaded_and_heard(stage: Stage) -> None:
    for redis_channel in (stage.first, stage.second):
        stage.cluster.remember(redis_channel, f"remembered of {redis_channel}")
    await stage.watch(stage.first, stage.second)
    for redis_channel in (stage.first, stage.second):
        assert stage.observer.states[redis_channel] == {b"job\n": f"remembered of {redis_channel}".encode()}
        await stage.hears(redis_channel, "an event")
    assert stage.observer.count("live") == 1
    assert stage.feed.lost_seconds == 0
    assert stage.feed.trouble is None


async def test_a_channel_that_was_let_go_is_not_heard_any_more(stage: Stage) -> None:
    await stage.watch(stage.first)
    stage.feed.unsubscribe(stage.first)
    await eventually(lambda: stage.cluster.publish(stage.first, "late") == 0, "the end of the subscription")
    await stage.watch(stage.second)
    await stage.hears(stage.second, "an event")
    assert stage.observer.payloads(stage.first) == []


async def test_a_round_trip_is_one_to_the_shard_of_the_channel(stage: Stage) -> None:
    await stage.watch(stage.first, stage.second)
    heard: list[list[bytes]] = []
    for redis_channel in (stage.first, stage.second):
        stage.cluster.publish(redis_channel, "before")
        stage.feed.after_round_trip(
            redis_channel, partial(lambda name: heard.append(stage.observer.payloads(name)), redis_channel)
        )
    await eventually(lambda: len(heard) == 2, "the round trips")
    assert heard == [[b"before"], [b"before"]]


async def test_a_channel_follows_its_slot_and_nobody_is_told(patient: None, stage: Stage) -> None:
    stage.cluster.remember(stage.first, "before")
    await stage.watch(stage.first, stage.second)
    finish = await asyncio.to_thread(stage.cluster.begin_move, stage.first)
    stage.cluster.remember(stage.first, "after")  # there, before the feed may look
    await asyncio.to_thread(finish)
    await eventually(lambda: stage.observer.states[stage.first] == {b"job\n": b"after"}, "the state at the new shard")
    await stage.hears(stage.first, "news")
    await stage.hears(stage.second, "other news")
    assert stage.loads(stage.second) == 1
    assert stage.observer.count("lost") == 0


async def test_what_is_published_while_a_slot_is_half_moved_comes_with_its_state(patient: None, stage: Stage) -> None:
    stage.cluster.remember(stage.first, "before")
    await stage.watch(stage.first)
    finish = stage.cluster.begin_move(stage.first)
    for text in ("one", "two"):
        stage.cluster.remember(stage.first, text)
        await eventually(lambda: stage.observer.states[stage.first] == {b"job\n": text.encode()}, text)  # noqa: B023
    finish()
    await eventually(lambda: stage.feed._homes[stage.first] is not None, "the new shard")
    loads = stage.loads(stage.first)
    await eventually(lambda: stage.loads(stage.first) >= loads, "the load")
    await eventually(lambda: stage.cluster.publish(stage.first, "news") == 1, "the subscription there")
    await eventually(lambda: b"news" in stage.observer.payloads(stage.first), "news")
    assert stage.observer.count("lost") == 0


async def test_in_a_large_cluster_a_slot_that_is_half_moved_is_noticed_at_a_shard_that_is_not_asked_for_all(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_ASKED", 1)
    for redis_channel in (stage.first, stage.second):
        stage.cluster.remember(redis_channel, "before")
        await stage.watch(redis_channel)
        finish = stage.cluster.begin_move(redis_channel)
        stage.cluster.remember(redis_channel, "news")
        await eventually(lambda: stage.observer.states[redis_channel] == {b"job\n": b"news"}, "the news")  # noqa: B023
        finish()


async def test_a_channel_may_be_new_while_its_slot_is_half_moved(stage: Stage) -> None:
    stage.cluster.remember(stage.second, "before")
    finish = stage.cluster.begin_move(stage.second)
    await stage.watch(stage.second)
    assert stage.observer.states[stage.second] == {b"job\n": b"before"}
    finish()
    await eventually(lambda: stage.cluster.publish(stage.second, "news") == 1, "the subscription there")


async def test_a_move_back_and_forth_while_a_viewer_leaves_and_comes_is_followed(patient: None, stage: Stage) -> None:
    """A shard's own word that it let a channel go crosses ours."""
    for turn in range(6):
        await stage.watch(stage.first)
        move = asyncio.create_task(asyncio.to_thread(stage.cluster.move, stage.first))
        await asyncio.sleep(0.002 * turn)
        stage.feed.unsubscribe(stage.first)
        if turn % 2:
            stage.feed.subscribe(stage.first)
            stage.feed.unsubscribe(stage.first)
        await move
        stage.observer.states.clear()
    await stage.watch(stage.first)
    await stage.hears(stage.first, "news")
    assert stage.observer.count("lost") == 0
    assert sum(stage.feed.counters.reconnects.values()) == 0


async def memory_of(stage: Stage, node: Node) -> bytes | None:
    """The id that the next state of this shard comes with."""
    await stage.watch(stage.channel_at(node))
    return stage.observer.memory_ids[-1]


async def test_each_shard_has_a_memory_with_an_id_that_all_replicas_read(stage: Stage) -> None:
    ids = [await memory_of(stage, node) for node in stage.cluster.nodes]
    assert None not in ids
    assert len(set(ids)) == 2
    async with running(stage.cluster) as other:
        assert [await memory_of(other, node) for node in stage.cluster.nodes] == ids


async def test_a_memory_keeps_its_id_when_the_slot_of_its_key_moves(stage: Stage) -> None:
    node = stage.cluster.nodes[0]
    shard = stage.feed._shards[node.address]
    before, name = await memory_of(stage, node), shard.memory_channel
    await asyncio.to_thread(stage.cluster.move, name)
    await eventually(lambda: shard.memory_channel != name, "another name")
    await eventually(lambda: not shard._expected, "all answers")
    assert await memory_of(stage, node) == before
    async with running(stage.cluster) as other:
        assert await memory_of(other, node) == before


async def test_a_shard_that_was_emptied_has_another_memory(own_stage: Stage) -> None:
    stage, (first, second) = own_stage, own_stage.cluster.nodes
    before = [await memory_of(stage, node) for node in (first, second)]
    first.client.execute_command("FLUSHALL")
    for node in (first, second):
        node.client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    await eventually(lambda: stage.observer.count("lost") == 2, "both losses")
    await stage.live()
    after = [await memory_of(stage, node) for node in (first, second)]
    assert None is not after[0] != before[0]
    assert after[1] == before[1]


async def test_a_memory_that_could_not_be_read_while_its_slot_was_nowhere_is_read_again(stage: Stage) -> None:
    node = stage.cluster.nodes[0]
    shard = stage.feed._shards[node.address]
    before = await memory_of(stage, node)
    shard.memory_id = None
    shard._on_error(Expected("memory", shard.memory_channel), hiredis.ReplyError("CLUSTERDOWN"))
    await eventually(lambda: shard.memory_id is not None, "the next look")
    assert shard.memory_id == before


async def test_a_probe_whose_slot_moves_is_replaced(patient: None, stage: Stage) -> None:
    await stage.watch(stage.first)
    shard = stage.feed._homes[stage.first]
    assert shard is not None
    probe = shard.probe_channel
    await asyncio.to_thread(stage.cluster.move, probe)
    await eventually(lambda: shard.probe_channel != probe, "another probe")
    proven = shard._proven_at
    await eventually(lambda: shard._proven_at > proven + 1, "its return")
    assert stage.observer.count("lost") == 0


async def test_a_shard_that_is_gone_costs_the_others_nothing(own_stage: Stage) -> None:
    stage, (first, second) = own_stage, own_stage.cluster.nodes
    await stage.watch(stage.first, stage.second)
    second.kill()
    await eventually(lambda: stage.observer.count("lost") == 1, "the loss")
    assert stage.observer.lost == [[stage.second]]
    assert stage.feed.state is not FeedState.LIVE
    assert stage.feed.trouble is not None
    assert stage.feed.trouble.error.startswith(f"{second.address}: ")
    assert sum(stage.feed.counters.reconnects.values()) >= 1
    assert sum(stage.feed.counters.probe.counts) >= 2, "each shard's first, in one histogram"
    assert first.client.execute_command("SPUBLISH", stage.first, "news") == 1
    await eventually(lambda: stage.observer.payloads(stage.first) == [b"news"], "the other shard's news")
    assert stage.feed.lost_seconds == 0, "it serves the other shard's viewers: it is ready"
    second.start()
    await eventually(lambda: stage.observer.count("live") == 2, "the feed to be live")
    assert stage.loads(stage.second) == 2
    assert stage.loads(stage.first) == 1
    assert stage.observer.told.index("live", 3) > len(stage.observer.told) - 3, "live comes last"
    await stage.hears(stage.second, "news")


async def test_a_shard_that_is_frozen_is_noticed(own_stage: Stage) -> None:
    stage, second = own_stage, own_stage.cluster.nodes[1]
    await stage.watch(stage.second)
    second.signal(signal.SIGSTOP)
    begin = asyncio.get_running_loop().time()
    await eventually(lambda: stage.observer.lost == [[stage.second]], "the loss")
    assert asyncio.get_running_loop().time() - begin < 5 + STALL_SECONDS, "stale within 5 seconds"
    second.signal(signal.SIGCONT)
    await eventually(lambda: stage.observer.count("live") == 2, "the feed to be live")


async def test_a_slot_that_nobody_serves_is_told_as_a_loss(own_stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage, (first, _) = own_stage, own_stage.cluster.nodes
    monkeypatch.setattr(module, "MOVE_SECONDS", 0.5)
    await stage.watch(stage.first, stage.second)
    slot = first.client.execute_command("CLUSTER", "KEYSLOT", stage.first)
    for node in stage.cluster.nodes:
        node.client.execute_command("CLUSTER", "DELSLOTS", slot)
    await eventually(lambda: stage.observer.lost == [[stage.first]], "the loss")
    first.client.execute_command("CLUSTER", "ADDSLOTS", slot)
    await eventually(lambda: stage.observer.count("live") == 2, "the feed to be live")
    await stage.hears(stage.first, "news")


async def test_a_move_that_is_given_up_ends_with_the_state_of_the_old_shard(own_stage: Stage) -> None:
    stage, (first, second) = own_stage, own_stage.cluster.nodes
    stage.cluster.remember(stage.second, "before")
    await stage.watch(stage.first)
    slot = slot_of(stage.first)
    # The other node knows nothing of it.
    first.client.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", second.id)
    stage.feed.unsubscribe(stage.first)
    stage.feed.subscribe(stage.first)
    await eventually(lambda: stage.observer.count("lost") == 1, "the loss to be told")
    assert stage.feed.trouble is not None
    assert "slot" in stage.feed.trouble.error
    first.client.execute_command("CLUSTER", "SETSLOT", slot, "STABLE")
    await eventually(lambda: stage.observer.count("live") == 2, "the feed to be live")
    assert stage.loads(stage.first) == 2
    assert stage.feed.trouble is None
    await stage.hears(stage.first, "news")


async def test_a_shard_that_cannot_be_reached_from_the_beginning_is_told(
    own_stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, (_, second) = own_stage, own_stage.cluster.nodes
    await stage.watch(stage.first)
    second.signal(signal.SIGSTOP)
    try:
        async with running(stage.cluster, url=f"redis+cluster://{stage.cluster.nodes[0].address}", live=False) as late:
            late.feed._is_live = True  # as if it had been, before this shard came
            await eventually(lambda: late.observer.count("lost") > 0, "it to be told")
            await eventually(lambda: late.feed.trouble is not None, "what is wrong")
            assert late.feed.lost_seconds is not None, "it serves the other shard's viewers"
    finally:
        second.signal(signal.SIGCONT)


async def test_a_state_that_is_fetched_again_and_is_the_same_is_not_handed_on_again(stage: Stage) -> None:
    stage.cluster.remember(stage.second, "before")
    await stage.watch(stage.second)
    finish = stage.cluster.begin_move(stage.second)
    await eventually(lambda: stage.loads(stage.second) == 2, "the state that moved")
    await asyncio.sleep(2)
    assert stage.loads(stage.second) == 2
    finish()


async def test_a_state_that_is_the_same_is_handed_on_again_to_who_waits_for_it(stage: Stage) -> None:
    """A viewer that comes anew, and all of them after a loss: the hub holds everything back until then."""
    stage.cluster.remember(stage.second, "before")
    await stage.watch(stage.second)
    source = stage.cluster.owner(stage.second)
    finish = stage.cluster.begin_move(stage.second)
    await eventually(lambda: stage.loads(stage.second) == 2, "the state that moved")
    await asyncio.sleep(1.5)
    stage.feed.unsubscribe(stage.second)
    stage.feed.subscribe(stage.second)
    await eventually(lambda: stage.loads(stage.second) == 3, "the state, for who comes anew")
    await asyncio.sleep(1.5)
    source.client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    await eventually(lambda: stage.observer.count("live") == 2, "the feed to be live")
    assert stage.loads(stage.second) == 4, "after the loss"
    finish()


async def test_a_probe_whose_slot_left_and_came_back_is_heard_again(patient: None, stage: Stage) -> None:
    await stage.watch(stage.first)
    shard = stage.feed._homes[stage.first]
    assert shard is not None
    for _ in range(2):
        await asyncio.to_thread(stage.cluster.move, shard.probe_channel)
    await asyncio.sleep(4)
    assert stage.observer.count("lost") == 0


async def test_a_primary_that_was_made_a_replica_is_no_loss_while_the_map_may_tell_who_took_over(
    patient: None, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.watch(stage.first)
    with monkeypatch.context() as patch:
        patch.setattr(feed_module, "is_replica", lambda hello: True)
        await eventually(lambda: stage.observer.count(f"moved {stage.first}") > 0, "a look at who has it")
    await eventually(lambda: stage.loads(stage.first) == 2, "the state")
    await stage.hears(stage.first, "news")
    assert stage.observer.count("lost") == 0


async def test_a_replica_that_the_map_goes_on_calling_a_primary_is_told_as_a_loss(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.watch(stage.first)
    monkeypatch.setattr(feed_module, "is_replica", lambda hello: True)
    # A busy machine may take long to settle the channel first, which is a loss of its own.
    await eventually(lambda: "replica" in (stage.feed.trouble or Trouble("", "")).error, "what is wrong")
    assert stage.observer.count("lost") > 0


async def test_a_node_that_was_taken_out_of_the_cluster_does_not_mislead(cluster: SmallCluster, tmp_path: Path) -> None:
    gone = Node(tmp_path)
    try:
        async with running(cluster, url=f"redis+cluster://{gone.address},{cluster.nodes[0].address}") as stage:
            await stage.watch(stage.first)
            await stage.hears(stage.first, "news")
    finally:
        gone.kill()


@pytest.mark.parametrize(
    "answer",
    [
        b"-\r\n",
        b"-ASK\r\n",
        b"-ASK 1 nowhere\r\n",
        b">3\r\n$-1\r\n$-1\r\n:1\r\n",
        b">0\r\n",
        b">1\r\n$12\r\nsunsubscribe\r\n",
        b">3\r\n$8\r\nsmessage\r\n$2\r\n\xff\xfe\r\n$1\r\nx\r\n",  # a channel that is no UTF-8
        b">3\r\n$8\r\nsmessage\r\n:1\r\n$1\r\nx\r\n",
        b">3\r\n$8\r\nsmessage\r\n$1\r\nx\r\n_\r\n",
    ],
)
async def test_what_no_redis_says_costs_a_connection_at_most(
    stage: Stage, answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    await stage.watch(stage.first)
    shard = stage.feed._homes[stage.first]
    assert shard is not None
    shard.data_received(answer)
    await eventually(lambda: stage.observer.count("live") == 2, "the feed to be live again")
    await stage.hears(stage.first, "news")
    assert "Traceback" not in caplog.text


async def test_what_is_no_state_is_none_where_a_channel_is_checked(stage: Stage) -> None:
    """A slot is half moved: its states are asked for again and again."""
    await stage.watch(stage.first)
    shard = stage.feed._homes[stage.first]
    assert shard is not None
    await eventually(lambda: not shard._expected, "all answers")
    shard.check(stage.first)
    assert [expected.kind for expected in shard._expected] == ["check", "check"], "of how many fields, and bytes"
    shard.data_received(b":0\r\n:0\r\n")
    assert [expected.kind for expected in shard._expected] == ["check"]
    stage.feed._await([stage.first])
    loads = stage.loads(stage.first)
    shard.data_received(b"%1\r\n:1\r\n:2\r\n")
    assert stage.loads(stage.first) == loads
    await eventually(lambda: stage.observer.count("live") == 2, "the feed to be live again")
    await stage.hears(stage.first, "news")


@pytest.mark.parametrize("place", ["?:7005", "a@b:7005", "h:0", "h:70000", "nowhere"])
async def test_a_state_that_is_nobody_knows_where_is_looked_up_anew_and_no_other_node_is_asked(
    stage: Stage, place: str
) -> None:
    """A `?` in a URL ends its host: user and password would go to this machine's port 6379."""
    await stage.watch(stage.first)
    shard = stage.feed._homes[stage.first]
    assert shard is not None
    loads = stage.loads(stage.first)
    shard._on_error(Expected("check", stage.first), hiredis.ReplyError(f"ASK 12 {place}"))
    assert stage.feed._asked == {}
    await eventually(lambda: stage.loads(stage.first) > loads, "the state, from who owns the slot")
    await stage.hears(stage.first, "news")


async def test_a_slot_that_goes_to_a_node_without_a_name_is_told_as_a_loss_until_it_has_one(own_stage: Stage) -> None:
    """Nodes are known by names here, and one that was added a moment ago has none: it is `?` in all answers."""
    first, second = own_stage.cluster.nodes
    for node in (first, second):
        node.client.config_set("cluster-preferred-endpoint-type", "hostname")
    first.client.config_set("cluster-announce-hostname", "127.0.0.1")
    await own_stage.watch(own_stage.first)
    finish = await asyncio.to_thread(own_stage.cluster.begin_move, own_stage.first)
    await asyncio.to_thread(finish)
    await eventually(lambda: own_stage.observer.count("lost") > 0, "the loss")
    second.client.config_set("cluster-announce-hostname", "127.0.0.1")
    await own_stage.live()
    await own_stage.hears(own_stage.first, "news")


async def test_nodes_that_the_url_does_not_name_are_found(cluster: SmallCluster) -> None:
    url = f"redis+cluster://127.0.0.1:{free_port()},{cluster.nodes[1].address}"
    async with running(cluster, url=url) as stage:
        await stage.watch(stage.first, stage.second)
        await stage.hears(stage.first, "news")


async def test_a_cluster_that_cannot_be_reached_is_said_once_and_tried_again(
    cluster: SmallCluster, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gateway.feed")
    async with running(cluster, url=f"redis+cluster://:secret@127.0.0.1:{free_port()}", live=False) as stage:
        await asyncio.sleep(0.5)
        assert stage.feed.state is FeedState.DOWN
        assert stage.feed.lost_seconds is None
        assert stage.feed.trouble is not None
        assert stage.feed.trouble.hint
    assert len(caplog.records) == 1, caplog.text
    assert "secret" not in caplog.text


async def test_control_without_an_ear_for_moves_a_channel_is_lost(
    cluster: SmallCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Shard, "_move", lambda *arguments: None)
    arrange = ClusterFeed._arrange
    monkeypatch.setattr(ClusterFeed, "_arrange", lambda feed, slots: None if feed._shards else arrange(feed, slots))
    async with running(cluster) as stage:
        await stage.watch(stage.first)
        await asyncio.to_thread(stage.cluster.move, stage.first)
        await asyncio.sleep(1)
        assert stage.cluster.publish(stage.first, "news") == 0
        assert stage.loads(stage.first) == 1
