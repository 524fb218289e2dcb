"""The one idea, played in every order: whatever happens between, each client ends with each job's last event.

Hypothesis makes the orders: events (of jobs that end and begin again), reads of the feed in pieces, loads under way,
sockets that fill and drain, clients that come, leave and resume on either of two replicas, a feed that is lost and
returns. The two controls at the end show that the property is lost where the catch-up is taken away.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.channel import Channel
from tests.simulation import Client, SimulatedRedis, in_a_loop, names, new_replica

EXAMPLES = settings().max_examples  # few, or with `make soak` many: tests/conftest.py
JOBS = "abc"
CLIENTS = range(3)
REPLICAS = range(2)

Step = tuple[str, int, int]
step = st.one_of(
    st.tuples(st.sampled_from(["progress", "progress", "end", "raw"]), st.integers(0, len(JOBS) - 1), st.just(0)),
    st.tuples(st.just("read"), st.sampled_from(REPLICAS), st.integers(1, 5)),
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


class Play:
    """Plays steps on two replicas and three clients."""

    def __init__(self, *, raw: bool) -> None:
        self.raw = raw
        self.redis = SimulatedRedis()
        self.replicas = [new_replica(self.redis) for _ in REPLICAS]
        self.clients = [Client() for _ in CLIENTS]
        self.names = names()
        # How many events were published when a client began: from then on `recovered` is a promise to it.
        self.began_at: dict[Client, int] = {}
        for _, feed in self.replicas:
            feed.connect()
            feed.read(1)

    def step(self, kind: str, who: int, how: int) -> None:
        if kind in ("progress", "end", "raw"):
            raw = kind == "raw"
            what = f"{'progress' if raw else kind} {next(self.names)}"
            self.redis.publish(JOBS[who], what, raw=raw and self.raw)
        elif kind == "read":
            self.replicas[who][1].read(how)
        elif kind == "lose":
            self.replicas[who][1].lose()
        elif kind == "restore":
            self.replicas[who][1].connect()
        elif kind == "flush":
            self.redis.flush()
        else:
            self.client_step(kind, self.clients[who], how)

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


def play(script: list[Step], *, raw: bool = False) -> Play:
    stage = Play(raw=raw)
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


def nothing(*_: object) -> bytes:
    return b""


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


def test_a_plain_publish_reaches_a_slow_client_when_it_reads_again() -> None:
    def check() -> None:
        stage = play([*SLOW[:-2], ("raw", 0, 0), ("read", 0, 9)], raw=True)
        assert stage.clients[0].last()["a"] == stage.redis.published[-1][1]

    in_a_loop(check)
