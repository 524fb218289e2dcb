"""`broadcast_to_project`: what it returns, refuses and raises."""

from collections.abc import Callable
from typing import Any

import pytest

from .client import Message, connect, watching
from .events import complete, failed, progress
from .processes import PublisherProcess, RedisServer, Replica, environment, run_python

BAD_EVENTS: dict[str, Any] = {
    "no mapping": "progress",
    "nothing": {},
    "null": None,
    "a list": [progress("job")],
    "no type": {"jobId": "job", "jobType": "audio", "progress": 1},
    "an unknown type": progress("job") | {"type": "job_started"},
    "a message of the gateway's own": {"type": "subscribed", "projectId": "p", "seq": 1, "recovered": True},
    "no job": {"type": "progress", "jobType": "audio", "progress": 1},
    "no job type": {"type": "progress", "jobId": "job", "progress": 1},
    "a job type of two words": progress("job") | {"jobType": "two words"},
    "no progress": {"type": "progress", "jobId": "job", "jobType": "audio"},
    "progress below 0": progress("job", -1),
    "progress above 100": progress("job", 101),
    "progress that is no number": progress("job") | {"progress": "much"},
    "progress NaN": progress("job", float("nan")),
    "progress infinite": progress("job", float("inf")),
    "an empty job id": progress(""),
    "a job id of 129": progress("x" * 129),
    "a job id that is no text": progress("job") | {"jobId": {"a": 1}},
    "a control character in the job id": progress("a\x00b"),
    "a line break in the job id": progress("job\n"),
    "an empty sentence id": progress("job", sentenceId=""),
    "a sentence id of 129": progress("job", sentenceId="x" * 129),
    "a control character in the sentence id": progress("job", sentenceId="\x1b[0m"),
    "a result that is no object": complete("job") | {"result": "a.mp3"},
    "a duration that is no number": complete("job", result={"duration": "long"}),
    "no error": {"type": "job_failed", "jobId": "job", "jobType": "audio"},
    "an error that is no text": failed("job") | {"error": {"code": 5}},
    "a message that is no text": progress("job", message=["a"]),
    "an attempt that is no number": progress("job", attempt="first"),
    "a promise that is no number": progress("job", nextWithin="soon"),
}
BAD_PROJECTS: list[Any] = [
    "",
    "-a",
    ".a",
    "_a",
    ":a",
    "a b",
    "a/b",
    "a\n",
    "\na",
    "é",
    "aé",
    "a*",
    "a" * 129,
    "a\x00",
    None,
    7,
]


@pytest.mark.parametrize("reason", BAD_EVENTS)
def test_a_bad_event_raises_a_value_error_of_our_own(publisher: PublisherProcess, project: str, reason: str) -> None:
    classes = publisher.raised(project, BAD_EVENTS[reason])
    assert "builtins.ValueError" in classes
    assert not [name for name in classes if name.startswith("pydantic")]


@pytest.mark.parametrize("bad", BAD_PROJECTS, ids=repr)
def test_a_bad_project_id_raises_a_value_error_of_our_own(publisher: PublisherProcess, bad: object) -> None:
    classes = publisher.raised(bad, progress("job"))
    assert "builtins.ValueError" in classes
    assert not [name for name in classes if name.startswith("pydantic")]


async def test_nothing_of_a_bad_event_is_sent_or_remembered(
    replica: Replica, redis_server: RedisServer, publisher: PublisherProcess, project: str
) -> None:
    async with watching(replica.ws, project) as client:
        for event in BAD_EVENTS.values():
            publisher.raised(project, event)
        assert redis_server.keys(project) == []
        publisher.seq(project, progress("marker"))
        assert [event["jobId"] for event in await client.events(1)] == ["marker"]


def test_a_bad_event_raises_at_once_without_any_redis(publisher_of: Callable[..., PublisherProcess]) -> None:
    nowhere = publisher_of("redis://127.0.0.1:1/0")
    assert "builtins.ValueError" in nowhere.raised("p", progress("job", 101))
    assert "builtins.ValueError" in nowhere.raised("no project", progress("job"))


def test_seq_grows_and_is_never_behind_the_servers_clock(
    redis_server: RedisServer, publisher: PublisherProcess, project: str
) -> None:
    clock = redis_server.clock_us()
    seqs = publisher.publish_all(project, [progress(f"job_{number % 3}", number % 100) for number in range(200)])
    assert all(isinstance(seq, int) for seq in seqs)
    numbers = [seq for seq in seqs if seq is not None]
    assert numbers == sorted(set(numbers))
    assert clock <= numbers[0] <= redis_server.clock_us()
    assert publisher.seq(project, progress("job")) >= redis_server.clock_us() - 10_000_000


def test_seq_survives_an_emptied_redis(redis_server: RedisServer, publisher: PublisherProcess, project: str) -> None:
    before = publisher.seq(project, progress("job"))
    redis_server.command("FLUSHALL")
    assert publisher.seq(project, progress("job")) > before


