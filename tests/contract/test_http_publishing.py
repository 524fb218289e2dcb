"""Events by HTTP: from a job in any language, through any replica, to the viewers of all; and bad requests."""

import asyncio
import json
import re
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from .client import connect, watching
from .conftest import Launch
from .deadlines import PATIENCE, STALL_SECONDS, Stalls, eventually, wait_for
from .events import complete, progress
from .processes import RedisServer, Replica, environment, run
from .raw import RawClient, raw_socket

KEY, NEXT_KEY = "first-key-of-the-tests", "next-key-of-the-tests"
KEYS = f"{KEY},{NEXT_KEY}"
MAX_BYTES = 1_048_576
REQUEST_SECONDS = 1
IN_HAND = 64
ANSWER_SECONDS = 6  # with a Redis that does not answer; the bound is 4 s, and the machine may be slow

DOCUMENT = (Path(__file__).parents[2] / "docs" / "publishing.md").read_text()
EXAMPLES = dict(re.findall(r"^```(sh|js)\n((?:curl|async function).*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL))


@pytest.fixture(scope="module")
def pair(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Replica, Replica]]:
    """Two replicas that take events, at log level debug."""
    logs = tmp_path_factory.mktemp("publishing")
    settings: dict[str, Any] = {"publish_keys": KEYS, "request_seconds": REQUEST_SECONDS, "log_level": "debug"}
    replicas = (
        Replica(redis_server.url, logs / "0.log", **settings),
        Replica(redis_server.url, logs / "1.log", **settings),
    )
    try:
        for replica in replicas:
            replica.wait_ready()
        yield replicas
        for replica in replicas:
            assert replica.stop() == 0, replica.log
            assert "Traceback" not in replica.log, replica.log
            assert "Exception" not in replica.log, replica.log
            assert KEY not in replica.log
            assert NEXT_KEY not in replica.log
    finally:
        for replica in replicas:
            replica.end()


@pytest.fixture
def replica(pair: tuple[Replica, Replica]) -> Replica:
    return pair[0]


@pytest.fixture
def other(pair: tuple[Replica, Replica]) -> Replica:
    return pair[1]


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(trust_env=False, timeout=3 * PATIENCE, limits=limits) as client:
        yield client


async def post(
    http: httpx.AsyncClient, replica: Replica, project: str, events: Any, *, key: str = KEY
) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}"}
    return await http.post(f"{replica.http}/projects/{project}/events", json=events, headers=headers)


async def seqs(
    http: httpx.AsyncClient, replica: Replica, project: str, events: Any, *, key: str = KEY
) -> list[int | None]:
    answer = await post(http, replica, project, events, key=key)
    assert answer.status_code == 202, answer.text
    answered: list[int | None] = answer.json()["seqs"]
    return answered


# The main job


async def test_what_is_posted_to_one_replica_reaches_the_viewers_of_another_in_order_and_late_ones(
    http: httpx.AsyncClient, replica: Replica, other: Replica, project: str
) -> None:
    async with watching(other.ws, project) as viewer:
        posted = await seqs(http, replica, project, progress("job", 10))
        for start in range(0, 250, 50):
            events = [progress(f"job_{number}", number % 100) for number in range(start, start + 50)]
            posted += await seqs(http, replica, project, events)
        posted += await seqs(http, other, project, complete("job"))
        events = await viewer.events(len(posted))
    assert [event["seq"] for event in events] == posted
    assert posted == sorted(set(posted), key=lambda seq: seq or 0)
    assert [event["jobId"] for event in events] == ["job", *(f"job_{number}" for number in range(250)), "job"]
    for replica_ in (replica, other):
        async with connect(replica_.ws) as late:
            assert (await late.subscribe(project))["seq"] == posted[-1]
            replayed = await late.events(251)
            assert [event["seq"] for event in replayed] == posted[1:]
            assert replayed[-1]["type"] == "job_complete"


async def test_a_client_resumes_at_a_seq_that_was_answered(
    http: httpx.AsyncClient, replica: Replica, other: Replica, project: str
) -> None:
    first, second = await seqs(http, replica, project, [progress("a"), progress("b")])
    async with connect(other.ws) as client:
        assert (await client.subscribe(project, since=first))["recovered"] is True
        assert [event["seq"] for event in await client.events(1)] == [second]


