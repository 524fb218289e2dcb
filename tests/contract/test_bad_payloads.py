"""What other programs put on a project's channel: a bad payload is dropped, and the next one is delivered."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from .client import connect, watching
from .events import complete, failed, progress
from .processes import PublisherProcess, RedisServer, Replica

GOOD = json.dumps(progress("job", 1))
BAD: dict[str, str | bytes | dict[str, Any]] = {
    "nothing": "",
    "no JSON": "progress",
    "no UTF-8": b"\xff\xfe\x00",
    "no UTF-8 inside JSON": GOOD.encode().replace(b"job", b"j\xffb", 1),
    "UTF-16": GOOD.encode("utf-16"),
    "half an event": GOOD[:-5],
    "two events": GOOD + GOOD,
    "null": "null",
    "a number": "1",
    "an endless number": "9" * 5_000,
    "a list": f"[{GOOD}]",
    "a text": json.dumps(GOOD),
    "an empty object": "{}",
    "an unknown type": progress("job") | {"type": "job_started"},
    "no type": {"jobId": "job", "jobType": "audio", "progress": 1},
    "a type that is a list": progress("job") | {"type": ["progress"]},
    "a message of the server's": {"type": "live"},
    "a close in disguise": {"type": "going_away", "reconnectIn": [0, 1]},
    "an error in disguise": {"type": "error", "code": "x", "message": "y"},
    "no job id": {"type": "progress", "jobType": "audio", "progress": 1},
    "an empty job id": progress(""),
    "a job id of 129": progress("x" * 129),
    "a job id with a line break": progress("a\nb"),
    "a job id that is an object": progress("job") | {"jobId": {}},
    "a job id with a lone surrogate": GOOD.replace('"job"', '"\\ud800"'),
    "a sentence id with a control character": progress("job", sentenceId="\x00"),
    "a job type of two words": progress("job") | {"jobType": "two words"},
    "no progress": {"type": "progress", "jobId": "job", "jobType": "audio"},
    "progress -1": progress("job", -1),
    "progress 101": progress("job", 101),
    "progress NaN": GOOD.replace(": 1}", ": NaN}"),
    "progress infinite": GOOD.replace(": 1}", ": Infinity}"),
    "progress 1e400": GOOD.replace(": 1}", ": 1e400}"),
    "progress with 5,000 digits": GOOD.replace(": 1}", f": {'9' * 5_000}}}"),
    "progress null": GOOD.replace(": 1}", ": null}"),
    "a message that is a list": progress("job", message=["m"]),
    "a result that is a list": complete("job") | {"result": []},
    "a file that is an object": complete("job", result={"file": {"html": "x"}}),
    "a duration that is NaN": json.dumps(complete("job", result={"duration": float("nan")})),
    "no error": {"type": "job_failed", "jobId": "job", "jobType": "audio"},
    "an error that is an object": failed("job") | {"error": {}},
    "lists 10,000 deep": "[" * 10_000 + "]" * 10_000,
    "objects 10,000 deep": '{"a":' * 10_000 + "1" + "}" * 10_000,
    "lists 100,000 deep, unfinished": "[" * 100_000,
    "a megabyte of letters": "x" * 1_000_000,
}


@pytest.fixture(autouse=True)
def without_a_traceback(replica: Replica) -> Iterator[None]:
    yield
    assert replica.running()
    assert "Traceback" not in replica.log, replica.log


@pytest.mark.parametrize("reason", BAD)
async def test_a_bad_payload_is_dropped_and_the_next_one_is_delivered(
    replica: Replica, redis_server: RedisServer, project: str, reason: str
) -> None:
    async with watching(replica.ws, project) as client:
        redis_server.publish(project, BAD[reason])
        redis_server.publish(project, progress("next"))
        assert [event["jobId"] for event in await client.events(1)] == ["next"]


async def test_bad_payloads_among_good_ones_in_one_read_take_nothing_with_them(
    replica: Replica, redis_server: RedisServer, project: str
) -> None:
    payloads: list[Any] = []
    for number, bad in enumerate(BAD.values()):
        payloads += [bad, progress(f"good_{number}")]
    async with watching(replica.ws, project) as client:
        redis_server.publish_all(project, payloads)
        events = await client.events(len(BAD))
        assert [event["jobId"] for event in events] == [f"good_{number}" for number in range(len(BAD))]


async def test_a_bad_payload_is_not_remembered(
    replica: Replica, redis_server: RedisServer, publisher: PublisherProcess, project: str
) -> None:
    async with watching(replica.ws, project) as client:
        seq = publisher.seq(project, progress("job", 40))
        for bad in BAD.values():
            redis_server.publish(project, bad)
        redis_server.publish(project, progress("next"))
        await client.until_job("next")
        async with connect(replica.ws) as late:
            await late.subscribe(project)
            assert await late.events(1) == [progress("job", 40) | {"projectId": project, "seq": seq}]


@pytest.mark.parametrize("seq", ['"5"', "1.5", "-1", "null", "true", "[]", str(2**60), "9" * 400, "1e30"])
async def test_a_seq_that_is_none_reaches_no_viewer(
    replica: Replica, redis_server: RedisServer, project: str, seq: str
) -> None:
    """Dropped, mended or without its seq: no viewer gets a cursor that it could not send back."""
    async with watching(replica.ws, project) as client:
        redis_server.publish(project, GOOD[:-1] + f', "seq": {seq}}}')
        redis_server.publish(project, progress("next"))
        seqs = [event["seq"] for event in await client.until_job("next") if "seq" in event]
        assert all(type(seq) is int and 0 <= seq < 2**53 for seq in seqs), seqs
        await client.send("ping")
        await client.expect("pong")


@pytest.mark.parametrize("field", ["seq", "from"])
@pytest.mark.parametrize("number", [str(2**53), "9" * 16, "9" * 17, "x", ""])
async def test_a_hash_that_somebody_spoilt_costs_other_projects_nothing(
    replica: Replica, redis_server: RedisServer, publisher: PublisherProcess, project: str, field: str, number: str
) -> None:
    """Who watches that project is served, too, and is given no cursor that it could not send back."""
    async with watching(replica.ws, f"{project}_other") as other:
        seq = publisher.seq(project, progress("job", 40))
        redis_server.command("HSET", f"{{project:{project}}}:jobs", field, number)
        for since, recovered in ((None, True), (seq, field == "seq")):
            async with connect(replica.ws) as client:
                assert await client.subscribe(project, since=since) == {
                    "type": "subscribed",
                    "projectId": project,
                    "seq": seq,
                    "recovered": recovered,
                }
        assert await other.ping() == []
        assert publisher.seq(project, progress("job", 50)) > seq


async def test_lone_surrogates_in_a_text_do_no_harm(replica: Replica, redis_server: RedisServer, project: str) -> None:
    async with watching(replica.ws, project) as client:
        redis_server.publish(project, GOOD[:-1] + ', "message": "a\\ud800b"}')
        redis_server.publish(project, progress("next"))
        events = await client.until_job("next")
        "".join(event.get("message", "") for event in events).encode()  # UTF-8 knows no lone surrogates


async def test_a_bad_payload_is_counted(replica: Replica, redis_server: RedisServer, project: str) -> None:
    """Some figure of /metrics that has to do with what was dropped grows by one with each."""

    def metrics() -> dict[str, float]:
        with httpx.Client(trust_env=False, timeout=30) as http:
            lines = http.get(replica.http + "/metrics").text.splitlines()
        pairs = [line.rsplit(" ", 1) for line in lines if line and not line.startswith("#")]
        return {name: float(figure) for name, figure in pairs}

    async with watching(replica.ws, project) as client:
        before = metrics()
        redis_server.publish_all(project, ["{"] * 7)
        redis_server.publish(project, progress("next"))
        await client.until_job("next")
        after = metrics()
    grown = {name for name, figure in after.items() if figure - before.get(name, 0) == 7}
    assert any("bad" in name or "drop" in name or "invalid" in name for name in grown), grown
