"""P8, publishing: Redis' time for one event, the caller's time, and how many events one process can publish.

No server is compared, so P8 has its own table: each figure, and what was measured for comparison in the same round.
"""

import json
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import publisher
from bench.load import EVENT_BYTES, JOBS_PER_PROJECT
from bench.servers import LOOPBACK
from bench.toolchain import BenchError
from publisher.publication import SCRIPT, SCRIPT_SHA, Publication
from publisher.transport.sync_driver import client_of

PROJECT = "bench"
OTHER_PROJECT = "beside"  # for the comparisons, so that they do not touch the remembered events of PROJECT
CALLS = 1_000  # of one kind in one round; a project remembers as many jobs, so none is forgotten
CALLS_A_TURN = 50  # the kinds take turns, so that changes in the machine's load hit all of them
BATCH = 1_000  # events in one call, spread over 20 projects
BATCHES = 5
EMPTY_SCRIPT = "return 1"
# Only the Redis commands of the publish script: the least that such a script can cost.
BARE_SCRIPT = """
redis.call('HMGET', KEYS[1], 'seq', ARGV[3])
redis.call('TIME')
redis.call('HSET', KEYS[1], 'seq', '1764187200000000', ARGV[3], ARGV[2])
redis.call('PUBLISH', ARGV[1], ARGV[2])
return 1
"""

Event = dict[str, Any]


def _event(job: str, *, kind: str = "progress", progress: int = 0, attempt: int | None = None) -> Event:
    """An event of EVENT_BYTES as JSON, the size of the events in the other figures."""
    event: Event = {"type": kind, "jobId": job, "jobType": "audio"}
    if attempt is not None:
        event["attempt"] = attempt
    if kind == "progress":
        event["progress"], text = progress, "message"
    else:
        text = "error"
    event[text] = ""
    bare = len(json.dumps(event, separators=(",", ":")))
    event[text] = "x" * (EVENT_BYTES - bare)
    return event


def usual_events(count: int = CALLS, attempt: int | None = None) -> list[Event]:
    """Progress events of a few jobs, in turn."""
    return [
        _event(f"job-{turn % JOBS_PER_PROJECT}", progress=turn * 100 // count, attempt=attempt) for turn in range(count)
    ]


def _each_job_once(kind: str) -> list[Event]:
    return [_event(f"job-{number}", kind=kind, attempt=1) for number in range(CALLS)]


@dataclass
class Figure:
    """One row of the table, with the values of all rounds."""

    name: str
    title: str
    unit: str
    goal: str
    as_ratio: bool = False  # show the ratio to the first of `beside`, within each round
    values: list[float] = field(default_factory=list)  # one a round
    beside: dict[str, list[float]] = field(default_factory=dict)  # what it is compared with: one value a round each
    notes: list[str] = field(default_factory=list)

    def add(self, value: float, **beside: float) -> None:
        self.values.append(value)
        for what, other in beside.items():
            self.beside.setdefault(what, []).append(other)

    def ratios(self) -> list[float]:
        others = next(iter(self.beside.values()))
        return [value / other for value, other in zip(self.values, others, strict=True)]

    def cells(self) -> list[str]:
        if not self.values:
            return [f"{self.name}: {self.title}", self.goal, "-", "-"]
        digits = 0 if min(self.values) > 1_000 else 2
        absolute = f"{median(self.values):,.{digits}f} {self.unit}"
        own = f"**{absolute}** ({min(self.values):,.{digits}f}-{max(self.values):,.{digits}f})"
        if self.as_ratio:
            ratios = self.ratios()
            own = f"**{median(ratios):.2f}** ({min(ratios):.2f}-{max(ratios):.2f}); {absolute}"
        beside = [f"{what} {median(others):,.{digits}f}" for what, others in self.beside.items()]
        return [f"{self.name}: {self.title}", self.goal, own, "; ".join(beside)]


class Redis:
    """Two sockets to Redis: one sends commands, one subscribes to the project as a gateway does."""

    def __init__(self, port: int) -> None:
        self._asking = socket.create_connection((LOOPBACK, port), timeout=30)
        self._asking.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._watching = socket.create_connection((LOOPBACK, port), timeout=30)

    def close(self) -> None:
        self._asking.close()
        self._watching.close()

    def watch(self, *channels: str) -> None:
        self._watching.sendall(pack("SUBSCRIBE", *channels))
        self._watching.recv(65536)
        self._watching.setblocking(False)

    def ask(self, *words: str) -> bytes:
        return self.ask_packed(pack(*words))

    def ask_packed(self, command: bytes) -> bytes:
        """Send one command and read its answer: one read, or for a bulk string (INFO) as many as needed."""
        self._asking.sendall(command)
        answer = self._asking.recv(1 << 20)
        if answer.startswith(b"-"):
            raise BenchError(f"Redis answered {answer[:200]!r}.")
        if answer.startswith(b"$"):
            head, _, body = answer.partition(b"\r\n")
            while len(body) < int(head[1:]) + 2:
                body += self._asking.recv(1 << 20)
        return answer if not answer.startswith(b"$") else body

    def microseconds(self, *kinds: tuple[str, Sequence[bytes]], at_once: bool) -> list[float]:
        """Redis' own time for one call of each kind (the command's name, and the calls), from `INFO commandstats`.

        The kinds take turns. The calls of a turn are sent at once, as to a busy Redis, or one after another.
        """
        spent = [0] * len(kinds)
        for turn in range(0, CALLS, CALLS_A_TURN):
            for kind, (command, packed) in enumerate(kinds):
                spent[kind] += self._spent(command, packed[turn : turn + CALLS_A_TURN], at_once=at_once)
        return [microseconds / CALLS for microseconds in spent]

    def _spent(self, command: str, packed: Sequence[bytes], *, at_once: bool) -> int:
        self.ask("CONFIG", "RESETSTAT")
        for part in [packed] if at_once else [[one] for one in packed]:
            self._asking.sendall(b"".join(part))
            answers = b""
            while answers.count(b"\n") < len(part):
                answers += self._asking.recv(1 << 20)
            if answers.count(b":") != len(part):  # an error, or nil for an event that the script refused
                raise BenchError(f"Redis answered {answers[:200]!r}.")
        self._drain()
        found = re.search(rb"cmdstat_%b:calls=(\d+),usec=(\d+)" % command.encode(), self.ask("INFO", "commandstats"))
        if found is None or int(found[1]) != len(packed):
            raise BenchError(f"Redis did not count {len(packed)} calls of {command}.")
        return int(found[2])

    def _drain(self) -> None:
        try:
            while self._watching.recv(1 << 20):
                pass
        except BlockingIOError:
            pass


def pack(*words: str | bytes) -> bytes:
    encoded = [word.encode() if isinstance(word, str) else word for word in words]
    return b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in encoded)


