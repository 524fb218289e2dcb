"""The sweep, without its clock: who is pinged, and who is let go."""

import asyncio
from typing import Any

import pytest

from gateway.codes import CloseCode
from gateway.hub import Hub
from gateway.keepalive import Keepalive
from tests.contract.deadlines import eventually
from tests.fakes import FakeClient, new_hub

NOW = 1_000_000.0  # far above every `behind_since` of this process


def turns_of(hub: Hub) -> int:
    return round(hub.settings.ping_seconds)


def sweep_once_round(keepalive: Keepalive, hub: Hub) -> None:
    """As many sweeps as one ping interval has."""
    for turn in range(turns_of(hub)):
        keepalive.sweep(turn, NOW)


@pytest.fixture(autouse=True)
async def _in_a_loop() -> None:
    """A client that is let go starts the linger of its projects, a timer of the loop."""


def stage(clients: int = 1, **settings: Any) -> tuple[Hub, Keepalive, list[FakeClient]]:
    hub, _ = new_hub(ping_seconds=5, **settings)
    return hub, Keepalive(hub), [FakeClient(hub) for _ in range(clients)]


async def test_everybody_is_pinged_once_in_an_interval() -> None:
    hub, keepalive, clients = stage(12)
    pings: list[int] = []
    for number, client in enumerate(clients):
        client.socket.ping = lambda number=number: pings.append(number)  # type: ignore[method-assign, misc]
    sweep_once_round(keepalive, hub)
    assert sorted(pings) == list(range(12))


async def test_pings_are_spread_over_the_sweeps() -> None:
    hub, keepalive, clients = stage(50)
    counts = []
    for turn in range(turns_of(hub)):
        for client in clients:
            client.socket.was_heard = True
        keepalive.sweep(turn, NOW)
        counts.append(sum(not client.socket.was_heard for client in clients))
    assert counts == [10] * 5


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
    keepalive.sweep(0, NOW)
    assert slow.socket.closed_with == CloseCode.TOO_SLOW
    assert quick.socket.closed_with is None
    assert hub.viewers == {quick.session}


async def test_the_sweep_runs_by_itself_as_often_as_its_settings_need() -> None:
    hub, _ = new_hub(ping_seconds=0.02)
    client = FakeClient(hub)
    task = asyncio.create_task(Keepalive(hub).run())
    try:
        await eventually(lambda: client.socket.closed_with == CloseCode.SILENT, "the silent client to be closed")
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
