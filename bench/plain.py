"""The usual way: Starlette, one reader task, `for ws in sockets[project]: await ws.send_text(...)`.

It has no limits, checks, replay or back-pressure, so it is the usual way at its cheapest. Uvicorn runs it with uvloop,
httptools and its default WebSocket protocol. It sends `subscribed` without waiting for Redis to confirm.
"""

import asyncio
import json
import os
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

PREFIX = "project:"

sockets: dict[str, set[WebSocket]] = defaultdict(set)


async def read_events(pubsub: PubSub) -> None:
    async for message in pubsub.listen():
        if message["type"] != "message":
            continue
        project_id = message["channel"].removeprefix(PREFIX)
        for ws in list(sockets[project_id]):
            try:
                await ws.send_text(message["data"])
            except (WebSocketDisconnect, RuntimeError):
                sockets[project_id].discard(ws)


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    async with Redis.from_url(os.environ["REDIS_URL"], decode_responses=True) as redis, redis.pubsub() as pubsub:
        await pubsub.subscribe("keep-listening")  # listen() returns when nothing is subscribed
        app.state.pubsub = pubsub
        reader = asyncio.create_task(read_events(pubsub))
        yield
        reader.cancel()


async def readyz(_: Request) -> PlainTextResponse:
    return PlainTextResponse("ok")


async def endpoint(ws: WebSocket) -> None:
    await ws.accept()
    await ws.send_text(json.dumps({"type": "connected", "clientId": str(id(ws))}))
    joined: set[str] = set()
    try:
        async for text in ws.iter_text():
            message = json.loads(text)
            if message["type"] == "subscribe":
                project_id = message["projectId"]
                if not sockets[project_id]:
                    await ws.app.state.pubsub.subscribe(PREFIX + project_id)
                sockets[project_id].add(ws)
                joined.add(project_id)
                await ws.send_text(json.dumps({"type": "subscribed", "projectId": project_id}))
    finally:
        for project_id in joined:
            sockets[project_id].discard(ws)


app = Starlette(routes=[Route("/readyz", readyz), WebSocketRoute("/ws", endpoint)], lifespan=lifespan)
