"""`make grafana`: docs/grafana.png, the dashboard's own queries over two replicas that a real Prometheus watches.

200 clients and the demonstration's jobs; one replica is rolled, and Redis is frozen for some seconds. Grafana is not at
hand where this is made, so the panels are drawn by tests/deploy/draw.py.
"""

import asyncio
import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from gateway.commands.demo import PROJECT_ID, DemoJobs
from tests.contract.events import progress
from tests.contract.processes import RedisServer, Replica, free_port

from . import draw
from .metrics import DASHBOARD, panels
from .prometheus import Prometheus
from .test_prometheus_live import KEY, without_grafana
from .tools import ROOT

PICTURE = ROOT / "docs" / "grafana.png"
CLIENTS = 200
SECONDS = 150.0
ROLL_AT, FREEZE_AT, FROZEN_SECONDS = 50.0, 100.0, 8.0


class Stage:
    """Redis, two replicas and Prometheus; a replica that is rolled keeps its admin port, which Prometheus knows."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.redis = RedisServer()
        self.admin_ports = [free_port(), free_port()]
        self.replicas = [self.start(number) for number in range(2)]
        for replica in self.replicas:
            replica.wait_ready()
        self.prometheus = Prometheus([f"127.0.0.1:{port}" for port in self.admin_ports], directory)
        self.prometheus.wait_ready(2)

    def start(self, number: int) -> Replica:
        log = self.directory / f"{number}-{time.monotonic()}.log"
        return Replica(
            self.redis.url,
            log,
            admin_port=self.admin_ports[number],
            publish_keys=KEY,
            max_connections=CLIENTS,
            drain_rate=10,  # they are few, and the drain is to be seen
        )

    async def roll(self, number: int) -> None:
        """As a rolling deploy does: the old one ends in order, and the new one comes."""
        self.replicas[number].signal(signal.SIGTERM)
        await asyncio.to_thread(self.replicas[number].wait, "the end of the drain", 60)
        self.replicas[number] = self.start(number)
        await asyncio.to_thread(self.replicas[number].wait_ready)

    def end(self) -> None:
        self.redis.thaw()
        for process in [self.prometheus, *self.replicas]:
            process.end()
        self.redis.kill()


async def told_to_go(socket: ClientConnection, *, obeys: bool) -> bool:
    """Watch for a while, or until this client's moment to move has come: then True."""
    told = False
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(random.uniform(20, 90)) as limit:
            async for text in socket:
                message = json.loads(text)
                if message["type"] == "going_away" and obeys:
                    told = True
                    limit.reschedule(asyncio.get_running_loop().time() + random.uniform(*message["reconnectIn"]) / 1000)
    return told


async def client(stage: Stage, *, obeys: bool) -> None:
    """A page: it watches, moves when it is told to, and comes back; now and then somebody leaves, and another comes."""
    old: ClientConnection | None = None
    avoided: Replica | None = None
    while True:
        replica = random.choice([one for one in stage.replicas if one is not avoided])
        avoided = None
        try:
            socket = await connect(replica.ws)
            await socket.send(json.dumps({"type": "subscribe", "projectId": PROJECT_ID}))
            if old is not None:
                await old.close()  # only now: the next connection is there first
                old = None
            if await told_to_go(socket, obeys=obeys):
                old, avoided = socket, replica
            else:
                await socket.close()
        except InvalidHandshake:
            avoided = replica  # as a load balancer does: it asks another one at once
        except (OSError, ConnectionClosed):
            old = None
            await asyncio.sleep(random.uniform(0.1, 2))


async def post(stage: Stage) -> None:
    """A job in another language."""
    async with httpx.AsyncClient(trust_env=False) as http:
        while True:
            url = f"http://127.0.0.1:{random.choice(stage.admin_ports)}/projects/{PROJECT_ID}/events"
            try:
                await http.post(url, json=progress("posted"), headers={"Authorization": f"Bearer {KEY}"})
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.1)


async def play(stage: Stage) -> float:
    """Returns when it was over; what comes then is only the clients' going."""
    tasks = [asyncio.create_task(client(stage, obeys=number % 5 > 0)) for number in range(CLIENTS)]
    tasks.append(asyncio.create_task(post(stage)))
    await asyncio.sleep(ROLL_AT)
    await stage.roll(0)
    await asyncio.sleep(FREEZE_AT - ROLL_AT)
    stage.redis.freeze()
    await asyncio.sleep(FROZEN_SECONDS)
    stage.redis.thaw()
    await asyncio.sleep(SECONDS - FREEZE_AT - FROZEN_SECONDS)
    end = time.time()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return end


def legend(template: str, labels: dict[str, str]) -> str:
    if not template:
        return "  ".join(f"{name} {value}" for name, value in sorted(labels.items()))
    return re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match[1], ""), template)


def series_of(stage: Stage, definition: dict[str, Any], span: tuple[float, float]) -> list[draw.Series]:
    found = []
    for target in definition.get("targets", []):
        query = without_grafana(target["expr"])
        answer = stage.prometheus.ask("query_range", query=query, start=span[0], end=span[1], step=1)
        for one in answer["result"]:
            values = {float(at): float(value) for at, value in one["values"]}
            found.append(draw.Series(legend(target["legendFormat"], one["metric"]), values))
    return found


def page(stage: Stage, span: tuple[float, float]) -> str:
    parts = []
    for definition in panels():
        if definition["type"] == "row":
            parts.append(f'<div class="row">{definition["title"]}</div>')
        else:
            parts.append(draw.panel(definition, series_of(stage, definition, span), span))
    title = json.loads(DASHBOARD.read_text())["title"]
    note = (
        f"deploy/grafana/dashboard.json, its queries drawn without Grafana: {span[1] - span[0]:.0f} s of two replicas; "
        f"{CLIENTS} clients, four fifths of which obey going_away; one replica is rolled, later Redis is frozen for "
        f"{FROZEN_SECONDS:.0f} s"
    )
    return draw.page(title, note, parts)


def photograph(text: str, directory: Path) -> None:
    """By the Chromium that tests the frontend."""
    (directory / "page.html").write_text(text)
    program = shutil.which(os.environ.get("CHROMIUM", "chromium"))
    assert program, "this needs chromium: tests/system-packages chromium"
    words = ["--headless", "--no-sandbox", "--hide-scrollbars", "--window-size=1440,2820", f"--screenshot={PICTURE}"]
    subprocess.run([program, *words, f"file://{directory / 'page.html'}"], check=True, capture_output=True, timeout=60)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(Path(folder))
        try:
            with DemoJobs(stage.redis.url):
                begin = time.time()
                text = page(stage, (begin, asyncio.run(play(stage))))
        finally:
            stage.end()
        photograph(text, Path(folder))


if __name__ == "__main__":
    main()
