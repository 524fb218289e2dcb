"""Redis lost what it remembered: flushed while all is live, restarted empty, or come back from an older copy.

A cursor from before gets `recovered` false wherever something may be missing; a replica that still holds newer last
events than Redis offers them to its own clients, and never replaces newer by older.
"""

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from publisher import broadcast_to_project
from publisher.names import job_field

from .client import Client, Message, connect, watching
from .conftest import Launch
from .events import complete, progress
from .processes import Replica
from .servers import KINDS, Server

RETURN_SECONDS = 60.0
KEY = "{project:p}:jobs"


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server(request.param, tmp_path / "server")
    monkeypatch.setenv("REDIS_URL", server.url)
    yield server
    server.end()


@pytest.fixture
def pair(server: Server, launch: Launch) -> tuple[Replica, Replica]:
    one, two = (launch(server.url, ready=False) for _ in range(2))
    return one.wait_ready(), two.wait_ready()


def publish(event: dict[str, Any]) -> int:
    seq = broadcast_to_project("p", event)
    assert seq is not None
    return seq


async def offered(replica: Replica, since: int | None = None) -> tuple[bool, list[tuple[str, Any]]]:
    """What a client is told that comes now: `recovered`, and each job with its percentage or end."""
    async with connect(replica.ws) as client:
        answer = await client.subscribe("p", since)
        return answer["recovered"], jobs(await client.ping())


def jobs(messages: list[Message]) -> list[tuple[str, Any]]:
    return [(m["jobId"], m.get("progress", "end")) for m in messages if "jobId" in m]


async def back(client: Client, other: Replica) -> list[Message]:
    """All that a client is told through an outage, up to `live`; the other replica is over it, too, then."""
    told = await client.until_type("live", within=RETURN_SECONDS)
    async with connect(other.ws) as there:
        # A client that comes during the outage is told `stale`, and `live` after it.
        if [message["type"] for message in await there.ping()] == ["stale"]:
            await there.until_type("live", within=RETURN_SECONDS)
    return told


async def test_flushed_while_all_is_live(server: Server, pair: tuple[Replica, Replica]) -> None:
    watched, other = pair
    async with watching(watched.ws, "p") as old:
        first, last = publish(progress("a", 10)), publish(progress("b", 10))
        await old.events(2)
        server.command("FLUSHALL")
        # The replica that watched missed nothing; the other cannot know.
        assert await offered(watched) == (True, [("a", 10), ("b", 10)])
        assert await offered(watched, first) == (True, [("b", 10)])
        assert await offered(watched, last) == (True, [])
        assert await offered(other, last) == (False, [])
        new = publish(progress("a", 20))
        assert new > last
        assert (await old.events(1))[0]["seq"] == new
        assert await offered(watched) == (True, [("b", 10), ("a", 20)])
        assert await offered(watched, last) == (True, [("a", 20)])
        assert await offered(other) == (True, [("a", 20)])
        assert await offered(other, last) == (False, [("a", 20)])
        assert await offered(other, new) == (True, [])
        assert int(server.command("HGET", KEY, "from")) == new


async def test_restarted_empty(server: Server, pair: tuple[Replica, Replica]) -> None:
    watched, other = pair
    async with watching(watched.ws, "p") as old:
        first, last = publish(progress("a", 10)), publish(complete("b"))
        await old.events(2)
        server.kill()
        await old.expect("stale")
        server.start()
        gap = [message for message in await back(old, other) if message["type"] == "subscribed"]
        assert [message["recovered"] for message in gap] == [False], "something may have been missed"
        # What the replica holds is better than nothing, and says that it may not be all.
        assert await offered(watched) == (True, [("a", 10), ("b", "end")])
        assert await offered(watched, first) == (False, [("b", "end")])
        assert await offered(watched, last) == (False, [])
        assert await offered(other, last) == (False, [])
        new = publish(progress("a", 20))
        assert new > last
        assert (await old.events(1))[0]["seq"] == new
        assert await offered(watched) == (True, [("b", "end"), ("a", 20)])
        assert await offered(watched, last) == (False, [("a", 20)])
        assert await offered(watched, new) == (True, [])
        assert await offered(other) == (True, [("a", 20)])
        assert await offered(other, last) == (False, [("a", 20)])
        assert await offered(other, new) == (True, [])


async def test_come_back_from_an_older_copy(server: Server, pair: tuple[Replica, Replica]) -> None:
    watched, other = pair
    async with watching(watched.ws, "p") as old:
        publish(progress("a", 10))
        saved = publish(progress("b", 10))
        server.command("SAVE")
        publish(progress("a", 50))
        last = publish(complete("b"))
        await old.events(4)
        server.kill()
        await old.expect("stale")
        server.start()
        told = await back(old, other)
        assert jobs(told) == [], "newer is never replaced by older"
        assert [message["recovered"] for message in told if message["type"] == "subscribed"] == [False]
        assert await offered(watched) == (True, [("a", 50), ("b", "end")])
        assert await offered(watched, last) == (False, [])
        assert await offered(other, last) == (False, [("a", 10), ("b", 10)])
        assert await offered(other, saved) == (True, [])
        new = publish(progress("a", 60))
        assert new > last
        assert (await old.events(1))[0]["seq"] == new
        assert await offered(watched, new) == (True, [])


async def test_control_a_copy_that_is_whole_is_no_gap(server: Server, pair: tuple[Replica, Replica]) -> None:
    """The same restart with nothing lost: nobody is told of a gap, so that `recovered` means something."""
    watched, other = pair
    async with watching(watched.ws, "p") as old:
        publish(progress("a", 10))
        last = publish(progress("b", 10))
        await old.events(2)
        server.command("SAVE")
        server.kill()
        await old.expect("stale")
        server.start()
        assert [message["type"] for message in await back(old, other)] == ["live"]
        for replica in (watched, other):
            assert await offered(replica, last) == (True, [])
        assert server.command("HEXISTS", KEY, job_field("a", None))


@contextlib.contextmanager
def feed_broken(server: Server, replica: Replica) -> Iterator[None]:
    """Redis lives on, and the replica hears nothing of it meanwhile."""
    replica.popen.send_signal(signal.SIGSTOP)
    try:
        server.command("CLIENT", "KILL", "TYPE", "pubsub")
        yield
    finally:
        replica.popen.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("is_emptied", [False, True])
async def test_a_projects_first_event_is_published_in_a_break_of_the_feed(
    server: Server, pair: tuple[Replica, Replica], is_emptied: bool
) -> None:
    """No state was known before: only the id of Redis' memory tells whether events are gone."""
    watched, _ = pair  # the other one may write the new id first
    async with watching(watched.ws, "p") as client, watching(watched.ws, "idle") as idle:
        with feed_broken(server, watched):
            lost = publish(complete("a"))
            if is_emptied:
                server.command("FLUSHALL")
        told, idle_told = [await viewer.until_type("live", within=RETURN_SECONDS) for viewer in (client, idle)]
        gap = [False] if is_emptied else []
        assert [message["recovered"] for message in told if message["type"] == "subscribed"] == gap
        assert [message["recovered"] for message in idle_told if message["type"] == "subscribed"] == gap
        assert jobs(told) == ([] if is_emptied else [("a", "end")])
        assert await offered(watched, lost) == (not is_emptied, [])
