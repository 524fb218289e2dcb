"""Writes revocations back to a Redis that has lost them, as after a restart without its data.

This replica still knows them. One that starts later would not.
"""

import asyncio
from collections.abc import Mapping

from redis.exceptions import RedisError

from gateway.operations.logs import Occasional
from gateway.settings import Settings
from publisher.settings import DEFAULT_REDIS_URL, PublisherSettings
from publisher.transport.advice import with_advice
from publisher.transport.async_driver import revoke


class Restorer:
    """Lives as long as the replica; used by its event loop only."""

    def __init__(self, settings: Settings) -> None:
        self._publisher = PublisherSettings(settings.redis_url or DEFAULT_REDIS_URL, settings.namespace)
        self._lost: dict[str, int] = {}
        """What is still to be written, by `sub`."""
        self._has_some = asyncio.Event()
        self._occasional = Occasional("gateway.auth")

    def restore(self, lost: Mapping[str, int]) -> None:
        self._lost = dict(lost)
        self._has_some.set()

    async def run(self) -> None:
        """Write what is lost, one after the other, until cancelled. What fails is lost again at the next load."""
        while True:
            await self._has_some.wait()
            self._has_some.clear()
            while self._lost:
                sub, revoked_at = self._lost.popitem()
                try:
                    await revoke(self._publisher, sub, revoked_at)
                except (RedisError, OSError, TimeoutError) as error:
                    # Without the rights of a publisher a replica cannot; it goes on to refuse what it knows.
                    self._lost.clear()
                    text = "Revocations that Redis has lost cannot be written again: %s"
                    self._occasional.warning("restore", text, with_advice(error))
