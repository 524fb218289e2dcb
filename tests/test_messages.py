"""What a client may say, however it says it, and what it is told."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import messages
from gateway.clients.frames import payloads, text_frame
from gateway.codes import ErrorCode
from gateway.messages import BadMessage, Ping, Subscribe, Unsubscribe, read_client_message
from publisher.events import MAX_SEQ


def refused(text: bytes | str) -> BadMessage:
    with pytest.raises(BadMessage) as caught:
        read_client_message(text)
    assert caught.value.message
    assert caught.value.message.endswith(".")
    return caught.value


def subscribe(since: str) -> bytes:
    return b'{"type":"subscribe","projectId":"p","since":' + since.encode() + b"}"


def subscribe_to(project_id: str) -> Subscribe:
    return Subscribe.model_validate({"type": "subscribe", "projectId": project_id})


def unsubscribe_from(project_id: str) -> Unsubscribe:
    return Unsubscribe.model_validate({"type": "unsubscribe", "projectId": project_id})


# Read


def test_a_subscribe_without_a_cursor_is_read() -> None:
    assert read_client_message(b'{"type":"subscribe","projectId":"p"}') == subscribe_to("p")


@pytest.mark.parametrize("since", [0, 1, 2**53 - 1])
def test_a_subscribe_with_a_cursor_is_read(since: int) -> None:
    message = read_client_message(subscribe(str(since)))
    assert isinstance(message, Subscribe)
    assert message.since == since


def test_a_cursor_of_null_is_none() -> None:
    assert read_client_message(subscribe("null")) == subscribe_to("p")


def test_an_unsubscribe_is_read() -> None:
    message = read_client_message(b'{"type":"unsubscribe","projectId":"a.b:c-d_E9"}')
    assert message == unsubscribe_from("a.b:c-d_E9")


def test_a_ping_is_read() -> None:
    assert read_client_message(b' {"type": "ping"}\n') == Ping(type="ping")


def test_text_is_read_like_bytes() -> None:
    assert read_client_message('{"type":"ping"}') == Ping(type="ping")


@pytest.mark.parametrize("extra", ['"x":1', '"__proto__":{}', '"since":"ignored here"', '"projectId":7'])
def test_unknown_fields_are_dropped(extra: str) -> None:
    assert read_client_message(f'{{"type":"ping",{extra}}}') == Ping(type="ping")


def test_of_a_key_that_stands_twice_the_last_counts() -> None:
    message = read_client_message(b'{"type":"ping","type":"subscribe","projectId":"a","projectId":"b"}')
    assert message == subscribe_to("b")


# Refused


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b"hello",
        b"{",
        b'{"type":"ping"',
        b'{"type":"ping"}}',
        b"{'type':'ping'}",
        b'{"type":"ping",}',
        b'\xef\xbb\xbf{"type":"ping"}',
        b'{"type":"p\xffng"}',
        b'{"type":"\\ud800"}',
        b'{"type":"subscribe","projectId":"\\udc00x"}',
        b'{"type":"ping","x":NaN}',
        b'{"type":"ping","x":Infinity}',
        b'{"type":"ping","x":-Infinity}',
        b"\x00",
        "é".encode("latin-1"),
    ],
)
def test_what_is_not_json_is_said_to_be_none(text: bytes) -> None:
    assert refused(text).code is ErrorCode.NOT_JSON


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_json_nested_ten_thousand_deep_is_refused(opening: str) -> None:
    assert refused(opening * 10_000).code is ErrorCode.NOT_JSON
    closing = "]" if opening == "[" else "}"
    assert refused(opening * 10_000 + "1" + closing * 10_000).code is ErrorCode.NOT_JSON


@pytest.mark.parametrize("text", [b"[]", b"null", b"true", b"1", b"1e400", b'"ping"', b'[{"type":"ping"}]'])
def test_json_that_is_no_object_is_a_bad_message(text: bytes) -> None:
    assert refused(text).code in (ErrorCode.BAD_MESSAGE, ErrorCode.NOT_JSON)


@pytest.mark.parametrize(
    "text",
    [
        b"{}",
        b'{"type":null}',
        b'{"type":1}',
        b'{"type":"Ping"}',
        b'{"type":"ping "}',
        b'{"type":["ping"]}',
        b'{"type":{}}',
    ],
)
def test_a_type_that_is_none_of_the_three_is_unknown(text: bytes) -> None:
    bad = refused(text)
    assert bad.code is ErrorCode.UNKNOWN_TYPE
    assert all(word in bad.message for word in messages.TYPES)


@pytest.mark.parametrize("kind", ["subscribe", "unsubscribe"])
@pytest.mark.parametrize(
    "project_id",
    [
        None,
        1,
        True,
        [],
        {},
        "",
        " ",
        "a b",
        "-a",
        "_a",
        ".a",
        ":a",
        "a/b",
        "a{b}",
        "a\n",
        "é",
        "\uff41",
        "a\x00",
        "a" * 129,
        "a*",
    ],
)
def test_a_project_id_of_another_form_is_bad(kind: str, project_id: object) -> None:
    bad = refused(json.dumps({"type": kind, "projectId": project_id}))
    assert bad.code is ErrorCode.BAD_PROJECT_ID
    assert "projectId" in bad.message
    assert bad.project_id is None


@pytest.mark.parametrize("kind", ["subscribe", "unsubscribe"])
def test_the_wire_has_one_spelling(kind: str) -> None:
    assert refused(json.dumps({"type": kind, "project_id": "p"})).code is ErrorCode.BAD_PROJECT_ID


@pytest.mark.parametrize("kind", ["subscribe", "unsubscribe"])
def test_a_missing_project_id_is_bad(kind: str) -> None:
    assert refused(json.dumps({"type": kind})).code is ErrorCode.BAD_PROJECT_ID


@pytest.mark.parametrize(
    "since",
    ["-1", "9007199254740992", "1e20", "1.0", "1.5", "1e3", "true", "false", '"1"', "[]", "{}", "1" * 400, "-0.0"],
)
def test_a_cursor_that_is_no_whole_number_within_2_to_the_53_is_bad(since: str) -> None:
    bad = refused(subscribe(since))
    assert bad.code is ErrorCode.BAD_SINCE
    assert "since" in bad.message
    assert str(MAX_SEQ) in bad.message
    assert bad.project_id == "p"


def test_a_number_too_large_for_any_float_is_refused() -> None:
    assert refused(subscribe("1e400")).code in (ErrorCode.BAD_SINCE, ErrorCode.NOT_JSON)


def test_where_both_fields_are_bad_the_project_id_is_named() -> None:
    assert refused(b'{"type":"subscribe","projectId":"","since":-1}').code is ErrorCode.BAD_PROJECT_ID


def test_a_long_number_costs_no_time() -> None:
    """A conversion that grows with the square of the length would stop everybody's events."""
    assert refused(subscribe("9" * 16_000)).code in (ErrorCode.BAD_SINCE, ErrorCode.NOT_JSON)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(), values, max_size=3),
    max_leaves=8,
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(messages.TYPES) | json_values,
            "projectId": json_values,
            "since": json_values,
        },
    )
)
def test_whatever_the_fields_hold_it_is_a_message_or_a_bad_one(value: dict[str, object]) -> None:
    try:
        read_client_message(json.dumps(value))
    except BadMessage as bad:
        messages.error(bad.code, bad.message, bad.project_id)


