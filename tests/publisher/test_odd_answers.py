"""What publishers do with answers that make no sense: Redis' trouble is logged, and raises nothing in a job."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Connection
from redis.asyncio.connection import Connection as AsyncConnection
from redis.exceptions import RedisError

from publisher import aio, broadcast_to_project
from tests.odd_redis import OK, OddRedis, all_slots_at, odd_node, odd_sentinel

EVENT = {"type": "progress", "jobId": "j", "jobType": "audio", "progress": 1}
PUBLISHERS: list[Callable[..., Any]] = [broadcast_to_project, aio.broadcast_to_project]
SLOT = 12


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("publisher.transport.circuit.GIVE_UP_SECONDS", 0.6)


@pytest.fixture
def servers() -> Iterator[list[OddRedis]]:
    servers: list[OddRedis] = []
    yield servers
    for server in servers:
        server.end()


def publish(publisher: Callable[..., Any], **options: bool) -> Any:
    said = publisher("p", EVENT, **options)
    return asyncio.run(said) if publisher is aio.broadcast_to_project else said


def here(port: int) -> bytes:
    return all_slots_at("127.0.0.1", port)


def error(text: str) -> Callable[[int], bytes]:
    return lambda port: f"-{text}\r\n".encode()


NODES: dict[str, tuple[Callable[[int], bytes], Callable[[int], bytes]]] = {
    "a map with an odd port": (lambda _: all_slots_at("127.0.0.1", 70_000), lambda _: b":1\r\n"),
    "a map with an odd host": (lambda _: all_slots_at("a/b", 7_000), lambda _: b":1\r\n"),
    "a map with a host that cannot be looked up": (lambda _: all_slots_at("a..b", 7_000), lambda _: b":1\r\n"),
    "MOVED alone": (here, error("MOVED")),
    "MOVED nowhere": (here, error(f"MOVED {SLOT} nowhere")),
    "MOVED to an odd port": (here, error(f"MOVED {SLOT} 127.0.0.1:70000")),
    "MOVED to an odd host": (here, error(f"MOVED {SLOT} a@b:7000")),
    "MOVED to a node without a name": (here, error(f"MOVED {SLOT} ?:7000")),
    "MOVED of no slot": (here, lambda port: f"-MOVED 99999999 127.0.0.1:{port}\r\n".encode()),
    "ASK alone": (here, error("ASK 1")),
    "ASK to an odd port": (here, error(f"ASK {SLOT} 127.0.0.1:0")),
    "ASK to a node without a name": (here, error(f"ASK {SLOT} ?:7000")),
}


@pytest.mark.parametrize("publisher", PUBLISHERS, ids=["sync", "async"])
@pytest.mark.parametrize("case", NODES)
def test_odd_nodes_raise_nothing_and_are_said(
    publisher: Callable[..., Any],
    case: str,
    servers: list[OddRedis],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    servers.append(node := odd_node(*NODES[case]))
    monkeypatch.setenv("REDIS_URL", f"redis+cluster://127.0.0.1:{node.port}")
    assert publish(publisher) is None
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("Not sent after")
    assert ("nobody can be reached there" in caplog.text) == (case.partition(" to ")[2] != "")


@pytest.mark.parametrize("publisher", PUBLISHERS, ids=["sync", "async"])
@pytest.mark.parametrize(
    "said",
    [
        ("127.0.0.1", 70_000, 1, "0"),
        ("127.0.0.1", 0, 1, "0"),
        ("a b", 6_379, 1, "0"),
        ("?", 6_379, 1, "0"),
        ("127.0.0.1", 1, 1, "9" * 400),
        ("127.0.0.1", 1, 10**400, "0"),
        ("127.0.0.1", 1, 1, "9" * 5_000),
    ],
    ids=["port", "no port", "host", "no host", "time", "epoch", "long number"],
)
def test_odd_sentinels_raise_nothing_and_are_said(
    publisher: Callable[..., Any],
    said: tuple[str, int, int, str],
    servers: list[OddRedis],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    servers.append(sentinel := odd_sentinel(lambda: said))
    monkeypatch.setenv("REDIS_URL", f"redis+sentinel://127.0.0.1:{sentinel.port}/m")
    assert publish(publisher) is None
    assert len(caplog.messages) == 1
    assert "no Sentinel tells where 'm' is" in caplog.text


@pytest.mark.parametrize("publisher", PUBLISHERS, ids=["sync", "async"])
@pytest.mark.parametrize("replay", ["on", "off"])
def test_nonsense_of_one_server_is_an_error_of_redis(
    publisher: Callable[..., Any], replay: str, servers: list[OddRedis], monkeypatch: pytest.MonkeyPatch
) -> None:
    servers.append(server := OddRedis(lambda words: OK if words[0] in ("CLIENT", "HELLO", "PING") else b"-MOVED\r\n"))
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{server.port}")
    monkeypatch.setenv("PROGRESS_REPLAY", replay)
    with pytest.raises(RedisError):  # redis-py before 6 does not read what MOVED says
        publish(publisher, strict=True)


@pytest.mark.parametrize("publisher", PUBLISHERS, ids=["sync", "async"])
@pytest.mark.parametrize("host", ["?", ""], ids=["without a name", "on the same host"])
@pytest.mark.parametrize("code", ["MOVED", "ASK"])
def test_user_and_password_go_to_no_server_that_nobody_named(
    publisher: Callable[..., Any], code: str, host: str, servers: list[OddRedis], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`?` in a URL ends its host: what is left leads to this machine's own Redis, at its usual port."""
    servers.append(other := odd_node(here, lambda _: b":7\r\n"))
    servers.append(node := odd_node(here, lambda _: f"-{code} {SLOT} {host}:{other.port}\r\n".encode()))
    monkeypatch.setenv("REDIS_URL", f"redis+cluster://user:secret@127.0.0.1:{node.port}")
    places: set[tuple[str, int]] = set()
    for kind in (Connection, AsyncConnection):
        monkeypatch.setattr(kind, "_connect", _noting(kind, places))
    publish(publisher)
    assert 6_379 not in {port for _, port in places}
    assert {host for host, _ in places} == {"127.0.0.1"}
    assert (("127.0.0.1", other.port) in places) == (host == "")


def _noting(kind: Any, places: set[tuple[str, int]]) -> Callable[[Any], Any]:
    connect = kind._connect

    def connect_and_note(self: Any) -> Any:
        places.add((self.host, int(self.port)))
        return connect(self)

    return connect_and_note
