"""Clients that are told to move because of their age, by a simulated clock: when, at what rate, and what it costs."""

import sys
from typing import Any

import pytest

from gateway.clients.age import MOST_LATE, STEPS, WHEEL, MovesByAge
from gateway.clients.keepalive import Keepalive
from gateway.projects.hub import Hub
from tests.fakes import FakeClient, new_hub

AGE = 100.0


@pytest.fixture(autouse=True)
async def _in_a_loop() -> None:
    """A client that is let go starts the linger of its projects, a timer of the loop."""


def stage(clients: int, *, sweep_seconds: float = 1.0, **settings: Any) -> tuple[Hub, MovesByAge, list[FakeClient]]:
    hub, _ = new_hub(max_age_seconds=AGE, **settings)
    return hub, MovesByAge(hub, AGE, sweep_seconds), [FakeClient(hub) for _ in range(clients)]


def told(client: FakeClient) -> int:
    return sum(message["type"] == "going_away" for message in client.socket.written)


def told_at(moves: MovesByAge, clients: list[FakeClient], *, until: float, step: float = 1.0) -> list[float]:
    """Sweep until then; return when each client was told first. They came just after the sweep at 0."""
    at: dict[int, float] = {}
    for number in range(1, int(until / step) + 1):
        moves.sweep(now := number * step)
        for place, client in enumerate(clients):
            if place not in at and told(client):
                at[place] = now
    return [at[place] for place in range(len(clients))]


@pytest.mark.parametrize("sweep_seconds", [0.1, 1, AGE / 8])
async def test_each_client_is_told_between_half_and_twice_the_age(sweep_seconds: float) -> None:
    _, moves, clients = stage(200, sweep_seconds=sweep_seconds, drain_rate=100_000)
    at = told_at(moves, clients, until=2 * AGE, step=sweep_seconds)
    assert AGE / 2 <= min(at) < 0.8 * AGE
    assert 1.5 * AGE < max(at) <= 2 * AGE


async def test_the_moments_are_spread_evenly() -> None:
    _, moves, clients = stage(3_000, drain_rate=100_000)
    at = told_at(moves, clients, until=2 * AGE)
    for first in (50, 100, 150):
        assert 750 < sum(first < moment <= first + 50 for moment in at) < 1_250, "a third of 3,000"


async def test_one_that_stays_is_served_on_and_told_again_after_another_age() -> None:
    hub, moves, (client,) = stage(1)
    for now in range(1, 1_001):
        moves.sweep(float(now))
    assert 5 <= told(client) <= 20
    assert hub.moves_asked == told(client)
    assert client.socket.closed_with is None
    client.say("ping")
    assert client.kinds()[-1] == "pong"


async def test_no_more_are_told_at_once_than_a_drain_would_and_none_is_forgotten() -> None:
    hub, moves, clients = stage(80, drain_rate=2)
    for client in clients:
        client.session.move_turn = 0  # all are due in the first step
    counts: list[int] = []
    for _ in range(45):
        before = hub.moves_asked
        moves.sweep(float(len(counts)))
        counts.append(hub.moves_asked - before)
    assert max(counts) <= 2
    assert all(told(client) for client in clients)


async def test_the_window_is_as_long_as_a_sweep() -> None:
    _, moves, (client,) = stage(1)
    told_at(moves, [client], until=2 * AGE)
    found = [message for message in client.socket.written if message["type"] == "going_away"]
    assert found[0]["reconnectIn"] == [0, 1_000]


async def test_one_that_is_behind_is_told_once_it_reads_again() -> None:
    _, moves, (slow,) = stage(1)
    slow.socket.fill(1)
    slow.say("ping")
    for now in range(1, 401):
        moves.sweep(float(now))
    assert told(slow) == 0
    slow.socket.drain()
    moves.sweep(401.0)
    assert told(slow) == 1


async def test_a_sweep_that_comes_late_tells_those_whose_turn_has_passed() -> None:
    _, moves, (client,) = stage(1)
    client.session.move_turn = 10
    moves.sweep(10.0 + MOST_LATE)
    assert told(client) == 1
    assert 2 * STEPS + MOST_LATE < WHEEL, "a turn to come is never taken for one that has passed"


async def test_a_draining_replica_leaves_it_to_the_drain() -> None:
    hub, moves, clients = stage(20)
    hub.is_draining = True
    for now in range(1, 401):
        moves.sweep(float(now))
    assert not any(map(told, clients))


async def test_control_without_an_age_nobody_is_told() -> None:
    hub, _ = new_hub()
    keepalive, client = Keepalive(hub), FakeClient(hub)
    assert keepalive._moves is None
    assert client.session.move_turn is None


async def test_a_short_age_is_looked_at_more_often_than_once_a_second() -> None:
    assert Keepalive(new_hub(max_age_seconds=2)[0])._seconds == 0.25
    assert Keepalive(new_hub(max_age_seconds=3_600)[0])._seconds == 1
    assert Keepalive(new_hub(max_age_seconds=0.001)[0])._seconds == 0.05


async def test_a_turn_costs_a_client_no_object_of_its_own() -> None:
    """CPython keeps one object for each small number, so the price is the 8 bytes of the slot."""
    _, moves, clients = stage(1_000)
    moves.sweep(1.0)
    turns = [client.session.move_turn for client in clients]
    assert len(set(map(id, turns))) == len(set(turns)) > 50
    assert sys.implementation.name == "cpython"
