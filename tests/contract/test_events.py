"""What an event may carry: the contract's fields and no others, whoever publishes it."""

from typing import Any

import pytest

from .client import watching
from .events import complete, failed, progress
from .processes import PublisherProcess, RedisServer, Replica

FULL: list[dict[str, Any]] = [
    progress("job", 33, sentenceId="s1", message="voice 2 of 5", attempt=1, nextWithin=30),
    complete("job", sentenceId="s1", result={"file": "out/a.mp3", "duration": 12.25}, attempt=1),
    failed("job", "no such voice", sentenceId="s1", attempt=1),
]
UNKNOWN: dict[str, Any] = {
    "password": "secret",
    "job_id": "other",
    "html": "<b>",
    "nested": {"deep": [1]},
    "clientId": "me",
}
DIRTY = "a\x00b\x07c\x1b[31md\ne\tf\x7fg\x85h"
CLEAN = "abc[31md e fg h"

by_type = pytest.mark.parametrize("event", FULL, ids=lambda event: event["type"])


@by_type
async def test_every_allowed_field_arrives_as_it_was_published(
    replica: Replica, redis_server: RedisServer, publisher: PublisherProcess, project: str, event: dict[str, Any]
) -> None:
    async with watching(replica.ws, project) as client:
        seq = publisher.seq(project, event)
        redis_server.publish(project, event)
        published, raw = await client.events(2)
        assert published == event | {"projectId": project, "seq": seq}
        assert raw == event | {"projectId": project}


@by_type
async def test_unknown_fields_never_reach_a_viewer(
    replica: Replica, redis_server: RedisServer, publisher: PublisherProcess, project: str, event: dict[str, Any]
) -> None:
    async with watching(replica.ws, project) as client:
        seq = publisher.seq(project, event | UNKNOWN)
        redis_server.publish(project, event | UNKNOWN)
        published, raw = await client.events(2)
        assert published == event | {"projectId": project, "seq": seq}
        assert raw == event | {"projectId": project}
    async with watching(replica.ws, project) as late:
        assert await late.events(1) == [published]


async def test_the_fields_of_one_type_are_unknown_to_another(
    replica: Replica, redis_server: RedisServer, publisher: PublisherProcess, project: str
) -> None:
    async with watching(replica.ws, project) as client:
        everything = {"progress": 5, "message": "m", "nextWithin": 9, "result": {"file": "f"}, "error": "e"}
        for event, own in (
            (progress("a", 5), {"progress", "message", "nextWithin"}),
            (complete("b", result={"file": "f"}), {"result"}),
            (failed("c", "e"), {"error"}),
        ):
            publisher.seq(project, everything | event)
            redis_server.publish(project, everything | event)
            for message in await client.events(2):
                assert message.keys() - {"seq"} == {"type", "projectId", "jobId", "jobType"} | own


async def test_a_result_carries_file_and_duration_only(
    replica: Replica, redis_server: RedisServer, publisher: PublisherProcess, project: str
) -> None:
    results: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"file": "a.mp3", "duration": 1.5, "secret": 1, "token": "t"}, {"file": "a.mp3", "duration": 1.5}),
        ({"duration": 7}, {"duration": 7}),
        ({"file": "b.mp3"}, {"file": "b.mp3"}),
        ({}, {}),
    ]
    async with watching(replica.ws, project) as client:
        for given, expected in results:
            publisher.seq(project, complete("job", result=given))
            redis_server.publish(project, complete("job", result=given))
            assert [event["result"] for event in await client.events(2)] == [expected, expected]


async def test_a_job_that_made_nothing_completes_with_an_empty_result(
    replica: Replica, redis_server: RedisServer, project: str, publisher: PublisherProcess
) -> None:
    """`result` is not optional on the wire, whether or not a publisher may leave it out."""
    bare = {"type": "job_complete", "jobId": "bare", "jobType": "audio"}
    async with watching(replica.ws, project) as client:
        redis_server.publish(project, bare)
        publisher.seq(project, progress("next"))
        for event in (await client.until_job("next"))[:-1]:
            assert event == bare | {"projectId": project, "result": {}}


