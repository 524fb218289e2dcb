"""One client's conversation on a fake socket and a fake feed: what it may, what it is told, how it is forgotten."""

import gc
import time
import weakref

import pytest

from gateway.clients import session
from gateway.clients.rate_limit import ReplayAllowance
from gateway.clients.session import Session
from gateway.codes import CloseCode
from gateway.projects import last_events
from gateway.projects.refusals import FIRST_SECONDS
from gateway.settings import Settings
from tests.fakes import FakeClient, lose, new_hub, progress, state
from tests.simulation import SimulatedSocket

CHANNEL = "project:p"
NAME = b"project:p"


@pytest.fixture(autouse=True)
async def _in_a_loop() -> None:
    """The hub's linger is a timer of the loop; nothing here waits for it."""


class Stage:
    """A live hub and one client."""

    def __init__(self, **settings: object) -> None:
        self.hub, self.feed = new_hub(**settings)
        self.client = FakeClient(self.hub)
        self.session = self.client.session
        self.socket = self.client.socket

    def watching(self, *events: bytes) -> "Stage":
        """The client watches `p`, of which these events are remembered, and has read everything."""
        self.client.subscribe("p")
        self.hub.on_loaded(CHANNEL, state(*events) if events else {})
        self.client.told()
        return self

    def fill(self) -> None:
        """The socket is full, by an answer that just fitted."""
        self.socket.fill(1)
        self.client.say("ping")
        assert self.socket.is_behind
        self.client.told()


# The first words


async def test_a_client_is_told_its_id_first() -> None:
    stage = Stage()
    assert stage.client.told() == [{"type": "connected", "clientId": stage.session.client_id}]


async def test_no_two_clients_have_one_id() -> None:
    hub, _ = new_hub()
    clients = [FakeClient(hub).session for _ in range(50)]
    assert len({client.client_id for client in clients}) == 50


async def test_a_client_that_comes_while_the_feed_is_lost_is_told_so() -> None:
    hub, _ = new_hub()
    lose(hub)
    assert FakeClient(hub).kinds() == ["connected", "stale"]


async def test_a_ping_is_answered() -> None:
    stage = Stage()
    stage.client.told()
    stage.client.say("ping")
    assert stage.client.told() == [{"type": "pong"}]


# Subscribe


async def test_subscribed_waits_until_the_state_is_loaded() -> None:
    stage = Stage()
    stage.client.told()
    stage.client.subscribe("p")
    assert stage.feed.asked == [("subscribe", CHANNEL)]
    assert stage.client.told() == []
    stage.hub.on_loaded(CHANNEL, {})
    assert stage.client.told() == [{"type": "subscribed", "projectId": "p", "seq": 0, "recovered": True}]


async def test_what_is_remembered_follows_subscribed_in_the_order_of_seq() -> None:
    stage = Stage()
    stage.client.told()
    stage.client.subscribe("p")
    stage.hub.on_loaded(CHANNEL, state(progress("b", 2, 12), progress("a", 1, 11), progress("c", 3, 13)))
    subscribed, *events = stage.client.told()
    assert subscribed["seq"] == 13
    assert [event["seq"] for event in events] == [11, 12, 13]
    assert all(event["projectId"] == "p" for event in events)


async def test_an_event_that_comes_while_the_state_loads_follows_it() -> None:
    stage = Stage()
    stage.client.subscribe("p")
    stage.hub.on_events({NAME: [progress("a", 50, 15)]})
    assert stage.client.kinds() == ["connected"]
    stage.hub.on_loaded(CHANNEL, state(progress("a", 10, 11), progress("b", 1, 12)))
    subscribed, *events = stage.client.told()
    assert subscribed["seq"] == 15
    assert [(event["jobId"], event["progress"]) for event in events] == [("b", 1), ("a", 50)]


