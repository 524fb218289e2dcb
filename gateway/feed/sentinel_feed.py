"""The feed of a primary that Sentinels know, which may be another server after a failover."""

import asyncio
import logging

from redis.exceptions import RedisError

from gateway.feed.link import end_if_cancelled
from gateway.feed.observer import FeedObserver
from gateway.feed.server_feed import PROBE_SECONDS, ServerFeed
from publisher.transport.sentinels import Address, ask_all
from publisher.transport.url import RedisUrl

logger = logging.getLogger("gateway.feed")

LOCATE_SECONDS = 1.0  # between two questions where the primary is
# From the answer that it is another one until it is left: publishers find that out themselves within half a second, and
# what they said to the old one until then is thrown away, and so heard here or never.
LEAVE_SECONDS = 1.0


class SentinelFeed(ServerFeed):
    """Asks for each connection where the primary is, and goes on asking while there is one.

    A primary that was cut off from its Sentinels, or that they have not told yet, answers on, and hears nothing of what
    the new one publishes.
    """

    def __init__(self, url: RedisUrl, observer: FeedObserver, *, probe_channel: str) -> None:
        super().__init__(url.url, observer, probe_channel=probe_channel)
        self._sentinels = url
        self._place_now: Address | None = None

    async def _place(self) -> str:
        known = await ask_all(self._sentinels)
        before, self._place_now = self._place_now, known.place
        if before is None:  # another replica may have left an older one a moment ago
            self._observer.on_replaced(known.seconds, known.seconds)
        elif before != known.place:  # maybe long ago: this replica may have been frozen, or cut off
            self._observer.on_replaced(known.seconds, 0.0)
        return self._sentinels.at(*known.place)

    async def _watch(self) -> None:
        # A task of its own: Sentinels that do not answer must not hold up the proof of life.
        watching = asyncio.get_running_loop().create_task(self._watch_place())
        try:
            await super()._watch()
        finally:
            watching.cancel()

    async def _watch_place(self) -> None:
        place = self._place_now
        while place == self._place_now:
            await asyncio.sleep(LOCATE_SECONDS)
            try:
                async with asyncio.timeout(PROBE_SECONDS):
                    place = (await ask_all(self._sentinels)).place
            except (RedisError, OSError, TimeoutError):
                pass  # who cannot be asked says nothing against this server
            except Exception:  # a bug, or what no Sentinel says: who does not ask on would miss the next failover
                logger.debug("Unexpected", exc_info=True)
            end_if_cancelled()
        await asyncio.sleep(LEAVE_SECONDS)
        self._fail(ConnectionResetError("another server is the primary now"))
