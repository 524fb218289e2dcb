"""The main job: an event published in one process is seen by the viewers of every replica."""

import re

from .client import connect, watching
from .events import complete, failed, progress
from .processes import PublisherProcess, RedisServer, Replica, environment, run_python


async def test_the_first_message_says_who_the_client_is(replica: Replica) -> None:
    async with connect(replica.ws) as one, connect(replica.ws) as two:
        for client in (one, two):
            (message,) = client.received
            assert message.keys() == {"type", "clientId"}
            assert isinstance(message["clientId"], str)
            assert message["clientId"]
        assert one.received[0]["clientId"] != two.received[0]["clientId"]


async def test_subscribe_is_answered_with_a_cursor(replica: Replica, project: str) -> None:
    async with connect(replica.ws) as client:
        answer = await client.subscribe(project)
        assert answer.keys() == {"type", "projectId", "seq", "recovered"}
        assert isinstance(answer["seq"], int)
        assert answer["recovered"] is True


async def test_all_three_events_reach_the_viewers_of_both_replicas_in_order(
    replica: Replica, other: Replica, publisher: PublisherProcess, project: str
) -> None:
    events = [
        progress("job_1", 0, message="queued"),
        progress("job_2", 10),
        progress("job_1", 40, sentenceId="s1"),
        complete("job_1", result={"file": "a.mp3", "duration": 3.5}),
        failed("job_2", "no such voice"),
    ]
    async with watching(replica.ws, project) as here, watching(other.ws, project) as there:
        seqs = publisher.publish_all(project, events)
        expected = [event | {"projectId": project, "seq": seq} for event, seq in zip(events, seqs, strict=True)]
        for client in (here, there):
            assert await client.events(len(events)) == expected


async def test_a_one_line_publisher_is_enough(replica: Replica, redis_server: RedisServer, project: str) -> None:
    code = (
        "import sys; from publisher import broadcast_to_project; "
        "print(broadcast_to_project(sys.argv[1], "
        '{"type": "progress", "jobId": "job_7", "jobType": "audio", "progress": 40}))'
    )
    async with watching(replica.ws, project) as client:
        done = run_python(code, environment(redis_server.url), project)
        assert done.returncode == 0, done.stderr
        (event,) = await client.events(1)
        assert event["seq"] == int(done.stdout)
        assert event["jobId"] == "job_7"


async def test_viewers_of_one_project_hear_nothing_of_another(
    replica: Replica, publisher: PublisherProcess, project: str
) -> None:
    async with watching(replica.ws, project) as one, watching(replica.ws, project + "x") as two:
        publisher.publish(project, progress("mine"))
        publisher.publish(project + "x", progress("theirs"))
        assert [event["jobId"] for event in await one.events(1)] == ["mine"]
        assert [event["jobId"] for event in await two.events(1)] == ["theirs"]
        assert await one.ping() == []


async def test_one_connection_watches_several_projects(
    replica: Replica, publisher: PublisherProcess, project: str
) -> None:
    names = [f"{project}_{number}" for number in range(5)]
    async with connect(replica.ws) as client:
        for name in names:
            await client.subscribe(name)
        for name in names:
            publisher.publish(name, progress("job"))
        assert {event["projectId"] for event in await client.events(5)} == set(names)


async def test_subscribing_twice_delivers_once(replica: Replica, publisher: PublisherProcess, project: str) -> None:
    async with watching(replica.ws, project) as client:
        await client.subscribe(project)
        publisher.publish_all(project, [progress("job", 1), progress("marker", 2)])
        assert [event["jobId"] for event in await client.events(2)] == ["job", "marker"]
        assert await client.ping() == []


async def test_subscribes_in_one_breath_are_each_answered(
    replica: Replica, publisher: PublisherProcess, project: str
) -> None:
    """The second must not drown in the first, which waits for Redis: it asked for more."""
    seqs = publisher.publish_all(project, [progress("a"), progress("b")])
    async with connect(replica.ws) as client:
        await client.send("subscribe", projectId=project, since=seqs[1])
        await client.send("subscribe", projectId=project)
        await client.expect("subscribed")
        await client.expect("subscribed")
        assert [event["jobId"] for event in await client.events(2)] == ["a", "b"]


