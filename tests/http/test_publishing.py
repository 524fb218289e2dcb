"""`POST /projects/<id>/events`: each of its answers, without our server, with a real Redis where needed."""

import asyncio
import contextlib
import hmac
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import httpx
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr
from starlette.applications import Starlette

from gateway.app import create_app
from gateway.http import publishing as http_publishing
from gateway.http.publishing import MAX_IN_PROGRESS, SLICE, STATUSES, Post, PublishError, Publishing
from gateway.settings import Settings
from publisher.events import check_event
from publisher.publication import Publication, Sent
from publisher.settings import PublisherSettings
from publisher.transport.circuit import GRACE_SECONDS
from tests.contract.deadlines import PATIENCE, STALL_SECONDS
from tests.contract.events import complete, failed, progress
from tests.contract.processes import RedisServer, free_port

KEY, NEXT_KEY = "the-first-key-0123456789", "the-next-key-0123456789"
EVENT = progress("job_7", 40)
MAX_BYTES, MAX_EVENTS = 10_000, 50


class Api:
    """An app without a server, and the requests of a job."""

    def __init__(self, redis_url: str, **settings: Any) -> None:
        given: dict[str, Any] = {
            "publish_keys": f"{KEY},{NEXT_KEY}",
            "publish_max_bytes": MAX_BYTES,
            "publish_max_events": MAX_EVENTS,
        }
        self.app: Starlette = create_app(Settings(redis_url=redis_url, **(given | settings)))
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://localhost")
        self.project = f"project_{uuid4().hex[:16]}"

    async def post(
        self, events: Any = None, *, key: str | None = KEY, project: str = "", **more: Any
    ) -> httpx.Response:
        headers = httpx.Headers({} if key is None else {"Authorization": f"Bearer {key}"})
        headers.update(more.pop("headers", {}))
        body = more if "content" in more else {"json": EVENT if events is None else events}
        return await self.client.post(f"/projects/{project or self.project}/events", headers=headers, **body)

    async def seqs(self, events: Any = None, **more: Any) -> list[int | None]:
        answer = await self.post(events, **more)
        assert answer.status_code == 202, answer.text
        assert answer.headers["content-type"] == "application/json"
        assert answer.json().keys() == {"seqs", "attempts"}
        seqs: list[int | None] = answer.json()["seqs"]
        return seqs

    async def counters(self) -> dict[str, float]:
        text = (await self.client.get("/metrics")).text
        return {
            f"{sample.name}{''.join(sample.labels.values())}": sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name.startswith("gateway_publish")
        }


