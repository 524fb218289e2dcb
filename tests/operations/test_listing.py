"""What operators see of a replica's clients and projects."""

import json
from typing import Any

import pytest

from gateway.operations import listing
from gateway.projects.hub import Hub
from tests.fakes import FakeClient, new_hub, progress

NAME = b"project:p"


def ids(page: dict[str, Any]) -> list[str]:
    return [row["clientId"] for row in page["clients"]]


def names(page: dict[str, Any]) -> list[str]:
    return [row["projectId"] for row in page["projects"]]


def some(count: int) -> tuple[Hub, list[FakeClient]]:
    hub, _ = new_hub(linger_seconds=0)
    return hub, [FakeClient(hub) for _ in range(count)]


async def test_a_client_is_listed_with_what_an_operator_asks_for() -> None:
    hub, [client] = some(1)
    client.subscribe("p")
    hub.on_loaded("project:p", {})
    [row] = listing.clients(hub)["clients"]
    assert row.pop("since").endswith("Z")
    assert row == {
        "clientId": client.session.client_id, "address": "192.0.2.7", "sub": None, "projects": ["p"],
        "behindBy": 0, "behindSeconds": 0.0, "unsentBytes": 0,
    }  # fmt: skip
    assert client.told()[0]["clientId"] == client.session.client_id


async def test_a_client_behind_is_listed_with_the_events_that_it_was_not_given() -> None:
    hub, [quick, slow] = some(2)
    for client in (quick, slow):
        client.subscribe("p")
    hub.on_loaded("project:p", {})
    slow.socket.fill(1)
    for number in range(1, 5):
        hub.on_events({NAME: [progress("a", number, 20 + number)]})
    assert slow.session.behind_since is not None
    slow.session.behind_since -= 60
    rows = listing.clients(hub)["clients"]
    assert [row["behindBy"] for row in rows] == [0, 3]
    assert [row["behindSeconds"] >= 60 for row in rows] == [False, True]
    slow.socket.drain()
    assert listing.clients(hub)["clients"][1]["behindBy"] == 0


async def test_pages_of_clients_hold_each_client_once_in_the_order_in_which_they_came() -> None:
    hub, clients = some(7)
    found, after, pages = [], 0, 0
    while True:
        page = listing.clients(hub, after=after, limit=3)
        assert page["total"] == 7
        found += ids(page)
        pages += 1
        if page["next"] is None:
            break
        after = listing.number_of(page["next"]) or 0
    assert found == [client.session.client_id for client in clients]
    assert found == sorted(found)
    assert pages == 3


async def test_a_page_that_ends_with_the_last_client_is_the_last() -> None:
    hub, _ = some(3)
    assert listing.clients(hub, limit=3)["next"] is None


async def test_paging_goes_on_after_a_client_that_has_left() -> None:
    hub, clients = some(5)
    page = listing.clients(hub, limit=2)
    clients[0].session.on_close()
    clients[1].session.on_close()
    late = FakeClient(hub)
    rest = listing.clients(hub, after=listing.number_of(page["next"]) or 0)
    assert ids(rest) == [client.session.client_id for client in (*clients[2:], late)]


async def test_clients_that_come_in_one_moment_have_ids_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.projects.hub.time.time_ns", lambda: 1_700_000_000_000_000_000)
    hub, clients = some(20)
    monkeypatch.setattr("gateway.projects.hub.time.time_ns", lambda: 1_600_000_000_000_000_000)  # it was set back
    clients.append(FakeClient(hub))
    found = [client.session.client_id for client in clients]
    assert found == sorted(set(found))


async def test_two_replicas_never_give_the_same_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.projects.hub.time.time_ns", lambda: 1_700_000_000_000_000_000)
    (_, [one]), (hub, [two]) = some(1), some(1)
    assert one.session.number == two.session.number
    assert one.session.client_id != two.session.client_id
    assert listing.client(hub, two.session.client_id) is two.session
    assert listing.client(hub, one.session.client_id) is None


@pytest.mark.parametrize("text", ["", "me", "0" * 20, "0" * 22, "g" * 21, "A" * 21])
async def test_a_word_that_is_no_client_id_finds_nobody(text: str) -> None:
    hub, _ = some(1)
    assert listing.number_of(text) is None
    assert listing.client(hub, text) is None


async def test_a_page_of_clients_that_watch_much_is_shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "MOST_NAMED", 10)
    hub, clients = some(4)
    for client in clients:
        for number in range(6):
            client.subscribe(f"p{number}")
    page = listing.clients(hub)
    assert len(page["clients"]) == 1
    assert page["next"] == clients[0].session.client_id


async def test_a_project_is_listed_with_its_viewers_and_what_it_holds() -> None:
    hub, clients = some(3)
    for client in clients:
        client.subscribe("p")
    clients[0].subscribe("other")
    hub.on_loaded("project:p", {})
    hub.on_events({NAME: [progress("a", 1, 21), progress("b", 2, 22), progress("b", 3, 23, sentenceId="s")]})
    other, project = listing.projects(hub)["projects"]
    assert other == {"projectId": "other", "viewers": 0, "waiting": 1, "jobs": 0, "bytes": 0, "seq": 0}
    assert project.pop("bytes") > 100
    assert project == {"projectId": "p", "viewers": 3, "waiting": 0, "jobs": 2, "seq": 23}


async def test_pages_of_projects_are_in_order_of_the_ids_and_go_on_after_one_that_is_gone() -> None:
    hub, [client] = some(1)
    for name in ("b", "d", "a", "c"):
        client.subscribe(name)
    page = listing.projects(hub, limit=2)
    assert (names(page), page["next"], page["total"]) == (["a", "b"], "b", 4)
    client.say("unsubscribe", projectId="b")
    hub._let_go(next(project for project in hub._projects.values() if project.channel.project_id == "b"))
    rest = listing.projects(hub, after=page["next"], limit=2)
    assert (names(rest), rest["next"], rest["total"]) == (["c", "d"], None, 3)
    assert listing.projects(hub, after="zz")["projects"] == []


async def test_a_listing_names_the_user_and_nothing_of_the_token() -> None:
    hub, [client] = some(1)
    assert not {"token", "grant", "exp"} & json.loads(json.dumps(listing.clients(hub)))["clients"][0].keys()
    assert client.session.sub is None
