"""`/admin` on the operators' port: who may ask, what is answered, and closing a client."""

from collections.abc import Iterator

import pytest
from pydantic import SecretStr
from starlette.websockets import WebSocketDisconnect

from gateway.app import create_app
from gateway.settings import Settings
from publisher.tokens import mint
from tests.contract.processes import RedisServer
from tests.starlette_client import TestClient
from tests.test_app import Stage
from tests.test_openapi import DOCUMENT, fits

KEY, OTHER = "an-admin-key-0123456789", "a-publish-key-0123456789"
SECRET = "s" * 32
NOBODY = "0123456789abcdef01234"
STRANGER = ("10.0.0.7", 1)
WITH_KEY = {"authorization": f"Bearer {KEY}"}


def settings(redis_server: RedisServer, **given: object) -> Settings:
    keys = {"admin_keys": (SecretStr(KEY),), "publish_keys": (SecretStr(OTHER),)}
    return Settings(**({"redis_url": redis_server.url, "admin_port": 4_001, "linger_seconds": 0} | keys | given))  # type: ignore[arg-type]


@pytest.fixture
def stage(redis_server: RedisServer) -> Iterator[Stage]:
    app = create_app(settings(redis_server))
    with TestClient(app) as client:
        yield Stage(client, app.state.hub)


@pytest.fixture
def admin(stage: Stage) -> TestClient:
    """A program of the same machine, on the admin port."""
    return TestClient(stage.client.app.state.admin)  # type: ignore[attr-defined]


@pytest.fixture
def stranger(stage: Stage) -> TestClient:
    return TestClient(stage.client.app.state.admin, client=STRANGER)  # type: ignore[attr-defined]


def test_the_clients_and_projects_are_listed(stage: Stage, admin: TestClient, project: str) -> None:
    with stage.viewer() as viewer:
        viewer.watch(project)
        answer = admin.get("/admin/clients")
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["cache-control"] == "no-store"
        assert fits(answer.json(), {"$ref": "#/components/schemas/Clients"})
        assert fits(admin.get("/admin/projects").json(), {"$ref": "#/components/schemas/Projects"})
        assert admin.get("/openapi.json").json() == DOCUMENT
        [client] = answer.json()["clients"]
        assert (client["projects"], client["address"], client["sub"]) == ([project], "127.0.0.1", None)
        assert [found["projectId"] for found in admin.get("/admin/projects").json()["projects"]] == [project]
    stage.eventually(lambda: not stage.hub.viewers, "the viewer to be forgotten")
    assert admin.get("/admin/clients").json() == {"clients": [], "next": None, "total": 0}


def test_a_client_is_closed_and_may_come_back(
    stage: Stage, admin: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "gateway.admin")
    with stage.viewer() as stays, stage.viewer() as goes:
        client_id = next(reversed(stage.hub.viewers)).client_id
        assert (answer := admin.delete(f"/admin/clients/{client_id}")).status_code == 204
        assert answer.content == b""
        with pytest.raises(WebSocketDisconnect) as closed:
            goes.socket.receive_json()
        assert (closed.value.code, closed.value.reason) == (1001, "closed by an operator")
        assert stays.told() == []
        assert caplog.messages == [f"Client {client_id}: closed by an operator"]
        again = admin.delete(f"/admin/clients/{client_id}")
        assert again.status_code == 404
        assert "it may have left" in again.text


@pytest.mark.parametrize("path", ["/admin/clients", "/admin/projects", f"/admin/clients/{NOBODY}"])
def test_it_is_404_elsewhere(redis_server: RedisServer, path: str) -> None:
    for admin_port in (None, 4_001):
        app = create_app(settings(redis_server, admin_port=admin_port))
        client = TestClient(app)
        for method in ("GET", "DELETE"):
            answer = client.request(method, path, headers=WITH_KEY)
            assert (answer.status_code, answer.text) == (404, "Not Found")


