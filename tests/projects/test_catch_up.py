"""The one idea, played in every order: whatever happens between, each client ends with each job's last event.

Hypothesis makes the orders: events (of jobs that end and begin again), reads of the feed in pieces, loads under way,
sockets that fill and drain, clients that come, leave and resume on either of two replicas, a feed that is lost and
returns. The second replica reads each state in slices, field by field, and anything may happen between two of them.
The controls at the end show that the property is lost where the catch-up, or what a slice keeps, is taken away.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.clients import session
from gateway.clients.frames import payloads
from gateway.projects import last_events
from gateway.projects.channel import Channel
from gateway.projects.hub import Hub
from publisher.events import check_event
from tests.simulation import Client, Page, Part, SimulatedRedis, in_a_loop, names, new_replica, text_of

EXAMPLES = settings().max_examples  # few, or with `make soak` many: tests/conftest.py
JOBS = "abc"
CLIENTS = range(3)
REPLICAS = range(2)
SLICED = 1  # the replica that reads states in slices

PIECES = (session.PIECE_BYTES, 1, 250)  # of a replay: all that these tests have, one event, and two

Step = tuple[str, int, int]
step = st.one_of(
    st.tuples(st.sampled_from(["progress", "progress", "end", "raw"]), st.integers(0, len(JOBS) - 1), st.just(0)),
    st.tuples(st.just("read"), st.sampled_from(REPLICAS), st.integers(1, 5)),
    st.tuples(st.just("slice"), st.just(SLICED), st.integers(1, 5)),
    st.tuples(st.just("connect"), st.sampled_from(CLIENTS), st.sampled_from(REPLICAS)),
    st.tuples(st.just("disconnect"), st.sampled_from(CLIENTS), st.just(0)),
    st.tuples(st.just("again"), st.sampled_from(CLIENTS), st.just(0)),
    st.tuples(st.just("fill"), st.sampled_from(CLIENTS), st.integers(0, 3)),
    st.tuples(st.just("drain"), st.sampled_from(CLIENTS), st.just(0)),
    st.tuples(st.sampled_from(["lose", "restore"]), st.sampled_from(REPLICAS), st.just(0)),
)
steps = st.lists(step, max_size=60)
# A break of the feed in which Redis is emptied, with anything between its steps.
EMPTIED: list[Step] = [
    ("connect", 0, 0),
    ("read", 0, 9),
    ("lose", 0, 0),
    ("end", 0, 0),
    ("flush", 0, 0),
    ("restore", 0, 0),
]
few_steps = st.lists(st.one_of(step, st.just(("flush", 0, 0))), max_size=4)
emptied_steps = st.tuples(*[few_steps] * (len(EMPTIED) + 1)).map(
    lambda between: [
        *between[0],
        *(step for one, more in zip(EMPTIED, between[1:], strict=True) for step in (one, *more)),
    ]
)


# What a job with sentences and attempts may say.
SAYINGS: list[tuple[str, str | None, int | str | None, str]] = [
    (job, sentence, attempt, what)
    for job in "abcd"
    for sentence in (None, "s", "t")
    for attempt in (None, 0, 1, "next")
    for what in ("begin", "progress", "end")
    if not (attempt == "next" and what == "end")
]
NUMBERED = [index for index, (_, _, attempt, _) in enumerate(SAYINGS) if attempt is not None]
say = st.tuples(st.just("say"), st.integers(0, len(SAYINGS) - 1), st.just(0))
numbered_say = st.tuples(st.just("say"), st.sampled_from(NUMBERED), st.just(0))
others = step.filter(lambda step: step[0] not in ("progress", "end", "raw"))
attempt_steps = st.lists(st.one_of(say, say, others), max_size=60)
numbered_steps = st.lists(st.one_of(numbered_say, numbered_say, others), max_size=60)


@pytest.fixture(autouse=True)
def _smallest_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.projects.memory.READ_AT_ONCE", 1)
    monkeypatch.setattr("gateway.projects.readings.SLICE_SECONDS", 0)


class Play:
    """Plays steps on two replicas and three clients."""

    def __init__(self, *, raw: bool, piece_bytes: int) -> None:
        self.raw = raw
        session.PIECE_BYTES = piece_bytes
        self.redis = SimulatedRedis()
        self.replicas = [new_replica(self.redis, in_slices=replica == SLICED) for replica in REPLICAS]
        self.clients = [Client() for _ in CLIENTS]
        self.names = names()
        # How many events were published when a client began: from then on `recovered` is a promise to it.
        self.began_at: dict[Client, int] = {}
        for _, feed in self.replicas:
            feed.connect()
            feed.read(1)
            feed.slice(1)

    def step(self, kind: str, who: int, how: int) -> None:
        if kind == "say":
            self.say(*SAYINGS[who])
        elif kind in ("progress", "end", "raw"):
            raw = kind == "raw"
            what = f"{'progress' if raw else kind} {next(self.names)}"
            self.redis.publish(JOBS[who], what, raw=raw and self.raw)
        elif kind == "read":
            self.replicas[who][1].read(how)
        elif kind == "slice":
            self.replicas[who][1].slice(how)
        elif kind == "lose":
            self.replicas[who][1].lose()
        elif kind == "restore":
            self.replicas[who][1].connect()
        elif kind == "flush":
            self.redis.flush()
        else:
            self.client_step(kind, self.clients[who], how)

    def say(self, job: str, sentence: str | None, attempt: int | str | None, what: str) -> None:
        """What a job with sentences and attempts says."""
        progress = {"begin": 0, "progress": 50}.get(what, 0)
        text = f"{what} {next(self.names)}"
        self.redis.publish(job, text, sentence=sentence, attempt=attempt, progress=progress)

    def client_step(self, kind: str, client: Client, how: int) -> None:
        if kind == "connect":
            self.leave(client)
            client.connect(self.replicas[how][0])
        elif kind == "disconnect":
            self.leave(client)
        elif client.socket is not None:
            if kind == "fill":
                client.socket.fill(how)
            elif kind == "drain":
                client.socket.drain()
            elif kind == "again":
                client.say({"type": "subscribe", "projectId": "p"})

    def leave(self, client: Client) -> None:
        client.disconnect()
        if client.since is None:  # without a cursor it comes back as a new client
            self.began_at.pop(client, None)

    def look(self) -> None:
        for client in self.clients:
            if client.socket is not None and client.is_subscribed:
                self.began_at.setdefault(client, len(self.redis.published))

    def settle(self) -> None:
        """Everybody is connected, everything is read, every socket drains."""
        for _, feed in self.replicas:
            feed.connect()
        for client in self.clients:
            if client.socket is None:
                client.connect(self.replicas[0][0])
        for _ in range(3):
            for client in self.clients:
                assert client.socket is not None
                client.socket.drain()
            for _, feed in self.replicas:
                feed.read(10_000)
                feed.slice(10_000)


def play(script: list[Step], *, raw: bool = False, most_jobs: int = 1_000) -> Play:
    stage = Play(raw=raw, piece_bytes=PIECES[len(script) % len(PIECES)])
    stage.redis.most_jobs = most_jobs
    for step in script:
        stage.step(*step)
        stage.look()
    stage.settle()
    return stage


def check_that_everybody_is_current(script: list[Step]) -> None:
    stage = play(script)
    truth = dict(stage.redis.published)
    for client in stage.clients:
        assert client.last() == truth


def check_that_nobody_goes_back(script: list[Step]) -> None:
    """Within one subscription a client sees a job's events in the order of their publication; never one that is older
    than what it has seen already, so never a progress after its end."""
    stage = play(script)
    order = {event: index for index, event in enumerate(stage.redis.published)}
    for client in stage.clients:
        client.read()
        newest: dict[str, int] = {}
        for event in client.seen:
            assert order[event] >= newest.get(event[0], -1), f"{event} after a newer event of its job"
            newest[event[0]] = order[event]


def check_that_nothing_is_left_behind(script: list[Step]) -> None:
    stage = play(script)
    for client in stage.clients:
        client.disconnect()
    for hub, _ in stage.replicas:
        assert not hub.viewers
        assert not hub.subscriptions
        assert all(not project.waiting for project in hub._projects.values())


@settings(max_examples=4 * EXAMPLES)
@given(steps)
def test_every_client_ends_with_the_last_event_of_each_job(script: list[Step]) -> None:
    in_a_loop(lambda: check_that_everybody_is_current(script))


@settings(max_examples=4 * EXAMPLES)
@given(steps)
def test_no_client_sees_an_event_after_a_newer_one_of_the_same_job(script: list[Step]) -> None:
    in_a_loop(lambda: check_that_nobody_goes_back(script))


@given(steps)
def test_clients_that_left_leave_nothing_behind(script: list[Step]) -> None:
    in_a_loop(lambda: check_that_nothing_is_left_behind(script))


@settings(max_examples=2 * EXAMPLES)
@given(steps)
def test_recovered_is_true_while_redis_forgets_nothing(script: list[Step]) -> None:
    def check() -> None:
        for client in play(script).clients:
            client.read()
            assert all(client.recovered)

    in_a_loop(check)


@settings(max_examples=4 * EXAMPLES)
@given(emptied_steps)
def test_a_client_that_was_always_told_recovered_lacks_nothing_even_if_redis_was_emptied(script: list[Step]) -> None:
    """What was published before it began may be gone: a new client is told `recovered` in any case."""

    def check() -> None:
        stage = play(script)
        for client, began_at in stage.began_at.items():
            lacks = dict(stage.redis.published[began_at:]).items() - client.last().items()
            assert not lacks or not all(client.recovered)

    in_a_loop(check)


# Jobs with sentences and attempts


def pictures(stage: Play) -> Iterator[tuple[str, dict[Part, str]]]:
    """What each replica would give to a client that comes now."""
    for index, (hub, _) in enumerate(stage.replicas):
        for project in hub._projects.values():
            if project.is_loaded:
                page = Page()
                for payload in payloads(project.channel.replay(0)[0]):
                    page.replay.append(check_event(json.loads(payload)))
                # Not by a page's rules, which would hide what should not be here any more.
                yield f"replica {index}", {(event.job_id, event.sentence_id): text_of(event) for event in page.replay}


@settings(max_examples=2 * EXAMPLES)
@given(attempt_steps)
def test_every_replica_knows_the_parts_that_redis_knows_and_no_others(script: list[Step]) -> None:
    """Also one that was away while an attempt began, which deleted what came before it."""

    def check() -> None:
        stage = play(script)
        for name, picture in pictures(stage):
            assert picture == stage.redis.picture(), name

    in_a_loop(check)


@settings(max_examples=2 * EXAMPLES)
@given(numbered_steps)
def test_every_client_ends_with_the_parts_of_the_last_attempt_and_no_others(script: list[Step]) -> None:
    def check() -> None:
        stage = play(script)
        for client in stage.clients:
            assert client.picture() == stage.redis.picture()
            assert all(client.recovered)

    in_a_loop(check)


@settings(max_examples=2 * EXAMPLES)
@given(attempt_steps)
def test_every_client_ends_with_the_last_event_of_each_part(script: list[Step]) -> None:
    """Without numbers, a client that missed a begin cannot know that a sentence belongs to an earlier run."""

    def check() -> None:
        stage = play(script)
        for client in stage.clients:
            assert client.picture().items() >= stage.redis.picture().items()

    in_a_loop(check)


@settings(max_examples=2 * EXAMPLES)
@given(numbered_steps, st.integers(1, 3))
def test_where_jobs_are_forgotten_every_client_has_what_redis_remembers_or_is_told(
    script: list[Step], most_jobs: int
) -> None:
    def check() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(last_events, "MAX_JOBS", most_jobs)
            stage = play(script, most_jobs=most_jobs)
        remembered = stage.redis.picture().items()
        for name, picture in pictures(stage):
            assert len({job for job, _ in picture}) <= most_jobs
            assert picture.items() >= remembered, name
        for client in stage.clients:
            assert client.picture().items() >= remembered

    in_a_loop(check)


@settings(max_examples=2 * EXAMPLES)
@given(st.lists(st.one_of(say, others, st.just(("flush", 0, 0))), max_size=60))
def test_a_redis_that_was_emptied_takes_no_job_away_from_a_replica(script: list[Step]) -> None:
    """What is in Redis is in every replica; and a replica drops no part of a job that Redis does not know."""

    def check() -> None:
        stage = play(script)
        for name, picture in pictures(stage):
            assert picture.items() >= stage.redis.picture().items(), name

    in_a_loop(check)


def said(sentence: str | None, what: str, attempt: int | None = None) -> Step:
    return ("say", SAYINGS.index(("a", sentence, attempt, what)), 0)


WATCHED: list[Step] = [("connect", 0, 0), ("read", 0, 9)]
FIRST_ATTEMPT: list[Step] = [said(None, "progress", 0), said("s", "end", 0), ("read", 0, 9)]
FIRST_RUN: list[Step] = [said(None, "progress"), said("s", "end"), ("read", 0, 9)]


@pytest.mark.parametrize(
    ("script", "known"),
    [
        # The next attempt, or the next run without a number, began while the replica was away.
        ([*FIRST_ATTEMPT, ("lose", 0, 0), said("t", "progress", 1)], {"t"}),
        ([*FIRST_RUN, ("lose", 0, 0), said(None, "begin"), said("t", "progress")], {None, "t"}),
        # Redis was emptied: it does not tell what was replaced.
        ([*FIRST_RUN, ("lose", 0, 0), ("flush", 0, 0), said("t", "progress")], {None, "s", "t"}),
        ([*FIRST_ATTEMPT, ("lose", 0, 0), ("flush", 0, 0), said("t", "progress", 0)], {None, "s", "t"}),
        ([*FIRST_ATTEMPT, ("lose", 0, 0), ("flush", 0, 0)], {None, "s"}),
        # But a later attempt replaces what this replica alone still knew.
        ([*FIRST_ATTEMPT, ("lose", 0, 0), ("flush", 0, 0), said("t", "progress", 1)], {"t"}),
    ],
)
def test_what_a_replica_knows_that_was_away(script: list[Step], known: set[str | None]) -> None:
    def check() -> None:
        stage = play([*WATCHED, *script, ("restore", 0, 0)])
        assert {sentence for _, sentence in dict(pictures(stage))["replica 0"]} == known

    in_a_loop(check)


def test_control_a_replica_that_drops_nothing_keeps_what_an_attempt_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Channel, "_drop_replaced", lambda *_: None)

    def check() -> None:
        stage = play([*WATCHED, *FIRST_RUN, ("lose", 0, 0), said(None, "begin"), ("restore", 0, 0)])
        assert ("a", "s") in dict(pictures(stage))["replica 0"]

    in_a_loop(check)


def test_control_a_replica_that_forgets_while_it_loads_loses_a_job_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of a job that runs looks as if it had ended: its first sentence has."""
    script: list[Step] = [said("s", "end"), ("say", SAYINGS.index(("b", None, None, "end")), 0), said("t", "progress")]

    def check() -> None:
        stage = play([*script, ("connect", 0, 0), ("read", 0, 9)], most_jobs=2)
        picture = dict(pictures(stage))["replica 0"]
        assert picture.items() >= {part: text for part, text in stage.redis.picture().items() if part[0] == "a"}.items()

    monkeypatch.setattr(last_events, "MAX_JOBS", 1)
    in_a_loop(check)
    remember = Channel._remember

    def at_once(channel: Channel, *arguments: Any) -> Any:
        entry = remember(channel, *arguments)
        channel._forget()
        return entry

    monkeypatch.setattr(Channel, "_remember", at_once)
    with pytest.raises(AssertionError):
        in_a_loop(check)


