"""Replicas of the gateway behind real Sentinels: the primary changes, by hand and by death, and no end is lost.

Faults at random are in tests/chaos; here the worst failover is played step by step: to a server whose clock is behind,
and which was not told of the last events.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.projects.hub import DOUBT_AFTER_US

from .client import connect, is_event, watching
from .conftest import Launch
from .deadlines import eventually
from .events import complete, progress
from .processes import PublisherProcess
from .sentinels import Sentinels
from .servers import Server

# By so much the clock of the old primary is ahead of the new one's. Elections take seconds, so that one that is 500 ms
# behind has caught up by then; this one has not.
AHEAD_SECONDS = 60


@pytest.fixture
def sentinels(tmp_path: Path) -> Iterator[Sentinels]:
    sentinels = Sentinels(tmp_path / "sentinels")
    yield sentinels
    sentinels.end()


def cut_replicas_off(primary: Server) -> None:
    """From now on no replica hears of what the primary takes; those who are connected to it already notice nothing."""
    primary.config("requirepass", "nobody knows it")
    primary.command("CLIENT", "KILL", "TYPE", "replica")


def put_clock_ahead(primary: Server, project: str) -> None:
    """As the script sees it: a seq is never smaller than the one before."""
    seconds, microseconds = primary.command("TIME")
    ahead = (int(seconds) + AHEAD_SECONDS) * 1_000_000 + int(microseconds)
    primary.client.hset(f"{{project:{project}}}:jobs", "seq", ahead)


async def test_no_end_is_lost_by_a_failover_to_a_server_that_is_behind(
    sentinels: Sentinels, launch: Launch, publisher_of: Callable[..., PublisherProcess], project: str
) -> None:
    primary = sentinels.primary()
    replica_of_it = next(server for server in sentinels.servers if server is not primary)
    first, second = launch(sentinels.url), launch(sentinels.url)
    publisher = publisher_of(sentinels.url)
    async with watching(first.ws, project) as client, watching(second.ws, project) as other:
        begun = publisher.seq(project, progress("early", 1))
        seen = publisher.seq(project, complete("seen by all"))
        for viewer in (client, other):
            assert [event["seq"] for event in await viewer.events(2)] == [begun, seen]
        await eventually(lambda: replica_of_it.client.hlen(f"{{project:{project}}}:jobs") > 3, "it to be replicated")
        cut_replicas_off(primary)
        put_clock_ahead(primary, project)
        lost = publisher.seq(project, complete("lost by Redis"))
        for viewer in (client, other):
            assert [event["seq"] for event in await viewer.events(1)] == [lost], "it was shown"
        begin = time.monotonic()
        primary.kill()
        await client.expect("stale")
        await asyncio.to_thread(sentinels.wait_for_another, primary)
        end = None
        while end is None:
            end = publisher.publish(project, complete("early"))
        assert end < lost, "seq fell back, with the clock"
        for viewer in (client, other):
            heard = await viewer.until(lambda message: message.get("seq") == end, "the end")
            told = [message for message in heard if not is_event(message)]
            assert [message["type"] for message in told if message["type"] != "subscribed"] in (
                ["live"], ["stale", "live"], [], ["stale"],
            )  # fmt: skip
        print(f"the end was seen {time.monotonic() - begin:.2f} s after the primary's death")
    # Who comes back has the cursor of what it saw last, whichever that was, and gets every end that it lacks.
    for replica in (first, second):
        await eventually(replica.ready, "the replica to be ready")
        for since, due in ((lost, {"early"}), (seen, {"early", "lost by Redis"})):
            async with connect(replica.ws) as client:
                await client.subscribe(project, since=since)
                assert {event["jobId"] for event in await client.ping() if is_event(event)} >= due
        async with connect(replica.ws) as late:
            await late.subscribe(project)
            ends = [event for event in await late.ping() if event["type"] == "job_complete"]
            assert {event["jobId"] for event in ends} == {"early", "seen by all", "lost by Redis"}
    # One that knew neither server cannot know what was lost: to a cursor from there it says so.
    fresh = launch(sentinels.url)
    async with connect(fresh.ws) as client:
        answer = await client.subscribe(project, since=lost)
        assert not answer["recovered"]
        assert {event["jobId"] for event in await client.ping() if is_event(event)} == {"early", "seen by all"}


async def test_after_a_failover_by_hand_under_load_everybody_has_the_end(
    sentinels: Sentinels, launch: Launch, publisher_of: Callable[..., PublisherProcess], project: str
) -> None:
    """The old primary goes on taking events for ten seconds, and throws them away then."""
    replica, publisher = launch(sentinels.url), publisher_of(sentinels.url)
    async with watching(replica.ws, project) as client:
        publisher.seq(project, progress("job", 1))
        failing = asyncio.create_task(asyncio.to_thread(sentinels.fail_over))
        for number in range(80):
            await asyncio.to_thread(publisher.publish, project, progress("job", number))
            await asyncio.sleep(0.05)
        primary = await failing
        end = await asyncio.to_thread(publisher.seq, project, complete("job"))
        heard = await client.until(lambda message: message.get("seq") == end, "the end")
    assert b"job_complete" in primary.client.hget(f"{{project:{project}}}:jobs", "job\n"), "where it counts"
    assert [message["type"] for message in heard if message["type"] in ("stale", "live")] == ["stale", "live"]


async def test_a_replica_that_starts_after_a_failover_does_not_vouch_for_cursors_of_that_moment(
    sentinels: Sentinels, launch: Launch, publisher_of: Callable[..., PublisherProcess], project: str
) -> None:
    """Both primaries took events then. Sentinels know since when the new one is that; the replica asks them."""
    publisher = publisher_of(sentinels.url)
    publisher.seq(project, progress("job", 1))
    failing = asyncio.create_task(asyncio.to_thread(sentinels.fail_over))
    amid: int | None = None
    while not failing.done():
        amid = await asyncio.to_thread(publisher.publish, project, progress("job", 2)) or amid
    await asyncio.sleep(DOUBT_AFTER_US / 1_000_000 + 2)  # Sentinels hear of it from each other each two seconds
    later = await asyncio.to_thread(publisher.seq, project, progress("job", 3))
    end = await asyncio.to_thread(publisher.seq, project, complete("job"))
    fresh = launch(sentinels.url)
    for since, recovered in ((amid, False), (later, True)):
        async with connect(fresh.ws) as client:
            answer = await client.subscribe(project, since=since)
            assert answer["recovered"] is recovered, since
            assert [event["seq"] for event in await client.ping() if is_event(event)][-1:] == [end]


async def test_control_a_publisher_that_does_not_ask_again_speaks_to_the_old_primary(
    sentinels: Sentinels, monkeypatch: pytest.MonkeyPatch, project: str
) -> None:
    import publisher
    from publisher.transport import routes

    monkeypatch.setenv("REDIS_URL", sentinels.url)
    monkeypatch.setattr(routes, "LOCATED_SECONDS", 600)
    before = sentinels.primary()
    assert publisher.broadcast_to_project(project, progress("job", 1)) is not None
    after = await asyncio.to_thread(sentinels.fail_over)
    assert publisher.broadcast_to_project(project, complete("job")) is not None, "it was accepted"
    field = f"{{project:{project}}}:jobs", "job\n"
    assert b"job_complete" in before.client.hget(*field)
    assert b"job_complete" not in after.client.hget(*field), "and lost"
