"""The sweep, without its clock: who is pinged and when, who is closed; and the loop's lag."""

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.clients.keepalive import (
    LAG_CHECK_SECONDS,
    LEAST_SWEEPS,
    LOOKED_AT_ONCE,
    NEWCOMERS_PER_TURN,
    PIECES,
    Keepalive,
    watch_loop,
)
from gateway.codes import CloseCode
from gateway.operations.counters import LAG_SECONDS, Histogram
from gateway.projects.hub import Hub
from tests.contract.deadlines import eventually
from tests.fakes import FakeClient, new_hub

NOW = 1_000_000.0  # far above every `behind_since` of this process


def turns_of(hub: Hub) -> int:
    return round(hub.settings.ping_seconds)


def sweep(keepalive: Keepalive, turn: int, now: float = NOW) -> None:
    for piece in keepalive.pieces():
        keepalive.look_at(piece, turn, now)


def sweep_once_round(keepalive: Keepalive, hub: Hub) -> None:
    """All sweeps of one ping interval."""
    for turn in range(turns_of(hub)):
        sweep(keepalive, turn)


@pytest.fixture(autouse=True)
async def _in_a_loop() -> None:
    """A client that is let go starts the linger of its projects, a timer of the loop."""


def stage(clients: int = 1, **settings: Any) -> tuple[Hub, Keepalive, list[FakeClient]]:
    hub, _ = new_hub(ping_seconds=5, **settings)
    return hub, Keepalive(hub), [FakeClient(hub) for _ in range(clients)]


def pinged(keepalive: Keepalive, turn: int, clients: list[FakeClient]) -> list[int]:
    """Sweep; return which clients were pinged. All have answered before."""
    for client in clients:
        client.socket.was_heard = True
    sweep(keepalive, turn)
    return [number for number, client in enumerate(clients) if not client.socket.was_heard]


@pytest.mark.parametrize("first", range(5))
async def test_a_new_client_is_pinged_after_a_whole_interval_and_then_once_in_each(first: int) -> None:
    hub, keepalive, clients = stage(NEWCOMERS_PER_TURN)
    turns = [turn % turns_of(hub) for turn in range(first, first + 11)]
    counts = [len(pinged(keepalive, turn, clients)) for turn in turns]
    everybody = NEWCOMERS_PER_TURN
    assert counts == [0, 0, 0, 0, everybody, 0, 0, 0, 0, everybody, 0]


async def test_many_that_come_at_once_are_spread_over_the_sweeps() -> None:
    hub, keepalive, clients = stage(5 * NEWCOMERS_PER_TURN)
    sweep(keepalive, 0)
    found = [pinged(keepalive, turn % turns_of(hub), clients) for turn in range(1, 6)]
    assert [len(numbers) for numbers in found] == [NEWCOMERS_PER_TURN] * 5
    assert sorted(number for numbers in found for number in numbers) == list(range(len(clients)))


async def test_an_interval_shorter_than_a_sweep_has_sweeps_of_its_own() -> None:
    """With one sweep in an interval, a client whose place in it moved was closed as silent soon after its ping."""
    hub, _ = new_hub(ping_seconds=0.5)
    keepalive, client = Keepalive(hub), FakeClient(hub)
    assert keepalive._seconds == 0.125
    found = [pinged(keepalive, turn % LEAST_SWEEPS, [client]) for turn in range(2 * LEAST_SWEEPS)]
    assert found == ([[]] * (LEAST_SWEEPS - 1) + [[0]]) * 2