async def test_the_second_client_is_served_from_memory_in_one_step() -> None:
    stage = Stage().watching(progress("a", 1, 11))
    second = FakeClient(stage.hub)
    second.subscribe("p")
    assert second.kinds() == ["connected", "subscribed", "progress"]
    assert stage.feed.asked == [("subscribe", CHANNEL)]


async def test_live_events_reach_every_client_of_the_project_and_no_other() -> None:
    stage = Stage().watching()
    second, stranger = FakeClient(stage.hub), FakeClient(stage.hub)
    second.subscribe("p")
    stranger.subscribe("q")
    stage.hub.on_loaded("project:q", {})
    for client in (second, stranger):
        client.told()
    stage.hub.on_events({NAME: [progress("a", 1, 21), progress("a", 2, 22)]})
    assert [event["seq"] for event in stage.client.told()] == [21, 22]
    assert [event["seq"] for event in second.told()] == [21, 22]
    assert stranger.told() == []


async def test_since_brings_only_what_is_newer() -> None:
    stage = Stage().watching(progress("a", 1, 11), progress("b", 1, 12), progress("c", 1, 13))
    second = FakeClient(stage.hub)
    second.subscribe("p", since=12)
    _, subscribed, *events = second.told()
    assert subscribed == {"type": "subscribed", "projectId": "p", "seq": 13, "recovered": True}
    assert [event["jobId"] for event in events] == ["c"]


async def test_a_cursor_from_before_what_is_remembered_is_not_recovered() -> None:
    stage = Stage()
    stage.client.subscribe("p", since=5)
    stage.hub.on_loaded(CHANNEL, state(progress("a", 1, 11), beginning=10))
    _, subscribed, event = stage.client.told()
    assert subscribed["recovered"] is False
    assert event["seq"] == 11


async def test_subscribing_again_answers_again_from_the_new_cursor_and_doubles_no_event() -> None:
    stage = Stage().watching(progress("a", 1, 11), progress("b", 1, 12))
    stage.client.subscribe("p", since=11)
    assert stage.client.kinds() == ["subscribed", "progress"]
    stage.hub.on_events({NAME: [progress("a", 2, 21)]})
    assert stage.client.kinds() == ["progress"]


async def test_subscribing_twice_before_the_state_is_there_is_answered_twice_and_replayed_once() -> None:
    stage = Stage()
    stage.client.told()
    stage.client.subscribe("p")
    stage.client.subscribe("p", since=11)
    stage.hub.on_loaded(CHANNEL, state(progress("a", 1, 11), progress("b", 1, 12)))
    told = [message.get("jobId", message["type"]) for message in stage.client.told()]
    assert told == ["subscribed", "subscribed", "a", "b"]


async def test_a_client_that_goes_on_subscribing_while_redis_is_away_cannot_make_answers_pile_up() -> None:
    """Nothing bounds how long Redis is away, and each answer would be all that is remembered, in one write."""
    stage = Stage(subscribe_burst=500)
    for _ in range(500):
        stage.client.subscribe("p")
    pieces: list[bytes] = []
    stage.socket.write = pieces.append  # type: ignore[method-assign, assignment]
    remembered = state(*(progress(f"job_{number}", 1, 11 + number) for number in range(100)))
    once = sum(map(len, remembered.values()))
    stage.hub.on_loaded(CHANNEL, remembered)
    assert sum(map(len, pieces)) < 20 * once + 500 * 100


async def test_a_cursor_ahead_of_this_replica_waits_for_a_round_trip_to_redis() -> None:
    """Another replica gave it, whose feed is a moment ahead; what it saw is on its way here."""
    stage = Stage().watching(progress("a", 1, 11))
    second = FakeClient(stage.hub)
    second.subscribe("p", since=12)
    assert second.kinds() == ["connected"]
    stage.hub.on_events({NAME: [progress("a", 2, 12)]})
    stage.feed.round_trips.pop()()
    assert second.told() == [{"type": "subscribed", "projectId": "p", "seq": 12, "recovered": True}]


