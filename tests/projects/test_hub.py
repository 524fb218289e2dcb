"""Who watches what, and the one step from Redis to the sockets."""

import asyncio
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.clients.session import Session
from gateway.projects.channel import ChannelState
from gateway.projects.hub import Hub
from gateway.projects.refusals import FIRST_SECONDS
from tests.contract.deadlines import eventually
from tests.fakes import FakeClient, FakeFeed, lose, new_hub, progress, state

NAME = b"project:p"


@pytest.fixture(autouse=True)
async def _in_a_loop() -> None:
    """The hub's linger is a timer of the loop."""


# Projects


async def test_a_project_is_asked_of_redis_once_for_all_its_viewers() -> None:
    hub, feed = new_hub()
    for client in [FakeClient(hub) for _ in range(3)]:
        client.subscribe("p")
    assert feed.asked == [("subscribe", "project:p")]
    assert hub.projects == 1


async def test_the_namespace_stands_before_the_channel() -> None:
    hub, feed = new_hub(namespace="staging")
    client = FakeClient(hub)
    client.subscribe("p")
    assert feed.asked == [("subscribe", "staging:project:p")]
    hub.on_loaded("staging:project:p", {})
    hub.on_events({NAME: [progress("a", 1, 1)], b"staging:project:p": [progress("b", 1, 1)]})
    assert [message.get("jobId", message["type"]) for message in client.told()] == ["connected", "subscribed", "b"]


async def test_the_last_viewer_leaving_lets_go_of_redis_and_forgets_the_state() -> None:
    hub, feed = new_hub(linger_seconds=0)
    clients = [FakeClient(hub) for _ in range(2)]
    for client in clients:
        client.subscribe("p")
    hub.on_loaded("project:p", {})
    clients[0].say("unsubscribe", projectId="p")
    clients[1].session.on_close()
    await eventually(lambda: hub.projects == 0, "the project to be let go")
    assert feed.asked == [("subscribe", "project:p"), ("unsubscribe", "project:p")]
    assert hub.projects == 0


async def test_a_viewer_that_comes_back_within_the_linger_costs_redis_nothing() -> None:
    hub, feed = new_hub(linger_seconds=3_600)
    first = FakeClient(hub)
    first.subscribe("p")
    hub.on_loaded("project:p", state(progress("a", 1, 11)))
    first.session.on_close()
    hub.on_events({NAME: [progress("b", 1, 12)]})
    second = FakeClient(hub)
    second.subscribe("p")
    assert second.kinds() == ["connected", "subscribed", "progress", "progress"]
    assert feed.asked == [("subscribe", "project:p")]


async def test_after_the_linger_nothing_is_let_go_that_somebody_watches_again() -> None:
    hub, feed = new_hub(linger_seconds=0.01)
    first, second, third = (FakeClient(hub) for _ in range(3))
    first.subscribe("p")
    first.session.on_close()
    second.subscribe("p")
    third.subscribe("q")
    third.session.on_close()
    await eventually(lambda: ("unsubscribe", "project:q") in feed.asked, "the end of the linger of q, begun later")
    assert ("unsubscribe", "project:p") not in feed.asked
    assert hub.projects == 1


async def test_a_project_that_was_let_go_is_loaded_anew() -> None:
    hub, feed = new_hub(linger_seconds=0)
    first = FakeClient(hub)
    first.subscribe("p")
    hub.on_loaded("project:p", state(progress("a", 1, 11)))
    first.session.on_close()
    await eventually(lambda: hub.projects == 0, "the project to be let go")
    second = FakeClient(hub)
    second.subscribe("p")
    assert second.kinds() == ["connected"]
    assert feed.asked[-1] == ("subscribe", "project:p")


async def test_a_refused_project_is_let_go_at_once() -> None:
    hub, _ = new_hub(linger_seconds=3_600)
    client = FakeClient(hub)
    client.subscribe("p")
    hub.on_refused("project:p")
    assert hub.projects == 0
    assert client.kinds() == ["connected", "error"]


async def test_what_comes_for_a_project_that_nobody_knows_is_dropped() -> None:
    hub, _ = new_hub()
    hub.on_events({b"project:gone": [progress("a", 1, 1)]})
    hub.on_loaded("project:gone", {})
    hub.on_refused("project:gone")
    assert hub.projects == 0
    assert hub.events_received == 0