def error(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The body of a refusal; all have one form."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    body: dict[str, Any] = answer.json()
    PublishError.model_validate(body)
    assert body["code"] == code
    assert body["message"].endswith(".")
    assert ("errors" in body) <= (status == 422)
    assert ("retry-after" in answer.headers) == (status in (429, 503))
    return body


@pytest.fixture
async def api_of(redis_server: RedisServer) -> AsyncIterator[Callable[..., Api]]:
    started: list[Api] = []

    def start(redis_url: str | None = None, **settings: Any) -> Api:
        started.append(Api(redis_url or redis_server.url, **settings))
        return started[-1]

    yield start
    for api in started:
        await api.client.aclose()


@pytest.fixture
def api(api_of: Callable[..., Api]) -> Api:
    return api_of()


class FakeRedis:
    """Replaces `send`: records what is sent, and answers, fails or hangs as told."""

    def __init__(self) -> None:
        self.sent: list[list[Publication]] = []
        self.seconds: list[float | None] = []
        self.error: Exception | None = None
        self.gate: asyncio.Event | None = None

    async def send(
        self,
        settings: PublisherSettings,
        publications: Sequence[Publication],
        *,
        strict: bool = False,
        seconds: float | None = None,
    ) -> SimpleNamespace:
        assert strict
        self.seconds.append(seconds)
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.sent.append(list(publications))
        seqs = list(range(1, len(publications) + 1))
        return SimpleNamespace(seqs=seqs, sent=[Sent(seq) for seq in seqs])


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeRedis:
    fake = FakeRedis()
    monkeypatch.setattr(http_publishing, "send", fake.send)
    return fake


@contextlib.contextmanager
def heard(redis_server: RedisServer, channel: str) -> Iterator[Callable[[int], list[dict[str, Any]]]]:
    """What is published on a channel from now on."""
    with redis.Redis.from_url(redis_server.url) as client, client.pubsub() as pubsub:
        pubsub.subscribe(channel)
        assert pubsub.get_message(timeout=30)["type"] == "subscribe"

        def read(count: int) -> list[dict[str, Any]]:
            messages = [pubsub.get_message(timeout=30) for _ in range(count)]
            assert all(messages), f"{count} events were due: {messages}"
            return [json.loads(message["data"]) for message in messages]

        yield read


# 202


async def test_an_event_is_published_and_remembered_and_its_seq_is_answered(
    api: Api, redis_server: RedisServer
) -> None:
    with heard(redis_server, f"project:{api.project}") as read:
        [seq] = await api.seqs(EVENT)
        assert isinstance(seq, int)
        assert read(1) == [EVENT | {"seq": seq}]
    remembered = redis_server.command("HGET", f"{{project:{api.project}}}:jobs", "job_7\n")
    assert json.loads(remembered) == EVENT | {"seq": seq}


async def test_a_list_is_published_in_its_order(api: Api, redis_server: RedisServer) -> None:
    events = [progress("a", 1), progress("b", 2), complete("a"), failed("b")]
    with heard(redis_server, f"project:{api.project}") as read:
        seqs = await api.seqs(events)
        numbers = [seq for seq in seqs if seq is not None]
        assert numbers == sorted(set(numbers))
        assert read(4) == [event | {"seq": seq} for event, seq in zip(events, seqs, strict=True)]


async def test_a_list_of_one_is_a_list(api: Api) -> None:
    assert len(await api.seqs([EVENT])) == 1


async def test_it_is_as_lenient_as_the_publisher(api: Api, redis_server: RedisServer) -> None:
    event = {
        "type": "progress", "job_id": "j", "job_type": "audio", "progress": "40", "message": "a\x00b" + "x" * 3_000,
        "seq": 7, "projectId": "other", "unheard": {"of": [1]}, "sentenceId": None,
    }  # fmt: skip
    with heard(redis_server, f"project:{api.project}") as read:
        [seq] = await api.seqs(event, headers={"Content-Type": "text/plain"})
        [published] = read(1)
    assert published.keys() == {"type", "jobId", "jobType", "progress", "message", "seq"}
    assert (published["seq"], published["progress"], len(published["message"])) == (seq, 40, 2_000)


async def test_what_the_attempt_rule_refuses_is_null_and_keeps_its_place(api: Api) -> None:
    tries = [progress("j", 50, attempt=1), progress("j", 60, attempt=0), progress("j", 70, attempt=1)]
    first, refused, last = await api.seqs(tries)
    assert refused is None
    assert first is not None
    assert last is not None
    assert await api.seqs(progress("j", 10, attempt=1)) == [None]
    counters = await api.counters()
    assert (counters["gateway_published_totalaccepted"], counters["gateway_published_totalrefused"]) == (2, 2)


async def test_the_answer_has_the_attempt_of_each_event_given_or_by_redis(api: Api, redis_server: RedisServer) -> None:
    events = [
        progress("j", 0, attempt="next"),
        complete("j", attempt=0),
        progress("j", 0, attempt="next"),
        progress("j", 5, attempt=0),
        progress("j", 5),
        progress("k", 0, attempt=7),
        progress("k", 0, attempt="next", sentenceId="s"),
    ]
    with heard(redis_server, f"project:{api.project}") as read:
        answer = (await api.post(events)).json()
        assert answer["attempts"] == [0, 0, 1, 0, None, 7, 8]
        assert [seq is None for seq in answer["seqs"]] == [False, False, False, True, False, False, False]
        assert [event.get("attempt") for event in read(6)] == [0, 0, 1, None, 7, 8]


@pytest.mark.parametrize(
    ("event", "field"),
    [
        (progress("j", attempt="last"), "attempt"),
        (progress("j", attempt="NEXT"), "attempt"),
        (progress("j", attempt=["next"]), "attempt"),
        (complete("j", attempt="next"), "attempt"),
        (failed("j", attempt="next"), "attempt"),
        (progress("j", jobType="two words"), "jobType"),
        (progress("j", data={"x": "x" * 8_200}), "data"),
        (progress("j", data=["x"]), "data"),
        (failed("j", reason="sad"), "reason"),
    ],
)
async def test_a_field_of_the_new_rules_that_does_not_fit_is_named(api: Api, event: dict[str, Any], field: str) -> None:
    (bad,) = error(await api.post(event), 422, "bad_events")["errors"]
    assert bad["field"] == field
    assert "must be" in bad["message"]


async def test_with_replay_off_the_next_attempt_has_no_number(
    api_of: Callable[..., Api], redis_server: RedisServer
) -> None:
    """Nobody remembers a number, and viewers must be able to read the event."""
    api = api_of(replay=False)
    with heard(redis_server, f"project:{api.project}") as read:
        assert await api.seqs(progress("j", 0, attempt="next")) == [None]
        assert "attempt" not in read(1)[0]


async def test_with_replay_off_every_seq_is_null_and_the_event_is_sent(
    api_of: Callable[..., Api], redis_server: RedisServer
) -> None:
    api = api_of(replay=False)
    with heard(redis_server, f"project:{api.project}") as read:
        assert await api.seqs([EVENT, EVENT]) == [None, None]
        assert read(2) == [EVENT, EVENT]
    assert redis_server.keys(api.project) == []
    assert (await api.counters())["gateway_published_totalaccepted"] == 2


async def test_the_namespace_of_the_replica_is_that_of_its_events(
    api_of: Callable[..., Api], redis_server: RedisServer
) -> None:
    api = api_of(namespace="staging")
    with heard(redis_server, f"staging:project:{api.project}") as read:
        await api.seqs(EVENT)
        assert read(1)[0]["jobId"] == "job_7"


async def test_many_events_are_sent_in_parts_and_answered_in_order(api_of: Callable[..., Api], fake: FakeRedis) -> None:
    """So that viewers do not wait for a thousand events; each part gets the time that is left."""
    api = api_of(publish_max_events=1_000, publish_max_bytes=1_000_000)
    events = [progress(f"job_{number}") for number in range(2 * SLICE + 5)]
    assert await api.seqs(events) == [*range(1, SLICE + 1), *range(1, SLICE + 1), 1, 2, 3, 4, 5]
    assert [len(part) for part in fake.sent] == [SLICE, SLICE, 5]
    assert [one.event.job_id for part in fake.sent for one in part] == [event["jobId"] for event in events]
    assert http_publishing.GIVE_UP_SECONDS >= fake.seconds[0] >= fake.seconds[1] >= fake.seconds[2] > 0  # type: ignore[operator]


# 404, 405


async def test_without_a_key_in_the_settings_there_is_no_such_path(api_of: Callable[..., Api]) -> None:
    api = api_of(publish_keys="")
    nothing = await api.client.post("/nothing")
    for answer in (await api.post(EVENT), await api.client.get("/openapi.json")):
        assert (answer.status_code, answer.text) == (nothing.status_code, nothing.text) == (404, "Not Found")
    assert set((await api.counters()).values()) == {0}


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"])
async def test_other_methods_are_405(api: Api, fake: FakeRedis, method: str) -> None:
    answer = await api.client.request(
        method, f"/projects/{api.project}/events", headers={"Authorization": f"Bearer {KEY}"}, content=json.dumps(EVENT)
    )
    error(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"
    assert not [name for name in answer.headers if name.startswith("access-control")], "a page has no business here"
    assert fake.sent == []


async def test_a_head_request_is_405_without_a_body(api: Api) -> None:
    answer = await api.client.head(f"/projects/{api.project}/events")
    assert (answer.status_code, answer.headers["allow"], answer.content) == (405, "POST", b"")


# 401


@pytest.mark.parametrize("key", [KEY, NEXT_KEY])
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_each_key_is_taken(api: Api, fake: FakeRedis, key: str, scheme: str) -> None:
    await api.seqs(EVENT, key=None, headers={"Authorization": f"{scheme} {key}"})


BAD_AUTHORIZATION = [
    "", "Bearer", "Bearer ", KEY, f"Basic {KEY}", f"Bearer {KEY[:-1]}", f"Bearer {KEY}x", f"Bearer {KEY} {KEY}",
    f"Bearer {KEY},{NEXT_KEY}", f"Bearer {KEY.upper()}", "Bearer \xe9" + KEY, f"Bearer {KEY}\xff", f"Bearer{KEY}",
]  # fmt: skip


@pytest.mark.parametrize("authorization", BAD_AUTHORIZATION)
async def test_anything_else_is_401(api: Api, fake: FakeRedis, authorization: str) -> None:
    answer = await api.post(EVENT, key=None, headers={b"Authorization": authorization.encode("latin-1")})
    error(answer, 401, "not_authorised")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert KEY not in answer.text
    assert fake.sent == []


async def test_no_header_is_401_and_so_are_two(api: Api, fake: FakeRedis) -> None:
    error(await api.post(EVENT, key=None), 401, "not_authorised")
    twice = [("Authorization", f"Bearer {KEY}"), ("Authorization", f"Bearer {KEY}")]
    answer = await api.client.post(f"/projects/{api.project}/events", headers=twice, json=EVENT)
    error(answer, 401, "not_authorised")
    assert fake.sent == []


@pytest.mark.parametrize(("key", "status"), [(KEY, 202), (NEXT_KEY, 202), ("x" * 20, 401)])
async def test_every_key_is_compared_whichever_it_is(
    api: Api, fake: FakeRedis, monkeypatch: pytest.MonkeyPatch, key: str, status: int
) -> None:
    compared: list[bytes] = []

    def compare(given: bytes, kept: bytes) -> bool:
        compared.append(kept)
        return given == kept

    monkeypatch.setattr(hmac, "compare_digest", compare)
    assert (await api.post(EVENT, key=key)).status_code == status
    assert compared == [KEY.encode(), NEXT_KEY.encode()]


async def test_it_is_this_comparison_that_keeps_others_out(
    api: Api, fake: FakeRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control."""
    monkeypatch.setattr(hmac, "compare_digest", lambda *_: True)
    await api.seqs(EVENT, key="anything at all")
    await api.seqs(EVENT, key=None)


async def test_who_has_no_key_learns_nothing_about_the_body_and_it_is_not_read(api: Api) -> None:
    async def body() -> AsyncIterator[bytes]:
        pytest.fail("the body was read")
        yield b""

    error(await api.post(key=None, content=body()), 401, "not_authorised")


# 413


def padded(size: int) -> bytes:
    """An event of so many bytes."""
    text = json.dumps(EVENT)
    return (text[:-1] + " " * (size - len(text)) + "}").encode()


async def pieces(body: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_of_the_limit_is_taken_and_one_byte_more_is_not(api: Api, fake: FakeRedis, chunked: bool) -> None:
    for size in (MAX_BYTES, MAX_BYTES + 1):
        body = padded(size)
        answer = await api.post(content=pieces(body, 999) if chunked else body)
        if size == MAX_BYTES:
            assert answer.status_code == 202
        else:
            error(answer, 413, "body_too_big")
    assert len(fake.sent) == 1


async def test_a_body_without_end_is_read_up_to_the_limit(api: Api) -> None:
    read = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += 1_000
            yield b" " * 1_000

    error(await api.post(content=body()), 413, "body_too_big")
    assert read <= MAX_BYTES + 1_000


@pytest.mark.parametrize("length", [str(MAX_BYTES + 1), "9" * 30, "9" * 5_000])
async def test_a_body_that_is_announced_too_long_is_not_read(api: Api, length: str) -> None:
    async def body() -> AsyncIterator[bytes]:
        pytest.fail("the body was read")
        yield b""

    error(await api.post(content=body(), headers={"Content-Length": length}), 413, "body_too_big")


@pytest.mark.parametrize("length", ["", "-1", "x", "²", "0"])
async def test_a_length_that_lies_or_is_none_changes_nothing(api: Api, fake: FakeRedis, length: str) -> None:
    """Another server may let it through."""
    headers = {b"Content-Length": length.encode()}
    assert (await api.post(content=pieces(padded(MAX_BYTES), 999), headers=headers)).status_code == 202
    error(await api.post(content=pieces(padded(MAX_BYTES + 1), 999), headers=headers), 413, "body_too_big")


async def test_more_events_than_the_limit_are_413(api: Api, fake: FakeRedis) -> None:
    assert len(await api.seqs([EVENT] * MAX_EVENTS)) == MAX_EVENTS
    error(await api.post([EVENT] * (MAX_EVENTS + 1)), 413, "too_many_events")


async def test_more_events_than_the_burst_are_413_since_no_wait_would_help(
    api_of: Callable[..., Api], fake: FakeRedis
) -> None:
    api = api_of(publish_burst=3)
    assert "at most 3" in error(await api.post([EVENT] * 4), 413, "too_many_events")["message"]
    assert len(await api.seqs([EVENT] * 3)) == 3


# 422

NO_JSON = [
    b"", b" ", b"{", b"[", b"{}x", b"jobId=job_7", b"\xff", b'"\xff"', b"\x00", b"[" * 100_00, b'{"a":' * 1_000,
    json.dumps(EVENT | {"progress": float("nan")}).encode(), b'{"a":Infinity}', b"9" * 5_000,
    b'{"type":"\\ud800"}', b'{"\\udfff":1}', "\ufeff{}".encode(), json.dumps(EVENT).encode("utf-16"),
]  # fmt: skip


@pytest.mark.parametrize("body", NO_JSON, ids=lambda body: repr(body[:20]))
async def test_what_is_no_json_is_422(api: Api, fake: FakeRedis, body: bytes) -> None:
    error(await api.post(content=body), 422, "not_json")
    assert fake.sent == []


async def test_an_empty_list_is_422(api: Api) -> None:
    error(await api.post([]), 422, "no_events")


@pytest.mark.parametrize("value", [1, "event", None, True, 1.5])
async def test_what_is_neither_an_event_nor_a_list_is_422(api: Api, value: Any) -> None:
    body = error(await api.post(content=json.dumps(value).encode()), 422, "bad_events")
    assert body["errors"] == [{"message": "must be a JSON object, or a list of them"}]


BAD_EVENTS: list[tuple[dict[str, Any], set[str]]] = [
    ({}, {"type"}),
    (EVENT | {"type": "x" * 5_000}, {"type"}),
    (EVENT | {"type": ["progress"]}, {"type"}),
    ({"type": "progress"}, {"jobId", "jobType", "progress"}),
    (EVENT | {"jobId": ""}, {"jobId"}),
    (EVENT | {"jobId": "a\nb"}, {"jobId"}),
    (EVENT | {"jobId": "x" * 129}, {"jobId"}),
    (EVENT | {"jobId": 7}, {"jobId"}),
    ({"type": "progress", "job_id": "", "job_type": "audio", "progress": 1}, {"jobId"}),
    (EVENT | {"sentenceId": "\u2028"}, {"sentenceId"}),
    (EVENT | {"jobType": "two words"}, {"jobType"}),
    (EVENT | {"progress": 100.5}, {"progress"}),
    (EVENT | {"progress": -1}, {"progress"}),
    (EVENT | {"progress": None}, {"progress"}),
    (EVENT | {"progress": {}}, {"progress"}),
    (EVENT | {"progress": int("9" * 4_000)}, {"progress"}),
    (EVENT | {"attempt": -1, "nextWithin": 0, "seq": "x"}, {"attempt", "nextWithin", "seq"}),
    (EVENT | {"attempt": 2**53}, {"attempt"}),
    (EVENT | {"message": 1}, {"message"}),
    (complete("j") | {"result": None}, {"result"}),
    (complete("j") | {"result": {"file": 1, "duration": -1}}, {"result.file", "result.duration"}),
    (complete("j") | {"result": {"file": "x" * 8_193}}, {"result.file"}),
    ({"type": "job_failed", "jobId": "j", "jobType": "audio"}, {"error"}),
]


@pytest.mark.parametrize(
    ("event", "fields"), BAD_EVENTS, ids=lambda value: str(sorted(value) if isinstance(value, set) else value)[:40]
)
async def test_a_bad_event_is_422_and_names_each_field_once(
    api: Api, fake: FakeRedis, event: dict[str, Any], fields: set[str]
) -> None:
    answer = await api.post(event)
    errors = error(answer, 422, "bad_events")["errors"]
    assert sorted(one["field"] for one in errors) == sorted(fields)
    assert not [one for one in errors if "index" in one], "a single event has no index"
    assert len(answer.text) < 1_000, "what came is not sent back"
    assert fake.sent == []


async def test_in_a_list_every_bad_event_is_named_by_its_index_and_none_is_sent(api: Api, fake: FakeRedis) -> None:
    events = [EVENT, EVENT | {"progress": 101}, EVENT, 5, [EVENT], None, EVENT | {"jobId": "", "jobType": "2"}]
    errors = error(await api.post(events), 422, "bad_events")["errors"]
    named = [(one["index"], one.get("field")) for one in errors]
    assert named == [(1, "progress"), (3, None), (4, None), (5, None), (6, "jobId"), (6, "jobType")]
    assert errors[0]["message"] == "must be a number from 0 to 100, got int (out of range)"
    assert errors[1]["message"] == "must be a JSON object (in Python, a mapping or a model), got int"
    assert errors[4]["message"] == "must be 1 to 128 printable characters, got str (empty)"
    assert fake.sent == []


@pytest.mark.parametrize("project", ["-x", "a%20b", "a%0A", "%C3%A9", "%ff", "{a}", "x" * 129, "~probe:1", ".", "%00"])
async def test_a_bad_project_id_is_422(api: Api, fake: FakeRedis, project: str) -> None:
    if project == ".":  # httpx would take it out of the path
        project = "%2e"
    errors = error(await api.post(EVENT, project=project), 422, "bad_project_id")["errors"]
    assert [one["field"] for one in errors] == ["projectId"]
    assert fake.sent == []


@pytest.mark.parametrize("project", ["a%2Fb", "a/b", "%2e%2e%2fx", "a/"])
async def test_a_slash_makes_another_path(api: Api, fake: FakeRedis, project: str) -> None:
    assert (await api.post(EVENT, project=project)).status_code == 404
    assert fake.sent == []


async def test_of_a_field_that_is_there_twice_the_last_counts(api: Api, fake: FakeRedis) -> None:
    await api.post(content=json.dumps(EVENT)[:-1].encode() + b',"progress":41}')
    assert fake.sent[0][0].progress == 41


# 429


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The time, as publishing sees it: `clock.now`."""
    clock = SimpleNamespace(now=1_000.0)
    monkeypatch.setattr(http_publishing, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


async def test_above_the_rate_it_is_429_and_after_the_time_that_it_says_it_is_not(
    api_of: Callable[..., Api], fake: FakeRedis, clock: SimpleNamespace
) -> None:
    api = api_of(publish_rate=2, publish_burst=10)
    await api.seqs([EVENT] * 8)
    answer = await api.post([EVENT] * 5)
    error(answer, 429, "rate_limited")
    assert answer.headers["retry-after"] == "2"
    await api.seqs([EVENT] * 2)  # all or nothing: the five took none
    answer = await api.post([EVENT] * 5)
    assert answer.headers["retry-after"] == "3"
    clock.now += 2.4
    assert (await api.post([EVENT] * 5)).status_code == 429
    clock.now += 0.6
    await api.seqs([EVENT] * 5)


async def test_the_rate_is_said_with_all_its_digits(
    api_of: Callable[..., Api], fake: FakeRedis, clock: SimpleNamespace
) -> None:
    api = api_of(publish_rate=0.01234567891, publish_burst=1)
    await api.seqs([EVENT])
    assert "At most 0.01234567891 events per second" in error(await api.post(EVENT), 429, "rate_limited")["message"]


async def test_each_key_has_a_rate_of_its_own(
    api_of: Callable[..., Api], fake: FakeRedis, clock: SimpleNamespace
) -> None:
    api = api_of(publish_rate=1, publish_burst=3)
    await api.seqs([EVENT] * 3)
    answer = await api.post(EVENT)
    error(answer, 429, "rate_limited")
    assert answer.headers["retry-after"] == "1"
    await api.seqs([EVENT] * 3, key=NEXT_KEY)
    error(await api.post(EVENT, key=NEXT_KEY), 429, "rate_limited")


async def test_within_a_larger_burst_nothing_is_429(
    api_of: Callable[..., Api], fake: FakeRedis, clock: SimpleNamespace
) -> None:
    """The control."""
    api = api_of(publish_rate=1, publish_burst=1_000)
    for _ in range(1_000 // MAX_EVENTS):
        await api.seqs([EVENT] * MAX_EVENTS)
    error(await api.post(EVENT), 429, "rate_limited")


# 503


async def test_without_redis_it_is_503_in_time_and_then_at_once_until_it_is_back(
    own_redis: RedisServer, api_of: Callable[..., Api], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_publishing, "GIVE_UP_SECONDS", 1.0)
    monkeypatch.setattr("publisher.transport.circuit.GIVE_UP_SECONDS", 100.0)  # of jobs
    api = api_of(own_redis.url)
    await api.seqs(EVENT)
    own_redis.kill()
    took = []
    for _ in range(10):
        before = time.monotonic()
        error(await api.post(EVENT), 503, "redis_unavailable")
        took.append(time.monotonic() - before)
    assert took[0] < 1 + STALL_SECONDS, "it waits no longer than GIVE_UP_SECONDS"
    assert sorted(took)[5] < GRACE_SECONDS / 2, "most do not wait; one in a while may wait for the circuit to close"
    own_redis.start()
    deadline = time.monotonic() + 10
    while (await api.post(EVENT)).status_code != 202:
        assert time.monotonic() < deadline, "Redis is back, and the circuit is still open"
        await asyncio.sleep(0.05)


async def test_refused_requests_are_a_line_a_minute_and_kind(
    redis_server: RedisServer, api_of: Callable[..., Api], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    api = api_of(redis_server.url)
    for _ in range(20):
        await api.post(key="a-key-that-is-wrong")
        await api.post(content=b"junk")
        await api.post(progress("secret", 101))
    lines = [record.getMessage() for record in caplog.records if record.name == "gateway.publishing"]
    assert [line.split(":")[1].split()[-2:] for line in lines] == [
        ["401", "not_authorised"],
        ["422", "not_json"],
        ["422", "bad_events"],
    ]
    assert all(api.project in line for line in lines)
    assert "secret" not in caplog.text


async def test_redis_saying_no_is_503_and_a_line_in_the_log(
    own_redis: RedisServer, api_of: Callable[..., Api], caplog: pytest.LogCaptureFixture
) -> None:
    """An operator reads what is wrong; a job does not."""
    own_redis.command("ACL", "SETUSER", "watcher", "on", ">secret", "&*", "-@all", "+hello", "+auth", "+client")
    api = api_of(own_redis.url.replace("//", "//watcher:secret@"))
    with caplog.at_level(logging.INFO):
        body = error(await api.post(EVENT), 503, "redis_refused")
        answer = await api.post([EVENT, EVENT])
    assert answer.headers["retry-after"] == "30"
    assert "perm" not in json.dumps(body).lower()
    lines = [record.getMessage() for record in caplog.records if record.name == "publisher"]
    assert len(lines) == 1, "once a minute"
    assert "permission" in lines[0]
    assert "secret" not in caplog.text


async def test_something_that_is_no_redis_is_503(api_of: Callable[..., Api], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_publishing, "GIVE_UP_SECONDS", 0.3)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", free_port())
    async with server:
        port = server.sockets[0].getsockname()[1]
        answer_ = await api_of(f"redis://127.0.0.1:{port}/0").post(EVENT)
    assert answer_.status_code == 503


async def test_while_it_drains_it_is_503(api: Api, fake: FakeRedis) -> None:
    api.app.state.hub.is_draining = True
    error(await api.post(EVENT), 503, "draining")
    assert fake.sent == []


async def test_what_still_waits_at_the_end_of_the_replica_is_answered(api: Api, fake: FakeRedis) -> None:
    """A server that shuts down cancels its tasks; the job must learn that it may retry."""
    fake.gate = asyncio.Event()
    waiting = asyncio.create_task(api.post(EVENT))
    await until(lambda: bool(fake.seconds))
    api.app.state.hub.is_draining = True
    waiting.cancel()
    error(await waiting, 503, "draining")


async def test_a_request_that_is_cancelled_otherwise_is_cancelled(api: Api, fake: FakeRedis) -> None:
    fake.gate = asyncio.Event()
    waiting = asyncio.create_task(api.post(EVENT))
    await until(lambda: bool(fake.seconds))
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    fake.gate = None
    for _ in range(MAX_IN_PROGRESS):
        await api.seqs(EVENT)  # and it left no place taken


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.001)


async def test_no_more_than_so_many_requests_wait_and_the_next_is_503_at_once(api: Api, fake: FakeRedis) -> None:
    fake.gate = asyncio.Event()
    waiting = [asyncio.create_task(api.post(EVENT)) for _ in range(MAX_IN_PROGRESS)]
    await until(lambda: len(fake.seconds) == MAX_IN_PROGRESS)
    error(await api.post(EVENT), 503, "overloaded")
    error(await api.post(EVENT, key=None), 401, "not_authorised")
    fake.gate.set()
    assert {answer.status_code for answer in await asyncio.gather(*waiting)} == {202}
    await api.seqs(EVENT)


async def test_it_is_this_bound_that_refuses(api: Api, fake: FakeRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control."""
    monkeypatch.setattr(http_publishing, "MAX_IN_PROGRESS", 10 * MAX_IN_PROGRESS)
    fake.gate = asyncio.Event()
    waiting = [asyncio.create_task(api.post(EVENT)) for _ in range(2 * MAX_IN_PROGRESS)]
    await until(lambda: len(fake.seconds) == 2 * MAX_IN_PROGRESS)
    fake.gate.set()
    assert {answer.status_code for answer in await asyncio.gather(*waiting)} == {202}


async def test_a_client_that_goes_in_the_middle_of_its_body_is_forgotten(api: Api, fake: FakeRedis) -> None:
    messages: Iterator[dict[str, Any]] = iter(
        [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}] * 100
    )
    scope = {
        "type": "http", "method": "POST", "path": "/projects/p/events", "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"authorization", f"Bearer {KEY}".encode())],
    }  # fmt: skip

    async def receive() -> dict[str, Any]:
        return next(messages)

    async def send(message: Any) -> None:
        pytest.fail(f"nobody is there to read {message}")

    for _ in range(MAX_IN_PROGRESS + 1):
        await api.app(dict(scope), receive, send)
    await api.seqs(EVENT)


# What operators see


async def test_the_counters_tell_events_and_answers_and_have_no_other_series(api: Api) -> None:
    before = await api.counters()
    names = {f"gateway_publish_requests_total{status}" for status in STATUSES}
    assert before.keys() == names | {"gateway_published_totalaccepted", "gateway_published_totalrefused"}
    assert set(before.values()) == {0}
    await api.seqs([EVENT] * 3)
    for key in ("x" * 20, "y" * 20):
        await api.post(EVENT, key=key, project=uuid4().hex)
    await api.post({})
    after = await api.counters()
    assert after.keys() == before.keys()
    changed = {name: value for name, value in after.items() if value}
    assert changed == {
        "gateway_published_totalaccepted": 3,
        "gateway_publish_requests_total202": 1,
        "gateway_publish_requests_total401": 2,
        "gateway_publish_requests_total422": 1,
    }


# Whatever comes


class Bare:
    """`Publishing` without an app, with a Redis that takes all."""

    def __init__(self) -> None:
        key = (SecretStr(KEY),)
        settings = Settings(publish_keys=key, publish_max_bytes=2_000, publish_max_events=20, publish_rate=1e12)
        self.publishing = Publishing(settings, lambda: False)

    def status(self, body: bytes, *, authorization: str = f"Bearer {KEY}", project: str = "p") -> int:
        post = Post("POST", project, [authorization], None, pieces(body, 500))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(http_publishing, "send", FakeRedis().send)
            answer = asyncio.run(self.publishing.answer(post))
        assert answer.status in STATUSES
        body_ = json.loads(answer.body)
        if answer.status != 202:
            PublishError.model_validate(body_)
        return answer.status


BARE = Bare()
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["progress", "audio"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "jobId", "jobType", "progress", "result", "x"]) | st.text(), inner)
    ),
    max_leaves=10,
)
near_events = st.fixed_dictionaries(
    {"type": st.sampled_from(["progress", "job_complete", "job_failed"]), "jobId": st.text(min_size=1, max_size=4)},
    optional={
        name: json_values | st.sampled_from(["audio", 40, 0.5, "s", {}])
        for name in ("jobType", "progress", "result", "error", "sentenceId", "attempt", "message", "nextWithin", "seq")
    },
)


@given(st.binary(max_size=3_000) | st.text().map(str.encode) | json_values.map(json.dumps).map(str.encode))
def test_whatever_bytes_come_they_are_answered(body: bytes) -> None:
    assert BARE.status(body) in (202, 413, 422)


@given(near_events)
def test_an_event_is_taken_if_the_publisher_takes_it_and_only_then(event: dict[str, Any]) -> None:
    body = json.dumps(event, ensure_ascii=False).encode(errors="replace")
    try:
        check_event(json.loads(body))
        is_event = b"NaN" not in body and b"Infinity" not in body
    except ValueError:
        is_event = False
    assert BARE.status(body) == (413 if len(body) > 2_000 else 202 if is_event else 422)


@given(st.text(st.characters(max_codepoint=255)), st.text())
def test_whatever_stands_in_the_header_and_in_the_path_it_is_answered(authorization: str, project: str) -> None:
    body = json.dumps(EVENT).encode()
    assert BARE.status(body, authorization=authorization) == 401
    assert BARE.status(body, authorization=f"Bearer {authorization}") == 401
    assert BARE.status(body, project=project) in (202, 422)