@contextmanager
def _redis(port: int) -> Iterator[Redis]:
    redis = Redis(port)
    try:
        yield redis
    finally:
        redis.close()


class RedisTime:
    """P8a: the time of the publish script by `INFO commandstats`, beside the least that a script can cost."""

    def __init__(self) -> None:
        usual, with_attempt = usual_events(), usual_events(attempt=1)
        first, last = _each_job_once("progress"), _each_job_once("job_failed")
        known = JOBS_PER_PROJECT
        # Title, the events published before, the events that are counted, and whether these are sent at once.
        self._loads = (
            ("progress of a known job", usual[:known], usual, True),
            ("the same with `attempt`", with_attempt[:known], with_attempt, True),
            ("the first of a job, with `attempt`", [], first, True),
            ("the last of a job, with `attempt`", first, last, True),
            ("progress of a known job, one at a time", usual[:known], usual, False),
            ("the same with `attempt`, one at a time", with_attempt[:known], with_attempt, False),
        )
        self.figures = [
            Figure("P8a", f"Redis' time for an event: {title}", "us", "<= 12 us") for title, *_ in self._loads
        ]

    def measure(self, port: int) -> None:
        with _redis(port) as redis:
            redis.ask("SCRIPT", "LOAD", SCRIPT)
            bare, empty = (redis.ask("SCRIPT", "LOAD", script).strip() for script in (BARE_SCRIPT, EMPTY_SCRIPT))
            redis.watch(f"project:{PROJECT}", f"project:{OTHER_PROJECT}")
            for figure, (_, before, events, at_once) in zip(self.figures, self._loads, strict=True):
                ours, others = _publications(PROJECT, events), _publications(OTHER_PROJECT, events)
                redis.ask("DEL", ours[0].key)
                redis.ask("DEL", others[0].key)
                for one in _publications(PROJECT, before):
                    redis.ask_packed(one.evalsha())
                spent = redis.microseconds(
                    ("evalsha", [one.evalsha() for one in ours]),
                    ("evalsha", _instead(bare, others)),
                    ("evalsha", _instead(empty, others)),
                    ("publish", [pack("PUBLISH", one.redis_channel, one.payload) for one in others]),
                    at_once=at_once,
                )
                beside = ("its four commands alone", "a script that does nothing", "a plain PUBLISH")
                figure.add(spent[0], **dict(zip(beside, spent[1:], strict=True)))


