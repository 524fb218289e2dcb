"""Two live replicas, watched by a real Prometheus with the shipped rules: panels show something, and alerts come."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from tests.contract.client import watching
from tests.contract.deadlines import eventually
from tests.contract.events import progress
from tests.contract.processes import RedisServer, Replica, free_port

from .metrics import queries
from .prometheus import SCRAPE_SECONDS, Prometheus

KEY = "k" * 32
CLIENTS = 20
LOAD_SECONDS = 6.0
# Nobody drains, Redis lives, and the replicas speak no TLS.
EMPTY = {"annotation Drain", "Redis lost, by reason, in 5 minutes/A", "The certificate expires in/A"}
BUSY = {"GatewayEventLoopLag", "GatewayDeliverySlow"}  # a machine that runs other tests, too; pending for 5 minutes


def without_grafana(expression: str) -> str:
    """With what Grafana would put in the place of its variables."""
    for variable, value in {"$__rate_interval": f"{4 * SCRAPE_SECONDS}s", "$job": "progress-gateway"}.items():
        expression = expression.replace(variable, value)
    return expression.replace("$namespace", ".*").replace("$instance", ".*")


@pytest.fixture
async def watched(own_redis: RedisServer, tmp_path: Path) -> AsyncIterator[tuple[Prometheus, list[Replica]]]:
    ports = [free_port(), free_port()]
    settings = {"publish_keys": KEY}
    replicas = [Replica(own_redis.url, tmp_path / f"{port}.log", admin_port=port, **settings) for port in ports]
    prometheus = Prometheus([f"127.0.0.1:{port}" for port in ports], tmp_path)
    try:
        for replica in replicas:
            await asyncio.to_thread(replica.wait_ready)
        await asyncio.to_thread(prometheus.wait_ready, len(replicas))
        yield prometheus, replicas
    finally:
        for process in [prometheus, *replicas]:
            process.end()


async def load(replicas: list[Replica], admin: str, project: str) -> None:
    """Clients on both replicas, and events that come by HTTP."""
    async with AsyncExitStack() as stack:
        for number in range(CLIENTS):
            await stack.enter_async_context(watching(replicas[number % 2].ws, project))
        http = await stack.enter_async_context(httpx.AsyncClient(trust_env=False))
        end = asyncio.get_running_loop().time() + LOAD_SECONDS
        while asyncio.get_running_loop().time() < end:
            answer = await http.post(
                f"{admin}/projects/{project}/events",
                json=progress("job"),
                headers={"Authorization": f"Bearer {KEY}"},
            )
            assert answer.status_code == 202
            await asyncio.sleep(0.02)


async def test_panels_show_something_and_an_outage_of_redis_is_an_alert(
    watched: tuple[Prometheus, list[Replica]], own_redis: RedisServer, project: str
) -> None:
    prometheus, replicas = watched
    [admin, *_] = [f"http://{target['labels']['instance']}" for target in prometheus.ask("targets")["activeTargets"]]
    await load(replicas, admin, project)

    empty = {title for title, query in queries().items() if not prometheus.values(without_grafana(query))}
    assert empty == EMPTY
    rules = prometheus.rules()
    assert {rule["health"] for rule in rules} == {"ok"}, [rule.get("lastError") for rule in rules]
    assert prometheus.alerts().keys() <= BUSY

    own_redis.freeze()  # it keeps its connections, and its port
    await eventually(lambda: prometheus.alerts().get("GatewayRedisDisconnected") == "pending", "the alert", 15)
    await eventually(lambda: len(prometheus.values("gateway_redis_connected == 0")) == 2, "both replicas' figures", 15)
    own_redis.thaw()
    await eventually(lambda: "GatewayRedisDisconnected" not in prometheus.alerts(), "the alert's end", 15)
