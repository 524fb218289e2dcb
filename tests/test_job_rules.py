"""The rules of a job: the cases of tests/cases/ on the Python rules and on publish.lua, and random events on both."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from publisher.events import event_from_json
from publisher.publication import BOUNDS, SCRIPT, Publication, Sent
from tests.contract.processes import RedisServer
from tests.job_cases import Given, Model, State, cases, full, rounded, state_of

KEY = "{project:p}:jobs"


class Script:
    """publish.lua on a real server, spoken to without the publisher."""

    def __init__(self, port: int) -> None:
        self.redis = redis.Redis(port=port)
        self._publish: Any = self.redis.register_script(SCRIPT)
        self.redis.delete(KEY)

    def publish(self, given: Mapping[str, Any], bounds: str = BOUNDS) -> str | int:
        event = full(given)
        least = given.get("atLeast", 0) if event.get("attempt") == "next" else None
        publication = Publication.of("p", event, "", least_attempt=least)
        _, key, *arguments = publication.script_arguments()
        arguments[arguments.index(BOUNDS)] = bounds
        sent = Sent.of(self._publish(keys=[key], args=arguments))
        if sent.replaced_by is not None:
            return "replaced"
        return "refused" if sent.seq is None else "news" if sent.attempt is None else sent.attempt

    def state(self) -> State:
        """As a viewer who comes now is given it."""
        jobs: dict[str, dict[str, Any]] = {}
        remembered: Any = self.redis.hgetall(KEY)
        for name, value in remembered.items():
            if b"\n" in name:
                job_id, _, part = name.decode().partition("\n")
                jobs.setdefault(job_id, {})[part] = event_from_json(value)
        return {job_id: state_of(parts) for job_id, parts in jobs.items()}


def as_script(answer: str | int) -> str | int:
    """The script has one answer for the two refusals within an attempt."""
    return "refused" if answer in ("ended", "lower") else answer


@pytest.mark.parametrize("case", cases(), ids=lambda case: case["name"])
def test_a_case(case: Any) -> None:
    model = Model()
    assert [model.publish(event) for event in case["events"]] == case["answers"]
    assert rounded(model.state()) == rounded(case["jobs"])


@pytest.mark.parametrize("case", cases(), ids=lambda case: case["name"])
def test_a_case_on_the_script(case: Any, redis_server: RedisServer) -> None:
    script = Script(redis_server.port)
    assert [script.publish(event) for event in case["events"]] == [as_script(answer) for answer in case["answers"]]
    assert rounded(script.state()) == rounded(case["jobs"])


attempts = st.one_of(st.none(), st.integers(0, 3), st.just("next"))
some = st.fixed_dictionaries(
    {
        "jobId": st.sampled_from(["j", "k"]),
        "attempt": attempts,
        "sentenceId": st.sampled_from([None, None, "s1", "s2", "s3"]),
    },
)
progresses = st.builds(
    lambda event, progress: {**event, "progress": progress}, some, st.sampled_from([0, 0, 10, 33.3, 50, 80, 100])
)
ends = st.builds(
    lambda event, end: {**event, **end, "attempt": None if event["attempt"] == "next" else event["attempt"]},
    some,
    st.sampled_from([{"type": "job_complete", "result": {}}, {"type": "job_failed", "error": "no"}]),
)
events = st.one_of(progresses, progresses, ends).map(
    lambda event: {name: value for name, value in event.items() if value is not None}
)


@given(st.lists(events, max_size=40))
@settings(deadline=None)
def test_the_script_and_the_rules_agree(redis_server: RedisServer, published: list[Given]) -> None:
    script, model = Script(redis_server.port), Model()
    for event in published:
        assert script.publish(event) == as_script(model.publish(event)), json.dumps(event)
        assert rounded(script.state()) == rounded(model.state()), json.dumps(event)
