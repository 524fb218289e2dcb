"""What is done to a Redis of several processes: failovers by hand and by death, slots that move, a lost Sentinel."""

import asyncio
import random
import time
from typing import ClassVar

from tests.chaos.faults import BLINK_SECONDS, Due, Fault, KillReplica
from tests.chaos.redis_groups import ClusterOfRedis, WatchedRedis
from tests.chaos.stage import Stage
from tests.contract.clusters import Node
from tests.contract.servers import Server

FAILOVER_SECONDS = ((5.5, 7.0),)  # long enough for a replica to be elected meanwhile
HANDOVER_US = 700_000
MOVED_SHARE = 0.3  # of the projects, in a resharding


class GroupFault(Fault):
    """Feels it: everybody."""

    is_of_redis = True
    seconds_of: ClassVar[tuple[tuple[float, float], ...]] = ((0.0, 0.1),)


class ClusterFault(GroupFault):
    """Leaves the Cluster whole."""

    def __init__(self, replicas: tuple[int, ...], dice: random.Random, *, is_brief: bool = False) -> None:
        super().__init__(replicas, dice, is_brief=is_brief)
        self.node: Node | None = None
        self.number = dice.randrange(3)

    @staticmethod
    def redis_of(stage: Stage) -> ClusterOfRedis:
        assert isinstance(stage.redis, ClusterOfRedis)
        return stage.redis

    async def choose(self, stage: Stage) -> Node:
        """A primary whose replica, the `heir`, is up to date."""
        of_redis = self.redis_of(stage)
        node = await asyncio.to_thread(of_redis.victim, self.number)
        self.heir = await asyncio.to_thread(of_redis.cluster.replica_of, node)
        return node

    async def end(self, stage: Stage) -> None:
        await asyncio.to_thread(self.redis_of(stage).cluster.wait_until_whole)


class Reshard(ClusterFault):
    """A part of all projects goes to another shard, slot by slot and key by key, while events flow."""

    kind, due, seconds_of = "reshard", Due.NEVER, (BLINK_SECONDS,)

    async def begin(self, stage: Stage) -> None:
        count = max(1, int(len(stage.projects) * MOVED_SHARE))
        await asyncio.to_thread(self._move, stage, self.dice.sample(stage.projects, count))

    def _move(self, stage: Stage, projects: list[str]) -> None:
        cluster = self.redis_of(stage).cluster
        primaries = cluster.primaries()
        for project in projects:
            owner = cluster.owner(project)
            if owner not in primaries:  # since a failover a moment ago
                continue
            cluster.move(project, self.dice.choice([node for node in primaries if node is not owner]))


class ReshardHalf(Reshard):
    """Slots stay half moved for a while: their keys are at one shard, and they themselves at another."""

    kind = "half a reshard"

    def _move(self, stage: Stage, projects: list[str]) -> None:
        cluster = self.redis_of(stage).cluster
        primaries = cluster.primaries()
        self._finish = []
        for project in projects[:5]:
            owner = cluster.owner(project)
            self._finish.append(
                cluster.half_move(project, self.dice.choice([node for node in primaries if node is not owner]))
            )

    async def end(self, stage: Stage) -> None:
        for finish in self._finish:
            await asyncio.to_thread(finish)
        await super().end(stage)


class FailOver(ClusterFault):
    """CLUSTER FAILOVER: a replica takes over, with all that its primary had."""

    kind, due = "failover by hand", Due.NEVER

    async def begin(self, stage: Stage) -> None:
        of_redis = self.redis_of(stage)
        await asyncio.to_thread(lambda: of_redis.cluster.fail_over(of_redis.victim(self.number)))


class KillPrimary(ClusterFault):
    """kill -9; a replica is elected, and it comes back as that one's replica."""

    kind, due, seconds_of = "kill primary", Due.ALWAYS, FAILOVER_SECONDS

    async def begin(self, stage: Stage) -> None:
        self.node = await self.choose(stage)
        self.node.kill()
        stage.note_death()

    async def end(self, stage: Stage) -> None:
        assert self.node is not None
        await asyncio.to_thread(self.redis_of(stage).cluster.wait_for_owner, self.heir)
        await asyncio.to_thread(self.node.start)
        await super().end(stage)


