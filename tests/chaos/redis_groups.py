"""A Redis that is more than one process: a Cluster, and a primary with replicas and Sentinels."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from tests.contract.clusters import Cluster, Node
from tests.contract.sentinels import Sentinels
from tests.contract.servers import Server

KIND = "redis"  # a Sentinel is a mode of the same program


class ClusterOfRedis:
    """Three primaries, each with a replica that takes over."""

    is_group = True

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._cluster: Cluster | None = None

    @property
    def cluster(self) -> Cluster:
        assert self._cluster is not None, "it was not started"
        return self._cluster

    @property
    def url(self) -> str:
        return self.cluster.url

    @property
    def version(self) -> str:
        return f"a Cluster of 3 + 3 {version_of(self.cluster.nodes[0].port)}"

    def start(self) -> None:
        self._cluster = Cluster(self._directory, KIND)

    def kill(self) -> None:
        if self._cluster is not None:
            self._cluster.end()

    def hashes(self, projects: Iterable[str]) -> Iterator[tuple[str, dict[bytes, bytes]]]:
        for project in projects:
            yield project, self.cluster.remembered(project)

    def end_subscriptions(self) -> None:
        for node in self.cluster.primaries():
            node.command("CLIENT", "KILL", "TYPE", "pubsub")

    def victim(self, number: int) -> Node:
        primaries = self.cluster.primaries()
        return primaries[number % len(primaries)]


class WatchedRedis:
    """A primary and two replicas, and three Sentinels that watch them."""

    is_group = True

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._sentinels: Sentinels | None = None

    @property
    def sentinels(self) -> Sentinels:
        assert self._sentinels is not None, "it was not started"
        return self._sentinels

    @property
    def url(self) -> str:
        return self.sentinels.url

    @property
    def version(self) -> str:
        return f"3 Sentinels, a primary and 2 replicas of {version_of(self.sentinels.primary().port)}"

    def start(self) -> None:
        self._sentinels = Sentinels(self._directory)

    def kill(self) -> None:
        if self._sentinels is not None:
            self._sentinels.end()

    def hashes(self, projects: Iterable[str]) -> Iterator[tuple[str, dict[bytes, bytes]]]:
        with client_of(self.sentinels.primary().port) as client:
            for project in projects:
                yield project, client.hgetall(f"{{project:{project}}}:jobs")

    def end_subscriptions(self) -> None:
        self.sentinels.primary().cut_gateways()

    def primary(self) -> Server:
        return self.sentinels.primary()


@contextmanager
def client_of(port: int) -> Iterator[Any]:
    with redis.Redis(port=port, socket_timeout=10) as client:
        yield client


def version_of(port: int) -> str:
    """As it calls itself."""
    with client_of(port) as client:
        facts = client.info("server")
    return f"Valkey {facts['valkey_version']}" if "valkey_version" in facts else f"Redis {facts['redis_version']}"
