"""An example, a Redis of its own, who watches, and the work: each test runs the real library with them."""

import importlib
import json
import threading
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import pytest
import redis

from tests.contract.deadlines import wait_for
from tests.contract.processes import RedisServer

# Not with the redis-py of this environment: `make oldest` runs it.
collect_ignore = [] if find_spec("arq") else ["test_arq_worker.py"]

ITEMS = ["first", "second"]
Load = Callable[[str], ModuleType]


class Audience:
    """Hears a project's events as a replica does: a subscriber, in a thread of its own. Lives as long as a test."""

    def __init__(self, server: RedisServer, project: str) -> None:
        self.project = project
        self.events: list[dict[str, Any]] = []
        self._server = server
        self._subscribed = threading.Event()
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        assert self._subscribed.wait(10)

    def _listen(self) -> None:
        with redis.Redis.from_url(self._server.url) as client, client.pubsub() as pubsub:
            pubsub.subscribe(f"project:{self.project}")
            for message in pubsub.listen():
                if message["type"] == "subscribe":
                    self._subscribed.set()
                elif message["data"] == b"leave":
                    break
                else:
                    self.events.append(json.loads(message["data"]))

    def leave(self) -> None:
        self._server.publish(self.project, "leave")
        self._thread.join(10)

    @property
    def is_told_the_end(self) -> bool:
        return bool(self.events) and self.events[-1]["type"] != "progress"

    def hears(self, text: str) -> None:
        """Wait for a progress with a text that begins so."""
        wait_for(lambda: any(event.get("message", "").startswith(text) for event in self.events[-1:]), text)

    def story(self) -> list[str]:
        """All that was heard, a line each; called when nothing more is to come."""
        self.leave()
        # A job's begin says nothing but 0 %, and may be heard alone or with what the job says first.
        return [_line(event) for event in self.events if event.get("progress") != 0 or "message" in event]


def _line(event: dict[str, Any]) -> str:
    attempt = f"try {event['attempt']}: " if "attempt" in event else ""
    if event["type"] == "job_complete":
        return f"{attempt}complete"
    if event["type"] == "job_failed":
        return f"{attempt}failed, {event['error']}"
    return f"{attempt}{event['progress']:g}%, {event['message']}"


class Tries:
    """What an audience is told of a try that worked, that will be followed by another, or that was the last."""

    def __init__(self, things: str) -> None:
        self._things = things

    def _begin(self, attempt: int | None) -> tuple[str, list[str]]:
        who = "" if attempt is None else f"try {attempt}: "
        return who, [f"{who}0%, 0 of 2 {self._things}", f"{who}50%, 1 of 2 {self._things}"]

    def success(self, attempt: int | None) -> list[str]:
        who, begin = self._begin(attempt)
        return [*begin, f"{who}100%, 2 of 2 {self._things}", f"{who}complete"]

    def retry(self, attempt: int, error: str = "ConnectionError: no answer") -> list[str]:
        who, begin = self._begin(attempt)
        return [*begin, f"{who}50%, {error}; it will be tried again"]

    def failure(self, attempt: int | None, error: str = "ConnectionError: no answer") -> list[str]:
        who, begin = self._begin(attempt)
        return [*begin, f"{who}failed, {error}"]


class Work:
    """Stands for the work of an example: an item takes until the audience was told how far the job is.

    It fails at its second item for as many tries as `failures` says.
    """

    def __init__(self, audience: Audience) -> None:
        self.failures = 0
        self.error: type[Exception] = ConnectionError
        self._audience = audience

    def __call__(self, item: str) -> None:
        self._audience.hears(f"{ITEMS.index(item)} of {len(ITEMS)} ")
        if item == ITEMS[1] and self.failures:
            self.failures -= 1
            raise self.error("no answer")


@pytest.fixture(scope="session")
def one_server() -> Iterator[RedisServer]:
    """For all examples: the libraries keep their connections while their module lives."""
    server = RedisServer()
    yield server
    server.kill()


@pytest.fixture
def server(one_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> RedisServer:
    one_server.command("FLUSHALL")
    monkeypatch.setenv("REDIS_URL", one_server.url)
    return one_server


@pytest.fixture
def audience(server: RedisServer, project: str) -> Iterator[Audience]:
    audience = Audience(server, project)
    yield audience
    audience.leave()


@pytest.fixture
def work(audience: Audience) -> Work:
    return Work(audience)


@pytest.fixture
def load(server: RedisServer) -> Load:
    """Imports an example as a worker does, whose REDIS_URL is set."""
    return lambda name: importlib.import_module(f"examples.{name}")
