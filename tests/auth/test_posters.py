"""Tokens that may post events, beside the keys that may post everywhere; and revocation by HTTP."""

import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from gateway.app import create_app
from gateway.settings import Settings
from publisher.names import jobs_key
from publisher.revocation import revoked_channel
from publisher.tokens import mint
from tests.auth.keys import SECRET, claims, hs256
from tests.contract.events import progress
from tests.contract.processes import RedisServer, free_port

KEY = "the-first-key-0123456789"


class Api:
    """An app without a server."""

    def __init__(self, redis_url: str, **settings: Any) -> None:
        given = {
            "publish_keys": KEY,
            "auth": "jwt",
            "jwt_secret": SECRET,
            "namespace": f"n{uuid4().hex[:8]}",
        } | settings
        self.app = create_app(Settings(redis_url=redis_url, **given))
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://localhost")
        self.namespace = given["namespace"]

    async def post(self, path: str, bearer: str | None, **more: Any) -> httpx.Response:
        headers = {} if bearer is None else {"Authorization": f"Bearer {bearer}"}
        return await self.client.post(path, headers=headers, **more)

    async def publish(self, project: str, bearer: str | None) -> tuple[int, str | None]:
        answer = await self.post(f"/projects/{project}/events", bearer, json=progress("j", 40))
        return answer.status_code, answer.json().get("code")


@pytest.fixture
async def api(redis_server: RedisServer) -> AsyncIterator[Api]:
    api = Api(redis_server.url)
    yield api
    await api.client.aclose()


def token(*publish: str, **more: Any) -> str:
    return mint("nothing", publish=publish, secret=SECRET, **more)


async def test_a_token_posts_where_its_claim_says(api: Api) -> None:
    assert await api.publish("film_1", token("film_*")) == (202, None)
    assert await api.publish("film_1", KEY) == (202, None)
    assert await api.publish("team_1", token("film_*")) == (403, "forbidden")
    assert await api.publish("nothing", token("film_*")) == (403, "forbidden")  # may be watched; that is another right
    assert await api.publish("film_1", mint("*", secret=SECRET)) == (403, "forbidden")


async def test_a_bad_token_is_401_and_says_why(api: Api) -> None:
    for bad, words in (
        (hs256(claims(publish=["film_1"]), "another-secret-of-32-bytes-or-more"), "The token is refused: bad token."),
        (hs256(claims(publish=["film_1"], exp=int(time.time()) - 5)), "The token is refused: token expired."),
        ("x", "Send `Authorization: Bearer <key>` with one of the keys of GATEWAY_PUBLISH_KEYS."),
        (None, "Send `Authorization: Bearer <key>` with one of the keys of GATEWAY_PUBLISH_KEYS."),
    ):
        answer = await api.post("/projects/film_1/events", bad, json=progress("j"))
        assert (answer.status_code, answer.json()["code"]) == (401, "not_authorised")
        assert answer.json()["message"] == words
        assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_tokens_alone_open_the_path(redis_server: RedisServer) -> None:
    api = Api(redis_server.url, publish_keys="")
    assert await api.publish("film_1", token("film_1")) == (202, None)
    assert (await api.post("/viewers/u/revoke", token("*"))).status_code == 401
    closed = Api(redis_server.url, publish_keys="", auth="none")
    assert (await closed.post("/projects/film_1/events", token("film_1"), json={})).status_code == 404
    assert (await closed.post("/viewers/u/revoke", KEY)).status_code == 404
    for one in (api, closed):
        await one.client.aclose()


async def test_without_gateway_auth_no_token_counts(redis_server: RedisServer) -> None:
    api = Api(redis_server.url, auth="none")
    assert await api.publish("film_1", token("film_1")) == (401, "not_authorised")
    await api.client.aclose()


async def test_each_user_has_a_rate(redis_server: RedisServer) -> None:
    api = Api(redis_server.url, publish_rate=0.001, publish_burst=1)
    for sub in ("user_1", "user_2"):
        assert await api.publish("film_1", token("film_1", sub=sub)) == (202, None)
        assert await api.publish("film_1", token("film_1", sub=sub)) == (429, "rate_limited")
    await api.client.aclose()


async def test_revocation_needs_a_key_and_says_when(api: Api, redis_server: RedisServer) -> None:
    for bad in (None, "x", token("*")):
        assert (await api.post("/viewers/user_1/revoke", bad)).status_code == 401
    for path, sub in (("user_1", "user_1"), ("a%2Fb%7C%20c", "a/b| c")):
        answer = await api.post(f"/viewers/{path}/revoke", KEY)
        assert answer.status_code == 200
        assert answer.json()["sub"] == sub
        found = redis_server.command("HGET", jobs_key(revoked_channel(api.namespace)), sub)
        assert answer.json()["revokedAt"] == int(found) // 1_000
    assert (await api.post(f"/viewers/{'x' * 257}/revoke", KEY)).json()["code"] == "bad_sub"
    assert (await api.client.get("/viewers/u/revoke", headers={"Authorization": f"Bearer {KEY}"})).status_code == 405


async def test_a_revocation_that_redis_did_not_take_is_503() -> None:
    api = Api(f"redis://127.0.0.1:{free_port()}/0")
    answer = await api.post("/viewers/user_1/revoke", KEY)
    assert (answer.status_code, answer.json()["code"]) == (503, "redis_unavailable")
    await api.client.aclose()
