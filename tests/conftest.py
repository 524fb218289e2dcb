"""What all tests share: no setting of the product from the shell that runs them, and one real server for a session."""

import os
from collections.abc import Iterator
from uuid import uuid4

import hypothesis
import pytest

from publisher.sender import Sender, sender
from publisher.transport.circuit import circuits, unremembered, unsent
from tests.contract.processes import RedisServer

hypothesis.settings.register_profile("tests", deadline=None)  # a shared machine stalls now and then
hypothesis.settings.load_profile("tests")

OURS = ("GATEWAY_", "PROGRESS_", "REDIS_URL")


def forget_jobs(sender: Sender) -> None:
    """Nothing that this sender has is to be sent any more."""
    with sender._changed:
        for state in [*sender._schedule, *sender._in_flight]:
            state.is_over = True
            sender._put(state)
        sender._changed.notify_all()


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(OURS) or name.lower() in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _no_outage_is_remembered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A publisher logs once a minute, and asks until a Redis that was away is back; the next test begins anew.

    What a job could not send is tried while the process lives, also where its Redis does not come back.
    """
    for counter in (unsent, unremembered):
        monkeypatch.setattr(counter, "_logged_at", float("-inf"))
    monkeypatch.setattr(unsent, "_counted", unsent.count)
    yield
    forget_jobs(sender)
    for circuit in circuits.values():
        circuit.close()
    circuits.clear()


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
