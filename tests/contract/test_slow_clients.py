"""Viewers whose sockets are full: they cost the replica nothing, slow nobody down, and catch up when they read."""

import asyncio
import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from .client import Message, watching
from .conftest import Launch
from .deadlines import eventually
from .events import complete, progress
from .processes import PublisherProcess, RedisServer, Replica
from .raw import TEXT, Reader, frame, reader

READING = 50
STALLED = 50
EVENTS = 20_000
TEXT_BYTES = 900
JOBS = 40
BATCH = 25
AHEAD = 2  # batches in flight, some 70 kB: the readers are never so far behind that buffers fill
MEMORY_BYTES = 20_000_000


async def join(stack: AsyncExitStack, replica: Replica, project: str, count: int, *, small: bool) -> list[Reader]:
    readers = [await stack.enter_async_context(reader(replica.port, small=small)) for _ in range(count)]
    await eventually(lambda: all(one.texts == 1 for one in readers), f"{count} clients to be connected")
    for one in readers:
        one.send(json.dumps({"type": "subscribe", "projectId": project}))
    await eventually(lambda: all(one.texts >= 2 for one in readers), f"{count} clients to be subscribed")
    return readers


def big(number: int, total: int) -> Message:
    """Jobs that go on in turn, each to its end."""
    job, last = f"job_{number % JOBS}", number >= total - JOBS
    if last:
        return complete(job, result={"file": f"{number}" + "f" * 1_000})
    return progress(job, 100 * number / total, message=f"{number} {'x' * TEXT_BYTES}")


async def publish(
    publisher: PublisherProcess, project: str, events: list[Message], readers: list[Reader], *, earlier: int = 0
) -> list[int | None]:
    """Publishes as fast as the readers read; they were sent `earlier` events before."""
    seqs: list[int | None] = []
    for start in range(0, len(events), BATCH):
        seqs += await asyncio.to_thread(publisher.publish_all, project, events[start : start + BATCH])
        due = earlier + len(seqs) - AHEAD * BATCH
        await eventually(
            lambda due=due: all(len(one.seqs) >= due for one in readers),  # type: ignore[misc]
            f"the readers to get the first {due} events",
        )
    return seqs


def last_events(client: Reader) -> dict[str, Message]:
    events = [json.loads(text) for text in client.last_texts]
    return {event["jobId"]: event for event in events if "jobId" in event}


async def test_fifty_of_a_hundred_that_do_not_read_cost_no_memory_and_no_event(
    launch: Launch, publisher: PublisherProcess, project: str
) -> None:
    replica = launch(slow_seconds=300)
    async with asyncio.timeout(300), AsyncExitStack() as stack:
        reading = await join(stack, replica, project, READING, small=False)
        stalled = await join(stack, replica, project, STALLED, small=True)
        warm = await publish(publisher, project, [progress("warm")] * 100, reading)
        await eventually(lambda: all(len(one.seqs) == 100 for one in reading + stalled), "all to get the first 100")
        for one in stalled:
            one.stop_reading()
        before = replica.rss_bytes()
        events = [big(number, EVENTS) for number in range(EVENTS)]
        peak = before
        seqs: list[int | None] = []
        for start in range(0, EVENTS, 1_000):
            earlier = len(warm) + len(seqs)
            seqs += await publish(publisher, project, events[start : start + 1_000], reading, earlier=earlier)
            peak = max(peak, replica.rss_bytes())
        assert all(seqs)
        await eventually(lambda: all(len(one.seqs) >= 100 + EVENTS for one in reading), "every event to be read")
        for one in reading:
            assert one.seqs == warm + seqs
        for one in stalled:
            assert len(one.seqs) < EVENTS // 2, "it was to stall"
            one.read_again()
        await eventually(lambda: all(one.seqs[-1] == seqs[-1] for one in stalled), "the stalled clients to catch up")
        peak = max(peak, replica.rss_bytes())
        assert peak - before < MEMORY_BYTES, f"memory grew by {(peak - before) / 1e6:.1f} MB"
        for one in stalled:
            assert one.seqs == sorted(set(one.seqs)), "in order, none twice"
            ends = last_events(one)
            assert [ends[f"job_{number}"]["type"] for number in range(JOBS)] == ["job_complete"] * JOBS
            assert {ends[f"job_{number}"]["seq"] for number in range(JOBS)} == set(seqs[-JOBS:])
        assert replica.status("/readyz") == 200


async def test_plain_publishes_are_caught_up_with_too(launch: Launch, redis_server: RedisServer, project: str) -> None:
    """They carry no seq, yet the replica keeps each as its job's last for the slow among its own clients."""
    replica = launch(slow_seconds=300)
    total = 8_000
    async with asyncio.timeout(180), AsyncExitStack() as stack:
        (slow,) = await join(stack, replica, project, 1, small=True)
        slow.stop_reading()
        quick = await stack.enter_async_context(watching(replica.ws, project))
        for start in range(0, total, 500):
            payloads = [big(number, total) for number in range(start, start + 500)]
            await asyncio.to_thread(redis_server.publish_all, project, payloads)
        redis_server.publish(project, progress("marker"))
        await quick.until_job("marker")
        slow.read_again()
        await eventually(lambda: "marker" in last_events(slow), "the slow client to catch up")
        assert len(slow.last_texts) < total // 2, "it was to stall"
        ends = last_events(slow)
        assert [ends[f"job_{number}"]["type"] for number in range(JOBS)] == ["job_complete"] * JOBS


