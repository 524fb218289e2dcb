"""A publish storm, and viewers that come late, leave and return in it: each ends with the right picture."""

import asyncio
import random
from collections.abc import Iterator

from .client import END_TYPES, Client, Job, Message, connect, is_event, job_of
from .conftest import Launch
from .deadlines import eventually
from .events import complete, failed, progress
from .processes import PublisherProcess, Replica

CLIENTS = 40
JOBS = 40
STEPS = 20
BATCH = 10
PAUSE_SECONDS = 0.02


class Viewer:
    """One person who watches a project over several connections, as a page does: by its cursor."""

    def __init__(self) -> None:
        self.cursor: int | None = None
        self.picture: dict[Job, Message] = {}
        self.unrecovered: list[Message] = []
        self.after_the_end: list[tuple[Message, Message]] = []

    def see(self, message: Message) -> None:
        if message["type"] == "subscribed":
            if not message["recovered"]:
                self.unrecovered.append(message)
        elif is_event(message):
            before = self.picture.get(job_of(message))
            if before is not None and before["type"] in END_TYPES and message["type"] == "progress":
                self.after_the_end.append((before, message))
            self.picture[job_of(message)] = message
            self.cursor = message["seq"]


def storm() -> Iterator[Message]:
    """Jobs that run side by side in a shuffled order, half of them with sentences and attempts."""
    dice = random.Random(3)
    steps = [number for number in range(JOBS) for _ in range(STEPS)]
    dice.shuffle(steps)
    done = dict.fromkeys(range(JOBS), 0)
    for number in steps:
        done[number] += 1
        job = f"job_{number // 2}"
        more: Message = {"sentenceId": f"s{number}"} if number % 2 else {}
        if number // 2 % 3 == 0:  # the parts of a job carry the job's number
            more["attempt"] = 1
        if done[number] < STEPS:
            yield progress(job, 100 * done[number] / STEPS, **more)
        else:
            yield failed(job, **more) if number % 5 == 0 else complete(job, **more)


async def publish(publisher: PublisherProcess, project: str, events: list[Message]) -> dict[Job, Message]:
    """Publishes at a pace that leaves viewers time to come and go; returns the picture that Redis has to show."""
    picture: dict[Job, Message] = {}
    for start in range(0, len(events), BATCH):
        batch = events[start : start + BATCH]
        seqs = await asyncio.to_thread(publisher.publish_all, project, batch)
        for event, seq in zip(batch, seqs, strict=True):
            assert seq is not None, f"refused: {event}"
            picture[job_of(event)] = event | {"projectId": project, "seq": seq}
        await asyncio.sleep(PAUSE_SECONDS)
    return picture


async def come_and_go(
    viewer: Viewer, dice: random.Random, replicas: tuple[Replica, Replica], project: str, over: asyncio.Future[int]
) -> None:
    """Connects anew, on either replica, until the storm is over, and then once more, to see its last event."""
    await asyncio.sleep(dice.random())
    while not over.done():
        async with connect(dice.choice(replicas).ws) as client:
            viewer.see(await client.subscribe(project, viewer.cursor))
            await watch_some(viewer, client, dice.randrange(1, 120), over)
    async with connect(dice.choice(replicas).ws) as client:
        viewer.see(await client.subscribe(project, viewer.cursor))
        while viewer.cursor != over.result():
            viewer.see(await client.next("the last event of the storm"))


async def watch_some(viewer: Viewer, client: Client, count: int, over: asyncio.Future[int]) -> None:
    """Sees up to so many messages, or as many as come before the storm is over."""
    for _ in range(count):
        if over.done():
            return
        try:
            viewer.see(await asyncio.wait_for(client.next("an event of the storm"), 0.2))
        except TimeoutError:
            pass


async def test_viewers_that_come_late_leave_and_resume_end_with_the_picture_of_redis(
    replicas: tuple[Replica, Replica], publisher: PublisherProcess, project: str
) -> None:
    viewers = [Viewer() for _ in range(CLIENTS)]
    over: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    async with asyncio.timeout(180), asyncio.TaskGroup() as group:
        for number, viewer in enumerate(viewers):
            group.create_task(come_and_go(viewer, random.Random(number), replicas, project, over))
        picture = await publish(publisher, project, list(storm()))
        over.set_result(max(event["seq"] for event in picture.values()))
    assert len(picture) == JOBS
    assert all(event["type"] in END_TYPES for event in picture.values())
    for viewer in viewers:
        assert viewer.after_the_end == []
        assert viewer.unrecovered == []
        assert viewer.picture == picture


async def test_a_late_client_sees_after_the_storm_what_redis_remembers(
    replicas: tuple[Replica, Replica], publisher: PublisherProcess, project: str
) -> None:
    picture = await publish(publisher, project, list(storm())[::7])
    for replica in replicas:
        async with connect(replica.ws) as client:
            await client.subscribe(project)
            events = await client.events(len(picture))
            assert await client.ping() == []
            assert {job_of(event): event for event in events} == picture


async def test_no_event_falls_between_subscribed_and_live(
    replicas: tuple[Replica, Replica], publisher: PublisherProcess, project: str
) -> None:
    """Each event is of a job of its own, so that a single one that is lost shows."""
    total = 800
    joined: list[Client] = []

    async def join(number: int) -> None:
        await asyncio.sleep(number * 0.03)
        async with connect(replicas[number % 2].ws) as client:
            joined.append(client)
            answer = await client.subscribe(project)
            await client.until_job(f"job_{total - 1}")
            events = list(filter(is_event, client.received))
            assert [event["jobId"] for event in events] == [f"job_{index}" for index in range(total)]
            old = [event["seq"] <= answer["seq"] for event in events]
            assert old == sorted(old, reverse=True), "replay comes first, then news"

    async with asyncio.timeout(180), asyncio.TaskGroup() as group:
        for number in range(CLIENTS):
            group.create_task(join(number))
        await eventually(lambda: bool(joined), "the first client")
        await publish(publisher, project, [progress(f"job_{index}") for index in range(total)])


async def test_who_leaves_and_returns_without_end_sees_each_event_once(
    launch: Launch, publisher: PublisherProcess, project: str
) -> None:
    """Without a linger each return subscribes to Redis and loads anew, in the middle of the storm."""
    replica = launch(linger_seconds=0, subscribe_rate=10_000, subscribe_burst=10_000)
    total, names = 900, [f"{project}_{number}" for number in range(4)]
    rounds = dict.fromkeys(names, 0)

    async def flicker(name: str) -> None:
        seen: list[str] = []
        cursor: int | None = None
        async with connect(replica.ws) as client:
            while len(seen) < total:
                rounds[name] += 1
                assert (await client.subscribe(name, cursor))["recovered"] is True
                await client.send("unsubscribe", projectId=name)
                for event in (await client.until_type("unsubscribed"))[:-1]:
                    seen.append(event["jobId"])
                    cursor = event["seq"]
        assert seen == [f"job_{number}" for number in range(total)]

    async with asyncio.timeout(180), asyncio.TaskGroup() as group:
        for name in names:
            group.create_task(flicker(name))
        for number in range(0, total, BATCH):
            for name in names:
                events = [progress(f"job_{index}") for index in range(number, number + BATCH)]
                await asyncio.to_thread(publisher.publish_all, name, events)
            # The storm is never over before they have come and gone some thirty times, on a slow machine too.
            await eventually(lambda n=number: min(rounds.values()) > n // (3 * BATCH), "the viewers to return")  # type: ignore[misc]