async def test_who_leaves_before_the_answer_gets_no_events(
    replica: Replica, publisher: PublisherProcess, project: str
) -> None:
    async with watching(replica.ws, project) as witness, connect(replica.ws) as client:
        await client.send("subscribe", projectId=project + "b")
        await client.send("unsubscribe", projectId=project + "b")
        await client.until_type("unsubscribed")
        publisher.seq(project + "b", progress("unheard"))
        publisher.seq(project, progress("marker"))
        await witness.events(1)
        assert await client.ping() == []


async def test_a_plain_redis_publish_is_delivered_live_on_both_without_seq(
    replica: Replica, other: Replica, redis_server: RedisServer, project: str
) -> None:
    events = [progress("raw", 10), complete("raw", result={"file": "a.wav"}), failed("raw2")]
    async with watching(replica.ws, project) as here, watching(other.ws, project) as there:
        for event in events:
            assert redis_server.publish(project, event) == 2
        for client in (here, there):
            assert await client.events(3) == [event | {"projectId": project} for event in events]


async def test_a_plain_redis_publish_is_not_replayed_to_a_late_client(
    replica: Replica, redis_server: RedisServer, publisher: PublisherProcess, project: str
) -> None:
    async with watching(replica.ws, project) as first:
        redis_server.publish(project, progress("raw", 10))
        await first.events(1)
        async with watching(replica.ws, project) as late:
            publisher.publish(project, progress("marker"))
            assert [event["jobId"] for event in await late.events(1)] == ["marker"]


async def test_unsubscribe_ends_the_events_of_that_project_only(
    replica: Replica, publisher: PublisherProcess, project: str
) -> None:
    async with watching(replica.ws, project) as client:
        await client.subscribe(project + "b")
        await client.send("unsubscribe", projectId=project)
        assert await client.expect("unsubscribed") == {"type": "unsubscribed", "projectId": project}
        publisher.publish(project, progress("unheard"))
        publisher.publish(project + "b", progress("heard"))
        assert [event["jobId"] for event in await client.until_job("heard")] == ["heard"]
        await client.subscribe(project)
        assert [event["jobId"] for event in await client.events(1)] == ["unheard"]


async def test_ping_is_answered_with_pong(replica: Replica) -> None:
    async with connect(replica.ws) as client:
        await client.send("ping")
        assert await client.expect("pong") == {"type": "pong"}


async def test_unknown_fields_of_a_client_message_are_ignored(replica: Replica, project: str) -> None:
    async with connect(replica.ws) as client:
        await client.send("ping", extra={"deep": [1, 2]}, projectId=5)
        await client.expect("pong")
        await client.send("subscribe", projectId=project, extra="x", client_id=1)
        assert (await client.expect("subscribed")).keys() == {"type", "projectId", "seq", "recovered"}


async def test_every_key_on_the_wire_is_camel_case(replica: Replica, publisher: PublisherProcess, project: str) -> None:
    async with watching(replica.ws, project) as client:
        publisher.publish(project, progress("job", 5, sentenceId="s", message="m", attempt=2, nextWithin=30))
        await client.events(1)
        await client.send("unsubscribe", projectId=project)
        await client.expect("unsubscribed")
        await client.send("nonsense")
        await client.error()
        keys = {key for message in client.received for key in message}
        assert [key for key in keys if not re.fullmatch(r"[a-z]+([A-Z][a-z]+)*", key)] == []


async def test_project_ids_of_every_allowed_form_work(
    replica: Replica, publisher: PublisherProcess, project: str
) -> None:
    ids = [f"{project}:a.b-c_D", f"9{project}", project + "x" * (128 - len(project)), "Z" + project]
    async with connect(replica.ws) as client:
        for id_ in ids:
            await client.subscribe(id_)
            publisher.publish(id_, progress("job"))
            assert [event["projectId"] for event in await client.events(1)] == [id_]