async def test_a_cursor_that_was_never_given_is_told_so_after_the_round_trip() -> None:
    stage = Stage().watching(progress("a", 1, 11))
    stage.client.subscribe("p", since=99)
    stage.feed.round_trips.pop()()
    subscribed, event = stage.client.told()
    assert subscribed["recovered"] is False
    assert event["seq"] == 11


async def test_a_client_that_left_during_the_round_trip_is_not_told() -> None:
    stage = Stage().watching(progress("a", 1, 11))
    stage.client.subscribe("p", since=99)
    stage.client.say("unsubscribe", projectId="p")
    stage.feed.round_trips.pop()()
    assert stage.client.kinds() == ["unsubscribed"]


async def test_a_round_trip_that_ends_after_the_socket_was_full_and_drained_begins_the_project_once() -> None:
    """A KeyError here would end the feed for everybody: it is raised in the feed's data_received."""
    stage = Stage().watching(progress("a", 1, 11))
    stage.client.subscribe("p", since=99)
    stage.fill()
    stage.socket.drain()
    for then in stage.feed.round_trips:
        then()
    assert stage.client.kinds() == ["subscribed", "progress"]


async def test_a_feed_lost_after_the_socket_was_full_and_drained_during_a_round_trip_is_survived() -> None:
    stage = Stage().watching(progress("a", 1, 11))
    stage.client.subscribe("p", since=99)
    stage.fill()
    stage.socket.drain()
    lose(stage.hub)
    stage.hub.on_loaded(CHANNEL, state(progress("a", 1, 11)))
    for then in stage.feed.round_trips:
        then()
    assert stage.client.kinds().count("subscribed") == 1


async def test_the_rate_of_subscribes_is_said_with_all_its_digits() -> None:
    stage = Stage(subscribe_burst=1, subscribe_rate=0.01234567891)
    stage.client.told()
    stage.client.subscribe("p")
    stage.client.subscribe("q")
    (limited,) = [message for message in stage.client.told() if message["type"] == "error"]
    assert "At most 0.01234567891 subscribes a second" in limited["message"]


async def test_while_redis_is_away_a_project_is_asked_for_a_bounded_number_of_times() -> None:
    stage = Stage(subscribe_burst=3, subscribe_rate=1_000_000)
    stage.client.told()
    for since in range(5):
        stage.client.subscribe("p", since=since)
    assert [(message["code"], message["projectId"]) for message in stage.client.told()] == [("rate_limited", "p")] * 2
    stage.hub.on_loaded(CHANNEL, state(progress("a", 1, 11)))
    assert stage.client.kinds() == ["subscribed"] * 3 + ["progress"]


async def test_a_round_trip_that_ends_while_the_socket_is_full_begins_the_project_after_the_drain() -> None:
    stage = Stage().watching(progress("a", 1, 11))
    stage.client.subscribe("p", since=12)
    stage.fill()
    stage.hub.on_events({NAME: [progress("a", 2, 12)]})
    stage.feed.round_trips.pop()()
    assert stage.client.told() == []
    stage.socket.drain()
    event, subscribed = stage.client.told()  # it watched already, so the event is its own catch-up
    assert event["seq"] == 12
    assert subscribed == {"type": "subscribed", "projectId": "p", "seq": 12, "recovered": True}


# Unsubscribe


async def test_after_unsubscribe_no_event_comes() -> None:
    stage = Stage().watching()
    stage.client.say("unsubscribe", projectId="p")
    stage.hub.on_events({NAME: [progress("a", 1, 21)]})
    assert stage.client.told() == [{"type": "unsubscribed", "projectId": "p"}]


async def test_unsubscribing_from_what_is_not_watched_is_answered() -> None:
    stage = Stage()
    stage.client.told()
    stage.client.say("unsubscribe", projectId="never")
    assert stage.client.told() == [{"type": "unsubscribed", "projectId": "never"}]
    assert stage.feed.asked == []


