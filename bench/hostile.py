"""`python -m bench hostile`: what a hostile byte costs the gateway, and what another viewer feels of it.

Each attack has a fresh server. A victim watches a project with 100 events a second. Its latency is from the `PUBLISH`
to the arrival. The CPU time is the server's process alone, less what the victim costs without an attack.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import redis
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from bench.attacker import ATTACKS
from bench.servers import LOOPBACK, Ground, Kind, run_server

SECONDS = 8.0  # longer than the 5 s after which a flood is closed
RATE = 1_000_000.0  # bytes a second
EVENTS_A_SECOND = 100
WITHOUT = ("--message-rate", "1e9", "--message-burst", "10000000")
QUIET = "nothing"


@dataclass(frozen=True)
class Outcome:
    """One attack on one server."""

    attack: str
    is_limited: bool
    cpu_seconds: float
    sent: int
    opened: int
    latencies_ms: tuple[float, ...]

    def latency_ms(self, share: float) -> float:
        ordered = sorted(self.latencies_ms)
        return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else float("nan")


class Victim:
    """A viewer in a thread; the events are published from another."""

    def __init__(self, port: int, redis_port: int) -> None:
        self._redis = redis.Redis(LOOPBACK, redis_port)
        self._socket = connect(f"ws://{LOOPBACK}:{port}/ws", compression=None)
        self._socket.send('{"type":"subscribe","projectId":"victim"}')
        while json.loads(self._socket.recv(10))["type"] != "subscribed":
            pass
        self._is_over = threading.Event()
        self.latencies_ms: list[float] = []
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._publish, self._read)]

    def __enter__(self) -> "Victim":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()
        self._socket.socket.close()

    def _publish(self) -> None:
        began, number = time.monotonic(), 0
        while not self._is_over.is_set():
            number += 1
            event = {"type": "progress", "jobId": f"job{number % 10}", "jobType": "audio", "progress": number % 100}
            event["message"] = repr(time.monotonic())
            self._redis.publish("project:victim", json.dumps(event))
            time.sleep(max(0.0, began + number / EVENTS_A_SECOND - time.monotonic()))

    def _read(self) -> None:
        while not self._is_over.is_set():
            try:
                message = json.loads(self._socket.recv(0.2))
            except TimeoutError:
                continue
            except ConnectionClosed:  # the replica ends
                return
            if message["type"] == "progress":
                self.latencies_ms.append((time.monotonic() - float(message["message"])) * 1_000)


def gateway(*flags: str) -> Kind:
    return Kind("gateway", lambda port, _: [sys.executable, "-m", "gateway", "serve", "--port", str(port), *flags])


def measure(attack: str, ground: Ground, *, is_limited: bool, seconds: float) -> Outcome:
    with run_server(gateway(*(() if is_limited else WITHOUT)), ground) as (server, port):
        with Victim(port, ground.redis_port) as victim:
            time.sleep(1)
            victim.latencies_ms.clear()
            before = server.cpu_seconds()
            did = {"sent": 0, "opened": 0}
            if attack == QUIET:
                time.sleep(seconds)
            else:
                command = [sys.executable, "-m", "bench.attacker", str(port), attack, str(seconds), str(RATE)]
                did = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=seconds + 60).stdout)
            cpu_seconds, latencies = server.cpu_seconds() - before, tuple(victim.latencies_ms)
        return Outcome(attack, is_limited, cpu_seconds, did["sent"], did["opened"], latencies)


def run_hostile(
    ground: Ground, names: Sequence[str] = (), *, rounds: int = 1, seconds: float = SECONDS
) -> list[Outcome]:
    """Each attack, and its control without the allowance where that matters; of several rounds that of median p99."""
    outcomes = []
    for attack in (QUIET, *(names or ATTACKS)):
        for is_limited in (True,) if attack in (QUIET, "http", "half", "noise") else (True, False):
            samples = [measure(attack, ground, is_limited=is_limited, seconds=seconds) for _ in range(rounds)]
            outcomes.append(sorted(samples, key=lambda sample: sample.latency_ms(0.99))[rounds // 2])
            print(hostile_table(outcomes, seconds).rsplit("\n", 1)[-1], file=sys.stderr, flush=True)
    return outcomes


def hostile_table(outcomes: Sequence[Outcome], seconds: float = SECONDS) -> str:
    """As Markdown. The first outcome is without an attack."""
    idle = outcomes[0].cpu_seconds
    lines = [
        "| attack, at 1 MB/s | sent | connections | of a core | CPU us/byte | us/frame | victim p50 | p99 |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for outcome in outcomes:
        cost = max(0.0, outcome.cpu_seconds - idle)
        a_byte = f"{cost * 1e6 / outcome.sent:.2f}" if outcome.sent else ""
        known = ATTACKS.get(outcome.attack)
        a_frame = f"{cost * 1e6 / outcome.sent * len(known.unit):.1f}" if outcome.sent and known else ""
        title = (known.title if known else outcome.attack) + ("" if outcome.is_limited else ", without the allowance")
        cells = [
            title,
            f"{outcome.sent / seconds / 1e6:.2f} MB/s",
            str(outcome.opened),
            f"{cost / seconds:.0%}",
            a_byte,
            a_frame,
            *(f"{outcome.latency_ms(share):.1f} ms" for share in (0.5, 0.99)),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