def _publications(project: str, events: Sequence[Event]) -> list[Publication]:
    return [Publication.of(project, event, "") for event in events]


def _instead(sha: bytes, publications: list[Publication]) -> list[bytes]:
    """The same calls, but of another script."""
    return [one.evalsha().replace(SCRIPT_SHA.encode(), sha, 1) for one in publications]


class CallersTime:
    """P8b: `broadcast_to_project` beside redis-py's `publish` of a ready payload, on the same connection pool."""

    def __init__(self) -> None:
        title = "the caller's time for one event"
        self.figures = [Figure("P8b", title, "us", "<= 1.3 x", as_ratio=True)]
        self._events = usual_events()
        self._payload = Publication.of(PROJECT, self._events[0], "").payload

    def measure(self, port: int) -> None:
        client = client_of(os.environ["REDIS_URL"])

        def publish(event: Event) -> None:
            if publisher.broadcast_to_project(PROJECT, event, strict=True) is None:
                raise BenchError("The publish script refused an event of the benchmark.")

        def plain(_: Event) -> None:
            client.publish(f"project:{PROJECT}", self._payload)

        publish(self._events[0])
        ours = plainly = 0.0
        for turn in range(0, CALLS, CALLS_A_TURN):
            events = self._events[turn : turn + CALLS_A_TURN]
            ours += _seconds(publish, events)
            plainly += _seconds(plain, events)
        self.figures[0].add(ours * 1e6 / CALLS, **{"redis-py's publish": plainly * 1e6 / CALLS})


class Batches:
    """P8c: `broadcast_many` from one process, with all its checks, beside a pipeline of ready payloads."""

    def __init__(self) -> None:
        self.figures = [Figure("P8c", f"{BATCH:,} events at once, one process", "events/s", ">= 50,000")]
        self._broadcast_many: Callable[[list[tuple[str, Event]]], Any] | None = getattr(
            publisher, "broadcast_many", None
        )

    def measure(self, port: int) -> None:
        if self._broadcast_many is None:
            self.figures[0].notes = ["P8c: this publisher has no broadcast_many"]
            return
        items = [(f"{PROJECT}-{number % 20}", event) for number, event in enumerate(usual_events()[:BATCH])]
        ready = [(f"project:{project}", Publication.of(project, event, "").payload) for project, event in items]
        client = client_of(os.environ["REDIS_URL"])
        self._broadcast_many(items[:10])
        ours = plainly = 0.0
        for _ in range(BATCHES):
            begin = time.perf_counter()
            answers = self._broadcast_many(items)
            ours += time.perf_counter() - begin
            if None in answers or len(answers) != len(items):
                raise BenchError("broadcast_many did not send all of its events.")
            begin = time.perf_counter()
            pipeline = client.pipeline(transaction=False)
            for channel, payload in ready:
                pipeline.publish(channel, payload)
            pipeline.execute()
            plainly += time.perf_counter() - begin
        count = BATCHES * len(items)
        self.figures[0].add(count / ours, **{"redis-py's pipeline of PUBLISH": count / plainly})


def _seconds(call: Callable[[Event], None], events: Sequence[Event]) -> float:
    begin = time.perf_counter()
    for event in events:
        call(event)
    return time.perf_counter() - begin


def run_publishing(redis_port: int, rounds: int) -> list[Figure]:
    """Measure P8 `rounds` times."""
    for name in [name for name in os.environ if name.startswith("PROGRESS_")]:
        del os.environ[name]
    os.environ["REDIS_URL"] = f"redis://{LOOPBACK}:{redis_port}/0"
    parts = (RedisTime(), CallersTime(), Batches())
    for number in range(1, rounds + 1):
        for part in parts:
            part.measure(redis_port)
        values = ", ".join(f"{f.values[-1]:,.1f} {f.unit}" for part in parts for f in part.figures if f.values)
        print(f"P8 round {number}/{rounds} {values}", file=sys.stderr, flush=True)
    return [figure for part in parts for figure in part.figures]


def table(figures: list[Figure]) -> str:
    """As Markdown, for bench/README.md."""
    rows = [["figure", "goal", "publisher", "beside it"], ["---"] * 4, *(figure.cells() for figure in figures)]
    notes = [f"\n- {note}" for figure in figures for note in figure.notes]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "".join(notes)


def as_json(figures: list[Figure]) -> list[dict[str, Any]]:
    return [
        {"name": f.name, "title": f.title, "unit": f.unit, "goal": f.goal, "values": f.values, "beside": f.beside}
        for f in figures
    ]
