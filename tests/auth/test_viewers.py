"""What a client may watch, on a fake feed and socket: held subscribes, refreshes, expiry, revocation."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth.authority import Authority, Verdict
from gateway.auth.grant import Grant, scope
from gateway.auth.key_sources import FileSource
from gateway.auth.keys import secret_keys
from gateway.auth.tokens import Rules
from gateway.clients.access import Access
from gateway.clients.keepalive import Keepalive
from gateway.clients.session import Session
from gateway.codes import CloseCode
from gateway.projects.hub import Hub
from gateway.settings import Settings
from publisher.tokens import mint
from tests.auth.keys import OLD_SECRET, SECRET
from tests.fakes import FakeClient, FakeFeed, lose, progress


@pytest.fixture(autouse=True)
async def _in_a_loop() -> None:
    """The hub's linger is a timer of the loop; nothing here waits for it."""


def token(*projects: str, sub: str | None = "user_1", seconds: float = 600, secret: str = SECRET) -> str:
    return mint(projects, sub=sub, seconds=seconds, secret=secret)


class Stage:
    """A live hub that asks for tokens."""

    def __init__(self, *anonymous: str, **settings: Any) -> None:
        source = FileSource(secret_keys([SECRET]), None, lambda path: secret_keys([SECRET]))
        self.authority = Authority(source, Rules(86_400), anonymous=scope(anonymous))
        self.feed = FakeFeed()
        self.hub = Hub(Settings(**settings), lambda hub: self.feed, self.authority)
        self.hub.on_live()
        self.keepalive = Keepalive(self.hub)

    def client(self, grant: Grant | None = None) -> FakeClient:
        client = FakeClient(self.hub)
        if grant is not None:
            client.session.on_close()
            client.session = client.socket.session = Session(self.hub, client.socket, grant)
        return client

    def load(self, *projects: str) -> None:
        for project in projects:
            self.hub.on_loaded(f"project:{project}", {})

    def pass_time(self, seconds: float) -> None:
        self.keepalive.check_access(list(self.hub.viewers), time.time() + seconds)


def closed(client: FakeClient) -> tuple[int, str] | None:
    code = client.socket.closed_with
    return None if code is None else (code, client.socket.close_reason)


def short(client: FakeClient) -> list[str]:
    """What the client was told, each message in a word or two."""
    return [
        " ".join(str(message[name]) for name in ("type", "code", "projectId") if name in message)
        for message in client.told()
    ]


# The first token


async def test_a_token_by_message_is_answered_with_its_life() -> None:
    client = Stage().client()
    client.told()
    client.say("auth", token=token("a", seconds=60))
    [answer] = client.told()
    assert answer["type"] == "authorised"
    assert 50_000 < answer["expiresIn"] <= 60_000


async def test_a_token_of_the_handshake_is_told_with_connected() -> None:
    stage = Stage()
    client = stage.client(Grant("user_1", int(time.time()) + 60, None, scope(["a"])))
    _, connected = client.told()
    assert 50_000 < connected["expiresIn"] <= 60_000


async def test_without_a_token_nothing_is_said_of_when_it_expires() -> None:
    [connected] = Stage().client().told()
    assert connected.keys() == {"type", "clientId"}


async def test_a_subscribe_before_the_first_token_is_answered_after_it_in_order() -> None:
    stage = Stage()
    client = stage.client()
    for project in ("a", "b", "c"):
        client.subscribe(project)
    assert short(client) == ["connected"]
    assert stage.feed.asked == []  # Redis is not asked either
    client.say("unsubscribe", projectId="b")
    client.say("auth", token=token("a", "b"))
    stage.load("a")
    assert short(client) == ["unsubscribed b", "authorised", "error forbidden c", "subscribed a"]


async def test_a_thousand_without_a_token_see_nothing_and_ask_redis_for_nothing() -> None:
    stage = Stage()
    clients = [stage.client() for _ in range(1_000)]
    for client in clients:
        client.subscribe("a")
    stage.hub.on_events({b"project:a": [progress("j", 5, 5)]})
    assert [short(client) for client in clients] == [["connected"]] * 1_000
    assert (stage.feed.asked, stage.hub.projects) == ([], 0)
    stage.pass_time(6)
    assert {closed(client) for client in clients} == {(CloseCode.NOT_AUTHORISED, "no token")}
    assert not stage.hub.viewers