FIRST_EVENT_IN_THE_BREAK: list[Step] = [("connect", 0, 0), ("read", 0, 9), ("lose", 0, 0), ("end", 0, 0)]


@pytest.mark.parametrize(
    ("script", "recovered"),
    [
        ([*FIRST_EVENT_IN_THE_BREAK, ("restore", 0, 0)], [True]),
        ([*FIRST_EVENT_IN_THE_BREAK, ("flush", 0, 0), ("restore", 0, 0)], [True, False]),
        ([*FIRST_EVENT_IN_THE_BREAK, ("flush", 0, 0), ("end", 1, 0), ("restore", 0, 0)], [True, False]),
        # The other replica has given the emptied Redis a new id before this one is back.
        (
            [*FIRST_EVENT_IN_THE_BREAK, ("flush", 0, 0), ("lose", 1, 0), ("restore", 1, 0), ("restore", 0, 0)],
            [True, False],
        ),
        # The break is lost again while it loads: it is one break.
        (
            [*FIRST_EVENT_IN_THE_BREAK, ("flush", 0, 0), ("restore", 0, 0), ("lose", 0, 0), ("restore", 0, 0)],
            [True, False],
        ),
    ],
)
def test_a_projects_first_event_falls_into_a_break(script: list[Step], recovered: list[bool]) -> None:
    def check() -> None:
        client = play(script).clients[0]
        client.read()
        assert client.recovered == recovered

    in_a_loop(check)


