"""Whatever a client sends, the answer is an error that it can read or a protocol's close; the replica goes on."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from .client import Client, connect, watching
from .events import progress
from .processes import PublisherProcess, RedisServer, Replica
from .raw import BINARY, TEXT, frame, raw_connect

IN_A_ROW = 20
MAX_BYTES = 16_384
DIGITS = "9" * 5_000

BAD_TEXTS: dict[str, str] = {
    "nothing": "",
    "white space": " \n",
    "no JSON": "hello",
    "half of a JSON object": '{"type": "ping"',
    "two JSON objects": '{"type": "ping"}{"type": "ping"}',
    "a bare word": "ping",
    "null": "null",
    "a number": "5",
    "an endless number": DIGITS,
    "a text": '"ping"',
    "a list": '[{"type": "ping"}]',
    "NaN": "NaN",
    "no type": "{}",
    "null as type": '{"type": null}',
    "a number as type": '{"type": 1}',
    "an object as type": '{"type": {"type": "ping"}}',
    "a list as type": '{"type": ["ping"]}',
    "an unknown type": '{"type": "subscribe_all"}',
    "a type in capitals": '{"type": "PING"}',
    "a type of 10,000 letters": json.dumps({"type": "x" * 10_000}),
    "a message of the server's": '{"type": "connected", "clientId": "me"}',
    "an event": json.dumps(progress("job", 50, projectId="p")),
    "lists 10,000 deep, unfinished": "[" * 10_000,
    "lists 8,000 deep": "[" * 8_000 + "]" * 8_000,
    "objects 2,000 deep": '{"a":' * 2_000 + "1" + "}" * 2_000,
    "a deep field of a known message": '{"type":"ping","a":' + "[" * 8_000 + "]" * 7_999 + "}",
    "a lone surrogate": '"\\ud800"',
    "a lone surrogate as type": '{"type": "\\ud800"}',
    "a lone surrogate as project": '{"type": "subscribe", "projectId": "\\udfff"}',
    "a NUL": '{"type": "ping\\u0000"}',
    "a byte order mark": '\ufeff{"type": "nothing"}',
}
BAD_PROJECTS: list[Any] = [
    "", "-a", ".a", "_a", ":a", "a b", "a/b", "a\n", "\na", "é", "aé", "a*", "a" * 129, "a\x00", "a" * 10_000,
    None, 7, 1.5, True, [], ["p"], {}, {"a": "p"},
]  # fmt: skip
BAD_SINCE: list[str] = [
    '"5"', '""', "true", "false", "[]", "[5]", "{}", '{"seq": 5}', "1.5", "-1", "NaN", "Infinity", "-Infinity", "1e400",
    str(2**53 + 1), str(2**63), str(2**64), str(-(2**63)), "1e308", DIGITS,
]  # fmt: skip


@pytest.fixture(autouse=True)
def without_a_traceback(replica: Replica) -> Iterator[None]:
    yield
    assert replica.running()
    assert "Traceback" not in replica.log, replica.log


async def still_serves(client: Client) -> None:
    await client.send("ping")
    await client.expect("pong")


@pytest.mark.parametrize("reason", BAD_TEXTS)
async def test_what_is_no_known_message_is_answered_with_an_error(replica: Replica, reason: str) -> None:
    async with connect(replica.ws) as client:
        await client.send_raw(BAD_TEXTS[reason])
        await client.error()
        await still_serves(client)


@pytest.mark.parametrize("type_", ["subscribe", "unsubscribe"])
@pytest.mark.parametrize("bad", BAD_PROJECTS, ids=lambda bad: repr(bad)[:20])
async def test_a_bad_project_id_is_answered_with_an_error(replica: Replica, type_: str, bad: object) -> None:
    async with connect(replica.ws) as client:
        await client.send(type_, projectId=bad)
        await client.error()
        await still_serves(client)


@pytest.mark.parametrize("type_", ["subscribe", "unsubscribe"])
async def test_a_missing_project_id_is_answered_with_an_error(replica: Replica, type_: str) -> None:
    async with connect(replica.ws) as client:
        await client.send(type_)
        await client.error()
        await still_serves(client)


@pytest.mark.parametrize("bad", BAD_SINCE, ids=lambda bad: bad[:20])
async def test_a_bad_since_is_answered_with_an_error(replica: Replica, project: str, bad: str) -> None:
    async with connect(replica.ws) as client:
        await client.send_raw(f'{{"type": "subscribe", "projectId": "{project}", "since": {bad}}}')
        await client.error()
        await still_serves(client)
        await client.subscribe(project)


async def test_binary_frames_are_answered_with_an_error(replica: Replica) -> None:
    async with connect(replica.ws) as client:
        for data in (b"", b"\x00\xff", b'{"type": "ping"}'):
            await client.send_raw(data)
            await client.error()
        await still_serves(client)


@pytest.mark.parametrize("data", [b"\xff", b'{"type": "\xc3\x28"}', b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80"], ids=repr)
async def test_a_text_frame_that_is_no_utf_8_is_an_error_or_a_close(replica: Replica, data: bytes) -> None:
    async with connect(replica.ws) as client:
        await client.send_raw(data, text=True)
        try:
            await client.error()
        except AssertionError:
            assert client.socket.close_code == 1007
        else:
            await still_serves(client)


async def test_unsubscribing_from_what_was_never_watched_costs_nothing(replica: Replica, project: str) -> None:
    async with connect(replica.ws) as client:
        await client.send("unsubscribe", projectId=project)
        assert (await client.next())["type"] in ("unsubscribed", "error")
        await still_serves(client)


async def test_an_error_about_a_project_names_no_other(replica: Replica, project: str) -> None:
    async with connect(replica.ws) as client:
        await client.send("subscribe", projectId=project, since="yesterday")
        assert (await client.error()).get("projectId", project) == project


async def test_a_bad_message_leaves_the_subscriptions_as_they_are(
    replica: Replica, publisher: PublisherProcess, project: str
) -> None:
    async with watching(replica.ws, project) as client:
        for text in (
            "{",
            '{"type": "subscribe"}',
            json.dumps({"type": "subscribe", "projectId": project, "since": []}),
        ):
            await client.send_raw(text)
            await client.error()
        publisher.seq(project, progress("job"))
        await client.events(1)


async def test_twenty_bad_messages_in_a_row_close_with_1008(replica: Replica) -> None:
    async with connect(replica.ws) as client:
        for _ in range(IN_A_ROW):
            await client.send_raw("{")
        assert await client.closed() == 1008
        errors = [message for message in client.received if message["type"] == "error"]
        assert IN_A_ROW - 1 <= len(errors) <= IN_A_ROW


async def test_a_good_message_ends_the_row_of_bad_ones(replica: Replica) -> None:
    async with connect(replica.ws) as client:
        for _ in range(3):
            for _ in range(IN_A_ROW - 1):
                await client.send_raw("{")
                await client.error()
            await still_serves(client)


async def test_bad_messages_of_all_kinds_count_alike(replica: Replica) -> None:
    bad: list[str | bytes] = [b"\x00", "{", "[]", '{"type": 5}', '{"type": "subscribe", "projectId": "-"}']
    async with connect(replica.ws) as client:
        for number in range(IN_A_ROW):
            await client.send_raw(bad[number % len(bad)])
        assert await client.closed() == 1008


def ping_of(size: int) -> str:
    return '{"type":"ping","x":"' + "x" * (size - 22) + '"}'


async def test_a_message_of_16_kib_is_taken_and_a_bigger_one_closes_with_1009(replica: Replica) -> None:
    assert len(ping_of(MAX_BYTES)) == MAX_BYTES
    async with connect(replica.ws) as client:
        await client.send_raw(ping_of(MAX_BYTES))
        await client.expect("pong")
        await client.send_raw(ping_of(MAX_BYTES + 1))
        assert await client.closed() == 1009


async def test_the_limit_holds_for_bytes_and_for_binary_frames(replica: Replica) -> None:
    for data in ("é" * (MAX_BYTES // 2 + 1), b"\x00" * (MAX_BYTES + 1)):
        async with connect(replica.ws) as client:
            await client.send_raw(data)
            assert await client.closed() == 1009


async def test_the_limit_holds_for_a_message_in_many_fragments(replica: Replica) -> None:
    async with raw_connect(replica.port) as client:
        await client.send(frame(TEXT, b"x" * 10_000, final=False) + frame(0, b"x" * 10_000, final=False))
        assert await client.close_code() == 1009


async def test_the_limit_is_said_before_the_message_is_there(replica: Replica) -> None:
    async with raw_connect(replica.port) as client:
        await client.send(frame(TEXT, b"x" * 1_000_000)[:100])
        assert await client.close_code() == 1009


async def test_a_deflated_message_is_measured_by_what_it_holds(replica: Replica) -> None:
    """The library compresses where the server agrees: then a bomb is small on the wire."""
    async with connect(replica.ws) as client:
        try:
            await client.send_raw("x" * 5_000_000)
        except ConnectionClosed:
            pass  # before all of it was sent
        assert await client.closed() == 1009


@pytest.mark.parametrize(
    "data",
    [
        frame(TEXT, b'{"type":"ping"}', masked=False),
        frame(TEXT, b"x", reserved=0x20),
        frame(0x3, b"x"),
        frame(0, b"x"),
        frame(TEXT, b"x", final=False) + frame(TEXT, b"x"),
        frame(0x9, b"x" * 126),
        frame(0x9, b"x", final=False),
        frame(0x8, b"\x00"),
        frame(0x8, b"\x00\x05"),
        frame(0x8, b"\x03\xe8\xff"),
    ],
    ids=[
        "unmasked",
        "a reserved bit",
        "a reserved opcode",
        "a continuation of nothing",
        "a message inside a message",
        "an over-long ping",
        "a ping in fragments",
        "half a close code",
        "a close code that does not exist",
        "a close reason that is no UTF-8",
    ],
)
async def test_a_breach_of_the_websocket_protocol_is_a_protocol_close(replica: Replica, data: bytes) -> None:
    async with raw_connect(replica.port) as client:
        await client.send(data)
        assert await client.close_code() in (1002, 1007)


async def test_a_message_in_fragments_with_a_ping_between_is_understood(replica: Replica) -> None:
    async with raw_connect(replica.port) as client:
        await client.send(frame(TEXT, b'{"type":', final=False) + frame(0x9, b"?") + frame(0, b'"ping"}'))
        received = {(await client.frame("pong")).opcode: None, (await client.frame("pong")).opcode: None}
        assert received.keys() == {0xA, TEXT}


async def test_a_client_that_breaks_off_in_the_middle_of_a_frame_costs_nothing(replica: Replica) -> None:
    for data in (b"\x81", frame(TEXT, b'{"type":"ping"}')[:9], frame(BINARY, b"x" * 5_000)[:600]):
        async with raw_connect(replica.port) as client:
            await client.send(data)
    async with connect(replica.ws) as healthy:
        await still_serves(healthy)


async def test_a_name_that_redis_would_take_for_a_pattern_is_refused(
    replica: Replica, redis_server: RedisServer, project: str
) -> None:
    async with watching(replica.ws, project) as client:
        for name in (project[:-1] + "*", project[:-1] + "?", "[a-z]*", "*"):
            await client.send("subscribe", projectId=name)
            await client.error()
        redis_server.publish(project, progress("job"))
        await client.events(1)
        assert await client.ping() == []
