"""A Redis, and workers of the real libraries as processes, for a whole file of tests."""

from collections.abc import Iterator

import pytest

from tests.contract.processes import RedisServer
from tests.examples.test_redelivered import Workers


@pytest.fixture(scope="module")
def module_redis() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def workers(module_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    workers = Workers(tmp_path_factory.mktemp("workers"), module_redis)
    yield workers
    workers.end()