async def test_a_client_that_unsubscribes_before_the_state_is_there_is_not_told_subscribed() -> None:
    stage = Stage()
    stage.client.subscribe("p")
    stage.client.say("unsubscribe", projectId="p")
    stage.hub.on_loaded(CHANNEL, state(progress("a", 1, 11)))
    assert stage.client.kinds() == ["connected", "unsubscribed"]


# Limits and bad messages


async def test_a_bad_message_is_answered_and_costs_nothing_else() -> None:
    stage = Stage().watching()
    stage.session.on_text(b"{")
    error = stage.client.told()[0]
    assert (error["type"], error["code"]) == ("error", "not_json")
    stage.hub.on_events({NAME: [progress("a", 1, 21)]})
    assert stage.client.kinds() == ["progress"]


async def test_a_binary_message_is_answered() -> None:
    stage = Stage()
    stage.client.told()
    stage.session.on_binary()
    assert [message["code"] for message in stage.client.told()] == ["not_text"]


async def test_as_many_bad_messages_in_a_row_as_the_limit_end_the_connection() -> None:
    stage = Stage(max_bad_messages=3)
    stage.session.on_text(b"{")
    stage.session.on_binary()
    assert stage.socket.closed_with is None
    stage.client.subscribe("no project id")
    assert stage.socket.closed_with == CloseCode.TOO_MANY_BAD_MESSAGES
    assert stage.client.kinds() == ["connected", "error", "error", "error"]


async def test_a_good_message_in_between_begins_the_count_anew() -> None:
    stage = Stage(max_bad_messages=2)
    for _ in range(5):
        stage.session.on_text(b"{")
        stage.client.say("ping")
    assert stage.socket.closed_with is None


async def test_subscribing_too_fast_is_refused_and_does_not_end_the_connection() -> None:
    stage = Stage(subscribe_burst=5, subscribe_rate=0.001, max_bad_messages=2)
    stage.client.told()
    for number in range(10):
        stage.client.subscribe("p", since=number)
    errors = stage.client.told()
    assert [(error["code"], error["projectId"]) for error in errors] == [("rate_limited", "p")] * 5
    assert stage.socket.closed_with is None


async def test_more_projects_than_the_limit_are_refused_until_one_is_left() -> None:
    stage = Stage(max_projects=2)
    stage.client.told()
    stage.client.subscribe("p")
    stage.client.subscribe("q")
    stage.client.subscribe("p")
    stage.client.subscribe("r")
    assert [(error["code"], error["projectId"]) for error in stage.client.told()] == [("too_many_projects", "r")]
    stage.client.say("unsubscribe", projectId="q")
    stage.client.subscribe("r")
    assert stage.client.kinds() == ["unsubscribed"]
    assert ("subscribe", "project:r") in stage.feed.asked


# Refused by Redis


async def test_a_refused_project_is_told_as_unavailable_and_can_be_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = Stage()
    stage.client.told()
    stage.client.subscribe("p")
    stage.hub.on_refused(CHANNEL)
    assert [(message["code"], message["projectId"]) for message in stage.client.told()] == [("unavailable", "p")]
    asked = list(stage.feed.asked)
    stage.client.subscribe("p")
    assert [(message["code"], message["projectId"]) for message in stage.client.told()] == [("unavailable", "p")]
    assert stage.feed.asked == asked
    now = time.monotonic() + FIRST_SECONDS
    monkeypatch.setattr(time, "monotonic", lambda: now)
    stage.client.subscribe("p")
    assert stage.feed.asked[-1] == ("subscribe", CHANNEL)
    stage.hub.on_loaded(CHANNEL, {})
    assert stage.client.kinds() == ["subscribed"]


