"""`subscribed` and what follows it: a late or returning client learns what still matters, and if more was missed."""

from typing import Any

from .client import Message, connect, watching
from .conftest import Launch
from .deadlines import eventually
from .events import complete, failed, progress
from .processes import PublisherProcess, RedisServer, Replica

TOO_FAR = 2**53 - 1


def jobs(messages: list[Message]) -> list[Any]:
    return [message["jobId"] for message in messages]


async def replay(replica: Replica, project: str, count: int, since: int | None = None) -> tuple[Message, list[Message]]:
    """The answer to a subscribe, and the events after it; fails where more than `count` come."""
    async with connect(replica.ws) as client:
        answer = await client.subscribe(project, since)
        events = await client.events(count)
        assert await client.ping() == []
        assert all(event["seq"] <= answer["seq"] for event in events)
        assert [event["seq"] for event in events] == sorted(event["seq"] for event in events)
        return answer, events


async def test_a_late_client_gets_the_last_event_of_each_job_in_order_of_seq(
    replica: Replica, publisher: PublisherProcess, project: str
) -> None:
    published = [
        progress("a", 1),
        progress("b", 1),
        progress("a", 50),
        complete("c", result={"file": "c.mp3"}),
        progress("a", 20, sentenceId="s1"),
        failed("b"),
        progress("a", 60),
    ]
    seqs = publisher.publish_all(project, published)
    answer, events = await replay(replica, project, 4)
    assert events == [published[index] | {"projectId": project, "seq": seqs[index]} for index in (3, 4, 5, 6)]
    assert answer["seq"] == seqs[-1]
    assert answer["recovered"] is True


async def test_replay_is_told_from_news_by_the_cursor(
    replica: Replica, publisher: PublisherProcess, project: str
) -> None:
    publisher.publish_all(project, [progress("a"), progress("b")])
    async with connect(replica.ws) as client:
        answer = await client.subscribe(project)
        old = await client.events(2)
        publisher.publish_all(project, [progress("a", 5), progress("c")])
        new = await client.events(2)
    assert all(event["seq"] <= answer["seq"] for event in old)
    assert all(event["seq"] > answer["seq"] for event in new)


async def test_a_returning_client_gets_only_what_is_newer(
    replica: Replica, publisher: PublisherProcess, project: str
) -> None:
    seqs = publisher.publish_all(project, [progress("a"), progress("b"), progress("c"), progress("a", 9)])
    for since, expected in ((seqs[0], ["b", "c", "a"]), (seqs[1], ["c", "a"]), (seqs[2], ["a"]), (seqs[3], [])):
        answer, events = await replay(replica, project, len(expected), since)
        assert jobs(events) == expected
        assert answer["recovered"] is True
        assert answer["seq"] == seqs[3]


async def test_a_client_resumes_on_another_replica(
    replica: Replica, other: Replica, publisher: PublisherProcess, project: str
) -> None:
    async with watching(replica.ws, project) as client:
        publisher.seq(project, progress("a"))
        (event,) = await client.events(1)
    publisher.publish_all(project, [progress("b"), complete("a")])
    for replica_ in (other, replica):
        answer, events = await replay(replica_, project, 2, event["seq"])
        assert jobs(events) == ["b", "a"]
        assert answer["recovered"] is True


async def test_the_cursor_of_subscribed_serves_to_resume(
    replica: Replica, other: Replica, publisher: PublisherProcess, project: str
) -> None:
    publisher.publish_all(project, [progress("a"), progress("b")])
    answer, _ = await replay(replica, project, 2)
    publisher.seq(project, progress("c"))
    again, events = await replay(other, project, 1, answer["seq"])
    assert jobs(events) == ["c"]
    assert again["recovered"] is True


async def test_a_viewer_of_a_project_that_begins_later_misses_nothing(
    replica: Replica, other: Replica, publisher: PublisherProcess, project: str
) -> None:
    """The cursor of a project without events is one to come back with: its first event was not missed."""
    async with connect(replica.ws) as client:
        empty = await client.subscribe(project)
    publisher.seq(project, progress("first"))
    answer, events = await replay(other, project, 1, empty["seq"])
    assert jobs(events) == ["first"]
    assert answer["recovered"] is True