async def test_a_client_that_stays_behind_is_closed_with_4508_and_others_are_not(
    launch: Launch, redis_server: RedisServer, publisher: PublisherProcess, project: str
) -> None:
    replica = launch(slow_seconds=3)
    total = 6_000
    async with asyncio.timeout(180), AsyncExitStack() as stack:
        (slow,) = await join(stack, replica, project, 1, small=True)
        quick = await stack.enter_async_context(watching(replica.ws, project))
        slow.stop_reading()
        for first in range(0, total, 500):
            payloads = [big(number, total) for number in range(first, first + 500)]
            await asyncio.to_thread(redis_server.publish_all, project, payloads)
        # One after the other, until the replica's patience with the client that reads nothing has to be at its end.
        number = 0
        while "behind for too long" not in replica.log:
            number += 1
            publisher.seq(project, progress(f"marker_{number}"))
            await quick.until_job(f"marker_{number}")
            await asyncio.sleep(0.1)
        slow.read_again()
        await slow.closed
        assert slow.close_code == 4508
        assert slow.texts < total // 2


async def test_a_client_that_reads_slowly_but_reads_is_kept(
    launch: Launch, redis_server: RedisServer, project: str
) -> None:
    """Behind is not gone: whoever drains its socket now and then starts its time anew."""
    replica = launch(slow_seconds=5)
    total = 4_000
    async with asyncio.timeout(180), AsyncExitStack() as stack:
        (slow,) = await join(stack, replica, project, 1, small=False)
        for first in range(0, total, 500):
            slow.stop_reading()
            payloads = [big(number, total) for number in range(first, first + 500)]
            await asyncio.to_thread(redis_server.publish_all, project, payloads)
            await asyncio.sleep(0.8)
            slow.read_again()
            marker = f"marker_{first}"
            redis_server.publish(project, progress(marker))
            await eventually(lambda marker=marker: marker in last_events(slow), f"{marker} to be read")  # type: ignore[misc]
        ends = last_events(slow)
        assert [ends[f"job_{number}"]["type"] for number in range(JOBS)] == ["job_complete"] * JOBS
        assert slow.close_code is None


async def test_what_a_stalled_client_asked_meanwhile_is_answered_when_it_reads(
    launch: Launch, redis_server: RedisServer, publisher: PublisherProcess, project: str
) -> None:
    """Also that it left: after `unsubscribed` nothing of the project comes, caught up or live."""
    replica = launch(slow_seconds=300)
    total = 6_000
    async with asyncio.timeout(180), AsyncExitStack() as stack:
        (slow,) = await join(stack, replica, project, 1, small=True)
        quick = await stack.enter_async_context(watching(replica.ws, project))
        slow.stop_reading()
        for start in range(0, total, 500):
            payloads = [big(number, total) for number in range(start, start + 500)]
            await asyncio.to_thread(redis_server.publish_all, project, payloads)
        slow.send(json.dumps({"type": "subscribe", "projectId": project + "b"}))
        slow.send(json.dumps({"type": "unsubscribe", "projectId": project}))
        slow.send(json.dumps({"type": "ping"}))
        redis_server.publish(project, progress("marker"))
        await quick.until_job("marker")
        slow.read_again()
        await eventually(lambda: b'"pong"' in b"".join(slow.last_texts[-3:]), "the pong")
        redis_server.publish(project, progress("unheard"))
        await quick.until_job("unheard")
        publisher.seq(project + "b", progress("heard"))
        await eventually(lambda: "heard" in last_events(slow), "an event of the other project")
        messages = [json.loads(text) for text in slow.last_texts]
        types = [message["type"] for message in messages]
        after = messages[types.index("unsubscribed") + 1 :]
        assert [message for message in after if message.get("projectId") == project] == []
        assert {"subscribed", "pong"} <= set(types)


async def test_a_client_that_asks_and_does_not_read_costs_no_memory(
    launch: Launch, publisher: PublisherProcess, project: str
) -> None:
    """Two megabytes for each subscribe, and pongs without end, would pile up in the replica."""
    replica = launch(slow_seconds=300)
    publisher.publish_all(project, [progress(f"job_{number}", message="x" * 2_000) for number in range(1_000)])
    async with asyncio.timeout(180), AsyncExitStack() as stack:
        (slow,) = await join(stack, replica, project, 1, small=True)
        slow.stop_reading()
        before = replica.rss_bytes()
        for _ in range(30):
            slow.send(json.dumps({"type": "subscribe", "projectId": project}))
        assert slow.transport is not None
        slow.transport.write(frame(TEXT, b'{"type":"ping"}') * 20_000)
        async with watching(replica.ws, project) as quick:
            await quick.events(1_000)
            for number in range(20):
                publisher.seq(project, progress(f"marker_{number}"))
                await quick.until_job(f"marker_{number}")
        assert replica.rss_bytes() - before < MEMORY_BYTES


