"""One Redis and two replicas for most tests; a test that kills, floods or configures one launches its own."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol
from uuid import uuid4

import pytest

from .processes import PublisherProcess, RedisServer, Replica


class Launch(Protocol):
    def __call__(
        self,
        redis_url: str | None = None,
        *,
        ready: bool = True,
        command: str = "serve",
        patched: str = "",
        **settings: object,
    ) -> Replica: ...


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def replicas(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Replica, Replica]]:
    """Two replicas in their default settings."""
    logs = tmp_path_factory.mktemp("replicas")
    pair = (Replica(redis_server.url, logs / "0.log"), Replica(redis_server.url, logs / "1.log"))
    try:
        for replica in pair:
            replica.wait_ready()
        yield pair
        for replica in pair:
            assert replica.stop() == 0, replica.log
            assert "Traceback" not in replica.log, replica.log
    finally:
        for replica in pair:
            replica.end()


@pytest.fixture
def replica(replicas: tuple[Replica, Replica]) -> Replica:
    return replicas[0]


@pytest.fixture
def other(replicas: tuple[Replica, Replica]) -> Replica:
    return replicas[1]


@pytest.fixture(scope="session")
def publisher(redis_server: RedisServer) -> Iterator[PublisherProcess]:
    process = PublisherProcess(redis_server.url)
    yield process
    process.end()


@pytest.fixture
def project() -> str:
    """A project that nobody else uses."""
    return f"project_{uuid4().hex[:16]}"


@pytest.fixture
def launch(redis_server: RedisServer, tmp_path: Path) -> Iterator[Launch]:
    """Starts replicas of the test's own, with settings (`slow_seconds=1` is GATEWAY_SLOW_SECONDS), and ends them."""
    started: list[Replica] = []

    def start(
        redis_url: str | None = None,
        *,
        ready: bool = True,
        command: str = "serve",
        patched: str = "",
        **settings: object,
    ) -> Replica:
        log = tmp_path / f"replica_{len(started)}.log"
        replica = Replica(redis_url or redis_server.url, log, command=command, patched=patched, **settings)
        started.append(replica)
        return replica.wait_ready() if ready else replica

    yield start
    for replica in started:
        replica.end()
    for replica in started:
        assert "Traceback" not in replica.log, replica.log


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A Redis that the test may kill."""
    server = RedisServer()
    yield server
    server.kill()


@pytest.fixture
def publisher_of() -> Iterator[Callable[..., PublisherProcess]]:
    """Starts job processes of the test's own: on another Redis, or with other settings."""
    started: list[PublisherProcess] = []

    def start(redis_url: str, **variables: object) -> PublisherProcess:
        started.append(PublisherProcess(redis_url, **variables))
        return started[-1]

    yield start
    for process in started:
        process.end()
