"""A live `/metrics`, compared with what the clients counted."""

import asyncio
import contextlib
import re
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from .client import connect, upgrade_status, watching
from .conftest import Launch
from .deadlines import STALL_SECONDS, eventually, wait_for
from .events import complete, progress
from .processes import PublisherProcess, RedisServer, Replica, free_port
from .raw import TEXT, RawClient, frame, raw_connect, raw_socket, request

VIEWERS, PROJECTS = 20, 4
KEY = "0123456789abcdef"


class Metrics:
    """What a replica showed, by name and label."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._values = {
            (sample.name, *sorted(sample.labels.values())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def __call__(self, name: str, *labels: str) -> float:
        return self._values[(f"gateway_{name}", *labels)]

    def nonzero(self, name: str) -> dict[str, float]:
        """The series of a labelled metric that are not 0, by label."""
        return {key[1]: value for key, value in self._values.items() if key[0] == f"gateway_{name}" and value}


def scrape(port: int) -> Metrics:
    with httpx.Client(trust_env=False, timeout=30) as http:
        answer = http.get(f"http://127.0.0.1:{port}/metrics")
    assert answer.status_code == 200
    return Metrics(answer.text)


class Counting:
    """A viewer that keeps each byte that comes after its handshake."""

    def __init__(self, client: RawClient) -> None:
        self.client = client
        self.data = bytearray()

    async def read(self) -> None:
        while data := await self.client.reader.read(1 << 16):
            self.data += data

    def events(self) -> int:
        return self.data.count(b'"type":"progress"') + self.data.count(b'"type":"job_complete"')


@asynccontextmanager
async def viewers(replica: Replica, projects: list[str]) -> AsyncIterator[list[Counting]]:
    async with contextlib.AsyncExitStack() as stack:
        counting = []
        for number in range(VIEWERS):
            client = await stack.enter_async_context(raw_socket(replica.port))
            await client.send(request(replica.port))
            assert await client.status() == 101
            viewer = Counting(client)
            task = asyncio.create_task(viewer.read())
            stack.callback(task.cancel)
            message = b'{"type":"subscribe","projectId":"%s"}' % projects[number % PROJECTS].encode()
            await client.send(frame(TEXT, message))
            await eventually(lambda viewer=viewer: b'"subscribed"' in viewer.data, "subscribed")  # type: ignore[misc]
            counting.append(viewer)
        yield counting


async def test_under_load_the_metrics_are_what_the_clients_counted(
    launch: Launch, redis_server: RedisServer, publisher: PublisherProcess, project: str
) -> None:
    replica = launch(ping_seconds=3_600)
    projects = [f"{project}_{number}" for number in range(PROJECTS)]
    plain = [progress(f"job_{number % 7}", number % 100) for number in range(400)]
    events = [progress("job", percent) for percent in range(50)] + [complete("job")]
    async with viewers(replica, projects) as counting:

        async def arrived(each: int, watching: list[Counting]) -> None:
            await eventually(lambda: all(viewer.events() == each for viewer in watching), "every event")

        for number, name in enumerate(projects):
            redis_server.publish_all(name, [*plain, "no event"])  # in one pipeline: many arrive at once
            # In one batch with these, which have no seq, the time of the others would not be observed.
            await arrived(len(plain), counting[number::PROJECTS])
            results = await asyncio.to_thread(publisher.publish_all, name, events)
            assert None not in results
        each = len(plain) + len(events)
        await arrived(each, counting)
        metrics = await asyncio.to_thread(scrape, replica.port)
        assert metrics("events_received_total") == PROJECTS * (each + 1)
        assert metrics("events_bad_total") == PROJECTS
        assert metrics("received_bytes_total") > PROJECTS * sum(len(str(event)) for event in events)
        assert metrics("sent_bytes_total") == sum(len(viewer.data) for viewer in counting)
        assert metrics("deliveries_total") + metrics("deliveries_joined_total") == VIEWERS * each
        assert metrics("deliveries_joined_total") > 0
        assert metrics("subscriptions") == metrics("connections") == VIEWERS
        assert metrics("projects") == PROJECTS
        # Those with a seq, some of which came together: once for each batch.
        assert PROJECTS <= metrics("delivery_seconds_count") <= PROJECTS * len(events)
        assert 0 < metrics("delivery_seconds_sum") / metrics("delivery_seconds_count") < 5
        assert metrics("delivery_seconds_bucket", "+Inf") == metrics("delivery_seconds_count")
        assert metrics("event_loop_lag_seconds_count") > 0
        assert metrics("redis_connected") == 1
        assert metrics("stale_seconds_total") < 5
        checked = subprocess.run(["promtool", "check", "metrics"], input=metrics.text.encode(), capture_output=True)
        assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


async def test_each_close_is_counted_by_its_code(launch: Launch) -> None:
    replica = launch(max_bad_messages=2, max_message_bytes=1000)

    async def closing(code: int, times: int) -> None:
        for _ in range(times):
            async with connect(replica.ws) as client:
                await client.socket.close(code)

    await closing(1000, 3)
    await closing(1001, 2)
    await closing(4999, 1)
    await closing(3333, 1)
    async with connect(replica.ws) as client:
        await client.send_raw("x")
        await client.send_raw("x")
        assert await client.closed() == 1008
    async with connect(replica.ws) as client:
        await client.send_raw("x" * 1001)
        assert await client.closed() == 1009
    async with raw_connect(replica.port):
        pass  # it breaks off
    async with raw_connect(replica.port) as raw:
        await raw.send(frame(TEXT, b"unmasked", masked=False))
        assert await raw.close_code() == 1002
    expected = {"1000": 3, "1001": 2, "1002": 1, "1006": 1, "1008": 1, "1009": 1, "other": 2}
    wait_for(lambda: sum(scrape(replica.port).nonzero("connections_closed_total").values()) == 11, "all closes")
    metrics = scrape(replica.port)
    assert metrics.nonzero("connections_closed_total") == expected
    assert metrics("connections_opened_total") == 11
    assert metrics("connections") == 0


async def test_each_handshake_is_counted_by_its_outcome(launch: Launch) -> None:
    admin_port = free_port()
    replica = launch(max_connections=2, admin_port=admin_port)
    assert await upgrade_status(replica.ws, origin="https://elsewhere.example") == 403
    async with raw_connect(replica.port) as one, raw_connect(replica.port):
        for _ in range(3):
            assert await upgrade_status(replica.ws) == 503
        replica.signal(signal.SIGTERM)
        await eventually(lambda: scrape(admin_port)("draining") == 1, "the drain to begin")
        # Either the listener is gone already, or the upgrade is refused; both are an end for a load balancer.
        with contextlib.suppress(OSError):
            async with raw_socket(replica.port) as late:
                await late.send(request(replica.port))
                assert await late.status() == 503
        expected = {"accepted": 2, "full": 3, "origin": 1}
        counted = (await asyncio.to_thread(scrape, admin_port)).nonzero("handshakes_total")
        assert {name: count for name, count in counted.items() if name != "draining"} == expected
        assert counted.get("draining", 0) <= 1
        del one
    await asyncio.to_thread(replica.wait, "the end", 30)


@pytest.fixture
def lost(launch: Launch, own_redis: RedisServer) -> Replica:
    return launch(own_redis.url)


async def test_an_outage_is_in_the_metrics(lost: Replica, own_redis: RedisServer, project: str) -> None:
    async with watching(lost.ws, project) as client:
        before = await asyncio.to_thread(scrape, lost.port)
        own_redis.kill()
        await client.expect("stale")
        await asyncio.sleep(1)
        during = await asyncio.to_thread(scrape, lost.port)
        own_redis.start()
        await client.until_type("live")
        after = await asyncio.to_thread(scrape, lost.port)
    assert (before("redis_connected"), during("redis_connected"), after("redis_connected")) == (1, 0, 1)
    assert 0.9 < during("stale_seconds_total") - before("stale_seconds_total") < 1 + STALL_SECONDS
    assert before("redis_probe_seconds_count") >= 1
    assert before("redis_probe_seconds_sum") > 0
    assert before.nonzero("redis_reconnects_total") == {}
    assert sum(during.nonzero("redis_reconnects_total").values()) == 1
    assert set(during.nonzero("redis_reconnects_total")) <= {"closed", "away"}
    assert after("stale_seconds_total") >= during("stale_seconds_total")
    await asyncio.sleep(0.2)
    assert (await asyncio.to_thread(scrape, lost.port))("stale_seconds_total") == after("stale_seconds_total")


async def test_labels_are_those_that_are_there_from_the_start(
    launch: Launch, publisher: PublisherProcess, project: str
) -> None:
    """Whatever clients and publishers do, no series is added."""
    replica = launch(publish_keys=KEY)
    before = scrape(replica.port)
    series = re.compile(r"^gateway_[^ ]+", re.MULTILINE)
    async with watching(replica.ws, project) as client, httpx.AsyncClient(trust_env=False, timeout=30) as http:
        publisher.seq(project, progress("job"))
        for key in (KEY, "another key"):
            headers = {"Authorization": f"Bearer {key}"}
            await http.post(f"{replica.http}/projects/{project}/events", json=progress("a"), headers=headers)
            await http.post(f"{replica.http}/projects/{project}/events", json={"type": project}, headers=headers)
        await client.send(project)
        await client.socket.close(4242)
    after = scrape(replica.port)
    assert series.findall(after.text) == series.findall(before.text)
    assert project not in after.text
