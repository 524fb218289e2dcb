"""What is done to the replicas and their Redis; each kind is a class of a few lines."""

import asyncio
import random
import signal
from enum import Enum
from typing import ClassVar

import redis

from tests.chaos.proxy import Direction
from tests.chaos.stage import Stage

BLINK_SECONDS = (0.2, 1.5)
LONG_SECONDS = (5.5, 6.5)  # long enough for silence to be noticed in its midst


class Due(Enum):
    """When clients are to be told `stale`, within 5 seconds of its begin."""

    ALWAYS = "always"  # what was sent meanwhile is lost to this connection
    IF_LONG = "if it lasts"  # nothing is lost, it comes late
    NEVER = "never"  # events go on, or the client's own connection is lost


class Fault:
    """One fault. `begin` and `end` are called once each; `replicas` are those whose clients feel it."""

    kind: ClassVar[str]
    due: ClassVar[Due]
    is_of_redis: ClassVar[bool] = False
    seconds_of: ClassVar[tuple[tuple[float, float], ...]] = (BLINK_SECONDS,)

    def __init__(self, replicas: tuple[int, ...], dice: random.Random, *, is_brief: bool = False) -> None:
        self.replicas = replicas
        self.seconds = dice.uniform(*(self.seconds_of[0] if is_brief else dice.choice(self.seconds_of)))
        self.dice = dice

    async def begin(self, stage: Stage) -> None:
        raise NotImplementedError

    async def end(self, stage: Stage) -> None:
        """By default it is over by itself."""


class Cut(Fault):
    kind, due, seconds_of = "cut", Due.ALWAYS, ((0.0, 0.1),)

    async def begin(self, stage: Stage) -> None:
        for number in self.replicas:
            stage.proxies[number].cut()


class Refuse(Fault):
    """Cut, and new connections refused."""

    kind, due, seconds_of = "refuse", Due.ALWAYS, ((0.5, 4.0),)

    async def begin(self, stage: Stage) -> None:
        for number in self.replicas:
            stage.proxies[number].refuse()

    async def end(self, stage: Stage) -> None:
        for number in self.replicas:
            await stage.proxies[number].start()


class Freeze(Fault):
    """Connections are taken, and nothing is forwarded; then all of it is."""

    kind, due, seconds_of = "freeze", Due.IF_LONG, (BLINK_SECONDS, LONG_SECONDS)

    async def begin(self, stage: Stage) -> None:
        for number in self.replicas:
            stage.proxies[number].freeze()

    async def end(self, stage: Stage) -> None:
        for number in self.replicas:
            stage.proxies[number].thaw()


class Delay(Fault):
    """50 to 2,000 ms in each direction."""

    kind, due, seconds_of = "delay", Due.NEVER, ((0.8, 2.0), (2.0, 5.0))

    async def begin(self, stage: Stage) -> None:
        for number in self.replicas:
            stage.proxies[number].delay(self.dice.choice((0.05, 0.2, 0.7, 2.0)))

    async def end(self, stage: Stage) -> None:
        for number in self.replicas:
            stage.proxies[number].delay(0)


class LoseFromRedis(Fault):
    """What Redis says gets lost; the connection is dead for good, and nobody says so."""

    kind, due, seconds_of = "lose from Redis", Due.ALWAYS, ((0.5, 2.0), LONG_SECONDS)
    direction: ClassVar[Direction] = Direction.FROM_REDIS

    async def begin(self, stage: Stage) -> None:
        for number in self.replicas:
            stage.proxies[number].lose(self.direction)

    async def end(self, stage: Stage) -> None:
        for number in self.replicas:
            stage.proxies[number].find(self.direction)


class LoseToRedis(LoseFromRedis):
    """What the replica says gets lost; events go on coming, so there is nothing stale in what its viewers see."""

    kind, due, direction = "lose to Redis", Due.NEVER, Direction.TO_REDIS


class Truncate(Fault):
    """Cut in the middle of what Redis says: of an event, then of a state that is read again."""

    kind, due, seconds_of = "truncate", Due.ALWAYS, ((1.0, 2.0),)

    async def begin(self, stage: Stage) -> None:
        for number in self.replicas:
            stage.proxies[number].truncate(self.dice.randint(1, 4))

    async def end(self, stage: Stage) -> None:
        for number in self.replicas:
            stage.proxies[number].truncate(0)


class KillReplica(Fault):
    """kill -9, and started again; its clients go to the other one."""

    kind, due, seconds_of = "kill replica", Due.NEVER, ((0.2, 2.0),)

    async def begin(self, stage: Stage) -> None:
        for number in self.replicas:
            stage.kill_replica(number)

    async def end(self, stage: Stage) -> None:
        for number in self.replicas:
            stage.start_replica(number)


class StopRedis(Fault):
    """SIGSTOP and SIGCONT."""

    kind, due, is_of_redis, seconds_of = "stop Redis", Due.IF_LONG, True, (BLINK_SECONDS, LONG_SECONDS)

    async def begin(self, stage: Stage) -> None:
        stage.server.signal(signal.SIGSTOP)

    async def end(self, stage: Stage) -> None:
        stage.server.signal(signal.SIGCONT)


class RestartRedis(Fault):
    """kill -9; it comes back with all that it had."""

    kind, due, is_of_redis, seconds_of = "restart Redis", Due.ALWAYS, True, (BLINK_SECONDS, (2.0, 6.0))

    async def begin(self, stage: Stage) -> None:
        stage.server.kill()

    async def end(self, stage: Stage) -> None:
        await asyncio.to_thread(stage.server.start)


class EmptyRedis(RestartRedis):
    """kill -9; it comes back with nothing."""

    kind = "empty Redis"

    async def begin(self, stage: Stage) -> None:
        stage.server.kill()
        stage.server.empty()


class Flush(Fault):
    kind, due, is_of_redis, seconds_of = "FLUSHALL", Due.NEVER, True, ((0.0, 0.1),)

    async def begin(self, stage: Stage) -> None:
        await asyncio.to_thread(stage.server.client.flushall)


class KillPubsub(Fault):
    kind, due, is_of_redis, seconds_of = "CLIENT KILL", Due.ALWAYS, True, ((0.0, 0.1),)

    async def begin(self, stage: Stage) -> None:
        await asyncio.to_thread(stage.server.client.execute_command, "CLIENT", "KILL", "TYPE", "pubsub")


class PauseRedis(Fault):
    """CLIENT PAUSE: it takes what is said, and answers later."""

    kind, due, is_of_redis, seconds_of = "CLIENT PAUSE", Due.IF_LONG, True, (BLINK_SECONDS, LONG_SECONDS)

    async def begin(self, stage: Stage) -> None:
        await asyncio.to_thread(stage.server.client.client_pause, int(self.seconds * 1_000))

    async def end(self, stage: Stage) -> None:
        try:
            await asyncio.to_thread(stage.server.client.ping)
        except redis.RedisError:  # another fault has come by
            pass


KINDS: tuple[type[Fault], ...] = (
    Cut, Refuse, Freeze, Delay, LoseFromRedis, LoseToRedis, Truncate, KillReplica,
    StopRedis, RestartRedis, EmptyRedis, Flush, KillPubsub, PauseRedis,
)  # fmt: skip