# A client is slow, and Redis was away: the two losses that only the catch-up mends.
SLOW: list[Step] = [
    ("connect", 0, 0),
    ("read", 0, 9),
    ("fill", 0, 1),
    ("progress", 0, 0),
    ("progress", 1, 0),
    ("read", 0, 1),
    ("end", 0, 0),
    ("read", 0, 9),
]
AWAY: list[Step] = [("connect", 0, 0), ("read", 0, 9), ("lose", 0, 0), ("end", 0, 0), ("restore", 0, 0)]


def nothing(*_: object) -> tuple[bytes, None]:
    return b"", None


@pytest.mark.parametrize("script", [SLOW, AWAY], ids=["slow", "away"])
def test_control_without_catch_up_the_last_events_are_lost(script: list[Step], monkeypatch: pytest.MonkeyPatch) -> None:
    in_a_loop(lambda: check_that_everybody_is_current(script))
    monkeypatch.setattr(Channel, "catch_up", nothing)

    def check() -> None:
        stage = play(script)
        assert stage.clients[0].last() != dict(stage.redis.published)

    in_a_loop(check)


def test_control_without_replay_a_late_client_knows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    script: list[Step] = [("end", 0, 0), ("connect", 0, 0)]
    in_a_loop(lambda: check_that_everybody_is_current(script))
    monkeypatch.setattr(Channel, "replay", nothing)

    def check() -> None:
        assert play(script).clients[0].last() == {}

    in_a_loop(check)