async def test_attempts_work_from_any_language(
    http: httpx.AsyncClient, replica: Replica, other: Replica, project: str
) -> None:
    async with watching(replica.ws, project) as viewer:
        first = await seqs(http, replica, project, progress("job", 80, attempt=1))
        assert await seqs(http, other, project, progress("job", 90, attempt=0)) == [None]
        assert await seqs(http, other, project, progress("job", 70, attempt=1)) == [None]
        last = await seqs(http, other, project, [progress("job", 1, attempt=2), complete("job", attempt=1)])
        assert last[1] is None
        assert [event["seq"] for event in await viewer.events(2)] == [first[0], last[0]]
        assert await viewer.ping() == []


async def test_both_keys_are_taken_and_no_other(http: httpx.AsyncClient, replica: Replica, project: str) -> None:
    for key in (KEY, NEXT_KEY):
        assert len(await seqs(http, replica, project, progress("job"), key=key)) == 1
    refused = await post(http, replica, project, progress("job"), key=f"{KEY}x")
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == "Bearer"


async def test_a_replica_without_keys_has_no_such_path(
    http: httpx.AsyncClient, replicas: tuple[Replica, Replica], project: str
) -> None:
    assert (await post(http, replicas[0], project, progress("job"))).status_code == 404
    assert (await http.get(replicas[0].http + "/openapi.json")).status_code == 404


async def test_a_connection_is_kept_for_many_requests_whatever_their_answers(replica: Replica, project: str) -> None:
    async with raw_socket(replica.port) as client:
        for body, status in ((json.dumps(progress("job")).encode(), 202), (b"{", 422), (b"[]", 422)) * 3:
            await client.send(head(project, f"Content-Length: {len(body)}") + body)
            async with asyncio.timeout(PATIENCE):
                answer = await client.reader.readuntil(b"\r\n\r\n")
                await client.reader.readexactly(int(re.findall(rb"content-length: (\d+)", answer)[0]))
            assert int(answer.split()[1]) == status


async def test_the_events_of_many_jobs_at_once_are_all_there(
    http: httpx.AsyncClient, replica: Replica, other: Replica, project: str
) -> None:
    async with watching(other.ws, project) as viewer:
        jobs = [f"job_{number}" for number in range(IN_HAND)]
        answered = await asyncio.gather(*(seqs(http, replica, project, [progress(job), complete(job)]) for job in jobs))
        events = await viewer.events(2 * len(jobs))
    assert sorted(event["seq"] for event in events) == sorted(seq for pair in answered for seq in pair if seq)
    for job in jobs:
        assert [event["type"] for event in events if event["jobId"] == job] == ["progress", "job_complete"]


# The examples of the document


@pytest.mark.parametrize("language", ["sh", "js"])
async def test_the_example_of_the_document_publishes(replica: Replica, tmp_path: Path, language: str) -> None:
    program = {"sh": "bash", "js": "node"}[language]
    for needed in ("curl", program):
        assert shutil.which(needed), f"{needed} is not here; `make test` installs it, or says how"
    script = tmp_path / ("example.sh" if language == "sh" else "example.mjs")
    script.write_text(EXAMPLES[language])
    env = environment(None, GATEWAY_URL=replica.http, GATEWAY_KEY=KEY)
    async with watching(replica.ws, "project_1") as viewer:
        await viewer.ping()  # what the other example left
        done = await asyncio.to_thread(run, [program, str(script)], env, within=30)
        assert done.returncode == 0, done.stderr
        published = re.findall(r"\d{16}", done.stdout)
        assert published, done.stdout
        events = await viewer.events(len(published))
        assert [str(event["seq"]) for event in events] == published
        assert {event["jobId"] for event in events} == {"job_7"}


# Bodies that are too big, too slow, or no bodies at all