def queued_bytes(port: int) -> int:
    """What the kernel keeps for the clients of this port: unsent, on its way, and not yet read by them."""
    total = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, _, queues, *_ = line.split()
        if f"{port:04X}" in (local.partition(":")[2], remote.partition(":")[2]):
            total += sum(int(size, 16) for size in queues.split(":"))
    return total


JOINING = 100


@pytest.mark.parametrize("is_bounded", [True, False], ids=["by position", "control: the whole state at once"])
async def test_joiners_that_do_not_read_cost_a_piece_each_and_get_everything_when_they_read(
    is_bounded: bool, launch: Launch, publisher: PublisherProcess, project: str
) -> None:
    """The state of a project has 7.5 MB here."""
    replica = launch(slow_seconds=300, patched="" if is_bounded else "gateway.clients.session.PIECE_BYTES=1 << 30")
    for start in range(0, 1_000, 50):
        jobs = range(start, start + 50)
        publisher.publish_all(project, [progress(f"job_{job}", data={"preview": "x" * 7_500}) for job in jobs])
    async with asyncio.timeout(300), AsyncExitStack() as stack:
        async with watching(replica.ws, project) as quick:
            await quick.events(1_000)
            joiners = [await stack.enter_async_context(reader(replica.port, small=True)) for _ in range(JOINING)]
            await eventually(lambda: all(one.texts == 1 for one in joiners), "all to be connected")
            before = replica.rss_bytes()
            for one in joiners:
                one.stop_reading()
                one.send(json.dumps({"type": "subscribe", "projectId": project}))
            joined = f"gateway_subscriptions {JOINING + 1}"
            await eventually(
                lambda: joined in {line.removesuffix(".0") for line in replica.metrics()}, "all to be subscribed"
            )
            grown = replica.rss_bytes() - before + queued_bytes(replica.port)
        assert (grown < JOINING * 200_000) == is_bounded, f"{grown / 1e6:.1f} MB"
        for one in joiners[:10]:
            one.read_again()
        await eventually(lambda: all(len(one.seqs) == 1_000 for one in joiners[:10]), "the whole picture")
        assert all(one.seqs == sorted(set(one.seqs)) for one in joiners[:10]), "in order, none twice"


def states(client: Reader) -> list[str]:
    types = [json.loads(text)["type"] for text in client.last_texts]
    return [type_ for type_ in types if type_ in ("stale", "live")]


async def flood(publisher: PublisherProcess, project: str, total: int) -> None:
    """All but the last event of each job."""
    for start in range(0, total - JOBS, 500):
        events = [big(number, total) for number in range(start, min(start + 500, total - JOBS))]
        await asyncio.to_thread(publisher.publish_all, project, events)


async def test_who_stalls_over_an_outage_of_redis_catches_up_with_it_all_the_same(
    launch: Launch, own_redis: RedisServer, publisher_of: Callable[..., PublisherProcess], project: str
) -> None:
    """It may hear of the outage or not, but not only half of it."""
    replica = launch(own_redis.url, slow_seconds=300)
    publisher = publisher_of(own_redis.url)
    total = 4_000
    async with asyncio.timeout(180), AsyncExitStack() as stack:
        (slow,) = await join(stack, replica, project, 1, small=True)
        quick = await stack.enter_async_context(watching(replica.ws, project))
        slow.stop_reading()
        await flood(publisher, project, total)
        own_redis.command("CLIENT", "KILL", "TYPE", "pubsub")
        await asyncio.to_thread(publisher.publish_all, project, [big(n, total) for n in range(total - JOBS, total)])
        await quick.until_type("live")
        slow.read_again()
        publisher.seq(project, progress("marker"))
        await eventually(lambda: "marker" in last_events(slow), "the slow client to catch up")
        ends = last_events(slow)
        assert [ends[f"job_{number}"]["type"] for number in range(JOBS)] == ["job_complete"] * JOBS
        assert states(slow) in ([], ["stale", "live"])


async def test_who_reads_again_during_an_outage_of_redis_learns_of_it(
    launch: Launch, own_redis: RedisServer, publisher_of: Callable[..., PublisherProcess], project: str
) -> None:
    replica = launch(own_redis.url, slow_seconds=300)
    async with asyncio.timeout(180), AsyncExitStack() as stack:
        (slow,) = await join(stack, replica, project, 1, small=True)
        quick = await stack.enter_async_context(watching(replica.ws, project))
        slow.stop_reading()
        await flood(publisher_of(own_redis.url), project, 4_000)
        own_redis.kill()
        await quick.until_type("stale")
        slow.read_again()
        await eventually(lambda: states(slow) == ["stale"], "the slow client to hear that it is stale")
        own_redis.start()
        await eventually(lambda: states(slow) == ["stale", "live"], "the slow client to hear live")
