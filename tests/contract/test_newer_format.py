"""A project that a later version keeps in a format of its own: this version shows nothing of it, and writes nothing."""

import json
from collections.abc import Callable

import httpx
import pytest

from gateway.projects.channel import Channel
from gateway.projects.memory import NewerFormatError
from publisher.publication import FORMAT, SCRIPT
from tests.projects.test_channel import end, event, remembered
from tests.simulation import load

from .client import connect, watching
from .events import complete, progress
from .processes import PublisherProcess, RedisServer, Replica

NEWER = {"format": str(FORMAT + 1), "newest": "1764187200000000", "job\n": json.dumps(progress("job") | {"seq": 1})}
KEY = "a-key-of-sixteen-or-more"


def keep(server: RedisServer, project: str, state: dict[str, str]) -> None:
    server.command("HSET", f"{{project:{project}}}:jobs", *(word for pair in state.items() for word in pair))


def state_of(server: RedisServer, project: str) -> dict[bytes, bytes]:
    state: dict[bytes, bytes] = server.command("HGETALL", f"{{project:{project}}}:jobs")
    return state


def test_the_script_and_the_replica_know_the_same_format() -> None:
    assert f"local FORMAT = '{FORMAT}'" in SCRIPT


def test_a_project_has_the_mark_from_its_first_event_on(
    publisher: PublisherProcess, redis_server: RedisServer, project: str
) -> None:
    publisher.seq(project, progress("job", 1))
    assert state_of(redis_server, project)[b"format"] == b"%d" % FORMAT
    publisher.seq(project, complete("job"))
    assert state_of(redis_server, project)[b"format"] == b"%d" % FORMAT


@pytest.mark.parametrize("mark", [{}, {b"format": b"2"}, {b"format": b"1"}, {b"format": b"nonsense"}, {b"format": b""}])
def test_this_format_and_what_is_none_are_read(mark: dict[bytes, bytes]) -> None:
    """Version 0.1 wrote no mark; and any program may write to the hash."""
    channel = Channel("p")
    load(channel, remembered(event("a", 5), end("b", 6)) | mark)
    assert channel.seq == 6


def test_a_newer_format_is_not_read() -> None:
    with pytest.raises(NewerFormatError, match=f"in format {FORMAT + 1}, and this version reads {FORMAT}"):
        load(Channel("p"), remembered(event("a", 5)) | {b"format": b"%d" % (FORMAT + 1)})


async def test_a_replica_refuses_the_project_alone_and_says_why(
    replica: Replica, publisher: PublisherProcess, redis_server: RedisServer, project: str
) -> None:
    keep(redis_server, project, NEWER)
    async with connect(replica.ws) as client:
        await client.send("subscribe", projectId=project)
        error = await client.error()
        assert (error["code"], error["projectId"]) == ("unavailable", project)
        other = f"{project}_other"
        await client.subscribe(other)
        publisher.seq(other, progress("job", 1))
        await client.events(1)
    line = f"format {FORMAT + 1}, and this version reads {FORMAT}: update this replica"
    assert line in replica.log
    assert "Traceback" not in replica.log


async def test_control_without_the_mark_half_a_picture_would_be_shown(
    replica: Replica, redis_server: RedisServer, project: str
) -> None:
    keep(redis_server, project, {name: text for name, text in NEWER.items() if name != "format"})
    async with watching(replica.ws, project) as client:
        assert [message["jobId"] for message in await client.ping()] == ["job"]


def test_a_publisher_writes_nothing_over_it(
    redis_server: RedisServer, project: str, publisher_of: Callable[..., PublisherProcess]
) -> None:
    keep(redis_server, project, NEWER)
    process = publisher_of(redis_server.url)
    assert process.publish_all(project, [progress("job", 50), complete("job"), complete("other")]) == [None] * 3
    assert {name.decode(): text.decode() for name, text in state_of(redis_server, project).items()} == NEWER
    assert process.publish(f"{project}_other", progress("job")) is not None, "other projects are not held up"


def test_control_without_the_mark_it_would_write_over_it(
    publisher: PublisherProcess, redis_server: RedisServer, project: str
) -> None:
    keep(redis_server, project, {name: text for name, text in NEWER.items() if name != "format"})
    assert publisher.publish(project, complete("job")) is not None
    assert b"job_complete" in state_of(redis_server, project)[b"job\n"]


def test_who_publishes_by_http_is_told(launch: Callable[..., Replica], redis_server: RedisServer, project: str) -> None:
    replica = launch(publish_keys=KEY)
    keep(redis_server, project, NEWER)
    answer = httpx.post(
        f"{replica.http}/projects/{project}/events",
        json=progress("job", 50),
        headers={"Authorization": f"Bearer {KEY}"},
        trust_env=False,
        timeout=20,
    )
    assert (answer.status_code, answer.json()["code"]) == (503, "redis_refused")
    assert f"NEWERFORMAT the project is kept in format {FORMAT + 1}; this publisher knows {FORMAT}" in replica.log
    assert "Update this process to that version" in replica.log