@given(st.binary(max_size=100))
def test_random_bytes_are_a_bad_message(data: bytes) -> None:
    refused(data)


# Said


def said(message: bytes) -> dict[str, object]:
    assert next(payloads(text_frame(message))) == message
    value: dict[str, object] = json.loads(message)
    return value


def test_connected_gives_the_client_its_id() -> None:
    assert said(messages.connected("c1")) == {"type": "connected", "clientId": "c1"}


@pytest.mark.parametrize("recovered", [True, False])
def test_subscribed_gives_the_cursor_and_whether_all_was_recovered(recovered: bool) -> None:
    expected = {"type": "subscribed", "projectId": "p", "seq": 2**53 - 1, "recovered": recovered}
    assert said(messages.subscribed("p", 2**53 - 1, recovered=recovered)) == expected
    by_model = messages.Subscribed(project_id="Az.9:-_", seq=11, recovered=recovered)
    assert messages.subscribed("Az.9:-_", 11, recovered=recovered) == messages._encode(by_model)


def test_unsubscribed_names_the_project() -> None:
    assert said(messages.unsubscribed("p")) == {"type": "unsubscribed", "projectId": "p"}


@pytest.mark.parametrize("code", list(ErrorCode))
def test_an_error_has_a_code_and_a_sentence(code: ErrorCode) -> None:
    assert said(messages.error(code, "A sentence.")) == {"type": "error", "code": code.value, "message": "A sentence."}


def test_an_error_names_the_project_where_there_is_one() -> None:
    expected = {"type": "error", "code": "bad_since", "message": "é", "projectId": "p"}
    assert said(messages.error(ErrorCode.BAD_SINCE, "é", "p")) == expected


@pytest.mark.parametrize(
    ("message", "kind"), [(messages.STALE, "stale"), (messages.LIVE, "live"), (messages.PONG, "pong")]
)
def test_the_words_without_fields_are_their_type(message: bytes, kind: str) -> None:
    assert said(message) == {"type": kind}