def test_control_a_replay_that_is_cut_short_and_not_continued_loses_events(monkeypatch: pytest.MonkeyPatch) -> None:
    script: list[Step] = [
        ("end", 0, 0),
        ("end", 1, 0),
        ("end", 2, 0),
        ("connect", 0, 0),
        ("fill", 0, 1),
        ("read", 0, 9),
    ]
    script.append(("progress", 0, 0))
    assert PIECES[len(script) % len(PIECES)] == 1
    in_a_loop(lambda: check_that_everybody_is_current(script))
    monkeypatch.setattr(session.Session, "_go_on", lambda *_: None)

    def check() -> None:
        stage = play(script)
        assert len(stage.clients[0].last()) < len(dict(stage.redis.published))

    in_a_loop(check)


def test_a_plain_publish_reaches_a_slow_client_when_it_reads_again() -> None:
    def check() -> None:
        stage = play([*SLOW[:-2], ("raw", 0, 0), ("read", 0, 9)], raw=True)
        assert stage.clients[0].last()["a"] == stage.redis.published[-1][1]

    in_a_loop(check)


# The job begins anew while the state before that is read in slices: its sentences are dropped.
WHILE_READ: list[Step] = [
    *[said(sentence, "progress") for sentence in (None, "s", "t")],
    ("connect", 0, SLICED),
    ("read", SLICED, 1),
    ("slice", SLICED, 1),
    said(None, "begin"),
    said(None, "progress"),
    said("s", "end"),
    ("read", SLICED, 9),
    ("slice", SLICED, 1),
]


def check_what_the_sliced_replica_knows() -> None:
    stage = play(WHILE_READ)
    assert dict(pictures(stage))[f"replica {SLICED}"] == stage.redis.picture()


def test_what_arrives_while_a_state_is_read_comes_after_it() -> None:
    in_a_loop(check_what_the_sliced_replica_knows)


@pytest.mark.parametrize("is_lost", [True, False], ids=["lost", "taken as if it were before the state"])
def test_control_what_arrives_while_a_state_is_read_must_be_kept(
    is_lost: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_events(hub: Hub, events: dict[bytes, list[bytes]]) -> None:
        for redis_channel, arrived in events.items():
            project = hub._projects[redis_channel]
            if project.reading is None:
                hub._deliver(project, arrived)
            elif not is_lost:
                project.channel.receive(arrived)

    monkeypatch.setattr(Hub, "on_events", on_events)
    with pytest.raises(AssertionError):
        in_a_loop(check_what_the_sliced_replica_knows)
