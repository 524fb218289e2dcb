"""`make top-picture`: docs/top.svg, `progress-gateway top` with two replicas and 1,000 clients."""

import asyncio
import os
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from gateway.commands import top_views
from gateway.commands.top import Replicas
from publisher import broadcast_to_project
from publisher.tokens import mint
from tests.contract.processes import RedisServer, Replica, free_port
from tests.contract.raw import TEXT, frame, request

PICTURE = Path(__file__).parent.parent / "docs" / "top.svg"
CLIENTS, PROJECTS, SLOW = 1_000, 40, 7
SECRET = "s" * 32
SIZE = (132, 42)  # of the terminal
EVENTS_PER_SECOND = 40


class Viewer(asyncio.Protocol):
    """Subscribes, and reads all that comes, or nothing more."""

    def __init__(self, port: int, project: str, user: str, *, is_slow: bool) -> None:
        token = mint([project], sub=user, secret=SECRET)
        self._opening = request(port, more=(f"Authorization: Bearer {token}",))
        self._project = project
        self._is_slow = is_slow
        self.seen = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self._opening)

    def data_received(self, data: bytes) -> None:
        if b"subscribed" in self.seen:
            if self._is_slow:
                self.transport.pause_reading()
            return
        if b"connected" not in self.seen and b"connected" in self.seen + data:
            text = f'{{"type":"subscribe","projectId":"{self._project}"}}'
            self.transport.write(frame(TEXT, text.encode()))
        self.seen += data


def publish(until: float) -> None:
    number = 0
    while time.monotonic() < until:
        number += 1
        event = {"type": "progress", "jobId": f"job_{number % 7}", "jobType": "audio", "progress": number % 100}
        project = f"film_{number % PROJECTS}" if number % 3 else "film_7"
        broadcast_to_project(project, event | {"data": {"preview": "x" * 7_000}})
        time.sleep(1 / EVENTS_PER_SECOND)


async def fill(replicas: list[Replica]) -> list[Viewer]:
    loop = asyncio.get_running_loop()
    viewers = []
    for number in range(CLIENTS):
        port = replicas[0 if number % 5 < 3 else 1].port
        is_slow = number % (CLIENTS // SLOW) == 3
        project = "film_7" if is_slow else f"film_{int((number * number) % 1_597 * PROJECTS / 1_597 * 0.9)}"
        viewer = Viewer(port, project, f"user_{number % 640}", is_slow=is_slow)
        await loop.create_connection(lambda viewer=viewer: viewer, "127.0.0.1", port)  # type: ignore[misc]
        viewers.append(viewer)
        if number % 50 == 0:
            await asyncio.sleep(0.05)
    while not all(b"subscribed" in viewer.seen for viewer in viewers):
        await asyncio.sleep(0.1)
    return viewers


async def picture() -> None:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory()))
        redis = RedisServer()
        stack.callback(redis.kill)
        os.environ["REDIS_URL"] = redis.url
        replicas = []
        ports = [free_port(), free_port()]
        for number, port in enumerate(ports):
            settings = {"auth": "jwt", "jwt_secret": SECRET, "drain_seconds": 0}
            replicas.append(Replica(redis.url, directory / f"{number}.log", admin_port=str(port), **settings))  # type: ignore[arg-type]
            stack.callback(replicas[-1].end)
        for replica in replicas:
            replica.wait_ready()
        viewers = await fill(replicas)
        asked = Replicas([f"http://127.0.0.1:{port}" for port in ports], None)
        publishing = asyncio.create_task(asyncio.to_thread(publish, time.monotonic() + 20))
        await asyncio.sleep(15)
        await asyncio.to_thread(asked.look)
        await asyncio.sleep(3)
        looks = await asyncio.to_thread(asked.look)
        width, height = SIZE
        console = Console(record=True, width=width, file=(directory / "page").open("w"))
        console.print(top_views.page(looks, height - top_views.HEAD_LINES - len(looks)))
        console.save_svg(str(PICTURE), title="progress-gateway top")
        await publishing
        for viewer in viewers:
            viewer.transport.abort()


if __name__ == "__main__":
    asyncio.run(picture())