async def test_a_project_refused_after_the_feed_came_back_is_told_to_its_viewers_once() -> None:
    stage = Stage().watching()
    lose(stage.hub)
    stage.client.subscribe("p")
    stage.client.told()
    stage.hub.on_refused(CHANNEL)
    assert stage.client.kinds() == ["error"]


# Stale and live


async def test_a_lost_feed_and_its_return_are_told_once_each() -> None:
    stage = Stage()
    stage.client.told()
    lose(stage.hub)
    lose(stage.hub)
    assert stage.client.kinds() == ["stale"]
    stage.hub.on_live()
    stage.hub.on_live()
    assert stage.client.kinds() == ["live"]


async def test_all_that_was_missed_comes_before_live() -> None:
    stage = Stage().watching(progress("a", 1, 11))
    lose(stage.hub)
    stage.hub.on_loaded(CHANNEL, state(progress("a", 1, 11), progress("b", 5, 12)))
    stage.hub.on_live()
    assert [message.get("jobId", message["type"]) for message in stage.client.told()] == ["stale", "b", "live"]


async def test_one_that_was_behind_for_the_whole_loss_is_told_neither() -> None:
    stage = Stage().watching(progress("a", 1, 11))
    stage.fill()
    lose(stage.hub)
    stage.hub.on_loaded(CHANNEL, state(progress("a", 2, 12)))
    stage.hub.on_live()
    assert stage.client.told() == []
    stage.socket.drain()
    assert [message["type"] for message in stage.client.told()] == ["progress"]


async def test_one_that_fell_behind_during_the_loss_is_told_live_after_it_caught_up() -> None:
    stage = Stage().watching(progress("a", 1, 11))
    lose(stage.hub)
    stage.fill()
    stage.hub.on_loaded(CHANNEL, state(progress("a", 2, 12)))
    stage.hub.on_live()
    assert stage.client.told() == []
    stage.socket.drain()
    assert stage.client.kinds() == ["progress", "live"]


async def test_one_that_drains_while_the_feed_is_lost_is_told_stale_then() -> None:
    stage = Stage()
    stage.fill()
    lose(stage.hub)
    stage.socket.drain()
    assert stage.client.kinds() == ["stale"]


# Behind


async def test_one_that_is_behind_gets_each_jobs_last_event_when_it_reads_again() -> None:
    stage = Stage().watching()
    stage.fill()
    for seq in range(21, 41):
        stage.hub.on_events({NAME: [progress(f"job_{seq % 2}", seq, seq)]})
    assert stage.client.told() == []
    stage.socket.drain()
    assert [event["seq"] for event in stage.client.told()] == [39, 40]
    stage.hub.on_events({NAME: [progress("job_0", 99, 50)]})
    assert [event["seq"] for event in stage.client.told()] == [50]


async def test_nothing_that_was_read_already_comes_again_with_the_catch_up() -> None:
    stage = Stage().watching(progress("a", 1, 11))
    stage.fill()
    stage.socket.drain()
    assert stage.client.told() == []


async def test_a_socket_that_fills_again_while_it_catches_up_goes_on_later_with_the_rest() -> None:
    stage = Stage()
    for project in "pqr":
        stage.client.subscribe(project)
        stage.hub.on_loaded(f"project:{project}", {})
    stage.fill()
    for project in "pqr":
        stage.hub.on_events({f"project:{project}".encode(): [progress(project, 1, 21)]})
    got: list[str] = []
    for _ in range(3):
        stage.socket.capacity = 1
        stage.socket.is_behind = False
        stage.session.on_writable()
        got += [event["jobId"] for event in stage.client.told()]
        assert stage.socket.is_behind
    assert sorted(got) == ["p", "q", "r"]
    stage.socket.drain()
    assert stage.client.told() == []


async def test_how_long_it_is_behind_is_known() -> None:
    stage = Stage()
    assert stage.session.behind_since is None
    before = time.monotonic()
    stage.fill()
    since = stage.session.behind_since
    assert since is not None
    assert before <= since <= time.monotonic()
    stage.socket.drain()
    assert stage.session.behind_since is None


