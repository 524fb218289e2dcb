"""`progress-gateway canary`: publishes an event and waits for it at `/ws`: the whole path of an event."""

import asyncio
import json
import secrets
import ssl
import time
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, InvalidURI, SecurityError, WebSocketException

from publisher.aio import broadcast_to_project
from publisher.redaction import escaped, redacted_web_url
from publisher.transport.advice import with_advice

MAX_MESSAGE_BYTES = 1 << 20


class Dead(Exception):
    """The event did not arrive; the message says where it was lost."""


async def canary(
    url: str, project_id: str, seconds: float, token: str | None = None, certificate: Path | None = None
) -> float:
    """Return the seconds from publishing to arrival; raises `Dead` if all of it takes longer than `seconds`.

    It is always the same job, so that Redis remembers only one; the event is recognised by its message. `certificate`
    is the one that the replica must show, whatever host it names.
    """
    mark, where = secrets.token_hex(8), redacted_web_url(url)
    options: dict[str, Any] = {} if certificate is None else {"ssl": _only(certificate)}
    if token is not None:
        options["additional_headers"] = {"Authorization": f"Bearer {token}"}
    step = connecting = f"{where} did not answer"
    try:
        async with (
            asyncio.timeout(seconds),
            connect(url, proxy=None, max_size=MAX_MESSAGE_BYTES, close_timeout=1, **options) as socket,
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
        is_url = isinstance(error, ssl.SSLError)  # a ValueError, too: the certificate is not trusted
        if step == connecting and not is_url and isinstance(error, InvalidURI | SecurityError | ValueError):
            raise Dead(f"{where} is not the URL of a gateway; one is ws://127.0.0.1:3001/ws") from None
        raise Dead(f"{step} ({escaped(str(error)) or type(error).__name__})") from None


def _only(certificate: Path) -> ssl.SSLContext:
    """Trusts this certificate alone."""
    context = ssl.create_default_context(cafile=str(certificate))
    context.check_hostname = False  # it is called by its loopback address
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


async def _until(socket: ClientConnection, field: str, value: str) -> None:
    while True:
        message = json.loads(await socket.recv())
        if isinstance(message, dict):
            if message.get("type") == "error":
                raise Dead(f"the gateway answered: {escaped(str(message.get('message')))}")
            if message.get(field) == value:
                return
