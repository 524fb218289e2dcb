"""Redis goes and comes back: clients are told, stay connected, and are up to date again before they hear `live`."""

import asyncio
import os
import signal
from collections.abc import Callable

from .client import Client, connect, watching
from .conftest import Launch
from .deadlines import eventually
from .events import complete, progress
from .processes import PublisherProcess, RedisServer

RETURN_SECONDS = 60.0  # back-off included
Publishers = Callable[..., PublisherProcess]


async def until_live(client: Client) -> list[str]:
    """The jobs that came before `live`."""
    messages = await client.until_type("live", within=RETURN_SECONDS)
    assert messages[-1] == {"type": "live"}
    return [message["jobId"] for message in messages[:-1] if "jobId" in message]


async def test_clients_hear_stale_then_what_they_missed_then_live(
    launch: Launch, own_redis: RedisServer, publisher_of: Publishers
) -> None:
    replicas = [launch(own_redis.url, ready=False) for _ in range(2)]
    for replica in replicas:
        replica.wait_ready()
    publisher = publisher_of(own_redis.url)
    async with watching(replicas[0].ws, "p") as one, watching(replicas[1].ws, "p") as two:
        publisher.seq("p", progress("early"))
        for client in (one, two):
            await client.events(1)
        own_redis.kill()
        for client in (one, two):
            assert await client.expect("stale") == {"type": "stale"}
        # The replicas are held until Redis is back and an event was published that they cannot have heard.
        for replica in replicas:
            os.kill(replica.popen.pid, signal.SIGSTOP)
        own_redis.start()
        missed = publisher.seq("p", complete("missed"))
        for replica in replicas:
            os.kill(replica.popen.pid, signal.SIGCONT)
        for client in (one, two):
            assert await until_live(client) == ["missed"]
            assert client.received[-2]["seq"] == missed
        publisher.seq("p", progress("late"))
        for client in (one, two):
            assert [event["jobId"] for event in await client.events(1)] == ["late"]
        for replica in replicas:
            await eventually(lambda replica=replica: replica.status("/readyz") == 200, "/readyz")  # type: ignore[misc]


async def test_who_comes_during_the_outage_learns_that_it_is_stale_and_is_served_after_it(
    launch: Launch, own_redis: RedisServer, publisher_of: Publishers
) -> None:
    replica = launch(own_redis.url, redis_grace_seconds=0)
    own_redis.kill()
    await eventually(lambda: replica.status("/readyz") == 503, "/readyz to be 503")
    async with connect(replica.ws) as client:
        assert await client.expect("stale") == {"type": "stale"}
        await client.send("subscribe", projectId="p")
        assert [message["type"] for message in await client.ping()] in ([], ["subscribed"])
        own_redis.start()
        publisher = publisher_of(own_redis.url)
        publisher.seq("p", progress("job"))
        await client.until_job("job", within=RETURN_SECONDS)
        types = [message["type"] for message in client.received]
        if "live" not in types:
            await until_live(client)
        types = [message["type"] for message in client.received]
        assert types.index("subscribed") < types.index("progress")
        assert types.count("progress") == 1
        assert types.count("live") == 1


async def test_leaving_and_pinging_work_during_the_outage(launch: Launch, own_redis: RedisServer) -> None:
    replica = launch(own_redis.url)
    async with watching(replica.ws, "p") as client:
        own_redis.kill()
        await client.expect("stale")
        await client.send("unsubscribe", projectId="p")
        await client.expect("unsubscribed")
        assert await client.ping() == []
        own_redis.start()
        assert await until_live(client) == []
    await eventually(lambda: own_redis.watched_by("p") == 0, "the replica not to take up what nobody watches")


async def test_a_redis_that_hangs_is_noticed_and_nothing_is_missed(
    launch: Launch, own_redis: RedisServer, publisher_of: Publishers
) -> None:
    """The connection stays open and silent: only a probe can tell."""
    replica = launch(own_redis.url, redis_grace_seconds=0)
    publisher = publisher_of(own_redis.url)
    publisher.seq("p", progress("early"))
    async with watching(replica.ws, "p") as client:
        await client.events(1)
        own_redis.freeze()
        assert (await client.next("stale", within=30))["type"] == "stale"
        assert replica.status("/readyz") == 503
        own_redis.thaw()
        assert await until_live(client) == []
        publisher.seq("p", progress("late"))
        assert [event["jobId"] for event in await client.events(1)] == ["late"]


async def test_a_lost_feed_connection_is_made_again_and_what_was_missed_is_sent(
    launch: Launch, own_redis: RedisServer, publisher_of: Publishers
) -> None:
    """Redis lives and remembers; only the connection was cut, as a proxy or a full output buffer would."""
    replica = launch(own_redis.url)
    publisher = publisher_of(own_redis.url)
    async with watching(replica.ws, "p") as client, connect(replica.ws) as bystander:
        seqs = publisher.publish_all("p", [progress("a", 1), progress("b", 1)])
        await client.events(2)
        for round_ in range(3):
            os.kill(replica.popen.pid, signal.SIGSTOP)
            own_redis.command("CLIENT", "KILL", "TYPE", "pubsub")
            seqs.append(publisher.seq("p", progress("a", 10 * round_ + 2)))
            os.kill(replica.popen.pid, signal.SIGCONT)
            await client.expect("stale")
            messages = await client.until_type("live", within=RETURN_SECONDS)
            assert [message.get("seq") for message in messages] == [seqs[-1], None]
            publisher.seq("p", progress("b", 10 * round_ + 2))
            await client.events(1)
        assert [message["type"] for message in await bystander.ping()] == ["stale", "live"] * 3
    async with connect(replica.ws) as late:
        await late.subscribe("p", seqs[0])
        assert [event["jobId"] for event in await late.events(2)] == ["a", "b"]


async def test_an_emptied_redis_takes_nothing_from_those_who_watch(
    launch: Launch, own_redis: RedisServer, publisher_of: Publishers
) -> None:
    replica = launch(own_redis.url)
    publisher = publisher_of(own_redis.url)
    async with watching(replica.ws, "p") as client:
        before = publisher.seq("p", progress("job", 10))
        await client.events(1)
        own_redis.command("FLUSHALL")
        after = publisher.seq("p", progress("job", 20))
        assert after > before
        assert [event["seq"] for event in await client.events(1)] == [after]
    fresh = launch(own_redis.url)
    async with connect(fresh.ws) as late:
        assert (await late.subscribe("p", before))["recovered"] is False
        assert [event["seq"] for event in await late.events(1)] == [after]


async def test_many_clients_of_many_projects_come_through_an_outage(
    launch: Launch, own_redis: RedisServer, publisher_of: Publishers
) -> None:
    replica = launch(own_redis.url)
    publisher = publisher_of(own_redis.url)
    count = 60
    step = asyncio.Barrier(count + 1)

    async def watch(number: int) -> None:
        async with watching(replica.ws, f"p{number}") as client:
            await step.wait()
            await client.expect("stale")
            await step.wait()
            await client.until_type("live", within=RETURN_SECONDS)
            await step.wait()
            await client.until_job("after")

    async with asyncio.timeout(180), asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(watch(number))
        await step.wait()
        own_redis.kill()
        await step.wait()
        own_redis.start()
        await step.wait()
        for number in range(count):
            publisher.seq(f"p{number}", progress("after"))
