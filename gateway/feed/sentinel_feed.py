"""The feed of a primary that Sentinels know. After a failover it is another server."""

import asyncio
import logging

from redis.exceptions import RedisError

from gateway.feed.interfaces import FeedObserver
from gateway.feed.link import end_if_cancelled
from gateway.feed.server_feed import PROBE_SECONDS, ServerFeed
from publisher.transport.async_driver import ask_sentinels
from publisher.transport.sentinels import Address
from publisher.transport.url import RedisUrl

logger = logging.getLogger("gateway.feed")

LOCATE_SECONDS = 1.0  # between two questions to the Sentinels
# How long the old primary is still listened to. Publishers leave it within half a second. What they sent to it until
# then is lost in Redis, so viewers get it here or never.
LEAVE_SECONDS = 1.0


class SentinelFeed(ServerFeed):
    """Asks the Sentinels where the primary is, before each connection and while it lasts.

    An old primary that was cut off from its Sentinels goes on answering, and gets no event of the new one.
    """

    def __init__(self, url: RedisUrl, observer: FeedObserver, *, probe_channel: str, memory_channel: str) -> None:
        super().__init__(url.url, observer, probe_channel=probe_channel, memory_channel=memory_channel)
        self._sentinels = url
        self._primary: Address | None = None

    async def _server_url(self) -> str:
        known = await ask_sentinels(self._sentinels)
        before, self._primary = self._primary, known.address
        if before is None:  # other replicas may have left an older primary a moment ago
            self._observer.on_replaced(known.seconds, known.seconds)
        elif before != known.address:  # this replica may have been frozen, and listened to the old one until now
            self._observer.on_replaced(known.seconds, 0.0)
        return self._sentinels.at(*known.address)

    async def _watch(self) -> None:
        # In a separate task: Sentinels that do not answer must not delay the probes.
        watching = asyncio.get_running_loop().create_task(self._watch_primary())
        try:
            await super()._watch()
        finally:
            watching.cancel()

    async def _watch_primary(self) -> None:
        primary = self._primary
        while primary == self._primary:
            await asyncio.sleep(LOCATE_SECONDS)
            try:
                async with asyncio.timeout(PROBE_SECONDS):
                    primary = (await ask_sentinels(self._sentinels)).address
            except (RedisError, OSError, TimeoutError):
                pass  # Sentinels that do not answer are no reason to leave this server
            except Exception:  # a bug, or an odd answer: to stop asking would be to miss the next failover
                logger.debug("Unexpected", exc_info=True)
            end_if_cancelled()
        await asyncio.sleep(LEAVE_SECONDS)
        self._fail(ConnectionResetError("another server is the primary now"))
