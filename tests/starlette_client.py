"""Starlette's test client as a program of this machine, without its notice that it would rather have httpx2."""

import warnings
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient as _TestClient
    from starlette.testclient import WebSocketDenialResponse, WebSocketTestSession

__all__ = ["TestClient", "WebSocketDenialResponse", "WebSocketTestSession"]

HOST = "127.0.0.1"


class TestClient(_TestClient):
    """Names the gateway by its address: a replica on loopback does not answer `testserver`."""

    __test__ = False

    def __init__(self, app: Any, *, client: tuple[str, int] = (HOST, 50_000)) -> None:
        super().__init__(app, base_url=f"http://{HOST}", client=client)

    def websocket_connect(self, url: str, *arguments: Any, **options: Any) -> WebSocketTestSession:
        return super().websocket_connect(f"ws://{HOST}{url}", *arguments, **options)