async def test_what_may_be_held_is_bounded() -> None:
    stage = Stage(max_projects=3)
    client = stage.client()
    for number in range(5):
        client.subscribe(f"p{number}")
    assert short(client) == ["connected", "error rate_limited p3", "error rate_limited p4"]


async def test_a_project_outside_the_token_is_forbidden_and_the_connection_stays() -> None:
    stage = Stage()
    client = stage.client()
    client.say("auth", token=token("a"))
    client.told()
    for _ in range(30):
        client.subscribe("b")
    assert short(client) == ["error forbidden b"] * 30
    assert closed(client) is None
    assert stage.feed.asked == []


async def test_a_bad_token_ends_the_connection() -> None:
    for given_token in ("", "x", token("a", secret=OLD_SECRET), "a" * 4_097):
        client = Stage().client()
        client.say("auth", token=given_token)
        assert closed(client) == (CloseCode.NOT_AUTHORISED, "bad token")


@pytest.mark.parametrize("fields", [{}, {"token": 5}, {"token": None}, {"token": ["x"]}])
async def test_a_message_without_a_token_is_a_bad_message(fields: dict[str, Any]) -> None:
    client = Stage().client()
    client.say("auth", **fields)
    assert short(client) == ["connected", "error bad_message"]
    assert closed(client) is None


async def test_without_a_token_in_time_the_connection_ends() -> None:
    stage = Stage(auth_seconds=5)
    client = stage.client()
    client.subscribe("a")
    stage.pass_time(4)
    assert closed(client) is None
    stage.pass_time(5.1)
    assert closed(client) == (CloseCode.NOT_AUTHORISED, "no token")
    assert short(client) == ["connected"]
    assert stage.authority.results["no_token"] == 1


async def test_where_nobody_asks_a_token_is_accepted_unseen() -> None:
    hub = Hub(Settings(), lambda hub: FakeFeed())
    client = FakeClient(hub)
    client.told()
    client.say("auth", token="whatever")
    assert client.told() == [{"type": "authorised", "expiresIn": 86_400_000}]


# Anonymous projects


async def test_a_project_that_needs_no_token_is_served_at_once_and_keeps_its_connection() -> None:
    stage = Stage("demo", "public_*")
    client = stage.client()
    for project in ("demo", "public_1", "private"):
        client.subscribe(project)
    stage.load("demo", "public_1")
    assert short(client) == ["connected", "subscribed demo", "subscribed public_1"]
    stage.pass_time(10)
    assert closed(client) is None
    assert short(client) == ["error forbidden private"]
    client.subscribe("private")
    assert short(client) == ["error forbidden private"]
    client.say("auth", token=token("private"))
    client.subscribe("private")
    stage.load("private")
    assert short(client) == ["authorised", "subscribed private"]


async def test_an_idle_connection_without_a_token_ends_also_where_some_projects_need_none() -> None:
    stage = Stage("demo")
    client = stage.client()
    stage.pass_time(10)
    assert closed(client) == (CloseCode.NOT_AUTHORISED, "no token")


# Refresh


async def test_a_refresh_extends_the_life_and_keeps_what_is_watched() -> None:
    stage = Stage()
    client = stage.client()
    client.say("auth", token=token("a", seconds=5))
    client.subscribe("a")
    stage.load("a")
    client.told()
    client.say("auth", token=token("a", seconds=600))
    assert short(client) == ["authorised"]
    stage.pass_time(60)
    assert closed(client) is None
    stage.hub.on_events({b"project:a": [progress("j", 5, 5)]})
    assert client.kinds() == ["progress"]


async def test_a_refresh_that_narrows_ends_what_it_does_not_cover() -> None:
    stage = Stage()
    client = stage.client()
    client.say("auth", token=token("a", "b"))
    client.subscribe("a")
    client.subscribe("b")
    stage.load("a", "b")
    client.told()
    client.say("auth", token=token("b"))
    assert short(client) == ["authorised", "error forbidden a"]
    stage.hub.on_events({b"project:a": [progress("j", 5, 5)], b"project:b": [progress("j", 5, 5)]})
    assert [message["projectId"] for message in client.told()] == ["b"]


