"""What redis-py is told of a connection, and what it then says; `make oldest` asks an old redis-py."""

import re
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio

from publisher.transport.circuit import GIVE_UP_SECONDS
from publisher.transport.options import redis_options
from tests.contract.processes import RedisServer

ROOT = Path(__file__).parents[2]
CLASSES = [redis.Redis, redis.asyncio.Redis]


def calls(server: RedisServer) -> Counter[str]:
    """How often each command was called, and how often something was said that the server does not know."""
    stats: dict[str, Any] = server.command("INFO", "commandstats")
    errors: int = server.command("INFO", "stats")["total_error_replies"]
    return Counter({name.removeprefix("cmdstat_"): stat["calls"] for name, stat in stats.items()} | {"error": errors})


async def connect(client: type, url: str) -> None:
    connected = client.from_url(url, **redis_options(client))  # type: ignore[attr-defined]
    if client is redis.Redis:
        connected.ping()
        connected.close()
    else:
        await connected.ping()
        await connected.aclose()


@pytest.mark.parametrize("client", CLASSES, ids=["sync", "asyncio"])
def test_the_clients_do_not_retry_by_themselves(client: type) -> None:
    options = redis_options(client)
    assert options["retry"] is None
    assert options["socket_timeout"] + options["socket_connect_timeout"] < GIVE_UP_SECONDS


@pytest.mark.parametrize("client", CLASSES, ids=["sync", "asyncio"])
async def test_a_connect_costs_no_round_trip_beside_that_of_its_first_command(
    own_redis: RedisServer, client: type
) -> None:
    before = calls(own_redis)
    await connect(client, own_redis.url)
    assert calls(own_redis) - before == {"ping": 1, "info": 2}


@pytest.mark.parametrize("client", CLASSES, ids=["sync", "asyncio"])
async def test_a_server_that_knows_no_maintenance_is_not_worth_a_line_in_the_log(
    redis_server: RedisServer, client: type, caplog: pytest.LogCaptureFixture
) -> None:
    await connect(client, redis_server.url)
    assert caplog.records == []


def test_the_oldest_versions_that_are_tested_are_the_oldest_that_may_be_installed() -> None:
    needs = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    locked = (ROOT / "requirements-oldest.lock").read_text()
    for name, lowest in (re.findall(r"[\w.]+", need)[:2] for need in needs):
        assert re.search(rf"^{name}=={re.escape(lowest)}(\.0)* ", locked, re.MULTILINE), f"{name}: run `make lock`"
