"""Publishing in a Redis Cluster while slots move, primaries change by hand, die and freeze."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

import publisher
from publisher import aio
from publisher.transport import routes
from publisher.transport.circuit import unsent
from tests.publisher.test_client import FORK

from .clusters import Cluster, Node
from .deadlines import PATIENCE, STALL_SECONDS, wait_for
from .events import complete, progress
from .load import Load
from .processes import environment, run_python
from .servers import KINDS

OF_EACH = 2  # projects of a shard that are published to from threads, and as many from an event loop
BOUND_SECONDS = 6.0  # 5, and a moment; the stalls of the machine are not counted
# Redis replicates without waiting: what it took in the last moment before it died may be lost. No publisher can know.
LOST_SECONDS = 2.0


@pytest.fixture(scope="module", params=KINDS)
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three primaries and three replicas; each test leaves it whole."""
    cluster = Cluster(tmp_path_factory.mktemp("cluster"), request.param)
    yield cluster
    cluster.end()


@pytest.fixture(autouse=True)
def _published_there(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("REDIS_URL", cluster.url)
    yield
    for node in cluster.nodes:
        if node.process.poll() is not None:
            node.start()
        elif node.is_frozen:
            node.thaw()
    cluster.wait_until_whole()


class Shards:
    """Projects by the shard that they begin in, and a load on all of them."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.by_node = cluster.projects(name, 2 * OF_EACH)
        half = [(names[:OF_EACH], names[OF_EACH:]) for names in self.by_node.values()]
        self.load = Load([one for names, _ in half for one in names], [one for _, names in half for one in names])

    def of(self, node: Node) -> list[str]:
        return self.by_node[node]

    def of_others(self, node: Node) -> list[str]:
        return [name for other, names in self.by_node.items() if other is not node for name in names]


@pytest.fixture
def shards(cluster: Cluster, project: str) -> Shards:
    return Shards(cluster, project)


EVERY_WAY = """
import asyncio, sys
import publisher, publisher.aio
event = {"type": "progress", "jobId": "job", "jobType": "audio", "progress": 1}
projects = [f"{sys.argv[1]}_{number}" for number in range(60)]
def many(step): return [(project, event | {"progress": step}) for project in projects * 2]
seqs = publisher.broadcast_many(many(1), strict=True)
async def run():
    global seqs
    seqs += await publisher.aio.broadcast_many(many(2), strict=True)
    async with publisher.aio.track_job(projects[0], "tracked", "audio") as job:
        job.progress(50)
    return (await publisher.aio.last_event(projects[0], "tracked")).type
print(asyncio.run(run()), publisher.last_event(projects[1], "job").progress)
with publisher.track_job(projects[2], "tracked", "audio") as job:
    job.progress(50)
for page in publisher.track([1, 2], projects[3], "pages", "script"):
    pass
print(publisher.last_event(projects[2], "tracked").type, publisher.last_event(projects[3], "pages").type)
print(all(isinstance(seq, int) for seq in seqs), len(set(seqs)))
"""


def test_every_way_of_publishing_finds_the_shard_of_each_event(cluster: Cluster, project: str) -> None:
    for node in cluster.primaries():
        node.command("SCRIPT", "FLUSH")
    done = run_python(EVERY_WAY, environment(cluster.url), project)
    words = ["job_complete", "2", "job_complete", "job_complete", "True", "240"]
    assert (done.stdout.split(), done.stderr) == (words, "")


@pytest.mark.parametrize("replay", ["on", "off"])
def test_an_event_is_heard_on_its_shard_and_nowhere_else(
    cluster: Cluster, project: str, monkeypatch: pytest.MonkeyPatch, replay: str
) -> None:
    monkeypatch.setenv("PROGRESS_REPLAY", replay)
    with redis.Redis(port=cluster.owner(project).port) as client, client.pubsub() as pubsub:
        pubsub.execute_command("SSUBSCRIBE", f"project:{project}")
        assert pubsub.parse_response(timeout=30)[0] == b"ssubscribe"
        seq = publisher.broadcast_to_project(project, progress("job"))
        kind, _, payload = pubsub.parse_response(timeout=30)
    assert kind == b"smessage"
    assert json.loads(payload).get("seq") == seq
    assert (seq is None) == (replay == "off")


def test_slots_that_move_under_load_are_followed_and_nothing_is_lost(
    cluster: Cluster, shards: Shards, caplog: pytest.LogCaptureFixture
) -> None:
    first, second, third = shards.by_node
    with shards.load as load:
        for source, target in ((first, second), (second, third), (third, first)):
            for project in shards.of(source):
                cluster.move(project, target)
            load.wait_for_more(20, shards.of(source))
    assert load.given_up == []
    assert load.forgotten(cluster.remembered) == []
    assert load.longest_seconds < 1
    assert caplog.messages == []


async def test_a_project_whose_slot_is_half_moved_is_published_to_and_read(cluster: Cluster, project: str) -> None:
    assert publisher.broadcast_to_project(project, progress("job", 1))
    owner = cluster.owner(project)
    target = next(node for node in cluster.primaries() if node is not owner)
    finish = cluster.half_move(project, target)
    target.command("SCRIPT", "FLUSH")
    seqs = [publisher.broadcast_to_project(project, progress("job", 2), strict=True)]
    seqs.append(await aio.broadcast_to_project(project, progress("job", 3), strict=True))
    for last in (publisher.last_event(project, "job"), await aio.last_event(project, "job")):
        assert last is not None
        assert last.seq == seqs[-1]
    finish()
    seqs.append(publisher.broadcast_to_project(project, complete("job"), strict=True))
    assert seqs == sorted(seq for seq in seqs if seq is not None)


def test_a_failover_by_hand_loses_nothing(cluster: Cluster, shards: Shards, caplog: pytest.LogCaptureFixture) -> None:
    primary = next(iter(shards.by_node))
    with shards.load as load:
        cluster.fail_over(primary)
        load.wait_for_more(20, shards.of(primary))
    assert load.given_up == []
    assert load.forgotten(cluster.remembered) == []
    assert caplog.messages == []


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_a_primary_that_goes_is_replaced_and_the_other_shards_go_on(cluster: Cluster, shards: Shards, how: str) -> None:
    primary = next(iter(shards.by_node))
    tracked = shards.of(primary)[0]
    replica = cluster.replica_of(primary)
    with shards.load as load, publisher.track_job(tracked, "tracked", "audio") as job:
        gone_at = time.monotonic()
        (primary.kill if how == "killed" else primary.freeze)()
        job.progress(50)
        cluster.wait_for_owner(replica)
        load.wait_for_more(20, shards.of(primary))
    lost = load.forgotten(cluster.remembered)
    assert [call for call in lost if abs(call.ended - gone_at) > LOST_SECONDS] == []
    assert {call.project for call in load.given_up} <= set(shards.of(primary))
    assert load.longest_seconds < BOUND_SECONDS
    slowest = max((call for call in load.calls if call.project in shards.of(primary)), key=lambda call: call.seconds)
    meanwhile = [call for call in load.calls if call.began > slowest.began and call.ended < slowest.ended]
    for project in shards.of_others(primary):
        assert sum(call.project == project for call in meanwhile) > 5, "events of the other shards were held up"
    end = publisher.last_event(tracked, "tracked")
    assert end is not None
    assert end.type == "job_complete"


def test_a_shard_that_is_away_is_given_up_once_and_costs_the_others_nothing(
    cluster: Cluster, project: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Both of its servers: nobody can take over."""
    by_node = cluster.projects(project, 1)
    primary = next(iter(by_node))
    (away,), here = by_node[primary], [name for node, (name,) in by_node.items() if node is not primary]
    publisher.broadcast_to_project(away, progress("job"), strict=True)
    replica, before = cluster.replica_of(primary), unsent.count
    for node in (primary, replica):
        node.freeze()
    began = time.monotonic()
    seqs = publisher.broadcast_many([(name, progress("job")) for name in (here[0], away, here[1])])
    assert [seq is None for seq in seqs] == [False, True, False]
    assert time.monotonic() - began < BOUND_SECONDS + STALL_SECONDS
    began = time.monotonic()
    for _ in range(50):
        assert publisher.broadcast_to_project(away, progress("job")) is None
        assert publisher.broadcast_to_project(here[0], progress("job")) is not None
    assert time.monotonic() - began < BOUND_SECONDS + STALL_SECONDS, "each waited for the shard that is away"
    assert unsent.count == before + 51
    assert len(caplog.messages) == 1
    for node in (primary, replica):
        node.thaw()
    wait_for(lambda: publisher.broadcast_to_project(away, progress("job")) is not None, "the shard to be used again")


async def test_many_tasks_that_wait_for_a_silent_shard_keep_none_from_another(
    cluster: Cluster, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which wait for longer than this test does."""
    monkeypatch.setattr("publisher.transport.circuit.GIVE_UP_SECONDS", 10 * PATIENCE)
    monkeypatch.setenv("REDIS_URL", f"{cluster.url}?socket_timeout={10 * PATIENCE}")
    by_node = cluster.projects(project, 1)
    primary = next(iter(by_node))
    (away,), here = by_node[primary], next(name for node, (name,) in by_node.items() if node is not primary)
    for name in (away, here):
        await aio.broadcast_to_project(name, progress("job"), strict=True)
    primary.freeze()
    waiting = [asyncio.create_task(aio.broadcast_to_project(away, progress(f"job_{n}"))) for n in range(40)]
    async with asyncio.timeout(PATIENCE):
        for _ in range(20):
            await asyncio.sleep(0.02)
            assert await aio.broadcast_to_project(here, progress("job")) is not None
    assert not any(task.done() for task in waiting), "all twenty were sent while those tasks waited"
    primary.thaw()
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*waiting)


def test_workers_that_were_forked_find_their_shards_by_themselves(cluster: Cluster, project: str) -> None:
    done = run_python(FORK, environment(cluster.url), project)
    assert (done.returncode, done.stderr) == (0, "")
    kept = {name for name in cluster.remembered(project) if b"\n" in name}
    assert kept == {b"before\n", b"parent\n", b"after\n", b"child 0\n", b"child 1\n", b"child 2\n"}


def test_control_who_does_not_learn_from_an_answer_loses_a_shard(
    cluster: Cluster, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("publisher.transport.circuit.GIVE_UP_SECONDS", 1.0)
    publisher.broadcast_to_project(project, progress("job"), strict=True)
    cluster.fail_over(cluster.owner(project))
    with monkeypatch.context() as patch:
        patch.setattr(routes.ClusterRoutes, "note", lambda self, node, error: (error, ""))
        patch.setattr(routes.ClusterRoutes, "learn", lambda *_: iter(()))
        assert publisher.broadcast_to_project(project, progress("job")) is None
    wait_for(lambda: publisher.broadcast_to_project(project, progress("job")) is not None, "the same, with it")


def test_the_url_of_one_node_is_answered_with_what_to_write(
    cluster: Cluster, project: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    owner = cluster.owner(project)
    other = next(node for node in cluster.primaries() if node is not owner)
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{other.port}")
    assert publisher.broadcast_to_project(project, progress("job")) is None
    assert "MOVED" in caplog.text or "redis+cluster://" in caplog.text
    assert "REDIS_URL=redis+cluster://" in caplog.text


RIGHTS = (
    "resetchannels &project:* ~{project:*}:jobs -@all +evalsha +eval +hmget +hset +hgetall +hdel +hlen +time +expire"
)
CLUSTER_RIGHTS = "+spublish +hello +auth +asking +cluster|slots +cluster|info"


@pytest.mark.parametrize("is_missing", ["", "+spublish", "+cluster|slots", "+cluster|info"])
def test_a_user_of_least_rights_publishes(
    cluster: Cluster, project: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, is_missing: str
) -> None:
    rights = f"{RIGHTS} {CLUSTER_RIGHTS.replace(is_missing, '') if is_missing else CLUSTER_RIGHTS}"
    for node in cluster.nodes:
        node.command("ACL", "SETUSER", project, "reset", "on", ">secret", *rights.split())
    monkeypatch.setenv("REDIS_URL", cluster.url.replace("://", f"://{project}:secret@", 1))
    seq = publisher.broadcast_to_project(project, progress("job"))
    if is_missing in ("+spublish", "+cluster|slots"):
        assert seq is None
        assert "lacks a right" in caplog.text
    else:
        assert isinstance(seq, int)
        assert caplog.messages == []


def test_a_cluster_of_which_nothing_answers_is_given_up_within_the_bound_and_found_again(
    cluster: Cluster, project: str, caplog: pytest.LogCaptureFixture
) -> None:
    for node in cluster.nodes:
        node.freeze()
    ended: dict[str, float] = {}

    def publish(name: str) -> None:
        began = time.monotonic()
        assert publisher.broadcast_to_project(name, progress("job")) is None
        ended[name] = time.monotonic() - began

    threads = [threading.Thread(target=publish, args=(f"{project}_{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(ended) == 4
    assert max(ended.values()) < BOUND_SECONDS + STALL_SECONDS
    assert len(caplog.messages) == 1
    for node in cluster.nodes:
        node.thaw()
    seqs: list[Any] = []
    wait_for(lambda: seqs.append(publisher.broadcast_to_project(project, progress("job"))) or seqs[-1], "the Cluster")  # type: ignore[func-returns-value]
