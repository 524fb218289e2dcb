"""What all tests share: no setting of the product from the shell that runs them, and one real server for a session."""

import os
from collections.abc import Iterator
from uuid import uuid4

import hypothesis
import pytest

from tests.contract.processes import RedisServer

hypothesis.settings.register_profile("tests", deadline=None)  # a shared machine stalls now and then
hypothesis.settings.load_profile("tests")

OURS = ("GATEWAY_", "PROGRESS_", "REDIS_URL")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(OURS) or name.lower() in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A real server that nobody kills, freezes or flushes; a test that does so asks for `own_redis`."""
    server = RedisServer()
    yield server
    server.kill()


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A real server that the test may kill."""
    server = RedisServer()
    yield server
    server.thaw()
    server.kill()


@pytest.fixture
def project() -> str:
    """A project that no other test uses."""
    return f"project_{uuid4().hex[:16]}"
