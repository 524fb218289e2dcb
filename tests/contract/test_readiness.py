"""`/readyz`: 200 while the feed is proven alive and for a grace after; it says at once what is wrong."""

import time
from datetime import UTC, datetime
from typing import Any

import httpx

from .client import watching
from .conftest import Launch
from .deadlines import STALL_SECONDS, eventually
from .events import progress
from .processes import PublisherProcess, RedisServer, Replica, free_port

RETURN_SECONDS = 60.0


def readiness(replica: Replica) -> tuple[int, dict[str, Any]]:
    with httpx.Client(trust_env=False, timeout=30) as client:
        answer = client.get(replica.http + "/readyz")
    return answer.status_code, answer.json()


def is_down(replica: Replica) -> bool:
    return str(readiness(replica)[1]["redis"]) == "down"


async def test_a_short_blip_leaves_every_replica_ready_and_a_long_outage_does_not(
    launch: Launch, own_redis: RedisServer
) -> None:
    """A frozen Redis: the grace begins with the last proof that events arrive."""
    graces = (60, 7)  # the machine may take long to look at the first one
    replicas = [launch(own_redis.url, ready=False, redis_grace_seconds=grace) for grace in graces]
    for replica in replicas:
        replica.wait_ready()
    assert readiness(replicas[0]) == (200, {"ready": True, "draining": False, "redis": "live", "clients": 0})
    own_redis.freeze()
    frozen_at, moment = time.monotonic(), datetime.now(UTC)
    for replica in replicas:
        await eventually(lambda replica=replica: is_down(replica), "the loss to be noticed")  # type: ignore[misc]
        body = readiness(replica)[1]
        assert "probe" in body["error"] or body["error"] == "TimeoutError", "the latter if it is looked at late"
        assert "CLIENT PAUSE" in body["hint"]
        lost_at = (datetime.fromisoformat(body["lostAt"]) - moment).total_seconds()
        assert -STALL_SECONDS < lost_at < 3, "the last proof, not the moment in which the loss was found"
    await eventually(lambda: replicas[1].status("/readyz") == 503, "the end of the grace")
    assert time.monotonic() - frozen_at > graces[1] - 2.5 - STALL_SECONDS
    status, body = readiness(replicas[0])
    assert (status, body["ready"]) == (200, True), "a blip so far"
    assert replicas[1].status("/healthz") == 200, "no restart mends Redis"
    own_redis.thaw()
    for replica in replicas:
        await eventually(lambda replica=replica: replica.status("/readyz") == 200, "/readyz", RETURN_SECONDS)  # type: ignore[misc]
        assert readiness(replica)[1].keys() == {"ready", "draining", "redis", "clients"}


async def test_a_restart_of_redis_within_the_grace_is_never_a_503(launch: Launch, own_redis: RedisServer) -> None:
    replica = launch(own_redis.url, redis_grace_seconds=60)
    own_redis.kill()
    await eventually(lambda: is_down(replica), "the loss to be noticed")
    own_redis.start()
    while is_down(replica):
        assert readiness(replica)[0] == 200
    assert readiness(replica)[0] == 200


async def test_control_without_a_grace_a_blip_drops_the_replica_at_once(launch: Launch, own_redis: RedisServer) -> None:
    replica = launch(own_redis.url, redis_grace_seconds=0)
    own_redis.kill()
    await eventually(lambda: replica.status("/readyz") == 503, "/readyz to be 503 without Redis")
    assert replica.status("/healthz") == 200
    own_redis.start()
    await eventually(lambda: replica.status("/readyz") == 200, "/readyz to be 200 with Redis again", RETURN_SECONDS)


async def test_a_replica_that_drains_is_not_ready_at_once_whatever_the_grace(
    launch: Launch, redis_server: RedisServer, publisher: PublisherProcess, project: str
) -> None:
    replica = launch(drain_seconds=20, drain_rate=0.05)
    with httpx.Client(base_url=replica.http, trust_env=False, timeout=30) as balancer:
        assert balancer.get("/readyz").status_code == 200
        async with watching(replica.ws, project) as client:
            publisher.seq(project, progress("job"))
            await client.events(1)
            replica.popen.terminate()
            await client.until_type("going_away")
            answer = balancer.get("/readyz")
            assert answer.status_code == 503
            assert answer.json()["draining"] is True
            replica.popen.terminate()
            assert await client.closed() == 1012


def test_a_replica_that_never_had_redis_is_not_served_by_the_grace(launch: Launch) -> None:
    """It waits for Redis before it serves; a load balancer must not send anybody meanwhile."""
    replica = launch(f"redis://127.0.0.1:{free_port()}/0", ready=False, redis_wait_seconds=2)
    end = time.monotonic() + 2
    while time.monotonic() < end and replica.running():
        assert replica.status("/readyz") != 200
    assert replica.wait("the end without Redis") == 75
    assert "Start Redis" in replica.log
