"""A replica on a real Cluster of 3 + 3 nodes: slots move, primaries go and come back, and no viewer loses a job.

Faults at random are in tests/chaos; these are the promises one by one.
"""

import asyncio
import itertools
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from publisher import aio
from publisher.tokens import mint
from tests.auth.keys import SECRET

from .certificates import Authority
from .client import Client, connect, dial, is_event, watching
from .clusters import Cluster, Node
from .conftest import Launch
from .deadlines import STALL_SECONDS, Stalls, eventually
from .events import complete, progress
from .processes import PublisherProcess, Replica, environment, free_port, run_gateway
from .servers import Server

ACL = re.findall(r"^ACL SETUSER .*$", (Path(__file__).parents[2] / "docs" / "operating.md").read_text(), re.MULTILINE)
KEY = "0123456789abcdef"
PAUSE_SECONDS = 0.05  # between two events of a project
MOST_GAP_SECONDS = 1.0  # for a shard that stays up; 0.05 if the machine has time


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Each test leaves it whole."""
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    for node in cluster.nodes:
        for rule in ACL[3:]:
            node.command(*rule.split())
    yield cluster
    cluster.end()


def url_of(cluster: Cluster, user: str) -> str:
    return cluster.url.replace("://", f"://{user}:secret@")


@pytest.fixture
def replica(cluster: Cluster, launch: Launch) -> Iterator[Replica]:
    replica = launch(url_of(cluster, "gateway"))
    yield replica
    assert "NOPERM" not in replica.log


@pytest.fixture
def publisher(cluster: Cluster, publisher_of: Callable[..., PublisherProcess]) -> PublisherProcess:
    return publisher_of(url_of(cluster, "jobs"))


@asynccontextmanager
async def busy(cluster: Cluster, *projects: str) -> AsyncIterator[list[int]]:
    """Each project has an event every 50 ms; the list counts them."""
    sent = [0]

    async def work(project: str) -> None:
        while True:
            sent[0] += await aio.broadcast_to_project(project, progress("busy", sent[0] % 100)) is not None
            await asyncio.sleep(PAUSE_SECONDS)

    tasks = [asyncio.create_task(work(project)) for project in projects]
    try:
        yield sent
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def dead(cluster: Cluster, node: Node) -> Iterator[None]:
    """Killed, and a replica of another primary afterwards."""
    node.kill()
    try:
        yield
    finally:
        node.start()
        cluster.wait_until_whole()


def post(replica: Replica, project: str, *jobs: str) -> httpx.Response:
    url, headers = f"{replica.http}/projects/{project}/events", {"Authorization": f"Bearer {KEY}"}
    return httpx.post(url, json=[progress(job) for job in jobs], headers=headers, trust_env=False, timeout=30)


def readiness(replica: Replica) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{replica.http}/readyz", trust_env=False, timeout=30).json()
    return found


async def longest_gap(client: Client, seconds: float) -> float:
    """Between two events that the client is sent, for so long; without the stalls of the machine."""
    end, heard = time.monotonic() + seconds, [time.monotonic()]
    with Stalls() as stalls:
        while time.monotonic() < end:
            if is_event(await client.next("an event")):
                heard.append(time.monotonic())
    return max(stalls.without(*gap) for gap in itertools.pairwise([*heard, time.monotonic()]))


async def test_users_of_least_rights_have_all_they_need_also_while_a_slot_moves(
    cluster: Cluster, replica: Replica, publisher: PublisherProcess, project: str
) -> None:
    first = publisher.seq(project, progress("job", 1))
    async with watching(replica.ws, project) as client:
        assert [event["seq"] for event in await client.events(1)] == [first]
        owner = cluster.owner(project)
        target = next(node for node in cluster.primaries() if node is not owner)
        finish = cluster.half_move(project, target)
        second = publisher.seq(project, progress("job", 2))
        assert [event["seq"] for event in await client.events(1)] == [second]
        async with watching(replica.ws, project) as late:
            assert [event["seq"] for event in await late.events(1)] == [second]
        finish()
        end = publisher.seq(project, complete("job"))
        assert [event["seq"] for event in await client.events(1)] == [end]
        assert await client.ping() == [], "nobody was told of anything"


async def test_the_user_of_a_replica_that_takes_events_may_do_so_and_that_of_another_may_not(
    cluster: Cluster, launch: Launch
) -> None:
    """On each shard, without the script and with it, also while the slot moves."""
    watcher, both = (launch(url_of(cluster, user), publish_keys=KEY) for user in ("gateway", "both"))
    for owner, (project,) in cluster.projects("posted", 1).items():
        async with watching(both.ws, project) as client:
            owner.command("SCRIPT", "FLUSH")
            for jobs in (["job"], ["a", "b"]):
                answer = post(both, project, *jobs)
                assert answer.status_code == 202, answer.text + both.log
                assert [event["seq"] for event in await client.events(len(jobs))] == answer.json()["seqs"]
            async with watching(both.ws, project) as late:
                assert len(await late.events(3)) == 3
        refused = post(watcher, project, "job")
        assert (refused.status_code, refused.json()["code"]) == (503, "redis_refused")
    finish = cluster.half_move(project, next(node for node in cluster.primaries() if node is not owner))
    assert post(both, project, "job").status_code == 202
    finish()
    assert post(both, project, "job").status_code == 202
    assert "NOPERM" not in both.log


def test_control_the_rights_for_one_server_are_too_few_in_a_cluster(cluster: Cluster) -> None:
    (rule,) = [rule for rule in ACL[:3] if " both " in rule]
    for node in cluster.nodes:
        node.command(*rule.replace(" both ", " one_server ").split())
    env = environment(url_of(cluster, "one_server"), GATEWAY_PORT=free_port(), GATEWAY_PUBLISH_KEYS=KEY)
    done = run_gateway("serve", env=env)
    assert done.returncode == 78, done.stderr
    assert "cluster" in done.stderr


async def test_a_client_that_comes_back_gets_what_its_shard_was_told_meanwhile(
    cluster: Cluster, replica: Replica, launch: Launch, publisher: PublisherProcess
) -> None:
    other = launch(cluster.url)
    for project in [names[0] for names in cluster.projects("back", 1).values()]:
        async with watching(replica.ws, project) as client:
            seq = publisher.seq(project, progress("job", 1))
            await client.events(1)
        end = publisher.seq(project, complete("job"))
        async with connect(other.ws) as client:
            answer = await client.subscribe(project, since=seq)
            assert answer["recovered"]
            assert [event["seq"] for event in await client.events(1)] == [end]


async def test_a_primary_that_dies_is_told_and_followed_while_the_other_shards_go_on(
    cluster: Cluster, replica: Replica, monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> None:
    monkeypatch.setenv("REDIS_URL", cluster.url)
    shards = {node: names[0] for node, names in cluster.projects("gap", 1).items()}
    (victim, lost), (_, kept), *_ = shards.items()
    async with busy(cluster, kept), watching(replica.ws, kept) as other, watching(replica.ws, lost) as client:
        await other.events(3)
        await aio.broadcast_to_project(lost, progress("job", 1))
        await client.events(1)
        gap = asyncio.create_task(longest_gap(other, 8))
        begin = time.monotonic()
        with dead(cluster, victim):
            await client.expect("stale")
            stale = time.monotonic() - begin
            await eventually(
                lambda: "error" in httpx.get(f"{replica.http}/readyz", trust_env=False, timeout=30).json(), "the error"
            )
            shown = readiness(replica)["error"]
            assert f":{victim.port}" in shown, shown
            end = None
            while end is None:  # one call tries for 5 seconds
                end = await aio.broadcast_to_project(lost, complete("job"))
            heard = await client.until(lambda message: message["type"] == "live", "live")
            live = time.monotonic() - begin
            if end not in [message.get("seq") for message in heard]:
                assert (await client.expect("job_complete"))["seq"] == end
        longest = await gap
    figures = f"stale after {stale:.2f} s, live after {live:.2f} s; the longest gap of the other shard {longest:.2f} s"
    record_property("figures", figures)
    print(figures)
    assert stale < 5 + STALL_SECONDS
    assert longest < MOST_GAP_SECONDS, figures


async def test_a_failover_by_hand_loses_nothing(
    cluster: Cluster, replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", cluster.url)
    primary, (project,) = next(iter(cluster.projects("by_hand", 1).items()))
    async with watching(replica.ws, project) as client:
        async with busy(cluster, project):
            await client.events(3)
            await asyncio.to_thread(cluster.fail_over, primary)
            await asyncio.sleep(1)
        end = await aio.broadcast_to_project(project, complete("end"), strict=True)
        heard = await client.until(lambda message: message.get("seq") == end, "the end")
    assert [message["type"] for message in heard if not is_event(message)] in ([], ["stale", "live"])
    await asyncio.to_thread(cluster.wait_until_whole)


@pytest.mark.parametrize("kind", ["redis", "valkey"])
def test_a_plain_url_of_a_node_says_to_name_the_cluster(kind: str, tmp_path: Path) -> None:
    server = Server(kind, tmp_path, "--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    try:
        server.command("CLUSTER", "ADDSLOTSRANGE", 0, 8_000)
        done = run_gateway("publish", "p", '{"type":"progress","jobId":"j","jobType":"audio","progress":1}',
                           env=environment(server.url))  # fmt: skip
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert "luster" in done.stderr, done.stderr
    finally:
        server.end()


def test_a_server_that_is_no_cluster_is_said_at_the_start(own_redis: Server) -> None:
    url = own_redis.url.replace("redis://", "redis+cluster://").removesuffix("/0")
    done = run_gateway("serve", env=environment(url, GATEWAY_PORT=free_port(), GATEWAY_REDIS_WAIT_SECONDS=0.3))
    assert done.returncode == 78, "it is none at the next start either"
    assert "cluster support disabled" in done.stderr, done.stderr
    assert "redis://" in done.stderr, "what to write instead"
    assert "Traceback" not in done.stderr


async def test_a_cluster_over_tls_with_certificates_of_clients(
    launch: Launch, publisher_of: Callable[..., PublisherProcess], project: str, tmp_path: Path
) -> None:
    authority = Authority(tmp_path, "ours")
    certificate, key = authority.sign("server")
    mine, my_key = authority.sign("client")
    port = free_port()
    server = Server(
        "redis", tmp_path / "server", "--cluster-enabled", "yes", "--cluster-port", str(free_port()),
        "--tls-cluster", "yes", "--tls-port", str(port),
        "--tls-ca-cert-file", str(authority.certificate), "--tls-cert-file", str(certificate),
        "--tls-key-file", str(key), "--tls-auth-clients", "yes", "--cluster-require-full-coverage", "no",
    )  # fmt: skip
    try:
        server.command("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)
        await eventually(lambda: b"cluster_state:ok" in server.command("CLUSTER", "INFO"), "the cluster")
        options = f"ssl_ca_certs={authority.certificate}&ssl_certfile={mine}&ssl_keyfile={my_key}"
        url = f"rediss+cluster://127.0.0.1:{port}?{options}"
        publisher = publisher_of(url)
        async with watching(launch(url).ws, project) as client:
            seq = publisher.seq(project, complete("job"))
            assert [event["seq"] for event in await client.events(1)] == [seq]
    finally:
        server.end()


async def test_a_revocation_reaches_every_replica_of_a_cluster(cluster: Cluster, launch: Launch, project: str) -> None:
    """By the rights that docs/operating.md gives to replicas and to jobs."""
    token = mint(project, sub="user_1", secret=SECRET)
    replicas = [launch(url_of(cluster, "gateway"), auth="jwt", jwt_secret=SECRET) for _ in range(2)]
    async with dial(f"{replicas[0].ws}?token={token}") as one, dial(f"{replicas[1].ws}?token={token}") as two:
        for client in (one, two):
            await client.expect("connected")
            await client.subscribe(project)
        assert run_gateway("revoke", "user_1", env=environment(url_of(cluster, "jobs"))).returncode == 0
        assert [await one.closed(), await two.closed()] == [4401, 4401]
    late = launch(url_of(cluster, "gateway"), auth="jwt", jwt_secret=SECRET)
    with pytest.raises(InvalidStatus):
        async with dial(f"{late.ws}?token={token}"):
            pass
