"""Version 0.1 beside this one on the same Redis: its publishers and its replicas run while others are updated.

Its code comes from the history, so the clone must have it (CI clones everything).
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.previous_release import COMMIT

from .client import Message, connect, is_event
from .events import complete, failed, progress
from .processes import PublisherProcess, RedisServer, Replica

ROOT = Path(__file__).parents[2]

State = dict[tuple[str, str | None], tuple[str, int | None]]


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What makes a Python process run version 0.1."""
    place = tmp_path_factory.mktemp("version_0_1")
    archive = subprocess.run(
        ["git", "-C", str(ROOT), "archive", COMMIT, "gateway", "publisher"], check=True, capture_output=True
    )
    subprocess.run(["tar", "-x", "-C", str(place)], input=archive.stdout, check=True)
    return {"PYTHONPATH": str(place), "PYTHONSAFEPATH": "1"}  # not the working directory, which has this version


@pytest.fixture(scope="module")
def old_publisher(redis_server: RedisServer, variables: dict[str, str]) -> Iterator[PublisherProcess]:
    process = PublisherProcess(redis_server.url, **variables)
    yield process
    process.end()


@pytest.fixture(scope="module")
def old_replica(
    redis_server: RedisServer, variables: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Replica]:
    replica = Replica(redis_server.url, tmp_path_factory.mktemp("old_replica") / "log", **variables)
    try:
        replica.wait_ready()
        yield replica
        assert replica.stop() == 0, replica.log
        assert "Traceback" not in replica.log, replica.log
    finally:
        replica.end()


def state_of(messages: list[Message]) -> State:
    """The last event of each part: its type and its attempt."""
    return {
        (event["jobId"], event.get("sentenceId")): (event["type"], event.get("attempt"))
        for event in messages
        if is_event(event)
    }


async def state_at(replica: Replica, project: str) -> State:
    """What a viewer who comes now is given."""
    async with connect(replica.ws) as client:
        await client.subscribe(project)
        return state_of(await client.ping())


def test_it_is_version_0_1(old_publisher: PublisherProcess, publisher: PublisherProcess, project: str) -> None:
    """A control: it refuses what this version allows."""
    event = progress("a", jobType="my.own")
    assert "ValueError" in str(old_publisher.raised(project, event))
    assert publisher.publish(project, event) is not None


async def test_a_publisher_of_version_0_1_and_a_replica_of_this_one(
    old_publisher: PublisherProcess, replica: Replica, project: str
) -> None:
    before = [
        progress("a", 0, attempt=0),
        progress("a", 50, attempt=0, sentenceId="s"),
        failed("a", attempt=0),
        progress("b", 10),
        progress("b", 20, sentenceId="s"),
        complete("c"),
    ]
    old_publisher.publish_all(project, before)
    async with connect(replica.ws) as client:
        await client.subscribe(project)
        assert state_of(await client.ping()) == {
            ("a", "s"): ("progress", 0), ("a", None): ("job_failed", 0), ("b", None): ("progress", None),
            ("b", "s"): ("progress", None), ("c", None): ("job_complete", None),
        }  # fmt: skip
        after = [progress("a", 5, attempt=1), progress("b", 0), complete("a", attempt=1)]
        old_publisher.publish_all(project, after)
        events = await client.events(3)
        assert [(event["jobId"], event.get("attempt")) for event in events] == [("a", 1), ("b", None), ("a", 1)]
    fresh = await state_at(replica, project)
    assert fresh["a", None] == ("job_complete", 1)
    assert fresh["b", None] == ("progress", None)
    assert fresh["c", None] == ("job_complete", None)


async def test_a_publisher_of_this_version_and_a_replica_of_version_0_1(
    publisher: PublisherProcess, old_replica: Replica, project: str
) -> None:
    async with connect(old_replica.ws) as client:
        await client.subscribe(project)
        events = [
            progress("a", 0, attempt="next", data={"voice": 1}),
            progress("a", 50, attempt=0, sentenceId="s", data={"voice": 2}),
            progress("own", 5, jobType="my.own"),
            failed("a", attempt=0, reason="cancelled", data={}),
            progress("a", 0, attempt="next"),
            complete("a", attempt=0),
            complete("b", data={"x": "x" * 5_000}),
        ]
        seqs = publisher.publish_all(project, events)
        assert [seq is None for seq in seqs] == [False, False, False, False, False, True, False]
        live = await client.events(5)
        assert [(event["jobId"], event.get("attempt")) for event in live] == [
            ("a", 0), ("a", 0), ("a", 0), ("a", 1), ("b", None),
        ]  # fmt: skip
        assert not [event for event in live if {"data", "reason"} & event.keys()], "it knows no such fields"
        assert await client.ping() == []
    state = await state_at(old_replica, project)
    assert state["a", None] == ("progress", 1)
    assert state["b", None] == ("job_complete", None)
    assert state.keys() - {("a", "s")} == {("a", None), ("b", None)}, "version 0.1 may keep what an attempt replaced"


