"""Both ends of the load: the clients (bench/client.c, driven by lines on a pipe) and the publisher."""

import json
import os
import random
import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from bench.intake import PUBLISH, Intake, redis_command
from bench.latencies import Latencies
from bench.process import Child
from bench.servers import LOOPBACK
from bench.toolchain import BenchError, compile_c

EVENT_BYTES = 200
FIRST_SEQ = 1_760_000_000_000_000
JOBS_PER_PROJECT = 10
FINAL = "#last#"  # marks the last event of each job; client.c has the same word
SENT = b"#sent#"  # the moment of sending follows; clock.h has the same word
NOT_SENT = SENT + b"0" * 19
OPEN_SECONDS = 90.0


@dataclass(frozen=True)
class Traffic:
    """What is published in one measured phase: `rounds` events to each project."""

    subscribers: int
    projects: int
    rounds: int
    per_second: int | None  # events a second; None: all at once
    at_once: int = 1  # events that are sent together, where they are paced
    is_timed: bool = False  # each event carries the moment at which it was sent

    @property
    def events(self) -> int:
        return self.projects * self.rounds

    @property
    def jobs(self) -> int:
        """Jobs of a project: each subscriber must receive as many events marked as final."""
        return min(JOBS_PER_PROJECT, self.rounds)

    @property
    def deliveries(self) -> int:
        return self.subscribers // self.projects * self.events


@dataclass(frozen=True)
class Delivery:
    """What the clients counted."""

    complete: bool  # every client received the last event of every job
    total: int  # events, over all clients
    fewest: int  # events of the client that received the fewest
    most: int  # events of the client that received the most
    bytes: int
    connections_lost: int
    errors: int


