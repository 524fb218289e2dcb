"""`progress-gateway canary`: publishes an event and waits for it at `/ws`: the whole path of an event."""

import asyncio
import json
import secrets
import time

from redis.exceptions import RedisError
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, InvalidURI, SecurityError, WebSocketException

from publisher.aio import broadcast_to_project
from publisher.redaction import escaped, redacted_web_url
from publisher.transport.advice import with_advice

MAX_MESSAGE_BYTES = 1 << 20


class Dead(Exception):
    """The event did not arrive; the message says where it was lost."""


async def canary(url: str, project_id: str, seconds: float, token: str | None = None) -> float:
    """Return the seconds from publishing to arrival; raises `Dead` if all of it takes longer than `seconds`.

    It is always the same job, so that Redis remembers only one; the event is recognised by its message.
    """
    mark, where = secrets.token_hex(8), redacted_web_url(url)
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    step = connecting = f"{where} did not answer"
    try:
        async with (
            asyncio.timeout(seconds),
            connect(url, proxy=None, max_size=MAX_MESSAGE_BYTES, close_timeout=1, additional_headers=headers) as socket,
        ):
            await socket.send(json.dumps({"type": "subscribe", "projectId": project_id}))
            step = f"{where} did not answer `subscribe`; see its /readyz"
            await _until(socket, "type", "subscribed")
            step = "Redis did not take the event"
            start = time.perf_counter()
            event = {"type": "progress", "jobId": "canary", "jobType": "script", "progress": 50, "message": mark}
            await broadcast_to_project(project_id, event, strict=True)
            step = "the event was published but did not arrive; do both use the same Redis and PROGRESS_NAMESPACE?"
            await _until(socket, "message", mark)
            return time.perf_counter() - start
    except TimeoutError:
        raise Dead(f"{step} (within {seconds:g} s)") from None
    except InvalidStatus as refused:
        raise Dead(f"{where} refuses the upgrade with HTTP {refused.response.status_code}") from None
    except RedisError as error:
        raise Dead(f"not published: {with_advice(error)}") from None
    except (OSError, WebSocketException, ValueError) as error:
        # Their texts repeat the URL, or the one that it redirects to.
        if step == connecting and isinstance(error, InvalidURI | SecurityError | ValueError):
            raise Dead(f"{where} is not the URL of a gateway; one is ws://127.0.0.1:3001/ws") from None
        raise Dead(f"{step} ({escaped(str(error)) or type(error).__name__})") from None


async def _until(socket: ClientConnection, field: str, value: str) -> None:
    while True:
        message = json.loads(await socket.recv())
        if isinstance(message, dict):
            if message.get("type") == "error":
                raise Dead(f"the gateway answered: {escaped(str(message.get('message')))}")
            if message.get(field) == value:
                return
