"""How late the event loop is: a timer that looks at the clock when it is called."""

import asyncio
import time

from gateway.figures import Histogram

PAUSE_SECONDS = 0.1


async def watch_loop(lag: Histogram) -> None:
    """Observe, ten times a second, by how much a timer comes too late: so long every client waits. Ends by
    cancellation."""
    while True:
        # The loop's own clock stands still while a callback runs.
        due = time.monotonic() + PAUSE_SECONDS
        await asyncio.sleep(PAUSE_SECONDS)
        lag.observe(max(0.0, time.monotonic() - due))
