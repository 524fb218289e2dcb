"""The drain: its plan without a clock, and the drain itself on simulated sockets."""

import asyncio
import logging
import time
from typing import Any

import pytest

from gateway.clients import drain
from gateway.clients.drain import Drain, Plan, longest_seconds, may_remain
from gateway.codes import CloseCode
from gateway.projects.hub import Hub
from tests.contract.deadlines import eventually
from tests.fakes import FakeClient, new_hub
from tests.simulated_time import SimulatedTime

NO_TIME = 0.001
CLOSE_SECONDS = 0.3  # in place of 5


# The plan


@pytest.mark.parametrize(
    ("clients", "seconds", "rate", "window", "stay"),
    [
        (10_000, 20, 500, 20, 25),  # the default, full
        (1_000, 20, 500, 2, 7),
        (50_000, 20, 500, 20, 25),  # more than the rate allows: the time counts
        (300, 3, 100, 3, 3.75),
        (1, 1, 500, 0.002, 0.252),  # a terminal
        (0, 20, 500, 0, 0),  # nobody to wait for
        (10, 0, 500, 0, 0),  # switched off
    ],
)
def test_the_window_has_room_for_all_at_the_rate_and_is_bounded(
    clients: int, seconds: float, rate: float, window: float, stay: float
) -> None:
    plan = Plan.of(clients, seconds=seconds, rate=rate)
    assert plan.window_seconds == pytest.approx(window)
    assert plan.stay_seconds == pytest.approx(stay)


def test_the_window_ends_at_one_moment_whenever_a_client_is_told() -> None:
    plan = Plan(window_seconds=2, stay_seconds=7)
    assert [plan.window_ms(elapsed) for elapsed in (0, 0.5, 1.9996, 2, 6)] == [
        (0, 2_000), (0, 1_500), (0, 0), (0, 0), (0, 0),
    ]  # fmt: skip


def test_who_stayed_is_closed_at_the_rate_within_the_time() -> None:
    at = [may_remain(1_000, elapsed, seconds=20, rate=500) for elapsed in (0, 0.5, 1, 1.5, 2, 9)]
    assert at == [1_000, 750, 500, 250, 0, 0]
    at = [may_remain(100_000, elapsed, seconds=20, rate=500) for elapsed in (0, 10, 20)]
    assert at == [100_000, 50_000, 0]
    assert may_remain(5, 0, seconds=0, rate=500) == 0
    assert may_remain(0, 0, seconds=20, rate=500) == 0


def test_the_longest_drain_is_known_beforehand() -> None:
    assert longest_seconds(20) == 20 + 5 + 20 + CLOSE_SECONDS
    assert longest_seconds(1) == 1 + 0.25 + 1 + CLOSE_SECONDS
    assert longest_seconds(0) == CLOSE_SECONDS


# The drain


def told(client: FakeClient) -> list[list[int]]:
    return [message["reconnectIn"] for message in client.socket.written if message["type"] == "going_away"]


def answers(client: FakeClient) -> None:
    """Its close is answered at once, as a browser does."""
    close = client.socket.close

    def close_and_be_closed(code: int, reason: str = "") -> None:
        close(code, reason)
        client.socket.is_closed = True

    client.socket.close = close_and_be_closed  # type: ignore[method-assign]


def leave(client: FakeClient) -> None:
    client.socket.is_closed = True
    client.session.on_close()


def draining(hub: Hub, *, seconds: float = 0.2, cut: asyncio.Event | None = None) -> Drain:
    return Drain(hub, seconds=seconds, is_cut_short=(cut or asyncio.Event()).is_set)


@pytest.fixture(autouse=True)
async def _simulated_time(monkeypatch: pytest.MonkeyPatch) -> None:
    SimulatedTime(asyncio.get_running_loop(), monkeypatch)


@pytest.fixture(autouse=True)
def _quick_close(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain, "CLOSE_SECONDS", CLOSE_SECONDS)


def stage(clients: int, **settings: Any) -> tuple[Hub, list[FakeClient]]:
    hub, _ = new_hub(**settings)
    made = [FakeClient(hub) for _ in range(clients)]
    for client in made:
        answers(client)
    return hub, made