class StopPrimary(ClusterFault):
    """SIGSTOP until another was elected, then SIGCONT: for a moment it takes itself to be the primary still."""

    kind, due, seconds_of = "stop primary", Due.NEVER, FAILOVER_SECONDS

    async def begin(self, stage: Stage) -> None:
        self.node = await self.choose(stage)
        self.node.freeze()

    async def end(self, stage: Stage) -> None:
        assert self.node is not None
        await asyncio.to_thread(self.redis_of(stage).cluster.wait_for_owner, self.heir)
        self.node.thaw()
        await super().end(stage)


class EndSubscriptions(GroupFault):
    """CLIENT KILL of all pub/sub connections, on every primary."""

    kind, due = "CLIENT KILL", Due.ALWAYS

    async def begin(self, stage: Stage) -> None:
        assert isinstance(stage.redis, ClusterOfRedis | WatchedRedis)
        await asyncio.to_thread(stage.redis.end_subscriptions)


class SentinelFault(GroupFault):
    """Leaves a primary with two replicas that are up to date."""

    server: Server

    @staticmethod
    def redis_of(stage: Stage) -> WatchedRedis:
        assert isinstance(stage.redis, WatchedRedis)
        return stage.redis

    async def another(self, stage: Stage) -> None:
        """Wait until all Sentinels have heard of the failover: a busy machine takes its time."""
        await asyncio.to_thread(self.redis_of(stage).sentinels.wait_for_another, self.server)

    async def end(self, stage: Stage) -> None:
        await asyncio.to_thread(self.redis_of(stage).sentinels.wait_until_whole)


class SentinelFailOver(SentinelFault):
    """SENTINEL FAILOVER: what the old primary takes until it is told is lost."""

    # The old one repeats what the new one publishes, so that markers arrive; it is left within 5 seconds.
    kind, due, seconds_of = "failover by hand", Due.ALWAYS, ((5.0, 5.5),)

    async def begin(self, stage: Stage) -> None:
        begun = time.time_ns() // 1_000
        await asyncio.to_thread(self.redis_of(stage).sentinels.fail_over)
        # Until publishers ask again, half a second later, the old one takes events, and throws them away.
        stage.note_handover(begun, time.time_ns() // 1_000 + HANDOVER_US)


class SentinelKillPrimary(SentinelFault):
    kind, due, seconds_of = "kill primary", Due.ALWAYS, FAILOVER_SECONDS

    async def begin(self, stage: Stage) -> None:
        self.server = await asyncio.to_thread(self.redis_of(stage).primary)
        self.server.kill()
        stage.note_death()

    async def end(self, stage: Stage) -> None:
        await self.another(stage)
        await asyncio.to_thread(self.server.start)
        await super().end(stage)


class SentinelStopPrimary(SentinelFault):
    """SIGSTOP until another was elected, then SIGCONT: it answers as a primary until the Sentinels have told it."""

    kind, due, seconds_of = "stop primary", Due.ALWAYS, FAILOVER_SECONDS

    async def begin(self, stage: Stage) -> None:
        self.server = await asyncio.to_thread(self.redis_of(stage).primary)
        self.server.freeze()

    async def end(self, stage: Stage) -> None:
        await self.another(stage)
        self.server.thaw()
        await super().end(stage)


class StopSentinel(SentinelFault):
    """One of three does not answer."""

    kind, due, seconds_of = "stop Sentinel", Due.NEVER, ((1.0, 3.0),)

    async def begin(self, stage: Stage) -> None:
        # Always the last: for 30 seconds after it one does nothing by itself ("tilt"); the first is told to fail over.
        self.sentinel = self.redis_of(stage).sentinels.sentinels[-1]
        self.sentinel.freeze()

    async def end(self, stage: Stage) -> None:
        self.sentinel.thaw()
        await super().end(stage)


OF_A_CLUSTER: tuple[type[Fault], ...] = (
    Reshard, ReshardHalf, FailOver, KillPrimary, StopPrimary, EndSubscriptions, KillReplica,
)  # fmt: skip
OF_SENTINELS: tuple[type[Fault], ...] = (
    SentinelFailOver, SentinelKillPrimary, SentinelStopPrimary, StopSentinel, EndSubscriptions, KillReplica,
)  # fmt: skip
