"""The rules of a job: the cases of tests/cases/ on the Python rules and on publish.lua, and random events on both."""

import json
from collections.abc import Mapping
from typing import Any, cast

import pytest
import redis
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from gateway.clients.frames import payloads
from gateway.projects.channel import Channel, ChannelState
from publisher.events import event_from_json
from publisher.job_rules import Verdict, judge
from publisher.publication import BOUNDS, SCRIPT, Publication, Sent
from tests.contract.processes import RedisServer
from tests.job_cases import Given, Model, State, cases, full, rounded, state_of
from tests.simulation import load

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


# What stands between two events: a replica loses Redis, or is back.
breaks = st.sampled_from(["", "", "", "", "lose", "load"])
steps = st.lists(st.tuples(events, breaks), max_size=40)


def channel_state(channel: Channel) -> State:
    """As a viewer who comes to this replica now is given it."""
    jobs: dict[str, dict[str, Any]] = {}
    for payload in payloads(channel.replay(0)[0]):
        event = event_from_json(payload)
        jobs.setdefault(event.job_id, {})[event.sentence_id or ""] = event
    return {job_id: state_of(parts) for job_id, parts in jobs.items()}


def loaded(remembered: Mapping[bytes, bytes]) -> Channel:
    channel = Channel("p")
    load(channel, remembered, memory_id=b"m")
    return channel


class Comparison:
    """The script on a real server, the rules, and three channels: one that hears everything, one that loses Redis now
    and then, and one that begins after each event."""

    def __init__(self, port: int) -> None:
        self.script, self.model = Script(port), Model()
        client: Any = self.script.redis  # redis-py's types are incomplete
        self.pubsub = client.pubsub(ignore_subscribe_messages=True)
        self.pubsub.subscribe("project:p")
        assert self.pubsub.get_message(timeout=30) is None
        self.live, self.now_and_then = loaded({}), loaded({})

    def remembered(self) -> Mapping[bytes, bytes]:
        state: Any = self.script.redis.hgetall(KEY)
        return cast(Mapping[bytes, bytes], state)

    def step(self, event: Given, what: str) -> None:
        answer = self.script.publish(event)
        assert answer == as_script(self.model.publish(event)), json.dumps(event)
        if answer not in ("refused", "replaced"):
            message = self.pubsub.get_message(timeout=30)
            self.live.receive([message["data"]])
            if self.now_and_then.state is ChannelState.LIVE:
                self.now_and_then.receive([message["data"]])
        if what == "lose":
            self.now_and_then.begin_load(lost_at=1)
        elif what == "load" and self.now_and_then.state is ChannelState.LOADING:
            load(self.now_and_then, self.remembered(), memory_id=b"m", now=2)
        self.compare(json.dumps(event))

    def compare(self, what: str) -> None:
        expected = rounded(self.model.state())
        assert rounded(self.script.state()) == expected, what
        assert rounded(channel_state(self.live)) == expected, what
        assert rounded(channel_state(loaded(self.remembered()))) == expected, what
        if self.now_and_then.state is ChannelState.LIVE:
            assert rounded(channel_state(self.now_and_then)) == expected, what

    def play(self, published: list[tuple[Given, str]]) -> None:
        try:
            for event, what in published:
                self.step(event, what)
        finally:
            self.pubsub.close()
            self.script.redis.close()


@given(steps)
@settings(max_examples=2 * settings().max_examples)
def test_the_script_the_rules_and_channels_agree(redis_server: RedisServer, published: list[tuple[Given, str]]) -> None:
    Comparison(redis_server.port).play(published)


def keeps_what_a_later_attempt_replaces(*arguments: Any) -> Verdict:
    verdict = judge(*arguments)
    return Verdict.NEWS if verdict is Verdict.BEGINS else verdict


def lets_a_progress_go_down(*arguments: Any) -> Verdict:
    verdict = judge(*arguments)
    return Verdict.NEWS if verdict is Verdict.LOWER else verdict


@pytest.mark.parametrize(
    ("where", "broken"),
    [("gateway.projects.channel", keeps_what_a_later_attempt_replaces), ("tests.job_cases", lets_a_progress_go_down)],
)
def test_control_one_broken_rule_is_found(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, where: str, broken: Any
) -> None:
    monkeypatch.setattr(f"{where}.judge", broken)

    @given(steps)
    @settings(phases=[Phase.generate], max_examples=5_000, database=None)
    def compare(published: list[tuple[Given, str]]) -> None:
        Comparison(redis_server.port).play(published)

    with pytest.raises(AssertionError):
        compare()


def test_control_a_channel_that_drops_nothing_when_it_is_back_is_found(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Channel, "_drop_replaced", lambda *_: None)

    @given(steps)
    @settings(phases=[Phase.generate], max_examples=500, database=None)
    def compare(published: list[tuple[Given, str]]) -> None:
        Comparison(redis_server.port).play(published)

    with pytest.raises(AssertionError):
        compare()
