"""A replica that shuts down: it refuses new clients at once and serves the others until they have moved."""

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
import pytest

from gateway.clients.drain import longest_seconds

from .client import Client, connect, upgrade_status, watching
from .conftest import Launch
from .deadlines import STALL_SECONDS, eventually, wait_for
from .events import complete, progress
from .processes import PublisherProcess, Replica
from .raw import raw_connect, reader

CLIENTS = 50


@asynccontextmanager
async def crowd(replica: Replica, project: str, size: int = CLIENTS) -> AsyncIterator[list[Client]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(watching(replica.ws, project)) for _ in range(size)]


async def ended(replica: Replica) -> int:
    return await asyncio.to_thread(replica.wait, "the drained replica to end")


async def drained(replica: Replica, number: signal.Signals = signal.SIGTERM) -> float:
    """Sends the signal; the seconds until the end."""
    began = time.monotonic()
    replica.signal(number)
    assert await ended(replica) == 0
    return time.monotonic() - began


async def test_at_the_signal_new_clients_are_refused_and_those_who_are_here_are_told_and_served(
    launch: Launch, publisher: PublisherProcess, project: str
) -> None:
    replica = launch(drain_seconds=60, drain_rate=1)
    publisher.seq(project, complete("before"))
    async with (
        httpx.AsyncClient(base_url=replica.http, trust_env=False, timeout=30) as balancer,
        crowd(replica, project) as clients,
    ):
        assert (await balancer.get("/readyz")).status_code == 200
        replica.signal(signal.SIGTERM)
        await clients[0].until_type("going_away")  # the signal itself has arrived
        answer = await balancer.get("/readyz")
        assert (answer.status_code, answer.json()["draining"]) == (503, True)
        assert await upgrade_status(replica.ws) == 503
        for client in clients:
            if client is not clients[0]:
                await client.until_type("going_away")
            (going_away,) = [message for message in client.received if message["type"] == "going_away"]
            assert going_away.keys() == {"type", "reconnectIn"}
            least, most = going_away["reconnectIn"]
            assert least == 0
            assert 50_000 - 1_000 * STALL_SECONDS < most <= 50_000, "50 clients, one a second"

        publisher.seq(project, complete("meanwhile"))
        for client in clients:
            assert (await client.until_job("meanwhile"))[-1]["type"] == "job_complete"
        await clients[0].send("subscribe", projectId=project)
        await clients[0].expect("subscribed")
        assert [event["jobId"] for event in await clients[0].events(2)] == ["before", "meanwhile"]

        for client in clients:
            await client.socket.close()
        began = time.monotonic()
        assert await ended(replica) == 0
        assert time.monotonic() - began < 20, "when all have left it is over"
    assert f"{CLIENTS} clients left, 0 were closed, 0 of them by force" in replica.log


async def test_a_lame_duck_is_not_ready_but_takes_clients_and_disturbs_nobody(
    launch: Launch, publisher: PublisherProcess, project: str
) -> None:
    replica = launch(lame_duck_seconds=600, publish_keys="k" * 16)
    async with (
        httpx.AsyncClient(base_url=replica.http, trust_env=False, timeout=30) as balancer,
        watching(replica.ws, project) as early,
    ):
        replica.signal(signal.SIGTERM)

        await asyncio.to_thread(wait_for, lambda: replica.status("/readyz") == 503, "/readyz to be 503")
        assert (await balancer.get("/healthz")).status_code == 200
        headers = {"authorization": f"Bearer {'k' * 16}"}
        answer = await balancer.post(f"/projects/{project}/events", json=[progress("by_http")], headers=headers)
        assert answer.status_code == 202
        async with watching(replica.ws, project) as late:
            publisher.seq(project, complete("meanwhile"))
            for client in (early, late):
                await client.until_job("meanwhile")
                assert "going_away" not in [message["type"] for message in client.received]
            replica.signal(signal.SIGTERM)  # the second one cuts it short
            assert [await client.closed() for client in (early, late)] == [1012] * 2
        assert await ended(replica) == 0


async def test_after_the_lame_duck_the_drain_is_as_ever(launch: Launch, project: str) -> None:
    replica = launch(lame_duck_seconds=1, drain_seconds=60, drain_rate=0.02)
    async with watching(replica.ws, project) as client:
        replica.signal(signal.SIGTERM)
        await client.until_type("going_away")
        assert await upgrade_status(replica.ws) == 503
        assert "Not ready: clients are still taken for" in replica.log
        await client.socket.close()
        assert await ended(replica) == 0


async def test_somebody_at_a_terminal_does_not_wait_for_load_balancers(launch: Launch) -> None:
    assert await drained(launch(lame_duck_seconds=600), signal.SIGINT) < 60


