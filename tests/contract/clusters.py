"""A real Redis Cluster of three shards with a replica each, as an operator makes one; and what may happen to it."""

import shutil
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis

from publisher.transport.slot_map import slot_of

from .deadlines import wait_for
from .processes import claim, free_port
from .servers import program

START_SECONDS = 120.0
NODE_TIMEOUT_MS = 1_500
_HIGHEST_PORT = 22_000  # the bus of a node listens 10,000 above


class Node:
    """One member: a server that can be killed, frozen and started again with what it knew of the others."""

    def __init__(self, kind: str, directory: Path) -> None:
        self.port = cluster_port()
        self._directory = directory / str(self.port)
        self._directory.mkdir(parents=True)
        self._kind = kind
        self.start()

    def start(self) -> None:
        settings = {
            "port": self.port, "bind": "127.0.0.1", "save": "", "appendonly": "no", "cluster-enabled": "yes",
            "cluster-node-timeout": NODE_TIMEOUT_MS, "cluster-replica-validity-factor": 0,
            "repl-diskless-sync-delay": 0,
            "cluster-require-full-coverage": "no",  # a shard that is away takes nothing from the others
        }  # fmt: skip
        words = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
        with (self._directory / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [program(self._kind), *words], cwd=self._directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.is_frozen = False

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None and not self.is_frozen

    def command(self, *words: str | int | bytes) -> Any:
        """Raw answers, in RESP2, whichever redis-py this is."""
        with redis.Redis(port=self.port, socket_timeout=5, protocol=2) as client:
            return client.execute_command(*words)

    def answers(self) -> bool:
        try:
            return bool(self.command("PING"))
        except redis.RedisError:
            return False

    @property
    def id(self) -> str:
        return str(self.command("CLUSTER", "MYID"), "ascii")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        self.is_frozen = True
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.is_frozen = False
        self.process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        if self.process.poll() is None:
            self.kill()


def cluster_port() -> int:
    """A free port whose node's bus, 10,000 above, is free too."""
    while True:
        port = free_port()
        with socket.socket() as bus:
            is_free = port < _HIGHEST_PORT and bus.connect_ex(("127.0.0.1", port + 10_000)) != 0
        if is_free and claim(port + 10_000):
            return port


class Cluster:
    """Three primaries, three replicas."""

    def __init__(self, directory: Path, kind: str = "redis") -> None:
        self._directory = directory
        self.nodes = [Node(kind, directory) for _ in range(6)]
        try:
            wait_for(lambda: all(node.answers() for node in self.nodes), "the nodes to start", START_SECONDS)
            self._join()
            self.wait_until_whole()
        except BaseException:
            self.end()
            raise

    def _join(self) -> None:
        """What `redis-cli --cluster create` does, without its pauses."""
        first, *others = self.nodes
        for number, node in enumerate(self.nodes):
            node.command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in others:
            first.command("CLUSTER", "MEET", "127.0.0.1", node.port)
        for number, node in enumerate(self.nodes[:3]):
            node.command("CLUSTER", "ADDSLOTSRANGE", number * 5461, 16_383 if number == 2 else number * 5461 + 5460)

        def all_met() -> bool:
            return all(node.command("CLUSTER", "NODES").count(b" connected") == 6 for node in self.nodes)

        wait_for(all_met, "the nodes to meet", START_SECONDS)
        for primary, replica in zip(self.nodes[:3], self.nodes[3:], strict=True):
            wait_for(lambda p=primary, r=replica: _replicate(r, p.id), "a replica", START_SECONDS)  # type: ignore[misc]

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[:3])

    def running(self) -> list[Node]:
        return [node for node in self.nodes if node.is_running]

    def primaries(self) -> list[Node]:
        return [node for node in self.running() if node.command("ROLE")[0] == b"master"]

    def owner(self, project: str) -> Node:
        """The primary that has a project."""
        slot = slot_of(f"project:{project}")
        for first, last, primary, *_ in self.running()[0].command("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(node for node in self.nodes if node.port == primary[1])
        raise AssertionError(f"nobody owns slot {slot}")

    def projects(self, name: str, of_each: int) -> dict[Node, list[str]]:
        """So many names of projects for each shard; no two share a slot, so that each can be moved by itself."""
        found: dict[Node, list[str]] = {node: [] for node in self.primaries()}
        slots: set[int] = set()
        number = 0
        while any(len(names) < of_each for names in found.values()):
            number += 1
            project = f"{name}_{number}"
            slot = slot_of(f"project:{project}")
            if slot not in slots and len(names := found[self.owner(project)]) < of_each:
                names.append(project)
                slots.add(slot)
        return found

    def remembered(self, project: str) -> dict[bytes, bytes]:
        """What Redis keeps of it."""
        answer = self.owner(project).command("HGETALL", f"{{project:{project}}}:jobs")
        return dict(zip(answer[::2], answer[1::2], strict=True)) if isinstance(answer, list) else answer

    def move(self, project: str, target: Node) -> None:
        """Move the slot of a project to another shard, keys and all, as `redis-cli --cluster reshard` does."""
        self.half_move(project, target)()

    def half_move(self, project: str, target: Node) -> Callable[[], None]:
        """Move what the slot holds, and leave the slot; returns how to finish."""
        slot, source = slot_of(f"project:{project}"), self.owner(project)
        target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
        source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)
        while keys := source.command("CLUSTER", "GETKEYSINSLOT", slot, 100):
            source.command("MIGRATE", "127.0.0.1", target.port, "", 0, 5_000, "KEYS", *keys)

        def finish() -> None:
            target.command("CLUSTER", "SETSLOT", slot, "NODE", target.id)
            source.command("CLUSTER", "SETSLOT", slot, "NODE", target.id)
            for other in self.primaries():  # or they say for a while that it is where it is no more
                other.command("CLUSTER", "SETSLOT", slot, "NODE", target.id)

        return finish

    def replica_of(self, primary: Node) -> Node:
        for node in self.running():
            role = node.command("ROLE")
            if role[0] == b"slave" and role[2] == primary.port:
                return node
        raise AssertionError(f"{primary.port} has no replica")

    def fail_over(self, primary: Node) -> Node:
        """By hand, without loss: its replica takes over."""
        replica = self.replica_of(primary)
        wait_for(lambda: _begin_failover(replica), "the failover to begin", START_SECONDS)
        self.wait_for_owner(replica)
        return replica

    def wait_for_owner(self, node: Node) -> None:
        """Until every node that runs says that this one owns slots."""

        def knows(other: Node) -> bool:
            return any(primary[1] == node.port for _, _, primary, *_ in other.command("CLUSTER", "SLOTS"))

        wait_for(lambda: all(map(knows, self.running())), "the replica to take over", START_SECONDS)

    def wait_until_whole(self) -> None:
        """Until all slots are served and each primary has its replica, and that is up to date."""

        def is_whole() -> bool:
            if not all(node.answers() for node in self.nodes):  # one was started again just now
                return False
            roles = [node.command("ROLE") for node in self.nodes]
            fed = [role for role in roles if role[0] == b"slave" and role[3] == b"connected"]
            if not len({role[2] for role in fed}) == len(fed) == 3:
                return False
            states = [node.command("CLUSTER", "INFO") + node.command("CLUSTER", "NODES") for node in self.nodes]
            return all(b"cluster_state:ok" in state and b",fail" not in state for state in states)

        wait_for(is_whole, "each primary to have its replica", START_SECONDS)

    def end(self) -> None:
        for node in self.nodes:
            node.end()
        shutil.rmtree(self._directory, ignore_errors=True)


def _begin_failover(replica: Node) -> bool:
    try:
        return bool(replica.command("CLUSTER", "FAILOVER"))
    except redis.ResponseError:  # it has not heard of its primary since that came back
        return False


def _replicate(replica: Node, primary_id: str) -> bool:
    try:
        return bool(replica.command("CLUSTER", "REPLICATE", primary_id))
    except redis.ResponseError:  # it does not know it yet
        return False