async def timed(run: Drain) -> float:
    loop = asyncio.get_running_loop()
    began = loop.time()
    await run.run()
    return loop.time() - began


async def test_without_clients_it_is_over_at_once() -> None:
    hub, _ = stage(0)
    assert await timed(draining(hub, seconds=20)) < 1
    assert hub.is_draining
    assert (hub.drains, hub.drain_forced_closes) == (1, 0)


async def test_a_replica_that_has_not_ended_after_its_longest_drain_is_overdue() -> None:
    hub, _ = stage(0)
    assert hub.drain_overdue_seconds == 0
    await draining(hub, seconds=0).run()
    assert hub.drain_overdue_seconds == 0
    await asyncio.sleep(CLOSE_SECONDS + 0.1)
    assert 0.05 < hub.drain_overdue_seconds < 1


async def test_it_is_over_when_the_last_client_has_left(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    hub, clients = stage(3)
    task = asyncio.create_task(timed(draining(hub, seconds=20)))
    await asyncio.sleep(0.02)
    for client in clients:
        ((least, most),) = told(client)
        assert least == 0 <= most <= 6, "3 clients, 500 a second"
    for client in clients:
        leave(client)
    assert await task < 2
    assert [client.socket.closed_with for client in clients] == [None] * 3
    assert caplog.messages[-1].endswith("3 clients left, 0 were closed, 0 of them by force")
    assert caplog.records[-1].levelno == logging.INFO


async def test_each_client_is_told_once_and_served_until_its_time_is_over() -> None:
    hub, (client,) = stage(1)
    task = asyncio.create_task(timed(draining(hub, seconds=0.4)))
    await asyncio.sleep(0.05)
    client.say("ping")
    assert client.kinds()[-2:] == ["going_away", "pong"]
    assert await task >= 0.1
    assert len(told(client)) == 1
    assert client.socket.closed_with == CloseCode.RESTART
    assert hub.drain_forced_closes == 0


async def test_many_are_told_in_batches_with_a_window_that_ends_for_all_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(drain, "TOLD_AT_ONCE", 10)
    hub, clients = stage(25, drain_rate=25)  # a second in all
    task = asyncio.create_task(draining(hub, seconds=2).run())
    counts = {0}
    while max(counts) < 25:
        await asyncio.sleep(NO_TIME)
        counts.add(sum(bool(told(client)) for client in clients))
    assert counts == {0, 10, 20, 25}
    ends = [window[1] for client in clients for window in told(client)]
    assert max(ends) <= 1_000
    assert min(ends) < max(ends), "who is told later has less time"
    for client in clients:
        leave(client)
    await task


async def test_who_is_behind_is_told_once_it_reads_again() -> None:
    """Writing to it would break its cursor; waiting for it would delay the others."""
    hub, (slow, quick) = stage(2, drain_rate=2)
    slow.socket.fill(1)
    slow.say("ping")
    assert slow.socket.is_behind
    task = asyncio.create_task(draining(hub, seconds=2).run())
    await asyncio.sleep(0.07)
    assert (told(slow), len(told(quick))) == ([], 1)
    slow.socket.drain()
    await asyncio.sleep(0.07)
    assert len(told(slow)) == 1
    leave(slow)
    leave(quick)
    await task


async def test_who_became_a_client_after_the_signal_is_told_and_closed_like_the_others() -> None:
    """Its upgrade was in progress."""
    hub, clients = stage(1)
    task = asyncio.create_task(draining(hub, seconds=4).run())  # a second to move
    await asyncio.sleep(0.02)
    clients.append(FakeClient(hub))
    answers(clients[-1])
    async with asyncio.timeout(9):
        await task
    assert [len(told(client)) for client in clients] == [1, 1]
    assert [client.socket.closed_with for client in clients] == [CloseCode.RESTART] * 2


async def test_those_who_stay_are_closed_in_paced_batches() -> None:
    hub, clients = stage(40, drain_rate=80)
    task = asyncio.create_task(draining(hub, seconds=0.5).run())
    remaining = set()
    while not task.done():
        remaining.add(len(hub.viewers))
        await asyncio.sleep(NO_TIME)
    assert len(remaining) >= 5, f"in ten ticks: {sorted(remaining)}"
    assert {client.socket.closed_with for client in clients} == {CloseCode.RESTART}


async def test_one_that_does_not_answer_its_close_is_ended_by_the_bound_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hub, (good,) = stage(1)
    stuck = FakeClient(hub)
    ended: list[bool] = []
    stuck.socket.abort = lambda: ended.append(True)  # type: ignore[method-assign]
    assert await timed(draining(hub)) < longest_seconds(0.2) + 2
    assert ended == [True]
    assert hub.drain_forced_closes == 1
    assert caplog.records[-1].levelno == logging.WARNING
    assert caplog.messages[-1].endswith("2 were closed, 1 of them by force")
    assert good.socket.closed_with == CloseCode.RESTART


async def test_switched_off_nobody_is_told_and_all_are_closed_at_once() -> None:
    hub, clients = stage(100)
    assert await timed(draining(hub, seconds=0)) < 1
    assert [told(client) for client in clients] == [[]] * 100
    assert {client.socket.closed_with for client in clients} == {CloseCode.RESTART}


@pytest.mark.parametrize("after", [0.02, 0.12])
async def test_it_can_be_cut_short_at_any_moment(after: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """While they move, and while those who stayed are closed."""
    monkeypatch.setattr(drain, "CLOSE_SECONDS", 30)
    hub, clients = stage(100, drain_rate=1)
    stuck = FakeClient(hub)
    cut = asyncio.Event()
    run = draining(hub, seconds=0.08 if after > 0.1 else 20, cut=cut)
    task = asyncio.create_task(timed(run))
    await asyncio.sleep(after)
    cut.set()
    assert await task < after + 2
    assert {client.socket.closed_with for client in clients} == {CloseCode.RESTART}, "all were told why"
    assert stuck.socket.closed_with == 1006
    assert hub.drain_forced_closes == 1


async def test_a_lame_duck_serves_and_takes_newcomers_and_drains_them_all_afterwards() -> None:
    hub, clients = stage(1)
    hub.is_draining, hub.lame_duck_until = True, time.monotonic() + 0.3
    task = asyncio.create_task(draining(hub, seconds=4).run())
    await asyncio.sleep(0.02)
    assert (hub.is_ready, hub.takes_newcomers) == (False, True)
    assert told(clients[0]) == []
    clients.append(FakeClient(hub))
    await eventually(lambda: all(map(told, clients)), "both to be told")
    assert not hub.takes_newcomers
    for client in clients:
        leave(client)
    await task
    assert hub.drain_overdue_seconds == 0


async def test_a_lame_duck_without_clients_waits_for_them_too() -> None:
    hub, _ = stage(0)
    hub.is_draining, hub.lame_duck_until = True, time.monotonic() + 0.3
    assert await timed(draining(hub, seconds=0)) > 0.2


async def test_a_lame_duck_can_be_cut_short() -> None:
    hub, (client,) = stage(1)
    hub.is_draining, hub.lame_duck_until = True, time.monotonic() + 3_600
    cut = asyncio.Event()
    task = asyncio.create_task(draining(hub, cut=cut).run())
    await asyncio.sleep(0.02)
    cut.set()
    async with asyncio.timeout(20):
        await task
    assert client.socket.closed_with == CloseCode.RESTART


async def test_a_long_drain_says_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(drain, "PROGRESS_SECONDS", 0.1)
    caplog.set_level(logging.INFO)
    hub, _ = stage(5)
    await draining(hub, seconds=1.2).run()
    assert caplog.messages[0] == "Draining: 5 clients should move within 0.0 s"
    assert caplog.messages.count("Draining: 5 of 5 clients are still here") in (1, 2, 3)
    assert "Draining: closing 5 clients that stayed" in caplog.messages


async def test_who_has_not_answered_its_close_is_still_here(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(drain, "PROGRESS_SECONDS", 0.1)
    caplog.set_level(logging.INFO)
    hub, _ = stage(1)
    stuck = FakeClient(hub)
    await draining(hub, seconds=0).run()
    assert "Draining: 1 of 2 clients are still here" in caplog.messages
    assert stuck.socket.closed_with == 1006