async def test_a_resume_beyond_an_expired_state_says_so(
    replica: Replica, redis_server: RedisServer, publisher: PublisherProcess, project: str
) -> None:
    seq = publisher.seq(project, progress("lost"))
    redis_server.forget(project)
    publisher.seq(project, progress("found"))
    answer, events = await replay(replica, project, 1, seq)
    assert jobs(events) == ["found"]
    assert answer["recovered"] is False


async def test_a_resume_where_nothing_is_remembered_says_so(
    replica: Replica, redis_server: RedisServer, publisher: PublisherProcess, project: str
) -> None:
    """Whatever came after the client's last event has expired with it, so nobody can say that nothing did."""
    seq = publisher.seq(project, progress("lost"))
    redis_server.forget(project)
    answer, _ = await replay(replica, project, 0, seq)
    assert answer["recovered"] is False


async def test_a_resume_within_the_state_that_came_after_an_expired_one_is_complete(
    replica: Replica, redis_server: RedisServer, publisher: PublisherProcess, project: str
) -> None:
    publisher.seq(project, progress("lost"))
    redis_server.forget(project)
    seq = publisher.seq(project, progress("found"))
    publisher.seq(project, progress("next"))
    answer, events = await replay(replica, project, 1, seq)
    assert jobs(events) == ["next"]
    assert answer["recovered"] is True


async def test_a_late_client_without_a_cursor_is_always_recovered(
    replica: Replica, redis_server: RedisServer, publisher: PublisherProcess, project: str
) -> None:
    publisher.seq(project, progress("lost"))
    redis_server.forget(project)
    publisher.seq(project, progress("found"))
    answer, events = await replay(replica, project, 1)
    assert jobs(events) == ["found"]
    assert answer["recovered"] is True


async def test_the_newest_1000_jobs_are_remembered_and_a_trimmed_one_is_owned_up_to(
    replica: Replica, publisher: PublisherProcess, project: str
) -> None:
    names = [f"job_{number}" for number in range(1_003)]
    seqs = publisher.publish_all(project, [progress(name) for name in names])
    answer, events = await replay(replica, project, 1_000)
    assert jobs(events) == names[-1_000:]
    assert answer["recovered"] is True
    answer, _ = await replay(replica, project, 1_000, seqs[0])
    assert answer["recovered"] is False, "job_1 and job_2 were missed and are gone"
    answer, _ = await replay(replica, project, 1_000, seqs[-1_002])
    assert answer["recovered"] is False, "one job was missed and is gone"
    answer, events = await replay(replica, project, 1_000, seqs[-1_001])
    assert jobs(events) == names[-1_000:]
    assert answer["recovered"] is True
    answer, events = await replay(replica, project, 3, seqs[-4])
    assert jobs(events) == names[-3:]
    assert answer["recovered"] is True


async def test_what_redis_remembers_is_bounded_and_says_where_it_begins(
    replica: Replica, redis_server: RedisServer, publisher: PublisherProcess, project: str
) -> None:
    """Looked at right after the oldest jobs were taken away, when only what Redis says of it can tell."""

    def memory_bytes() -> int:
        return sum(redis_server.command("MEMORY", "USAGE", key, "SAMPLES", 0) for key in redis_server.keys(project))

    seqs = publisher.publish_all(project, [progress(f"job_{number}") for number in range(1_000)])
    bound, most = 2 * memory_bytes(), memory_bytes()
    for number in range(1_000, 3_000):
        seqs.append(publisher.seq(project, progress(f"job_{number}")))
        now = memory_bytes()
        assert now < bound, f"{number + 1} jobs are remembered"
        if now < 0.9 * most:
            break
        most = max(most, now)
    assert (await replay(replica, project, 1_000, seqs[0]))[0]["recovered"] is False
    assert (await replay(replica, project, 1_000, seqs[-1_002]))[0]["recovered"] is False
    assert (await replay(replica, project, 1_000, seqs[-1_001]))[0]["recovered"] is True


async def test_a_trim_is_noticed_by_a_replica_that_watches(
    replica: Replica, publisher: PublisherProcess, project: str
) -> None:
    async with watching(replica.ws, project) as client:
        seqs = publisher.publish_all(project, [progress(f"job_{number}") for number in range(1_003)])
        await client.until_job("job_1002")
        _, events = await replay(replica, project, 1_000)
        assert events[0]["jobId"] == "job_3"
        assert (await replay(replica, project, 1_000, seqs[0]))[0]["recovered"] is False
        assert (await replay(replica, project, 3, seqs[-4]))[0]["recovered"] is True