# Events that cannot be read


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b'{"type":"job_paused","jobId":"hunter2","jobType":"audio"}', "type: must be 'progress', 'job_complete' or"),
        (b'{"type":"progress","jobId":"a","jobType":"hunter2 x","progress":1}', "jobType: must be 1 to 64 of"),
        (b'{"type":"progress","jobId":"a","jobType":"x","attempt":"next","progress":1}', "attempt: must be a whole"),
        (
            b'{"type":"progress","jobId":"a","jobType":"x","progress":1,"data":["hunter2"]}',
            "data: must be a JSON object",
        ),
        (b'["hunter2"]', "event: must be a JSON object"),
        (b"hunter2", "it is not JSON"),
        (b"\xff", "it is not JSON"),
        (b'"hunter2' + b" " * (1 << 20) + b'"', "it has more than 1048576 bytes"),
    ],
)
@pytest.mark.parametrize("comes", ["live", "loaded"])
async def test_an_event_that_cannot_be_read_is_logged_with_its_project_and_the_reason_and_no_value(
    payload: bytes, why: str, comes: str, caplog: pytest.LogCaptureFixture
) -> None:
    hub, _ = new_hub()
    client = FakeClient(hub)
    client.subscribe("p")
    if comes == "live" or len(payload) > 1 << 20:
        hub.on_loaded("project:p", {})
        hub.on_events({NAME: [payload, progress("b", 1, 12)]})
    else:
        hub.on_loaded("project:p", {b"a\n": payload} | state(progress("b", 1, 12)))
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("Project p: an event cannot be read and is not delivered: ")
    assert why in line
    assert "hunter2" not in line
    assert hub.bad_payloads == 1
    assert client.told()[-1]["jobId"] == "b"


