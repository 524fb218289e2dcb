"""uvicorn's server with an end of ours: requests that are under way get a time, and are then cut off."""

import asyncio
import logging

import uvicorn

logger = logging.getLogger("gateway")

TICK_SECONDS = 0.05
ANSWER_SECONDS = 0.2  # for what is cut off: gateway.publishing answers with 503 then


class BoundedServer(uvicorn.Server):
    """uvicorn itself would log an error, and look at `force_exit` no more while it waits for its sockets."""

    def __init__(self, config: uvicorn.Config, end_seconds: float) -> None:
        super().__init__(config)
        self._end_seconds = end_seconds

    async def _wait_tasks_to_complete(self) -> None:
        """What uvicorn waits for when it no longer takes connections."""
        loop, state = asyncio.get_running_loop(), self.server_state
        until = loop.time() + self._end_seconds
        while (state.connections or state.tasks) and loop.time() < until and not self.force_exit:
            await asyncio.sleep(TICK_SECONDS)
        if late := list(state.tasks):
            logger.warning("%d requests that did not end are cut off", len(late))
            for task in late:
                task.cancel()
            await asyncio.wait(late, timeout=ANSWER_SECONDS)
        for connection in list(state.connections):
            connection.transport.close()