@pytest.mark.parametrize(("before", "after"), [("user_1", "user_2"), ("user_1", None), (None, "user_1")])
async def test_a_refresh_of_another_user_ends_the_connection(before: str | None, after: str | None) -> None:
    client = Stage().client()
    client.say("auth", token=token("a", sub=before))
    client.say("auth", token=token("a", sub=after))
    assert closed(client) == (CloseCode.NOT_AUTHORISED, "another user")


async def test_a_bad_refresh_ends_the_connection() -> None:
    client = Stage().client()
    client.say("auth", token=token("a"))
    client.say("auth", token=token("a", secret=OLD_SECRET))
    assert closed(client) == (CloseCode.NOT_AUTHORISED, "bad token")


async def test_tokens_by_message_count_as_subscribes_do() -> None:
    client = Stage(subscribe_burst=2, subscribe_rate=0.001).client()
    for _ in range(3):
        client.say("auth", token=token("a"))
    assert short(client) == ["connected", "authorised", "authorised", "error rate_limited"]


# The end


async def test_a_connection_ends_when_its_token_expires_also_behind_and_stale() -> None:
    stage = Stage()
    clients = [stage.client() for _ in range(3)]
    for client in clients:
        client.say("auth", token=token("a", seconds=60))
        client.subscribe("a")
    stage.load("a")
    clients[1].socket.fill(1)
    clients[1].say("ping")
    assert clients[1].socket.is_behind
    lose(stage.hub)
    stage.hub.is_draining = True
    stage.pass_time(58)
    assert [closed(client) for client in clients] == [None] * 3
    stage.pass_time(61)
    assert [closed(client) for client in clients] == [(CloseCode.NOT_AUTHORISED, "token expired")] * 3
    assert stage.authority.results["token_expired"] == 3


async def test_a_revocation_ends_the_connections_of_its_user_alone() -> None:
    stage = Stage()
    clients = [stage.client() for _ in range(3)]
    for client, sub in zip(clients, ("user_1", "user_2", None), strict=True):
        client.say("auth", token=token("a", sub=sub))
    at = int((time.time() + 1) * 1_000_000)
    stage.hub.on_events({b"project:~revoked": [f"{at} user_1".encode(), b"nonsense"]})
    assert [closed(client) for client in clients] == [(CloseCode.NOT_AUTHORISED, "token revoked"), None, None]
    late = stage.client()
    late.say("auth", token=token("a"))
    assert closed(late) == (CloseCode.NOT_AUTHORISED, "token revoked")


async def test_revocations_that_redis_remembers_count_when_they_are_loaded() -> None:
    stage = Stage()
    stage.hub.watch_revocations()
    assert stage.feed.asked == [("subscribe", "project:~revoked")]
    client = stage.client()
    client.say("auth", token=token("a"))
    stage.hub.on_loaded("project:~revoked", {b"user_1": str(int((time.time() + 1) * 1_000_000)).encode()})
    assert closed(client) == (CloseCode.NOT_AUTHORISED, "token revoked")


async def test_what_redis_has_lost_of_revocations_is_told() -> None:
    stage = Stage()
    lost: list[dict[str, int]] = []
    stage.authority.restore = lambda missing: lost.append(dict(missing))
    at = int(time.time() * 1_000_000)
    stage.hub.on_events({b"project:~revoked": [f"{at} user_1".encode()]})
    stage.hub.on_loaded("project:~revoked", {})
    assert lost == [{"user_1": at}]


async def test_no_project_id_can_reach_the_revocations() -> None:
    stage = Stage("*")
    client = stage.client()
    client.subscribe("~revoked")
    assert short(client) == ["connected", "error bad_project_id"]


# A verdict that comes late, because the keys have to be fetched first