async def test_a_project_whose_state_comes_while_the_socket_is_full_begins_when_it_drains() -> None:
    stage = Stage()
    stage.client.subscribe("p")
    stage.fill()
    stage.hub.on_loaded(CHANNEL, state(progress("a", 1, 11)))
    stage.hub.on_events({NAME: [progress("a", 2, 12)]})
    assert stage.client.told() == []
    stage.socket.drain()
    assert [message.get("progress", message["type"]) for message in stage.client.told()] == ["subscribed", 2]


async def test_it_begins_even_if_the_last_other_viewer_left_meanwhile() -> None:
    """Who waits with a full socket watches too: letting go of Redis would leave it without events for ever."""
    stage = Stage(linger_seconds=0)
    other = FakeClient(stage.hub)
    for client in (stage.client, other):
        client.subscribe("p")
    stage.fill()
    stage.hub.on_loaded(CHANNEL, {})
    other.say("unsubscribe", projectId="p")
    for project in stage.hub._projects.values():
        assert project.linger is None, "the project is about to be let go"
    stage.socket.drain()
    stage.hub.on_events({NAME: [progress("a", 1, 21)]})
    assert stage.client.kinds() == ["subscribed", "progress"]


async def test_it_begins_even_if_the_feed_was_lost_again_before_it_drained() -> None:
    stage = Stage()
    stage.client.subscribe("p")
    stage.fill()
    stage.hub.on_loaded(CHANNEL, {})
    lose(stage.hub)
    stage.socket.drain()
    stage.hub.on_loaded(CHANNEL, {})
    stage.hub.on_live()
    assert "subscribed" in stage.client.kinds()


async def test_a_project_that_waits_with_a_full_socket_and_is_refused_is_told_as_unavailable() -> None:
    stage = Stage()
    stage.client.subscribe("p")
    stage.fill()
    stage.hub.on_loaded(CHANNEL, {})
    lose(stage.hub)
    stage.hub.on_refused(CHANNEL)
    stage.socket.drain()
    assert "error" in stage.client.kinds()


async def test_a_replay_stops_where_the_socket_is_full_and_goes_on_when_it_drains(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session, "PIECE_BYTES", 1)
    stage = Stage()
    stage.client.told()
    stage.client.subscribe("p")
    stage.socket.fill(2)
    stage.hub.on_loaded(CHANNEL, state(*[progress(job, 1, 10 + n) for n, job in enumerate("abcd")]))
    assert [message["type"] for message in stage.client.told()] == ["subscribed", "progress", "progress"]
    stage.hub.on_events({NAME: [progress("b", 2, 20), progress("e", 1, 21), progress("c", 2, 22)]})
    assert stage.client.told() == []
    stage.socket.drain()
    got = [(event["jobId"], event["seq"]) for event in stage.client.told()]
    assert got == [("d", 13), ("b", 20), ("e", 21), ("c", 22)]


async def test_a_plain_publish_from_before_the_subscribe_is_not_replayed_with_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session, "PIECE_BYTES", 1)
    stage = Stage().watching(progress("a", 1, 10), progress("b", 1, 11))
    stage.hub.on_events({NAME: [progress("b", 50), progress("raw", 1)]})
    late = FakeClient(stage.hub)
    late.told()
    late.socket.fill(1)
    late.subscribe("p")
    stage.hub.on_events({NAME: [progress("raw", 2)]})
    late.socket.drain()
    got = [(message.get("jobId"), message.get("progress")) for message in late.told()]
    assert got == [(None, None), ("a", 1), ("b", 1), ("raw", 2)]