@pytest.mark.parametrize("path", ["/admin/clients", "/admin/projects", f"/admin/clients/{NOBODY}", "/admin/x"])
def test_others_need_a_key(stranger: TestClient, path: str) -> None:
    for headers in (
        {},
        {"authorization": f"Bearer {OTHER}"},
        {"authorization": KEY},
        {"authorization": f"Basic {KEY}"},
    ):
        answer = stranger.get(path, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert "GATEWAY_ADMIN_KEYS" in answer.text
    assert stranger.get("/admin/clients", headers=WITH_KEY).status_code == 200


def test_without_keys_others_are_told_what_to_set(redis_server: RedisServer) -> None:
    app = create_app(settings(redis_server, admin_keys=()))
    answer = TestClient(app.state.admin, client=STRANGER).get("/admin/clients", headers=WITH_KEY)
    assert answer.status_code == 403
    assert "set GATEWAY_ADMIN_KEYS" in answer.text
    assert TestClient(app.state.admin).get("/admin/clients").status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        "x-forwarded-for: 127.0.0.1", "x-forwarded-host: a", "forwarded: for=127.0.0.1", "x-real-ip: 127.0.0.1",
        "via: 1.1 a", "host: progress.example.com", "host: localhost.evil.example", "origin: http://127.0.0.1:4001",
    ],
)  # fmt: skip
def test_a_proxy_or_a_page_on_this_machine_needs_the_key(redis_server: RedisServer, header: str) -> None:
    """Also where every `Host` is answered, as on 0.0.0.0."""
    app = create_app(settings(redis_server, host="0.0.0.0"))
    admin, (name, _, value) = TestClient(app.state.admin), header.partition(": ")
    assert admin.get("/admin/clients").status_code == 200
    assert admin.get("/admin/clients", headers={name: value}).status_code == 401
    assert admin.get("/admin/clients", headers={name: value} | WITH_KEY).status_code == 200


def test_a_header_makes_no_stranger_local(stranger: TestClient) -> None:
    for name in ("x-forwarded-for", "x-real-ip"):
        assert stranger.get("/admin/clients", headers={name: "127.0.0.1"}).status_code == 401


def test_a_wrong_key_is_refused_from_this_machine_too(admin: TestClient) -> None:
    assert admin.get("/admin/clients", headers={"authorization": "Bearer wrong"}).status_code == 401


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("limit=0", "limit"), ("limit=1001", "limit"), ("limit=-1", "limit"), ("limit=ten", "limit"),
        ("limit=", "limit"),
        ("limit=1&limit=2", "limit"), ("limit=%D9%A3", "limit"), ("after=me", "after"), ("before=a", "before"),
        ("&".join("limit=1" for _ in range(99)), "query"),
    ],
)  # fmt: skip
def test_a_wrong_query_is_400_and_says_which(admin: TestClient, query: str, names: str) -> None:
    answer = admin.get(f"/admin/clients?{query}")
    assert answer.status_code == 400
    assert names in answer.text


def test_pages_are_asked_for_by_the_query(stage: Stage, admin: TestClient) -> None:
    with stage.viewer(), stage.viewer(), stage.viewer():
        first = admin.get("/admin/clients?limit=2").json()
        assert (len(first["clients"]), first["total"]) == (2, 3)
        rest = admin.get(f"/admin/clients?limit=1000&after={first['next']}").json()
        assert (len(rest["clients"]), rest["next"]) == (1, None)


def test_other_methods_are_405(admin: TestClient) -> None:
    assert admin.post("/admin/clients").headers["allow"] == "GET, HEAD"
    assert admin.delete("/admin/clients").status_code == 405
    answer = admin.get(f"/admin/clients/{NOBODY}")
    assert (answer.status_code, answer.headers["allow"]) == (405, "DELETE")
    assert admin.get("/admin/").status_code == 404
    assert admin.head("/admin/clients").content == b""


def test_the_address_is_the_one_that_a_trusted_proxy_tells(redis_server: RedisServer) -> None:
    app = create_app(settings(redis_server, trusted_proxies=("127.0.0.1",)))
    with TestClient(app) as client, Stage(client, app.state.hub).viewer(**{"x-forwarded-for": "6.6.6.6, 203.0.113.9"}):
        [row] = TestClient(app.state.admin).get("/admin/clients").json()["clients"]
        assert row["address"] == "203.0.113.9"


def test_an_untrusted_proxy_tells_nothing(stage: Stage, admin: TestClient) -> None:
    with stage.viewer(**{"x-forwarded-for": "203.0.113.9"}):
        assert admin.get("/admin/clients").json()["clients"][0]["address"] == "127.0.0.1"


def test_the_user_is_named_and_no_token_is_shown(redis_server: RedisServer, project: str) -> None:
    app = create_app(settings(redis_server, auth="jwt", jwt_secret=(SecretStr(SECRET),)))
    token = mint([project], sub="user_7", secret=SECRET)
    with (
        TestClient(app) as client,
        client.websocket_connect("/ws", headers={"authorization": f"Bearer {token}"}) as socket,
    ):
        assert socket.receive_json()["type"] == "connected"
        answer = TestClient(app.state.admin).get("/admin/clients")
        assert [row["sub"] for row in answer.json()["clients"]] == ["user_7"]
        assert token not in answer.text