def head(project: str, *headers: str, key: str = KEY) -> bytes:
    lines = [f"POST /projects/{project}/events HTTP/1.1", "Host: localhost", f"Authorization: Bearer {key}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def test_a_body_that_is_announced_too_long_is_refused_before_it_is_sent(replica: Replica, project: str) -> None:
    async with raw_socket(replica.port) as client:
        await client.send(head(project, f"Content-Length: {MAX_BYTES + 1}", "Expect: 100-continue"))
        assert await client.status() == 413


async def test_curl_and_others_that_send_it_anyway_read_the_answer(
    http: httpx.AsyncClient, replica: Replica, project: str
) -> None:
    for _ in range(3):  # on one connection: an unwanted body does not disturb the next request
        answer = await post(http, replica, project, progress("job", message="x" * 2 * MAX_BYTES))
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_big")
    assert len(await seqs(http, replica, project, progress("job"))) == 1


async def test_a_body_of_the_limit_is_taken(http: httpx.AsyncClient, replica: Replica, project: str) -> None:
    text = json.dumps(progress("job"))
    body = text + " " * (MAX_BYTES - len(text))
    url, headers = f"{replica.http}/projects/{project}/events", {"Authorization": f"Bearer {KEY}"}
    assert (await http.post(url, content=body, headers=headers)).status_code == 202
    assert (await http.post(url, content=body + " ", headers=headers)).status_code == 413


async def test_a_chunked_body_without_end_is_refused_and_costs_no_memory(replica: Replica, project: str) -> None:
    before = replica.rss_bytes()
    piece = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    async with raw_socket(replica.port) as client:
        await client.send(head(project, "Transfer-Encoding: chunked"))
        status = asyncio.create_task(client.status())
        try:
            for _ in range(800):  # 50 MB
                await client.send(piece)
        except ConnectionError:
            pass  # the server had enough
        assert await status == 413
    assert replica.rss_bytes() - before < 10_000_000


@pytest.mark.parametrize("headers", [("Content-Length: 100",), ("Transfer-Encoding: chunked",)], ids=str)
async def test_a_body_that_drips_is_dropped_in_time(replica: Replica, project: str, headers: tuple[str, ...]) -> None:
    before = time.monotonic()
    async with raw_socket(replica.port) as client:
        await client.send(head(project, *headers))
        dripping = asyncio.create_task(drip(client.send, b"1\r\n \r\n" if "chunked" in headers[0] else b" "))
        answer = await client.ended()
        dripping.cancel()
    assert b" 408 " in answer
    assert time.monotonic() - before < REQUEST_SECONDS + STALL_SECONDS


async def drip(send: Any, piece: bytes) -> None:
    try:
        while True:
            await send(piece)
            await asyncio.sleep(0.1)
    except ConnectionError:
        pass


async def test_as_many_dripping_bodies_as_may_wait_are_gone_in_time_too(
    http: httpx.AsyncClient, replica: Replica, project: str
) -> None:
    """The owner of a key can block others with them, for as long as a request may take."""
    sockets = [await asyncio.open_connection("127.0.0.1", replica.port) for _ in range(IN_HAND)]
    try:
        for _, writer in sockets:
            writer.write(head(project, "Content-Length: 100") + b"{")
        await eventually_status(http, replica, project, 503)
        await eventually_status(http, replica, project, 202)
    finally:
        for _, writer in sockets:
            writer.transport.abort()


async def eventually_status(http: httpx.AsyncClient, replica: Replica, project: str, status: int) -> None:
    end = time.monotonic() + PATIENCE
    while (answer := await post(http, replica, project, progress("job"))).status_code != status:
        assert time.monotonic() < end, f"{status} was due, this came: {answer.text}"
        await asyncio.sleep(0.01)


async def test_a_client_that_leaves_in_the_middle_is_forgotten(
    http: httpx.AsyncClient, replica: Replica, project: str
) -> None:
    for _ in range(2 * IN_HAND):
        async with raw_socket(replica.port) as client:
            await client.send(head(project, "Content-Length: 100") + b"{")
    await eventually_status(http, replica, project, 202)


BODIES = [
    b"\xff\xfe\x00", b"[" * 500_000, b'{"a":' * 100_000, b'"\\ud800"', b"NaN", b"1" * 100_000, b"[" + b"1," * 300_000,
    b"[" + b"1," * 300_000 + b"1]", b"[" + b"{}," * 999 + b"{}]", b"\x00" * 1_000_000, b'{"\xed\xa0\x80":1}',
    b'{"type":"progress","type":"x"}',
    b'{"type":"progress","jobId":"\\u0000","jobType":"audio","progress":1e999}',
]  # fmt: skip


@pytest.mark.parametrize("body", BODIES, ids=lambda body: repr(body[:12]))
async def test_whatever_the_body_the_answer_says_what_is_wrong(
    http: httpx.AsyncClient, replica: Replica, project: str, body: bytes
) -> None:
    url, headers = f"{replica.http}/projects/{project}/events", {"Authorization": f"Bearer {KEY}"}
    answer = await http.post(url, content=body, headers=headers)
    assert answer.status_code in (413, 422)
    assert {"code", "message"} <= answer.json().keys()


async def test_bytes_that_are_no_request_are_let_go(replica: Replica, project: str) -> None:
    for junk in (
        head(project, "Transfer-Encoding: chunked") + b"zz\r\n",
        head(project, "Content-Length: x"),
        head(project, "Content-Length: -1"),
        head(project, "Content-Length: 5", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
        head("%", "Content-Length: 2", "Connection: close") + b"{}",
        head("\x80", "Content-Length: 2", "Connection: close") + b"{}",
    ):
        async with raw_socket(replica.port) as client:
            await client.send(junk)
            answer = await client.ended()
            assert b" 500 " not in answer[:15], (junk, answer)
    assert replica.status("/healthz") == 200


# Redis that does not answer


async def test_with_a_frozen_redis_it_is_503_in_time_the_loop_lives_and_all_is_well_afterwards(
    http: httpx.AsyncClient, own_redis: RedisServer, launch: Launch
) -> None:
    replica = launch(own_redis.url, publish_keys=KEY)
    first = await seqs(http, replica, "p", progress("job", 1))
    async with watching(replica.ws, "p") as viewer:
        await viewer.events(1)
        own_redis.freeze()
        try:
            pongs: list[tuple[float, float]] = []
            before = time.monotonic()
            waiting = [asyncio.create_task(post(http, replica, "p", progress("job", 2))) for _ in range(IN_HAND + 16)]
            with Stalls() as stalls:
                while not all(task.done() for task in waiting):
                    asked = time.monotonic()
                    await viewer.ping()
                    pongs.append((asked, time.monotonic()))
                    await asyncio.sleep(0.05)
            took = time.monotonic() - before
            slowest = max(stalls.without(*pong) for pong in pongs)
            answers = [task.result() for task in waiting]
            assert took < ANSWER_SECONDS + STALL_SECONDS
            assert {answer.status_code for answer in answers} == {503}
            assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers)
            codes = [answer.json()["code"] for answer in answers]
            assert codes.count("overloaded") > 0, "the bound was not met"
            assert codes.count("redis_unavailable") >= IN_HAND
            assert slowest < took / 2, f"a viewer waited {slowest:.2f} s for a pong, of {took:.2f} s"
            await asyncio.sleep(0.3)
            refused = []
            for _ in range(3):
                asked = time.monotonic()
                assert (await post(http, replica, "p", progress("job", 2))).status_code == 503
                refused.append(time.monotonic() - asked)
            assert min(refused) < 1, "the circuit is open: nobody waits"
        finally:
            own_redis.thaw()
        await eventually_status(http, replica, "p", 202)
        async with connect(replica.ws) as late:
            await late.send("subscribe", projectId="p")
            # The replica's own feed may be back a moment later than its publisher.
            assert (await late.until_type("subscribed"))[-1]["seq"] > (first[0] or 0)
            assert len(await late.events(1)) == 1
    assert KEY not in replica.log


async def test_a_replica_that_ends_answers_what_still_waits(
    http: httpx.AsyncClient, own_redis: RedisServer, launch: Launch
) -> None:
    replica = launch(own_redis.url, publish_keys=KEY)
    await seqs(http, replica, "p", progress("job", 1))
    own_redis.freeze()
    try:
        waiting = asyncio.create_task(post(http, replica, "p", progress("job", 2)))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        stopping = asyncio.create_task(asyncio.to_thread(replica.stop))
        answer = await waiting
        assert (answer.status_code, answer.json()["code"]) == (503, "draining")
        assert await stopping == 0
    finally:
        own_redis.thaw()


def test_a_wrong_key_ends_the_start_and_is_not_printed(redis_server: RedisServer, tmp_path: Path) -> None:
    replica = Replica(redis_server.url, tmp_path / "log", publish_keys=f"{KEY},hunter2")
    wait_for(lambda: not replica.running(), "the replica to end")
    assert replica.popen.returncode == 78
    assert "GATEWAY_PUBLISH_KEYS" in replica.log
    assert "hunter2" not in replica.log
    assert KEY not in replica.log
    assert "Traceback" not in replica.log


async def test_the_counters_are_in_metrics(http: httpx.AsyncClient, replica: Replica, project: str) -> None:
    async def accepted() -> float:
        text = (await http.get(replica.http + "/metrics")).text
        assert project not in text
        assert KEY not in text
        return float(re.findall(r'gateway_published_total\{result="accepted"\} (\S+)', text)[0])

    before = await accepted()
    await seqs(http, replica, project, [progress("job")] * 3)
    assert await accepted() == before + 3
    await eventually(lambda: replica.status("/readyz") == 200, "/readyz")


# An `Upgrade` that is not followed

H2C = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAAAAMAAAAAAAQBAAAA\r\n"


def posted(replica: Replica, project: str, job: str, *, chunked: bool = False, more: str = H2C) -> bytes:
    """A request as the JDK's HTTP client sends it by default."""
    body = json.dumps(progress(job, 40)).encode()
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
    head = f"POST /projects/{project}/events HTTP/1.1\r\nHost: 127.0.0.1:{replica.port}\r\n{more}"
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if chunked else body
    return f"{head}Authorization: Bearer {KEY}\r\n{length}\r\n\r\n".encode() + body


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("size", [1, 100, 1_000_000])
async def test_a_post_that_offers_an_upgrade_is_read_with_its_body(
    replica: Replica, other: Replica, project: str, chunked: bool, size: int
) -> None:
    """The body was taken for another protocol and lost: 422 `not_json`."""
    said = b"".join(posted(replica, project, f"job_{number}", chunked=chunked) for number in range(2))
    said += posted(replica, project, "job_2", more="")
    async with watching(other.ws, project) as viewer, raw_socket(replica.port) as client:
        for start in range(0, len(said), size):
            await client.send(said[start : start + size])
            await asyncio.sleep(0)
        assert [await answered(client) for _ in range(3)] == [202, 202, 202]
        assert [event["jobId"] for event in await viewer.events(3)] == ["job_0", "job_1", "job_2"]


async def answered(client: RawClient) -> int:
    """The status of an answer, read to its end."""
    head = await client.reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    assert length is not None, head
    await client.reader.readexactly(int(length[1]))
    return int(head.split(b" ", 2)[1])


@pytest.mark.parametrize("path", ["/healthz", "/metrics", "/"])
async def test_a_get_that_offers_an_upgrade_is_answered_and_the_connection_stays(replica: Replica, path: str) -> None:
    said = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{replica.port}\r\n{H2C}\r\n".encode()
    async with raw_socket(replica.port) as client:
        await client.send(2 * said)
        assert [await answered(client) for _ in range(2)] == [200, 200]


def test_curl_posts_with_http2(replica: Replica, project: str) -> None:
    command = [
        "curl", "--http2", "--silent", "--show-error", "--fail-with-body", f"{replica.http}/projects/{project}/events",
        "--header", f"Authorization: Bearer {KEY}", "--data", json.dumps(progress("job", 40)),
    ]  # fmt: skip
    done = run(command, environment(None), within=3 * PATIENCE)
    assert (done.returncode, len(json.loads(done.stdout)["seqs"])) == (0, 1), done