async def test_publishers_of_both_versions_on_one_job_end_with_the_truth_for_viewers_of_both(
    publisher: PublisherProcess, old_publisher: PublisherProcess, replica: Replica, old_replica: Replica, project: str
) -> None:
    """Requeued from a worker of the one version to one of the other, and back."""
    old_publisher.publish_all(project, [progress("a", 40, attempt=0), failed("a", attempt=0)])
    assert publisher.publish(project, progress("a", 0, attempt="next")) is not None, "attempt 1"
    assert old_publisher.publish(project, complete("a", attempt=0)) is None, "it was replaced"
    assert publisher.publish(project, progress("a", 30, attempt=1, sentenceId="s")) is not None
    assert old_publisher.publish(project, progress("a", 10, attempt=2)) is not None, "a retry in a worker of 0.1"
    assert publisher.publish(project, progress("a", 90, attempt=1)) is None, "and so is this one"
    assert publisher.publish(project, progress("a", 0, attempt="next")) is not None, "attempt 3, after that of 0.1"
    assert publisher.publish(project, complete("a", attempt=2)) is None
    assert publisher.publish(project, complete("a", attempt=3)) is not None
    for each in (replica, old_replica):
        assert await state_at(each, project) == {("a", None): ("job_complete", 3)}


async def test_version_0_1_forgets_what_this_one_counts_and_does_no_harm(
    publisher: PublisherProcess, old_publisher: PublisherProcess, replica: Replica, old_replica: Replica, project: str
) -> None:
    """Beyond 1,125 fields it deletes first what is no event to it."""
    publisher.publish_all(project, [progress("a", 5, attempt=4), progress("a", 5, attempt=4, sentenceId="s")])
    old_publisher.publish_all(project, [progress(f"job_{number}", 1) for number in range(1_150)])
    publisher.publish_all(project, [progress("a", 6, attempt=4), progress("a", 6, attempt=4, sentenceId="s")])
    assert publisher.publish(project, complete("a", attempt=3)) is None
    assert publisher.publish(project, progress("a", 0, attempt="next")) is not None
    for each in (replica, old_replica):
        state = await state_at(each, project)
        assert {part: value for part, value in state.items() if part[0] == "a"} == {("a", None): ("progress", 5)}
        assert len(state) >= 990


async def test_viewers_who_move_from_a_replica_of_version_0_1_to_one_of_this_miss_nothing(
    publisher: PublisherProcess, old_replica: Replica, replica: Replica, project: str
) -> None:
    publisher.publish_all(project, [progress("a", 5, attempt="next"), progress("b", 1)])
    for first, second in ((old_replica, replica), (replica, old_replica)):
        async with connect(first.ws) as client:
            since = (await client.subscribe(project))["seq"]
        publisher.publish_all(project, [progress("a", 0, attempt="next"), progress("a", 3, sentenceId="s")])
        async with connect(second.ws) as client:
            answer = await client.subscribe(project, since)
            assert answer["recovered"] is True
            assert [event["jobId"] for event in await client.ping()] == ["a", "a"]


async def test_what_the_other_order_costs_a_page_that_was_at_an_old_replica_lacks_jobs_of_own_types(
    publisher: PublisherProcess, old_replica: Replica, replica: Replica, project: str
) -> None:
    """Publishers were updated before the replicas: docs/upgrading.md says replicas first."""
    async with connect(old_replica.ws) as client:
        await client.subscribe(project)
        publisher.publish_all(project, [progress("own", 5, jobType="my.own"), complete("own", jobType="my.own")])
        last = publisher.seq(project, complete("known"))
        assert [event["jobId"] for event in await client.events(1)] == ["known"]
    async with connect(replica.ws) as client:
        await client.subscribe(project, last)
        assert await client.ping() == [], "the page's cursor is past it"
    assert (await state_at(replica, project)).keys() == {("own", None), ("known", None)}, "a page that is loaded anew"


async def test_in_the_order_that_is_told_nothing_is_lost(
    publisher: PublisherProcess, replica: Replica, project: str
) -> None:
    async with connect(replica.ws) as client:
        await client.subscribe(project)
        publisher.publish_all(project, [progress("own", 5, jobType="my.own"), complete("own", jobType="my.own")])
        assert [event["type"] for event in await client.events(2)] == ["progress", "job_complete"]


def test_the_state_of_version_0_1_has_no_mark_of_its_format(
    old_publisher: PublisherProcess, publisher: PublisherProcess, redis_server: RedisServer, project: str
) -> None:
    old_publisher.publish_all(project, [progress("a", 1)])
    publisher.seq(project, progress("a", 2))
    key = redis_server.keys(project)[0]
    assert redis_server.command("HGET", key, "format") is None, "0.1 began it"
    redis_server.command("DEL", key)
    publisher.seq(project, progress("a", 2))
    old_publisher.publish_all(project, [progress("a", 3)])
    assert redis_server.command("HGET", key, "format") == b"2"