async def test_what_a_replay_still_owed_and_was_forgotten_is_told_as_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "PIECE_BYTES", 1)
    monkeypatch.setattr(last_events, "MAX_JOBS", 3)
    stage = Stage().watching(progress("a", 1, 10), progress("b", 1, 11), progress("c", 1, 12))
    late = FakeClient(stage.hub)
    late.socket.fill(1)
    late.subscribe("p", since=10)
    late.told()
    stage.hub.on_events({NAME: [progress("d", 1, 13), progress("e", 1, 14), progress("f", 1, 15)]})
    late.socket.drain()
    subscribed, *events = late.told()
    assert (subscribed["type"], subscribed["recovered"]) == ("subscribed", False)
    assert [event["jobId"] for event in events] == ["d", "e", "f"]


async def test_asking_again_for_what_was_given_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ReplayAllowance, "BURST_BYTES", 250)
    monkeypatch.setattr(ReplayAllowance, "RATE_BYTES", 1)  # or a slow machine pays the debt within the test
    stage = Stage().watching(progress("a", 1, 10), progress("b", 1, 11))
    stage.hub.on_loaded("project:q", {})
    answers = []
    for project in ("p", "p", "p", "q"):
        stage.client.subscribe(project)
        answers.append([message["type"] for message in stage.client.told()])
    again = ["subscribed", "progress", "progress"]
    assert answers == [again, again, ["error"], ["error"]], "even another project, until the debt is paid"
    assert stage.client.session.connection.is_closed is False


async def test_leaving_a_project_does_not_make_its_replay_free_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ReplayAllowance, "BURST_BYTES", 250)
    monkeypatch.setattr(ReplayAllowance, "RATE_BYTES", 1)  # or a slow machine pays the debt within the test
    stage = Stage().watching(progress("a", 1, 10), progress("b", 1, 11))
    for _ in range(4):
        stage.client.say("unsubscribe", projectId="p")
        stage.client.subscribe("p")
    assert stage.client.kinds()[-1] == "error"


async def test_unsubscribing_while_behind_forgets_the_cursor() -> None:
    stage = Stage().watching()
    stage.fill()
    stage.client.say("unsubscribe", projectId="p")
    stage.hub.on_events({NAME: [progress("a", 1, 21)]})
    stage.socket.drain()
    assert stage.client.kinds() == ["unsubscribed"]


# The end


@pytest.mark.parametrize("moment", ["waiting", "watching", "behind", "asking"])
async def test_a_client_that_goes_leaves_no_reference_behind(moment: str) -> None:
    hub, feed = new_hub(linger_seconds=3_600)
    socket = SimulatedSocket()
    session = socket.session = Session(hub, socket)
    session.on_text(b'{"type":"subscribe","projectId":"p"}')
    if moment != "waiting":
        hub.on_loaded(CHANNEL, state(progress("a", 1, 11)))
    if moment == "behind":
        socket.fill(1)
        session.on_text(b'{"type":"ping"}')
    if moment == "asking":
        session.on_text(b'{"type":"subscribe","projectId":"p","since":99}')
    session.on_close()
    socket.session = None
    feed.round_trips.clear()
    left = weakref.ref(socket)
    assert not hub.viewers
    assert hub.subscriptions == 0
    del session, socket
    gc.collect()
    assert left() is None


async def test_the_end_may_be_told_twice() -> None:
    stage = Stage().watching()
    stage.session.on_close()
    stage.session.on_close()
    assert not stage.hub.viewers


async def test_a_client_that_went_is_told_nothing_more() -> None:
    stage = Stage().watching()
    stage.session.on_close()
    stage.hub.on_events({NAME: [progress("a", 1, 21)]})
    lose(stage.hub)
    stage.hub.on_refused(CHANNEL)
    assert stage.client.told() == []


def test_the_defaults_are_those_of_the_contract() -> None:
    """Issue 3: 20 a second with a burst of 50; at most 100 projects; 1008 after 20 bad messages in a row."""
    settings = Settings()
    assert (settings.subscribe_rate, settings.subscribe_burst) == (20, 50)
    assert (settings.max_projects, settings.max_bad_messages) == (100, 20)