async def test_events_that_cannot_be_read_are_one_line_a_minute_that_counts_the_others(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hub, _ = new_hub()
    for project in ("p", "q"):
        FakeClient(hub).subscribe(project)
        hub.on_loaded(f"project:{project}", {})
    now = time.monotonic()
    for later in (0, 10, 59.9, 60.1):
        monkeypatch.setattr(time, "monotonic", lambda later=later: now + later)
        hub.on_events({NAME: [b"junk", b"junk"]})
        hub.on_events({b"project:q": [b"junk"]})
    first, second = [record.getMessage() for record in caplog.records]
    beginning = "Project p: an event cannot be read and is not delivered"
    assert first == f"{beginning}: it is not JSON"
    assert second == f"{beginning}: it is not JSON (5 more since the last such line)"
    assert hub.bad_payloads == 12


# States that are read in slices


async def test_a_large_state_is_read_in_slices_and_the_others_are_served_between_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.projects.readings.SLICE_SECONDS", 0)
    hub, _ = new_hub()
    client, other = FakeClient(hub), FakeClient(hub)
    client.subscribe("p")
    other.subscribe("q")
    hub.on_loaded("project:q", {}, b"memory")
    hub.on_lost(["project:p", "project:q"])
    large = state(*[progress(f"j{number}", 1, number + 1) for number in range(500)])
    hub.on_loaded("project:p", large)
    hub.on_loaded("project:q", {}, b"memory")
    hub.on_live()
    hub.on_events({NAME: [progress("j7", 50, 1_000)], b"project:q": [progress("a", 1, 1)]})
    client.subscribe("p")
    assert client.kinds() == ["connected", "stale"], "it waits"
    assert other.kinds() == ["connected", "subscribed", "stale", "progress"], "this one is served"
    await asyncio.sleep(0)
    hub.on_events({b"project:q": [progress("a", 2, 2)]})
    assert client.kinds() == []
    assert other.kinds() == ["progress"]
    await eventually(lambda: not hub.is_stale, "the state to be read")
    assert other.kinds() == ["live"]
    told = client.told()
    assert [message["type"] for message in told] == ["subscribed", "subscribed", *["progress"] * 501, "live"]
    assert told[0]["seq"] == 500
    assert told[-2]["seq"] == 1_000, "what arrived meanwhile comes after the state"


async def test_a_state_that_is_read_while_the_feed_is_lost_again_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.projects.readings.SLICE_SECONDS", 0)
    hub, _ = new_hub()
    client = FakeClient(hub)
    client.subscribe("p")
    large = state(*[progress(f"j{number}", 1, number + 1) for number in range(500)])
    hub.on_loaded("project:p", large)
    hub.on_live()
    hub.on_events({NAME: [progress("j7", 50, 1_000), progress("raw", 1)]})
    lose(hub)
    for _ in range(50):
        await asyncio.sleep(0)
    assert client.kinds() == ["connected", "stale"]
    hub.on_loaded("project:p", state(progress("j8", 1, 1_001)))
    hub.on_live()
    assert [message.get("jobId", message["type"]) for message in client.told()] == ["subscribed", "j8", "live"]


async def test_too_many_events_beside_a_state_that_is_read_end_its_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.projects.hub.MOST_LATE", 10)
    hub, _ = new_hub()
    client = FakeClient(hub)
    client.subscribe("p")
    hub.on_loaded("project:p", state(*[progress(f"j{number}", 1, number + 1) for number in range(500)]))
    hub.on_events({NAME: [progress("a", number, 1_000 + number) for number in range(10)]})
    assert client.kinds() == ["connected"]
    hub.on_events({NAME: [progress("a", 11, 2_000)]})
    assert client.kinds() == ["subscribed", *["progress"] * 511]


async def test_a_project_that_is_let_go_while_its_state_is_read_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.projects.readings.SLICE_SECONDS", 0)
    hub, _ = new_hub(linger_seconds=0)
    client = FakeClient(hub)
    client.subscribe("p")
    hub.on_loaded("project:p", state(*[progress(f"j{number}", 1, number + 1) for number in range(500)]))
    client.say("unsubscribe", projectId="p")
    await eventually(lambda: not hub.projects, "the end of the linger")
    await eventually(lambda: not hub._readings._queue, "the end of the slices")
    assert client.kinds() == ["connected", "unsubscribed"]


async def test_control_a_state_that_is_read_at_once_keeps_everybody_waiting() -> None:
    hub, _ = new_hub()
    hub.fields_at_once = 1 << 30
    client = FakeClient(hub)
    client.subscribe("p")
    hub.on_loaded("project:p", state(*[progress(f"j{number}", 1, number + 1) for number in range(500)]))
    assert len(client.kinds()) == 502


# What nobody thought of


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Stop the clock, so many seconds later."""
    now = time.monotonic() + seconds
    monkeypatch.setattr(time, "monotonic", lambda: now)


def fail(*_: Any, **__: Any) -> Any:
    raise ValueError("of a project\nand a second line")


async def test_a_state_that_cannot_be_taken_costs_its_project_alone_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hub, feed = new_hub(linger_seconds=3_600)
    client, other = FakeClient(hub), FakeClient(hub)
    client.subscribe("p")
    other.subscribe("q")
    with monkeypatch.context() as context:
        context.setattr("gateway.projects.hub.Channel.merge", fail)
        hub.on_loaded("project:p", {})
    hub.on_loaded("project:q", {})
    assert [message.get("code", message["type"]) for message in client.told()] == ["connected", "unavailable"]
    assert other.kinds() == ["connected", "subscribed"]
    assert [record.getMessage().count("\n") for record in caplog.records] == [0]
    assert "Project p is given up" in caplog.text
    later(monkeypatch, FIRST_SECONDS)
    client.subscribe("p")
    assert feed.asked[-1] == ("subscribe", "project:p"), "Redis is asked anew"
    hub.on_loaded("project:p", {})
    assert client.kinds() == ["subscribed"]


async def test_a_refused_project_costs_redis_nothing_however_often_a_client_asks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub, feed = new_hub(subscribe_rate=1_000_000, subscribe_burst=1_000_000, max_bad_messages=5)
    client, other = FakeClient(hub), FakeClient(hub)
    seconds = FIRST_SECONDS
    later(monkeypatch, 0)
    for _ in range(3):
        client.subscribe("p")
        other.subscribe("q")
        hub.on_refused("project:p")
        client.told()
        asked = list(feed.asked)
        for _ in range(100):
            client.subscribe("p")
            other.subscribe("p")
        assert feed.asked == asked
        assert hub.projects == 1, "that of the other client"
        assert [message["code"] for message in client.told()] == ["unavailable"] * 100
        assert client.socket.closed_with is None, "it is no bad message"
        later(monkeypatch, seconds - 0.01)
        client.subscribe("p")
        assert feed.asked == asked
        later(monkeypatch, 0.02)
        seconds *= 2
    client.told()
    client.subscribe("p")
    hub.on_loaded("project:p", {})
    assert client.kinds() == ["subscribed"]
    hub.on_refused("project:p")
    client.told()
    later(monkeypatch, FIRST_SECONDS)
    client.subscribe("p")
    assert feed.asked[-1] == ("subscribe", "project:p"), "it was served, so the pause is short again"


async def test_events_that_cannot_be_taken_cost_their_project_alone_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hub, feed = new_hub()
    clients = {project: FakeClient(hub) for project in "pq"}
    for project, client in clients.items():
        client.subscribe(project)
        hub.on_loaded(f"project:{project}", {})
    monkeypatch.setattr(hub.watch("p").channel, "receive", fail)
    for seq in (1, 2):
        hub.on_events({name: [progress("a", 1, seq)] for name in (NAME, b"project:q")})
    assert clients["p"].kinds() == ["connected", "subscribed", "error"]
    assert clients["q"].kinds() == ["connected", "subscribed", "progress", "progress"]
    assert ("unsubscribe", "project:p") in feed.asked
    assert len(caplog.records) == 1, caplog.text


@pytest.mark.parametrize("way", ["at once", "when it is loaded", "after a round trip"])
async def test_an_answer_that_cannot_be_given_is_an_error_to_who_asks(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    """Who calls may be the feed."""
    hub, feed = new_hub(linger_seconds=3_600)
    clients = [FakeClient(hub) for _ in range(3)]
    if way != "when it is loaded":
        clients[0].subscribe("p")
        hub.on_loaded("project:p", {})
    monkeypatch.setattr("gateway.clients.session.messages.subscribed", fail)
    for client in clients[1:]:
        client.subscribe("p", since=5 if way == "after a round trip" else 0)
        if way == "at once":
            break
    if way == "when it is loaded":
        hub.on_loaded("project:p", {})
    for round_trip in feed.round_trips:
        round_trip()
    asked = clients[1:2] if way == "at once" else clients[1:]
    assert [client.kinds() for client in asked] == [["connected", "error"]] * len(asked)
    if way != "when it is loaded":
        assert clients[0].kinds() == ["connected", "subscribed", "error"]
    assert hub.projects == 0
    assert len(caplog.records) == 1, caplog.text


async def test_a_socket_that_fails_does_not_keep_the_others_from_being_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hub, _ = new_hub()
    clients = [FakeClient(hub) for _ in range(3)]
    for client in clients:
        client.subscribe("p")
    hub.on_loaded("project:p", {})
    monkeypatch.setattr(clients[1].socket, "write", fail)
    hub.on_events({NAME: [progress("a", 1, 1)]})
    assert [client.kinds()[-1] for client in (clients[0], clients[2])] == ["error", "error"]
    assert hub.projects == 0
    assert len(caplog.records) == 1, caplog.text


# Events


async def test_events_of_one_read_are_one_write_for_each_socket_of_the_same_bytes() -> None:
    hub, _ = new_hub()
    clients = [FakeClient(hub) for _ in range(3)]
    written: list[list[bytes]] = []
    for client in clients:
        client.subscribe("p")
    hub.on_loaded("project:p", {})
    for client in clients:
        pieces: list[bytes] = []
        client.socket.write = pieces.append  # type: ignore[method-assign, assignment]
        written.append(pieces)
    hub.on_events({NAME: [progress("a", percent, 20 + percent) for percent in range(5)]})
    assert [len(pieces) for pieces in written] == [1, 1, 1]
    assert written[0][0] is written[1][0] is written[2][0]


def watching(*projects: str) -> tuple[Hub, FakeClient]:
    """A client that was told `subscribed` of these projects."""
    hub, _ = new_hub()
    client = FakeClient(hub)
    for project in projects:
        client.subscribe(project)
        hub.on_loaded(f"project:{project}", {})
    client.told()
    return hub, client


async def test_a_client_that_falls_behind_between_two_projects_of_one_read_lacks_nothing() -> None:
    hub, client = watching("p", "q")
    client.socket.fill(1)
    hub.on_events({NAME: [progress("a", 1, 21)], b"project:q": [progress("b", 1, 22)]})
    assert client.socket.is_behind
    hub.on_events({NAME: [progress("a", 2, 23)], b"project:q": [progress("b", 2, 24)]})
    client.socket.drain()
    assert sorted(message["seq"] for message in client.told()) == [21, 22, 23, 24]


async def test_events_of_one_read_come_before_an_error_about_another_project_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub, client = watching("p", "q")
    monkeypatch.setattr(hub.watch("q").channel, "receive", fail)
    hub.on_events({NAME: [progress("a", 1, 21)], b"project:q": [progress("b", 1, 22)]})
    assert client.kinds() == ["progress", "error"]


async def test_events_of_one_read_come_before_the_close_of_a_viewer_that_is_revoked_in_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`SimulatedSocket.write` fails after a close."""
    hub, client = watching("p")
    monkeypatch.setattr(hub, "authority", SimpleNamespace(on_events=lambda payloads: {"user"}))
    monkeypatch.setattr(Session, "check_revoked", lambda session: session.connection.close(4401))
    hub.on_events({NAME: [progress("a", 1, 21)], hub.revoked_channel.encode(): [b"user"]})
    assert client.kinds() == ["progress"]
    assert client.socket.closed_with == 4401


async def test_a_bad_payload_is_counted_and_the_next_event_delivered() -> None:
    hub, _ = new_hub(linger_seconds=0)
    client = FakeClient(hub)
    client.subscribe("p")
    hub.on_loaded("project:p", {})
    client.told()
    hub.on_events({NAME: [b"junk", progress("a", 1, 21), b"\xff", b"[" * 10_000]})
    assert client.kinds() == ["progress"]
    assert hub.bad_payloads == 3
    client.session.on_close()
    await eventually(lambda: hub.projects == 0, "the project to be let go")
    assert hub.bad_payloads == 3, "a counter never falls"


async def test_bad_payloads_alone_write_nothing() -> None:
    hub, _ = new_hub()
    client = FakeClient(hub)
    client.subscribe("p")
    hub.on_loaded("project:p", {})
    client.told()
    hub.on_events({NAME: [b"junk"]})
    assert client.told() == []
    assert hub.counters.deliveries == 0


# The feed lost and found


async def test_a_lost_feed_is_stale_until_it_is_live_again() -> None:
    hub, _ = new_hub()
    assert not hub.is_stale
    lose(hub)
    assert hub.is_stale
    hub.on_live()
    assert not hub.is_stale


async def test_a_hub_is_stale_before_its_first_connection() -> None:
    hub, _ = new_hub()
    assert type(hub)(hub.settings, lambda hub: FakeFeed()).is_stale


async def test_all_projects_are_asked_for_again_those_that_linger_too() -> None:
    hub, feed = new_hub(linger_seconds=3_600)
    staying, leaving = FakeClient(hub), FakeClient(hub)
    staying.subscribe("p")
    leaving.subscribe("q")
    leaving.session.on_close()
    lose(hub)
    assert feed.asked == [("subscribe", "project:p"), ("subscribe", "project:q")], "the feed itself asks again"


async def test_after_a_loss_a_new_client_waits_for_the_reload() -> None:
    hub, _ = new_hub()
    first, second = FakeClient(hub), FakeClient(hub)
    first.subscribe("p")
    hub.on_loaded("project:p", state(progress("a", 1, 11)))
    lose(hub)
    second.subscribe("p")
    assert second.kinds() == ["connected", "stale"]
    hub.on_loaded("project:p", state(progress("a", 2, 12)))
    assert [message.get("progress", message["type"]) for message in second.told()] == ["subscribed", 2]


async def test_a_project_that_moves_is_loaded_anew_and_nobody_is_told() -> None:
    """Its shard is another one now; what was published between the two comes with the state."""
    hub, _ = new_hub()
    moved, other = FakeClient(hub), FakeClient(hub)
    moved.subscribe("p")
    other.subscribe("q")
    hub.on_loaded("project:p", state(progress("a", 1, 11)))
    hub.on_loaded("project:q", state(progress("b", 1, 11)))
    moved.told(), other.told()
    hub.on_moved(["project:p", "project:gone"])
    assert not hub.is_stale
    hub.on_events({b"project:p": [progress("a", 3, 13)], b"project:q": [progress("b", 2, 12)]})
    assert moved.told() == [], "what comes before the state waits for it"
    assert [message["progress"] for message in other.told()] == [2]
    hub.on_loaded("project:p", state(progress("c", 2, 12), progress("a", 3, 13)))
    assert [(message["jobId"], message["progress"]) for message in moved.told()] == [("c", 2), ("a", 3)]


async def test_a_cursor_of_a_server_that_was_just_replaced_recovers_nothing() -> None:
    """Both took events for a moment; the one whose cursor it is may have been another than this replica's."""
    hub, _ = new_hub()
    now = time.time_ns() // 1_000
    first = FakeClient(hub)
    first.subscribe("p")
    hub.on_loaded("project:p", state(progress("a", 1, now - 20_000_000), progress("b", 2, now), beginning=1))
    hub.on_replaced(0.0, 0.0)
    for cursor, recovered, count in ((now - 10_000_000, True, 2), (now - 1, False, 2), (0, True, 2)):
        client = FakeClient(hub)
        client.told()
        client.subscribe("p", since=cursor)
        subscribed, *events = client.told()
        assert (subscribed["recovered"], len(events)) == (recovered, count), cursor


async def test_a_replica_that_was_started_after_that_doubts_the_same_cursors_and_no_others() -> None:
    hub, _ = new_hub()
    now = time.time_ns() // 1_000
    hub.on_replaced(20.5, 20.5)
    assert [ago for ago in range(40) if hub.is_doubtful(now - ago * 1_000_000)] == list(range(18, 27))


async def test_a_replica_that_heard_of_it_late_doubts_all_cursors_since() -> None:
    """It may have been frozen, and its clients have cursors of the old server."""
    hub, _ = new_hub()
    now = time.time_ns() // 1_000
    hub.on_replaced(20.5, 0.0)
    assert [ago for ago in range(40) if hub.is_doubtful(now - ago * 1_000_000)] == list(range(27))


async def test_a_second_failover_takes_nothing_from_the_doubt_of_the_first() -> None:
    hub, _ = new_hub()
    now = time.time_ns() // 1_000
    first = FakeClient(hub)
    first.subscribe("p")
    hub.on_loaded("project:p", state(progress("a", 1, now - 70_000_000), progress("b", 2, now), beginning=1))
    hub.on_replaced(60.0, 60.0)
    hub.on_replaced(5.0, 5.0)
    for ago, recovered in ((60, False), (30, True), (5, False)):
        client = FakeClient(hub)
        client.told()
        client.subscribe("p", since=now - ago * 1_000_000)
        subscribed, *events = client.told()
        # Also a replica that only knows of the last one has to give everything that is remembered.
        assert (subscribed["recovered"], len(events)) == (recovered, 2), ago


async def test_what_was_missed_comes_once_to_those_who_keep_up_and_later_to_those_who_do_not() -> None:
    hub, _ = new_hub()
    quick, slow = FakeClient(hub), FakeClient(hub)
    for client in (quick, slow):
        client.subscribe("p")
    hub.on_loaded("project:p", state(progress("a", 1, 11)))
    slow.socket.fill(1)
    slow.say("ping")
    for client in (quick, slow):
        client.told()
    lose(hub)
    hub.on_loaded("project:p", state(progress("a", 1, 11), progress("b", 1, 12)))
    hub.on_live()
    assert [message.get("jobId", message["type"]) for message in quick.told()] == ["stale", "b", "live"]
    slow.socket.drain()
    assert [message.get("jobId", message["type"]) for message in slow.told()] == ["b"]


async def test_an_emptied_redis_is_told_as_not_recovered_and_takes_nothing_away() -> None:
    hub, _ = new_hub()
    client = FakeClient(hub)
    client.subscribe("p")
    hub.on_loaded("project:p", state(progress("a", 1, time.time_ns() // 1_000)))
    client.told()
    lose(hub)
    hub.on_loaded("project:p", {})
    hub.on_live()
    told = client.told()
    assert [message["type"] for message in told] == ["stale", "subscribed", "live"]
    assert told[1]["recovered"] is False
    late = FakeClient(hub)
    late.subscribe("p")
    assert late.kinds() == ["connected", "subscribed", "progress"]


@pytest.mark.parametrize(("memory_id", "gap"), [(b"same", []), (b"another", ["subscribed"]), (None, ["subscribed"])])
async def test_redis_memory_tells_whether_a_project_without_a_state_lacks_something(
    memory_id: bytes | None, gap: list[str]
) -> None:
    """Its hour is over, or it never was; but what was published during the break may be gone with the memory."""
    hub, _ = new_hub()
    now = time.time_ns() // 1_000
    old, new = FakeClient(hub), FakeClient(hub)
    old.subscribe("p")
    new.subscribe("q")
    hub.on_loaded("project:p", state(progress("a", 1, now - 3_601 * 1_000_000)), b"same")
    hub.on_loaded("project:q", {}, b"same")
    hub.on_live()
    old.told(), new.told()
    lose(hub)
    hub.on_loaded("project:p", {}, memory_id)
    hub.on_loaded("project:q", {}, memory_id)
    hub.on_live()
    assert old.kinds() == ["stale", *gap, "live"]
    assert new.kinds() == ["stale", *gap, "live"]
    late = FakeClient(hub)
    late.told()
    late.subscribe("p", since=now - 3_601 * 1_000_000)
    assert late.told()[0]["recovered"] is (not gap)


async def test_a_viewer_that_goes_while_all_are_told_disturbs_nobody() -> None:
    hub, _ = new_hub()
    clients = [FakeClient(hub) for _ in range(5)]

    class Leaver:
        """Takes another one with it, as a closing socket may."""

        def on_feed_changed(self) -> None:
            for client in clients[3:]:
                client.session.on_close()

    hub.viewers[Leaver()] = None  # type: ignore[index]
    lose(hub)
    assert [client.kinds()[-1] for client in clients[:3]] == ["stale"] * 3


async def test_many_are_told_in_slices_and_each_what_is_true_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """All at once, 20,000 took 0.19 s."""
    monkeypatch.setattr("gateway.projects.hub.TOLD_AT_ONCE", 2)
    monkeypatch.setattr("gateway.projects.hub.TOLD_IN_A_STEP", 1)
    monkeypatch.setattr("gateway.projects.readings.SLICE_SECONDS", 0)
    hub, _ = new_hub()
    turns: list[Callable[[], None]] = []
    hub._readings._call_soon = turns.append
    clients = [FakeClient(hub) for _ in range(5)]
    for client in clients:
        client.told()
    lose(hub)
    assert [client.told() for client in clients] == [[]] * 5
    turns.pop()()
    clients[3].socket.close(1000)  # nothing may be written to it after that
    turns.pop()()
    hub.on_live()  # which is told behind `stale`
    while turns:
        turns.pop()()
    assert [client.kinds() for client in clients] == [["stale", "live"]] * 3 + [[], ["stale", "live"]]


# What operators see


async def test_the_counters_count_what_there_is() -> None:
    hub, _ = new_hub(linger_seconds=0)
    clients = [FakeClient(hub) for _ in range(3)]
    for client in clients[:2]:
        client.subscribe("p")
        client.subscribe("q")
    hub.on_loaded("project:p", {})
    hub.on_loaded("project:q", {})
    hub.on_events({NAME: [progress("a", 1, 21), progress("a", 2, 22)]})
    assert (hub.accepted, len(hub.viewers)) == (3, 3)
    assert (hub.projects, hub.subscriptions) == (2, 4)
    assert (hub.events_received, hub.counters.deliveries) == (2, 2)
    assert hub.catch_ups == 0
    for client in clients:
        client.session.on_close()
    assert (hub.accepted, len(hub.viewers), hub.subscriptions) == (3, 0, 0)


async def test_an_event_that_a_full_socket_was_not_given_is_no_delivery() -> None:
    hub, _ = new_hub()
    clients = [FakeClient(hub) for _ in range(2)]
    for client in clients:
        client.subscribe("p")
    hub.on_loaded("project:p", {})
    clients[0].socket.fill(1)
    clients[0].say("ping")
    hub.on_events({NAME: [progress("a", 1, 21)]})
    assert hub.counters.deliveries == 1
    clients[0].socket.drain()
    assert hub.catch_ups == 1


@pytest.mark.parametrize(
    ("grace", "lost", "is_ready"),
    [
        (15, 0.0, True),
        (15, 14.9, True),
        (15, 15.1, False),
        (15, None, False),  # it never was live
        (0, 0.0, True),
        (0, 0.1, False),
        (3_600, None, False),
    ],
)
async def test_a_replica_is_ready_until_its_feed_was_lost_for_longer_than_the_grace(
    grace: float, lost: float | None, is_ready: bool
) -> None:
    hub, feed = new_hub(redis_grace_seconds=grace)
    feed.lost_seconds = lost
    assert hub.is_ready is is_ready
    hub.is_draining = True
    assert not hub.is_ready


async def test_a_project_is_not_given_out_while_it_loads() -> None:
    hub, _ = new_hub()
    client = FakeClient(hub)
    client.subscribe("p")
    project = hub.watch("p")
    assert project.channel.state is ChannelState.LOADING
    hub.on_events({NAME: [progress("a", 1, 21)]})
    assert client.kinds() == ["connected"]