async def test_a_job_that_goes_on_is_not_the_one_that_is_trimmed(
    replica: Replica, publisher: PublisherProcess, project: str
) -> None:
    names = [f"job_{number}" for number in range(1_000)]
    publisher.publish_all(project, [progress(name) for name in names])
    publisher.publish_all(project, [progress("job_0", 50), progress("job_new")])
    _, events = await replay(replica, project, 1_000)
    assert jobs(events) == [*names[2:], "job_0", "job_new"]


async def test_no_two_jobs_are_taken_for_one(replica: Replica, publisher: PublisherProcess, project: str) -> None:
    """A job is its id and its sentence, whatever characters they are made of."""
    names = ["seq", "from", "a", "b", "a b", "a:b", "a/b", "a|b", "a,b", "a.b", "ab", "null", "None", "1", '["a","b"]']
    pairs: list[tuple[str, str | None]] = [(name, None) for name in names]
    pairs += [(name, sentence) for name in ("a", "seq", "a:b", "1") for sentence in ("b", "seq", "b:c", "None", "1:a")]
    events = [progress(job, 1, **({} if sentence is None else {"sentenceId": sentence})) for job, sentence in pairs]
    assert all(publisher.publish_all(project, events))
    _, replayed = await replay(replica, project, len(pairs))
    assert [(event["jobId"], event.get("sentenceId")) for event in replayed] == pairs


async def test_a_cursor_from_the_future_recovers_nothing_for_sure(
    replica: Replica, other: Replica, publisher: PublisherProcess, project: str
) -> None:
    """A failover lost the last writes: the client saw more than Redis remembers, and has to find what is there."""
    seq = publisher.seq(project, progress("a"))
    async with watching(other.ws, project):  # loaded there, not here
        for replica_ in (replica, other):
            answer, events = await replay(replica_, project, 1, TOO_FAR)
            assert answer["seq"] == seq
            assert answer["recovered"] is False
            assert jobs(events) == ["a"]


async def test_an_event_with_a_seq_below_one_already_seen_wins_by_arrival(
    replica: Replica, other: Replica, redis_server: RedisServer, publisher: PublisherProcess, project: str
) -> None:
    """A failover to a server whose clock is behind, and which lost the last writes: this is what it looks like."""
    ahead = redis_server.clock_us() + 60_000_000
    async with watching(replica.ws, project) as client:
        redis_server.publish(project, progress("job", 10, seq=ahead))
        await client.events(1)
        seq = publisher.seq(project, complete("job"))
        assert seq < ahead
        assert [event["seq"] for event in await client.events(1)] == [seq]
        for replica_ in (replica, other):
            for since in (None, ahead):
                async with connect(replica_.ws) as late:
                    await late.subscribe(project, since)
                    assert (await late.next("the end of the job"))["seq"] == seq
                    assert await late.ping() == []


async def test_a_replay_bigger_than_any_buffer_arrives_whole_and_live_events_after_it(
    replica: Replica, publisher: PublisherProcess, project: str
) -> None:
    names = [f"job_{number}" for number in range(1_000)]
    publisher.publish_all(project, [progress(name, message="x" * 2_000) for name in names])
    async with watching(replica.ws, project) as client:
        publisher.seq(project, progress("live"))
        assert jobs(await client.events(1_001)) == [*names, "live"]


async def test_the_state_outlives_the_viewers_of_every_replica(
    launch: Launch, redis_server: RedisServer, publisher: PublisherProcess, project: str
) -> None:
    replica = launch(linger_seconds=0)
    async with watching(replica.ws, project) as client:
        publisher.seq(project, complete("a"))
        await client.events(1)
    await eventually(lambda: redis_server.watched_by(project) == 0, "the replica to let go of the project")
    publisher.seq(project, complete("b"))
    _, events = await replay(replica, project, 2)
    assert jobs(events) == ["a", "b"]


def test_the_state_is_kept_for_an_hour_from_the_last_event(
    redis_server: RedisServer, publisher: PublisherProcess, project: str
) -> None:
    publisher.publish_all(project, [progress("a"), progress("b")])
    keys = redis_server.keys(project)
    assert keys
    for key in keys:
        assert 3_590 <= redis_server.command("TTL", key) <= 3_660, "an hour, and no more than a minute above it"