async def test_control_characters_are_taken_out_of_message_and_error(
    replica: Replica, redis_server: RedisServer, publisher: PublisherProcess, project: str
) -> None:
    async with watching(replica.ws, project) as client:
        for event, field in ((progress("a", message=DIRTY), "message"), (failed("b", DIRTY), "error")):
            publisher.seq(project, event)
            redis_server.publish(project, event)
            assert [message[field] for message in await client.events(2)] == [CLEAN, CLEAN]


@pytest.mark.parametrize("letter", ["x", "é", "字", "🎧"])
async def test_message_and_error_are_cut_to_2000_characters(
    replica: Replica, redis_server: RedisServer, publisher: PublisherProcess, project: str, letter: str
) -> None:
    async with watching(replica.ws, project) as client:
        for length in (2_000, 2_001, 50_000):
            long = letter * length
            for event, field in ((progress("a", message=long), "message"), (failed("b", long), "error")):
                publisher.seq(project, event)
                redis_server.publish(project, event)
                assert [message[field] for message in await client.events(2)] == [letter * 2_000] * 2


@pytest.mark.parametrize("kind", ["script", "audio", "image", "video", "export"])
async def test_every_job_type_is_delivered(
    replica: Replica, publisher: PublisherProcess, project: str, kind: str
) -> None:
    async with watching(replica.ws, project) as client:
        for event in FULL:
            publisher.seq(project, event | {"jobType": kind, "jobId": event["type"]})
        assert {message["jobType"] for message in await client.events(3)} == {kind}


async def test_ids_may_be_any_128_printable_characters(
    replica: Replica, redis_server: RedisServer, publisher: PublisherProcess, project: str
) -> None:
    async with watching(replica.ws, project) as client:
        for id_ in ("x", "j" * 128, "job 7/audio: é字🎧", '"quoted" \\ {json}', "字" * 128):
            publisher.seq(project, progress(id_, sentenceId=id_))
            redis_server.publish(project, progress(id_, sentenceId=id_))
            for message in await client.events(2):
                assert (message["jobId"], message["sentenceId"]) == (id_, id_)


async def test_texts_of_any_language_arrive_unharmed(
    replica: Replica, publisher: PublisherProcess, project: str
) -> None:
    text = "Stimme 2 von 5: größer, 声音, صوت, 👩‍🎤 </script> \\ \" '"
    async with watching(replica.ws, project) as client:
        publisher.seq(project, progress("job", message=text))
        assert (await client.events(1))[0]["message"] == text


@pytest.mark.parametrize("percent", [0, 100, 33.3, 0.001])
async def test_progress_is_any_number_from_0_to_100(
    replica: Replica, redis_server: RedisServer, publisher: PublisherProcess, project: str, percent: float
) -> None:
    async with watching(replica.ws, project) as client:
        publisher.seq(project, progress("job", percent))
        redis_server.publish(project, progress("job", percent))
        assert [event["progress"] for event in await client.events(2)] == [percent, percent]


async def test_no_null_reaches_a_viewer(
    replica: Replica, redis_server: RedisServer, publisher: PublisherProcess, project: str
) -> None:
    """Many programs write what they do not have as null."""
    event = progress("job", sentenceId=None, message=None, attempt=None, nextWithin=None)
    async with watching(replica.ws, project) as client:
        seq = publisher.seq(project, event)
        redis_server.publish(project, event)
        published, raw = await client.events(2)
        assert published == progress("job") | {"projectId": project, "seq": seq}
        assert raw == progress("job") | {"projectId": project}


async def test_a_seq_that_a_job_handler_writes_itself_counts_for_nothing(
    replica: Replica, publisher: PublisherProcess, project: str
) -> None:
    async with watching(replica.ws, project) as client:
        seq = publisher.seq(project, progress("job", seq=5))
        assert seq != 5
        assert [event["seq"] for event in await client.events(1)] == [seq]


async def test_the_project_of_an_event_is_its_channel_whatever_it_says(
    replica: Replica, redis_server: RedisServer, publisher: PublisherProcess, project: str
) -> None:
    async with watching(replica.ws, project) as client:
        publisher.seq(project, progress("a", projectId="another"))
        redis_server.publish(project, progress("b", projectId="another"))
        assert [message["projectId"] for message in await client.events(2)] == [project, project]