async def test_a_sweep_that_is_held_up_is_no_longer_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    hub, _ = new_hub(ping_seconds=60)
    monkeypatch.setattr("gateway.clients.keepalive.LOOKED_AT_ONCE", 1)
    hub.viewers = {FakeClient(hub).session: None for _ in range(PIECES)}
    keepalive, now, looks = Keepalive(hub), 0.0, 0
    run_others = asyncio.sleep

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += max(0.0, seconds)
        await run_others(0)

    def look_at(viewers: object, turn: int, at: float) -> None:
        nonlocal now, looks
        now += 0.01  # each half of the time of a piece
        looks += 1

    monkeypatch.setattr("gateway.clients.keepalive.time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr("gateway.clients.keepalive.asyncio", SimpleNamespace(sleep=sleep))
    monkeypatch.setattr(keepalive, "look_at", look_at)
    task = asyncio.create_task(keepalive.run())
    while looks < PIECES:
        await run_others(0)
    task.cancel()
    assert now < 1.05, "1.5, where each wait begins anew"


async def test_a_client_that_was_heard_since_stays() -> None:
    hub, keepalive, (client,) = stage()
    for _ in range(3):
        sweep_once_round(keepalive, hub)
        assert not client.socket.was_heard, "it was pinged"
        client.socket.was_heard = True
    assert client.socket.closed_with is None


async def test_a_client_that_is_silent_for_a_whole_interval_after_its_ping_is_closed() -> None:
    hub, keepalive, (client,) = stage()
    sweep_once_round(keepalive, hub)
    assert client.socket.closed_with is None
    sweep_once_round(keepalive, hub)
    assert client.socket.closed_with == CloseCode.SILENT
    assert not hub.viewers


async def test_one_that_is_behind_for_less_than_its_limit_is_left_alone_and_not_pinged() -> None:
    hub, keepalive, (client,) = stage(slow_seconds=60)
    client.session.behind_since = NOW - 60
    sweep_once_round(keepalive, hub)
    sweep_once_round(keepalive, hub)
    assert client.socket.closed_with is None
    assert client.socket.was_heard


async def test_one_that_is_behind_for_longer_than_its_limit_is_closed_as_too_slow() -> None:
    hub, keepalive, (slow, quick) = stage(2, slow_seconds=60)
    slow.session.behind_since = NOW - 60.01
    sweep(keepalive, 0)
    assert slow.socket.closed_with == CloseCode.TOO_SLOW
    assert quick.socket.closed_with is None
    assert list(hub.viewers) == [quick.session]


async def test_who_left_or_fell_behind_since_the_sweep_began_is_not_pinged() -> None:
    _, keepalive, clients = stage(4)
    sweep(keepalive, 0)
    (piece,) = keepalive.pieces()
    gone, behind, slow, _ = clients
    behind.session.behind_since = NOW
    slow.session.behind_since = 0
    for client in (gone, slow):
        client.session.on_close(1000)
    keepalive.look_at(piece, 4, NOW)
    assert [client.socket.was_heard for client in clients] == [True, True, True, False]
    assert slow.socket.closed_with is None, "it is gone"


async def test_a_sweep_looks_at_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    hub, _ = new_hub(ping_seconds=0.01)
    clients = [FakeClient(hub) for _ in range(LOOKED_AT_ONCE * 3)]
    keepalive, pieces = Keepalive(hub), list[int]()
    monkeypatch.setattr(Keepalive, "look_at", lambda self, viewers, turn, now: pieces.append(len(viewers)))
    task = asyncio.create_task(keepalive.run())
    await eventually(lambda: sum(pieces) >= len(clients), "each to be looked at")
    task.cancel()
    assert max(pieces) == LOOKED_AT_ONCE


@pytest.mark.parametrize("count", [0, 1, LOOKED_AT_ONCE, LOOKED_AT_ONCE + 1, LOOKED_AT_ONCE * PIECES + 1])
async def test_however_many_there_are_a_sweep_has_all_of_them_in_a_bounded_number_of_pieces(count: int) -> None:
    hub, keepalive, _ = stage(0)
    hub.viewers = dict.fromkeys(range(count))  # type: ignore[arg-type]
    pieces = keepalive.pieces()
    assert [viewer for piece in pieces for viewer in piece] == list(hub.viewers)
    assert 1 <= len(pieces) <= PIECES


async def test_the_sweep_runs_by_itself_as_often_as_its_settings_need() -> None:
    hub, _ = new_hub(ping_seconds=0.02)
    client = FakeClient(hub)
    task = asyncio.create_task(Keepalive(hub).run())
    try:
        await eventually(lambda: client.socket.closed_with == CloseCode.SILENT, "the silent client to be closed")
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def above(lag: Histogram, bound: float) -> int:
    return sum(lag.counts[LAG_SECONDS.index(bound) + 1 :])


async def test_a_loop_that_is_held_up_is_seen() -> None:
    lag = Histogram(LAG_SECONDS)
    task = asyncio.create_task(watch_loop(lag))
    await eventually(lambda: sum(lag.counts) > 0, "the first look")
    before, long = lag.sum, above(lag, 0.25)
    time.sleep(LAG_CHECK_SECONDS + 0.3)
    await eventually(lambda: above(lag, 0.25) > long, "the next look")
    task.cancel()
    assert lag.sum - before > 0.25


async def test_a_loop_that_runs_is_not() -> None:
    lag = Histogram(LAG_SECONDS)
    task = asyncio.create_task(watch_loop(lag))
    await eventually(lambda: sum(lag.counts) - above(lag, 0.05) >= 3, "three looks in time")
    task.cancel()