class Clients:
    """The client process of one run. It takes one command at a time; every wait has a time limit."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self._unread = b""

    def open(self, count: int, projects: int, *, first: int = 0, since: int = 0, at_once: int = 32) -> None:
        """Connect `count` more clients, spread over the projects, and wait until all are subscribed.

        `first`: the number of the first project. `since`: the cursor they resume from; 0: they are new.
        `at_once`: handshakes at a time.
        """
        self._send(f"open {count} {projects} {first} {since} {at_once}")
        self._expect("subscribed", OPEN_SECONDS)

    def count(self, finals: int) -> None:
        """Reset the counters; each client is complete after `finals` final events."""
        self._send(f"count {finals}")
        self._expect("counting", OPEN_SECONDS)

    def wait(self, seconds: float) -> Delivery:
        """Wait until all clients are complete, for `seconds` at most."""
        self._send(f"wait {seconds * 1000:.0f}")
        complete, *counts = (int(word) for word in self._expect("delivered", seconds + 5))
        return Delivery(bool(complete), *counts)

    def latencies(self) -> Latencies:
        """From publish to socket, of the timed events since the last `count` or the last call of this."""
        self._send("latency")
        return Latencies.read(self._expect("latency", 5))

    def _send(self, line: str) -> None:
        assert self._child.popen.stdin is not None
        self._child.popen.stdin.write(line.encode() + b"\n")
        self._child.popen.stdin.flush()

    def _expect(self, word: str, seconds: float) -> list[str]:
        assert self._child.popen.stdout is not None
        fd, deadline = self._child.popen.stdout.fileno(), time.monotonic() + seconds
        while b"\n" not in self._unread:
            self._child.assert_running()
            if not select.select([fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise BenchError(f"The clients did not answer `{word}` within {seconds:.0f} s; see {self._child.log}.")
            self._unread += os.read(fd, 65536)
        line, _, self._unread = self._unread.partition(b"\n")
        words = line.decode().split()
        if words[0] != word:
            raise BenchError(f"The clients failed: {line.decode()}")
        return words[1:]


@contextmanager
def run_clients(
    port: int, *, dialect: str = "gateway", are_browsers: bool = False, name: str = "client"
) -> Iterator[Clients]:
    """`dialect`: the server's protocol, by its name in dialects.h.

    `are_browsers`: with the headers of a browser's handshake, some 500 bytes more. `name`: of the process' log.
    """
    words = [str(compile_c("client")), str(port), dialect, *(["browser"] if are_browsers else [])]
    with Child(name, words, piped=True) as child:
        yield Clients(child)


def _event(job: str, progress: int, text: str) -> bytes:
    """As publish.lua writes it, with a seq of 16 digits to be filled in."""
    event = {"seq": FIRST_SEQ, "type": "progress", "jobId": job, "jobType": "audio", "progress": progress}
    event["message"] = text
    bare = json.dumps(event, separators=(",", ":"))
    event["message"] = text + "." * (EVENT_BYTES - len(bare))
    return json.dumps(event, separators=(",", ":")).encode()


def commands(traffic: Traffic, intake: Intake = PUBLISH) -> list[bytes]:
    """Every event as a command of the intake, in order: one event to each project, then the next one to each.

    The order of the projects differs from round to round, as in real traffic, but is the same in each run. In a fixed
    order a server would walk along its memory, which caches make cheap.
    """
    chance = random.Random(7)
    projects = list(range(traffic.projects))
    ready: list[bytes] = []
    for turn in range(traffic.rounds):
        chance.shuffle(projects)
        is_final = turn >= traffic.rounds - traffic.jobs
        text = f"{FINAL if is_final else 'event'} {turn} {NOT_SENT.decode() if traffic.is_timed else ''}"
        payload = _event(f"job-{turn % traffic.jobs}", turn * 100 // traffic.rounds, text)
        rest = payload.partition(b",")[2]
        for project in projects:
            seq = FIRST_SEQ + len(ready)
            ready.append(intake.command(project, b'{"seq":%d,%b' % (seq, rest)))
    return ready


def _stamped(commands: bytes) -> bytes:
    """With the present moment in each event that is timed."""
    return commands.replace(NOT_SENT, SENT + b"%019d" % time.monotonic_ns())


class Publisher:
    """Sends events on its own connection, by the intake of the server: at a steady pace, or all in one pipeline."""

    def __init__(self, port: int, subscribers: int = 1, intake: Intake = PUBLISH) -> None:
        """`port`: of Redis, or of a server that takes events itself. `subscribers`: servers that must hear each."""
        self._subscribers = subscribers
        self._intake = intake
        self._socket = socket.create_connection((LOOPBACK, port), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._replies = b""
        if intake.script is not None:
            self._socket.sendall(redis_command(b"SCRIPT", b"LOAD", intake.script.encode()))
            self._socket.recv(65536)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def publish(self, ready: list[bytes], per_second: int | None, at_once: int = 1) -> float:
        """Send the commands and wait for the answers. Returns the seconds that sending took."""
        self._replies = b""
        start = time.monotonic()
        if per_second is None:
            self._send(_stamped(b"".join(ready)))
        else:
            self._publish_paced(ready, per_second, at_once, start)
        took = time.monotonic() - start
        while self._replies.count(self._intake.answer) < len(ready):
            self._receive()
        heard_by = self._intake.heard(self._replies)
        if heard_by != self._subscribers * len(ready):
            raise BenchError(f"{heard_by} of {len(ready)} events were taken in: is the server subscribed to all?")
        return took

    def _publish_paced(self, ready: list[bytes], per_second: int, at_once: int, start: float) -> None:
        for index in range(0, len(ready), at_once):
            ahead = start + index / per_second - time.monotonic()
            if ahead > 0:
                time.sleep(ahead)
            self._socket.sendall(_stamped(b"".join(ready[index : index + at_once])))
            if index // at_once % 64 == 63:
                self._receive()

    def _send(self, commands: bytes) -> None:
        """Also read meanwhile: a server that cannot write its answers stops reading commands."""
        left = memoryview(commands)
        while left:
            is_readable, is_writable, _ = select.select([self._socket], [self._socket], [], 30)
            if not is_readable and not is_writable:
                raise BenchError("What was published is not read: no progress for 30 s.")
            if is_readable:
                self._receive()
            if is_writable:
                left = left[self._socket.send(left, socket.MSG_DONTWAIT) :]

    def _receive(self) -> None:
        try:
            answers = self._socket.recv(65536)
        except OSError as error:
            raise BenchError(f"No answer to what was published: {error}.") from error
        if not answers:
            raise BenchError("The connection that takes events was closed.")
        self._replies += answers
