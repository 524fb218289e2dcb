"""What operators see of a replica: its clients and its projects, a page at a time. No I/O.

A page begins after an id that need not exist any more, so paging is right while clients and projects come and go: what
stays from the first page to the last is listed once. Clients are in the order in which they came, projects in the order
of their ids. A page of clients walks past those before it, some 0.1 us for each; nothing else is done for all.
"""

import re
import time
from datetime import UTC, datetime
from itertools import dropwhile
from typing import Any

from gateway.projects.hub import Hub, Project, Viewer

DEFAULT_ROWS, MOST_ROWS = 100, 1_000  # of a page
# A client may watch a hundred projects, each with an id of 128 characters. So a page ends early, at some 256 KiB.
MOST_NAMED = 2_000  # projects that the clients of a page name, together

_CLIENT_ID = re.compile(r"(?P<number>[0-9a-f]{13})(?P<suffix>[0-9a-f]{8})")

Page = dict[str, Any]


def number_of(client_id: str) -> int | None:
    """When that client came (`Viewer.number`), also one that has gone; None if it is not the id of a client."""
    match = _CLIENT_ID.fullmatch(client_id)
    return None if match is None else int(match["number"], 16)


def clients(hub: Hub, *, after: int = 0, limit: int = DEFAULT_ROWS) -> Page:
    """The clients that came after that number. `next` is the id to go on after; None at the end."""
    rows: list[Page] = []
    following, named = None, 0
    for viewer in dropwhile(lambda viewer: viewer.number <= after, hub.viewers):
        named += len(viewer.project_ids)
        if len(rows) == limit or (rows and named > MOST_NAMED):
            following = rows[-1]["clientId"]
            break
        rows.append(_client(viewer))
    return {"clients": rows, "next": following, "total": len(hub.viewers)}


def _client(viewer: Viewer) -> Page:
    behind_since = viewer.behind_since
    since = datetime.fromtimestamp(viewer.number / 1_000_000, UTC)
    return {
        "clientId": viewer.client_id,
        "address": viewer.address or viewer.connection.peer,
        "sub": viewer.sub,
        "since": since.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "projects": list(viewer.project_ids),
        "behindBy": viewer.events_behind,
        "behindSeconds": 0.0 if behind_since is None else round(time.monotonic() - behind_since, 3),
        "unsentBytes": viewer.connection.unsent_bytes,
    }


def client(hub: Hub, client_id: str) -> Viewer | None:
    """The client of that id, if it is connected to this replica."""
    number = number_of(client_id)
    found = next(dropwhile(lambda viewer: viewer.number != number, hub.viewers), None)
    return found if found is not None and found.client_id == client_id else None


def projects(hub: Hub, *, after: str = "", limit: int = DEFAULT_ROWS) -> Page:
    """The watched projects whose ids are above that one. `next` is the id to go on after; None at the end."""
    found = hub.projects_after(after, limit + 1)
    rows = list(map(_project, found[:limit]))
    return {
        "projects": rows,
        "next": rows[-1]["projectId"] if len(found) > limit else None,
        "total": hub.projects,
    }


def _project(project: Project) -> Page:
    channel = project.channel
    return {
        "projectId": channel.project_id,
        "viewers": len(project.viewers),
        "waiting": len(project.waiting),
        "jobs": channel.jobs,
        "bytes": channel.size_bytes,
        "seq": channel.seq,
    }