def test_a_forgotten_script_is_loaded_again(
    redis_server: RedisServer, publisher: PublisherProcess, project: str
) -> None:
    before = publisher.seq(project, progress("job"))
    redis_server.command("SCRIPT", "FLUSH")
    assert publisher.seq(project, progress("job")) > before


REFUSALS: dict[str, tuple[Message, Message]] = {
    "a lower attempt": (progress("job", 10, attempt=2), progress("job", 90, attempt=1)),
    "the end of a lower attempt": (progress("job", 10, attempt=2), complete("job", attempt=1)),
    "progress after the end": (complete("job", attempt=1), progress("job", 100, attempt=1)),
    "progress after a failure": (failed("job", attempt=1), progress("job", 100, attempt=1)),
    "a second end": (complete("job", attempt=1), failed("job", attempt=1)),
    "lower progress": (progress("job", 60, attempt=1), progress("job", 59, attempt=1)),
}
ACCEPTED: dict[str, tuple[Message, Message]] = {
    "the same progress": (progress("job", 60, attempt=1), progress("job", 60, attempt=1, message="still")),
    "more progress": (progress("job", 60, attempt=1), progress("job", 61, attempt=1)),
    "the end": (progress("job", 60, attempt=1), complete("job", attempt=1)),
    "a new attempt after the end": (failed("job", attempt=1), progress("job", 0, attempt=2)),
    "a new attempt from the top": (progress("job", 60, attempt=1), progress("job", 0, attempt=2)),
    "lower progress without attempts": (progress("job", 60), progress("job", 5)),
    "lower progress where the first has no attempt": (progress("job", 60), progress("job", 5, attempt=1)),
    "lower progress where the second has no attempt": (progress("job", 60, attempt=3), progress("job", 5)),
    "anything after an end without attempts": (complete("job"), progress("job", 5)),
    "another sentence of the job": (complete("job", attempt=1), progress("job", 5, attempt=1, sentenceId="s1")),
}


@pytest.mark.parametrize("reason", REFUSALS)
async def test_the_attempt_rule_refuses(
    replica: Replica, publisher: PublisherProcess, project: str, reason: str
) -> None:
    first, second = REFUSALS[reason]
    async with watching(replica.ws, project) as client:
        seq = publisher.seq(project, first)
        assert publisher.publish(project, second) is None
        publisher.seq(project, progress("marker"))
        assert [event["jobId"] for event in await client.events(2)] == ["job", "marker"], "it was delivered"
    async with connect(replica.ws) as late:
        await late.subscribe(project)
        kept, _ = await late.events(2)
        assert kept == first | {"projectId": project, "seq": seq}


@pytest.mark.parametrize("reason", ACCEPTED)
async def test_the_attempt_rule_accepts(
    replica: Replica, publisher: PublisherProcess, project: str, reason: str
) -> None:
    first, second = ACCEPTED[reason]
    async with watching(replica.ws, project) as client:
        seqs = [publisher.seq(project, event) for event in (first, second)]
        assert [event["seq"] for event in await client.events(2)] == seqs


async def test_a_handler_that_runs_again_from_the_top_shows_no_step_back(
    replica: Replica, publisher: PublisherProcess, project: str
) -> None:
    """An Inngest function is called anew for each step and repeats what it said before."""
    async with watching(replica.ws, project) as client:
        for steps in ([0], [0, 30], [0, 30, 60], [0, 30, 60, 100]):
            publisher.publish_all(project, [progress("job", step, attempt=0) for step in steps])
        publisher.seq(project, complete("job", attempt=0))
        events = await client.until_type("job_complete")
        seen = [event["progress"] for event in events[:-1]]
        assert seen == sorted(seen)
        assert set(seen) == {0, 30, 60, 100}


MODEL = """
import sys, publisher, pydantic
kinds = [kind for kind in vars(publisher).values() if isinstance(kind, type) and issubclass(kind, pydantic.BaseModel)]
(kind,) = [kind for kind in kinds if {"progress", "message"} <= kind.model_fields.keys()]
event = kind.model_validate({"type": "progress", "jobId": "job", "jobType": "image", "progress": 12, "sentenceId": "s"})
print(publisher.broadcast_to_project(sys.argv[1], event))
"""


async def test_a_model_instance_is_published_like_a_mapping(
    replica: Replica, redis_server: RedisServer, project: str
) -> None:
    async with watching(replica.ws, project) as client:
        done = run_python(MODEL, environment(redis_server.url), project)
        assert done.returncode == 0, done.stderr
        (event,) = await client.events(1)
        assert event == progress("job", 12, sentenceId="s", jobType="image") | {
            "projectId": project,
            "seq": int(done.stdout),
        }


def test_importing_the_publisher_is_light() -> None:
    code = "import sys, publisher, publisher.aio; print(sorted({name.partition('.')[0] for name in sys.modules}))"
    done = run_python(code, environment(None))
    assert done.returncode == 0, done.stderr
    for heavy in ("starlette", "uvicorn", "websockets", "click", "rich", "gateway"):
        assert f"'{heavy}'" not in done.stdout