async def test_an_old_client_is_told_to_move_and_is_served_on(
    launch: Launch, publisher: PublisherProcess, project: str
) -> None:
    replica = launch(max_age_seconds=2)
    began = time.monotonic()
    async with watching(replica.ws, project) as client:
        (message,) = (await client.until_type("going_away"))[-1:]
        assert time.monotonic() - began >= 1
        assert message["reconnectIn"][0] == 0
        publisher.seq(project, complete("afterwards"))
        await client.until_job("afterwards")
        assert "gateway_moves_asked_total 0.0" not in replica.metrics()


async def test_those_who_stay_are_closed_with_1012_one_after_the_other(launch: Launch, project: str) -> None:
    replica = launch(drain_seconds=5, drain_rate=5)
    closed_at: list[float] = []

    async def stay(client: Client) -> None:
        assert await client.closed() == 1012
        closed_at.append(time.monotonic())

    async with crowd(replica, project, 20) as clients:
        began = time.monotonic()
        replica.signal(signal.SIGTERM)
        await asyncio.gather(*map(stay, clients))
    assert await ended(replica) == 0
    assert all("going_away" in [message["type"] for message in client.received] for client in clients)
    assert min(closed_at) - began >= 4, "the window, which they let pass"
    assert max(closed_at) - min(closed_at) > 0.5, (
        "20 clients, 5 a second, but for those that a stalled machine closes at once"
    )
    assert "20 were closed, 0 of them by force" in replica.log


async def test_control_without_a_window_nobody_is_told_and_all_are_closed_at_once(launch: Launch, project: str) -> None:
    replica = launch(drain_seconds=0)
    async with crowd(replica, project) as clients:
        began = time.monotonic()
        replica.signal(signal.SIGTERM)
        assert await asyncio.gather(*(client.closed() for client in clients)) == [1012] * CLIENTS
        assert time.monotonic() - began < STALL_SECONDS
    assert "going_away" not in [message["type"] for client in clients for message in client.received]
    assert await ended(replica) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_without_clients_it_ends_at_once(launch: Launch, number: signal.Signals) -> None:
    patched = "gateway.clients.drain.MOVE_SECONDS=60"
    assert await drained(launch(drain_seconds=240, patched=patched), number) < 30


async def test_somebody_at_a_terminal_waits_for_a_second(launch: Launch) -> None:
    replica = launch(drain_seconds=240, patched="gateway.clients.drain.MOVE_SECONDS=60")
    async with connect(replica.ws) as client:
        took = asyncio.create_task(drained(replica, signal.SIGINT))
        assert await client.closed() == 1012
        assert client.received[-1]["type"] == "going_away"
        assert await took < 30


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_it_at_once_and_says_why(
    launch: Launch, project: str, second: signal.Signals
) -> None:
    replica = launch(drain_seconds=60, drain_rate=0.4)
    async with crowd(replica, project, 20) as clients:
        replica.signal(signal.SIGTERM)
        for client in clients:
            assert (await client.until_type("going_away"))[-1]["reconnectIn"][1] > 50_000 - 1_000 * STALL_SECONDS
        assert await drained(replica, second) < 30
        assert [await client.closed() for client in clients] == [1012] * 20


async def test_a_client_that_never_reads_is_ended_by_the_bound_and_counted(
    launch: Launch, publisher: PublisherProcess, project: str
) -> None:
    """One has a full socket, one reads but never answers; a third one, which behaves, is not delayed."""
    replica = launch(drain_seconds=0.4)
    async with reader(replica.port, small=True) as stuck, raw_connect(replica.port) as mute:
        await eventually(lambda: stuck.texts > 0, "the client to be greeted")
        stuck.send(json.dumps({"type": "subscribe", "projectId": project}))
        await eventually(lambda: stuck.texts > 1, "the client to be subscribed")
        stuck.stop_reading()
        events = [progress(f"job_{number}", message="long " * 380) for number in range(900)]
        for _ in range(5):
            publisher.publish_all(project, events)
        async with connect(replica.ws) as good:
            began = time.monotonic()
            replica.signal(signal.SIGTERM)
            await good.until_type("going_away")
            await good.socket.close()
            assert await ended(replica) == 0
            assert time.monotonic() - began < longest_seconds(0.4) + STALL_SECONDS
        assert b"going_away" in await mute.text("going_away")
        assert await mute.close_code() == 1012
    assert "1 clients left, 2 were closed, 2 of them by force" in replica.log


async def test_the_demo_drains_likewise(launch: Launch) -> None:
    demo = launch(command="demo", drain_seconds=20)
    async with watching(demo.ws, "demo") as client:
        await client.until(lambda message: message["type"] == "progress", "progress of the demo")
        took = asyncio.create_task(drained(demo))
        await client.until_type("going_away")
        await client.until(lambda message: message["type"] == "progress", "progress, while it drains")
        assert await client.closed() == 1012
        assert 5 <= await took < 20