class SlowAuthority(Authority):
    """Keeps each token until the test decides on it."""

    def __init__(self) -> None:
        source = FileSource(secret_keys([SECRET]), None, lambda path: secret_keys([SECRET]))
        super().__init__(source, Rules(86_400))
        self.pending: list[tuple[str, Callable[[Verdict], None]]] = []

    def decide(self, token: str, then: Callable[[Verdict], None], *, may_wait: bool = True) -> None:
        self.pending.append((token, then))

    def go_on(self) -> None:
        given, then = self.pending.pop(0)
        super().decide(given, then)


def slow_stage() -> tuple[Stage, SlowAuthority]:
    stage = Stage()
    stage.hub.authority = stage.authority = slow = SlowAuthority()
    return stage, slow


async def test_of_two_tokens_on_their_way_the_last_one_counts() -> None:
    stage, slow = slow_stage()
    client = stage.client()
    client.say("auth", token=token("a", secret=OLD_SECRET))
    client.say("auth", token=token("b"))
    client.subscribe("b")
    client.subscribe("a")
    slow.go_on()
    assert (short(client), closed(client)) == (["connected"], None)
    slow.go_on()
    stage.load("b")
    assert short(client) == ["connected", "authorised", "error forbidden a", "subscribed b"][1:]


async def test_a_client_is_not_sent_away_while_its_first_token_is_looked_at() -> None:
    stage, slow = slow_stage()
    client = stage.client()
    client.say("auth", token=token("a"))
    stage.pass_time(6)
    assert closed(client) is None
    slow.go_on()
    assert short(client) == ["connected", "authorised"]


async def test_a_verdict_on_a_client_that_has_left_is_dropped() -> None:
    stage, slow = slow_stage()
    client = stage.client()
    client.say("auth", token=token("a"))
    client.subscribe("a")
    client.socket.close(1000)
    slow.go_on()
    assert short(client) == ["connected"]
    assert stage.feed.asked == []


# Any order

PROJECTS = ("a", "b", "c")
STEPS = st.one_of(
    st.tuples(st.just("subscribe"), st.sampled_from(PROJECTS)),
    st.tuples(st.just("unsubscribe"), st.sampled_from(PROJECTS)),
    st.tuples(st.just("auth"), st.sets(st.sampled_from(PROJECTS), min_size=1).map(sorted)),
    st.tuples(st.just("load"), st.sampled_from(PROJECTS)),
    st.tuples(st.just("event"), st.sampled_from(PROJECTS)),
    st.tuples(st.just("fill"), st.none()),
    st.tuples(st.just("drain"), st.none()),
    st.tuples(st.just("late"), st.none()),
)


@given(st.lists(STEPS, max_size=25), st.sampled_from([(), ("c",)]))
def test_nothing_of_a_project_is_said_before_it_is_allowed_in_any_order(
    steps: list[tuple[str, Any]], anonymous: tuple[str, ...]
) -> None:
    asyncio.run(play(steps, anonymous))


async def play(steps: list[tuple[str, Any]], anonymous: tuple[str, ...]) -> None:
    stage = Stage(*anonymous)
    client = stage.client()
    allowed: set[str] = set(anonymous)
    seq = 0
    for step, value in steps:
        if client.socket.closed_with is not None:
            break
        if step in ("subscribe", "unsubscribe"):
            client.say(step, projectId=value)
        elif step == "auth":
            before = len(client.socket.written)
            client.say("auth", token=token(*value))
            allowed = {*value, *anonymous}
            check(client.socket.written[before:], allowed)
        elif step == "load":
            stage.load(value)
        elif step == "event":
            seq += 1
            stage.hub.on_events({f"project:{value}".encode(): [progress("j", seq % 100, seq)]})
        elif step == "fill":
            client.socket.fill(1)
        elif step == "drain":
            client.socket.drain()
        else:
            stage.pass_time(6)
        check(client.told(), allowed)


def check(told: list[dict[str, Any]], allowed: set[str]) -> None:
    """Only what is allowed at this moment is told of; a refusal and a goodbye say nothing."""
    for message in told:
        if message["type"] in ("subscribed", "progress"):
            assert message["projectId"] in allowed, (message, allowed)


def test_control_without_the_check_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Access, "covers", lambda self, project_id: True)
    with pytest.raises(AssertionError):
        asyncio.run(play([("subscribe", "a"), ("load", "a")], ()))
