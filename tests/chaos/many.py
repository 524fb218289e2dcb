"""Very many projects on one replica, whose Redis is killed and comes back: when is the last one current again?"""

import asyncio
import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.chaos.stage import Options, Stage
from tests.chaos.viewers import Viewer
from tests.contract.deadlines import eventually

PROJECTS_OF_A_CLIENT = 100  # as many as one connection may watch
AWAY_SECONDS = 2.0
PATIENCE_SECONDS = 120.0


class ManyProjects(Stage):
    """One replica; each client watches its own hundred projects."""

    def _new_viewer(self, number: int) -> Viewer:
        begin = number * PROJECTS_OF_A_CLIENT
        return Viewer(number, self.projects[begin : begin + PROJECTS_OF_A_CLIENT], self.ports, is_slow=False)


async def restart(options: Options, projects: int, say: Callable[[str], None]) -> str:
    """Returns a line with the times."""
    clients = -(-projects // PROJECTS_OF_A_CLIENT)
    options = dataclasses.replace(options, projects=projects, clients=clients)
    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as directory:
        stage = ManyProjects(options, 0, Path(directory), replicas=1)
        try:
            await stage.start(say)
            return await _restart(stage, say)
        finally:
            await asyncio.shield(stage.end())


async def _restart(stage: Stage, say: Callable[[str], None]) -> str:
    clock = asyncio.get_running_loop().time
    links = [viewer.link for viewer in stage.viewers if viewer.link is not None]
    killed = clock()
    stage.server.kill()
    await asyncio.sleep(AWAY_SECONDS)
    await asyncio.to_thread(stage.server.start)
    back = clock()
    say(f"Redis is back, with all that it had, after {back - killed:.1f} s; an event is published in each project")
    await stage.mark("after")
    published = clock()
    await eventually(lambda: stage.all_see("after"), "every project to be current", PATIENCE_SECONDS)
    stale = max(link.stale_at[0] for link in links) - killed
    live = max(link.live_at[-1] for link in links) - back
    current = max(max(viewer.marker_at["after"].values()) for viewer in stage.viewers) - back
    return (
        f"{len(stage.projects):,} projects on one replica, {len(links)} connections: `stale` at every client "
        f"{stale:.2f} s after Redis was killed; {live:.2f} s after it answers again `live` at every client, and "
        f"{current:.2f} s after it every project current (its events were published within {published - back:.2f} s)"
    )
