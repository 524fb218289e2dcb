"""Tokens under an ASGI server without our protocols: the same answers."""

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.websockets import WebSocketDisconnect

from gateway.app import create_app
from gateway.settings import Settings
from publisher.tokens import mint
from tests.auth.keys import SECRET
from tests.contract.processes import RedisServer
from tests.starlette_client import TestClient, WebSocketDenialResponse

ORIGIN = {"Origin": "http://127.0.0.1"}


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[TestClient]:
    settings: dict[str, Any] = {"auth": "jwt", "jwt_secret": SECRET, "auth_seconds": 0.1}
    with TestClient(create_app(Settings(redis_url=redis_server.url, **settings))) as client:
        yield client


def test_a_token_lets_in_and_is_refreshed(client: TestClient, project: str) -> None:
    with client.websocket_connect(f"/ws?token={mint(project, secret=SECRET)}") as socket:
        assert socket.receive_json()["expiresIn"] > 0
        socket.send_json({"type": "subscribe", "projectId": project})
        assert socket.receive_json()["type"] == "subscribed"
        socket.send_json({"type": "auth", "token": mint("other", secret=SECRET)})
        assert socket.receive_json()["type"] == "authorised"
        assert socket.receive_json()["code"] == "forbidden"


@pytest.mark.parametrize(("query", "reason"), [("?token=x", "bad token"), ("", "no token")])
def test_a_page_is_closed_with_a_reason(client: TestClient, query: str, reason: str) -> None:
    with client.websocket_connect(f"/ws{query}", headers=ORIGIN) as socket:
        if not query:
            assert socket.receive_json()["type"] == "connected"
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_json()
        assert (closed.value.code, closed.value.reason) == (4401, reason)


def test_a_program_gets_401(client: TestClient) -> None:
    with pytest.raises(WebSocketDenialResponse) as refused, client.websocket_connect("/ws?token=x"):
        pass
    assert refused.value.status_code == 401
