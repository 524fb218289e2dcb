"""Frames on the wire: written byte for byte as RFC 6455 shows them, and read in whatever pieces they arrive."""

import contextlib
import itertools
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import CTRL_OPCODES

from gateway.clients.frames import (
    MAX_FRAGMENTS,
    PING,
    Fragments,
    Frame,
    FrameError,
    Opcode,
    close_frame,
    code_to_echo,
    payloads,
    pong_frame,
    read_frame,
    text_frame,
)
from gateway.codes import CloseCode

LIMIT = 16_384
BOUNDARIES = [0, 1, 124, 125, 126, 127, 128, 65_534, 65_535, 65_536, 65_537]


class Received(NamedTuple):
    frames: list[Frame]
    rest: bytes


def read_frames(data: bytes, limit: int) -> Received:
    """All whole frames of `data`, and the unfinished one behind them."""
    frames, position = [], 0
    while position < len(data):
        frame, position = read_frame(data, position, limit)
        if frame is None:
            break
        frames.append(frame)
    return Received(frames, data[position:])


def masked(opcode: Opcode, data: bytes = b"", *, fin: bool = True) -> bytes:
    """A client's frame, as the library writes it."""
    return Frame(opcode, data, fin).serialize(mask=True)


def read(data: bytes, limit: int = LIMIT) -> list[Frame]:
    received = read_frames(data, limit)
    assert received.rest == b""
    return received.frames


def code_of(data: bytes, limit: int = LIMIT) -> int:
    with pytest.raises(FrameError) as caught:
        read_frames(data, limit)
    assert caught.value.reason == str(caught.value)
    return caught.value.code


# Written


def test_a_text_frame_is_the_example_of_the_rfc() -> None:
    assert text_frame(b"Hello") == bytes.fromhex("81 05 48 65 6c 6c 6f")


@pytest.mark.parametrize("length", BOUNDARIES)
def test_a_text_frame_is_the_one_that_the_library_writes(length: int) -> None:
    payload = b"x" * length
    assert text_frame(payload) == Frame(Opcode.TEXT, payload).serialize(mask=False)


@pytest.mark.parametrize("length", BOUNDARIES)
def test_joined_text_frames_give_their_payloads_back(length: int) -> None:
    texts = [b"a" * length, b"", b"b" * 126, b"c" * length]
    assert list(payloads(b"".join(map(text_frame, texts)))) == texts


@given(st.lists(st.builds(bytes.__mul__, st.binary(min_size=1, max_size=1), st.sampled_from(BOUNDARIES)), max_size=5))
def test_any_texts_survive_the_joining(texts: list[bytes]) -> None:
    assert list(payloads(b"".join(map(text_frame, texts)))) == texts


def test_nothing_has_no_payloads() -> None:
    assert list(payloads(b"")) == []


def test_the_ping_for_everybody_and_a_pong_are_the_librarys() -> None:
    assert Frame(Opcode.PING, b"").serialize(mask=False) == PING
    assert pong_frame(b"Hello") == bytes.fromhex("8a 05 48 65 6c 6c 6f")
    assert pong_frame(b"x" * 125) == Frame(Opcode.PONG, b"x" * 125).serialize(mask=False)


def test_a_close_frame_carries_its_code_and_reason() -> None:
    assert close_frame(4508, "behind") == Frame(Opcode.CLOSE, (4508).to_bytes(2, "big") + b"behind").serialize(
        mask=False
    )
    assert close_frame(1000) == bytes.fromhex("88 02 03 e8")


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_the_reason_of_a_close_frame_is_cut_to_what_fits_and_stays_text(reason: str) -> None:
    frame = close_frame(1008, reason)
    assert frame[1] == len(frame) - 2 <= 125
    assert reason.startswith(frame[4:].decode())
    assert len(frame) - 4 > 119 or frame[4:].decode() == reason


# Read


@pytest.mark.parametrize(
    ("data", "frame"),
    [
        ("81 85 37 fa 21 3d 7f 9f 4d 51 58", Frame(Opcode.TEXT, b"Hello")),
        ("8a 85 37 fa 21 3d 7f 9f 4d 51 58", Frame(Opcode.PONG, b"Hello")),
        ("89 85 37 fa 21 3d 7f 9f 4d 51 58", Frame(Opcode.PING, b"Hello")),
        ("01 83 00 00 00 00 48 65 6c", Frame(Opcode.TEXT, b"Hel", fin=False)),
        ("80 82 00 00 00 00 6c 6f", Frame(Opcode.CONT, b"lo")),
        ("82 80 37 fa 21 3d", Frame(Opcode.BINARY, b"")),
    ],
)
def test_the_masked_examples_of_the_rfc_are_read(data: str, frame: Frame) -> None:
    assert read(bytes.fromhex(data)) == [frame]


@pytest.mark.parametrize("length", BOUNDARIES)
def test_a_frame_of_any_length_is_read(length: int) -> None:
    assert read(masked(Opcode.TEXT, b"x" * length), 70_000) == [Frame(Opcode.TEXT, b"x" * length)]


def test_no_bytes_are_no_frames() -> None:
    assert read(b"") == []


def test_an_unfinished_frame_is_given_back_behind_the_finished_ones() -> None:
    whole, rest = masked(Opcode.TEXT, b"one"), masked(Opcode.TEXT, b"two")[:-1]
    received = read_frames(whole + rest, LIMIT)
    assert [frame.data for frame in received.frames] == [b"one"]
    assert received.rest == rest


def data_frames(opcodes: list[Opcode], sizes: st.SearchStrategy[int]) -> st.SearchStrategy[Frame]:
    binary = sizes.flatmap(lambda size: st.binary(min_size=size, max_size=size))
    return st.builds(
        Frame, st.sampled_from(opcodes), binary, st.just(True) if opcodes[0] in CTRL_OPCODES else st.booleans()
    )


frames_of_a_client = st.lists(
    st.one_of(
        data_frames([Opcode.TEXT, Opcode.BINARY, Opcode.CONT], st.sampled_from([0, 1, 5, 125, 126, 300])),
        data_frames([Opcode.PING, Opcode.PONG, Opcode.CLOSE], st.sampled_from([0, 2, 125])),
    ),
    max_size=6,
)


@given(frames_of_a_client, st.data())
def test_however_the_bytes_are_split_the_frames_are_the_same(frames: list[Frame], data: st.DataObject) -> None:
    sent = b"".join(frame.serialize(mask=True) for frame in frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=12)))
    got: list[Frame] = []
    rest = b""
    for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True):
        received = read_frames(rest + sent[start:end], LIMIT)
        got += received.frames
        rest = received.rest
    assert rest == b""
    assert [(frame.opcode, bytes(frame.data), frame.fin) for frame in got] == [
        (frame.opcode, frame.data, frame.fin) for frame in frames
    ]


@given(st.binary(max_size=400), st.integers(1, 200))
def test_random_bytes_are_frames_or_wait_or_are_refused_and_what_waits_is_bounded(data: bytes, limit: int) -> None:
    try:
        received = read_frames(data, limit)
    except FrameError as error:
        assert error.code in (CloseCode.PROTOCOL_ERROR, CloseCode.MESSAGE_TOO_BIG)  # noqa: PT017
    else:
        assert len(received.rest) < 14 + limit
        assert all(len(frame.data) <= limit for frame in received.frames)


@given(
    st.one_of(
        st.binary(max_size=150),
        st.builds(bytes.__add__, st.sampled_from([b"\x81", b"\x8a", b"\x82", b"\x01"]), st.binary(max_size=200)),
        frames_of_a_client.map(lambda frames: b"".join(frame.serialize(mask=True) for frame in frames)),
    ),
    st.integers(1, 200),
)
def test_short_frames_are_read_as_the_library_reads_them(data: bytes, limit: int) -> None:
    def outcome() -> tuple[object, ...]:
        try:
            frame, position = read_frame(data, 0, limit)
        except FrameError as error:
            return error.code, error.reason
        return None if frame is None else (frame.opcode, bytes(frame.data), frame.fin), position

    short = outcome()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gateway.clients.frames._short_frame", lambda *_: None)
        assert outcome() == short


@pytest.mark.parametrize(
    ("data", "what"),
    [
        ("81 05 48 65 6c 6c 6f", "not masked"),
        ("c1 80 00 00 00 00", "reserved bit 1"),
        ("a1 80 00 00 00 00", "reserved bit 2"),
        ("91 80 00 00 00 00", "reserved bit 3"),
        ("83 80 00 00 00 00", "unknown data opcode"),
        ("8f 80 00 00 00 00", "unknown control opcode"),
        ("09 80 00 00 00 00", "a ping in fragments"),
        ("89 fe 00 7e 00 00 00 00" + "00" * 126, "a ping of 126 bytes"),
    ],
)
def test_what_is_no_frame_of_a_client_is_a_protocol_error(data: str, what: str) -> None:
    assert code_of(bytes.fromhex(data)) == CloseCode.PROTOCOL_ERROR, what


def test_a_frame_of_the_limit_passes_and_one_byte_more_is_too_big() -> None:
    assert read(masked(Opcode.TEXT, b"x" * 200), 200)
    assert code_of(masked(Opcode.TEXT, b"x" * 201), 200) == CloseCode.MESSAGE_TOO_BIG


@pytest.mark.parametrize(
    ("data", "what"),
    [
        ("81 fe 00 00", "0 in two bytes"),
        ("81 fe 00 7d", "125 in two bytes"),
        ("81 ff 00 00 00 00 00 00 00 05", "5 in eight bytes"),
        ("81 ff 00 00 00 00 00 00 ff ff", "65,535 in eight bytes"),
    ],
)
def test_a_length_in_more_bytes_than_it_needs_is_a_protocol_error(data: str, what: str) -> None:
    assert code_of(bytes.fromhex(data)) == CloseCode.PROTOCOL_ERROR, what


@pytest.mark.parametrize("length", [65_536, 2**31, 2**63 - 1, 2**64 - 1])
def test_a_length_above_the_limit_is_refused_before_its_bytes_have_come(length: int) -> None:
    assert code_of(b"\x81\xff" + length.to_bytes(8, "big")) == CloseCode.MESSAGE_TOO_BIG


# Messages in several frames


def test_a_message_in_one_frame_is_that_frames_data() -> None:
    fragments = Fragments(LIMIT)
    assert fragments.add(Frame(Opcode.TEXT, b"Hello")) == b"Hello"
    assert fragments.is_text


def test_fragments_are_joined_and_keep_the_kind_of_the_first() -> None:
    fragments = Fragments(LIMIT)
    assert fragments.add(Frame(Opcode.BINARY, b"Hel", fin=False)) is None
    assert fragments.add(Frame(Opcode.CONT, b"", fin=False)) is None
    assert fragments.add(Frame(Opcode.CONT, b"lo")) == b"Hello"
    assert not fragments.is_text


def test_a_character_may_be_split_between_fragments() -> None:
    fragments = Fragments(LIMIT)
    assert fragments.add(Frame(Opcode.TEXT, b"\xe2\x82", fin=False)) is None
    assert fragments.add(Frame(Opcode.CONT, b"\xac")) == "€".encode()


def refused(limit: int, *frames: Frame) -> int:
    """The code with which the last of the frames is refused."""
    fragments = Fragments(limit)
    for frame in frames[:-1]:
        assert fragments.add(frame) is None
    with pytest.raises(FrameError) as caught:
        fragments.add(frames[-1])
    return caught.value.code


def test_a_continuation_of_nothing_is_a_protocol_error() -> None:
    assert refused(LIMIT, Frame(Opcode.CONT, b"lo")) == CloseCode.PROTOCOL_ERROR


@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY])
def test_a_message_inside_another_is_a_protocol_error(opcode: Opcode) -> None:
    assert refused(LIMIT, Frame(Opcode.TEXT, b"Hel", fin=False), Frame(opcode, b"lo")) == CloseCode.PROTOCOL_ERROR


def test_an_empty_first_fragment_begins_a_message_too() -> None:
    fragments = Fragments(LIMIT)
    assert fragments.add(Frame(Opcode.TEXT, b"", fin=False)) is None
    assert fragments.add(Frame(Opcode.CONT, b"x")) == b"x"


def test_fragments_together_may_not_be_longer_than_a_message() -> None:
    first = Frame(Opcode.BINARY, b"x" * 150, fin=False)
    assert refused(200, first, Frame(Opcode.CONT, b"x" * 51)) == CloseCode.MESSAGE_TOO_BIG


def test_empty_fragments_without_end_are_refused() -> None:
    frames = [Frame(Opcode.TEXT, b"", fin=False)] + [Frame(Opcode.CONT, b"", fin=False)] * MAX_FRAGMENTS
    assert refused(LIMIT, *frames) == CloseCode.MESSAGE_TOO_BIG


@pytest.mark.parametrize("data", [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xe2\x82"])
def test_a_text_that_is_not_utf_8_is_refused(data: bytes) -> None:
    assert refused(LIMIT, Frame(Opcode.TEXT, data)) == CloseCode.BAD_TEXT


@pytest.mark.parametrize("data", [b"\xff", b"\xc0", b"ok \xf4\x90", b"\xce\xba\xed\xa0\x80"])
def test_a_text_that_is_not_utf_8_is_refused_in_the_fragment_in_which_that_shows(data: bytes) -> None:
    assert refused(LIMIT, Frame(Opcode.TEXT, b"ok", fin=False), Frame(Opcode.CONT, data, fin=False)) == (
        CloseCode.BAD_TEXT
    )


def test_a_character_that_never_ends_is_refused_with_the_last_fragment() -> None:
    assert refused(LIMIT, Frame(Opcode.TEXT, b"\xe2\x82", fin=False), Frame(Opcode.CONT, b"")) == CloseCode.BAD_TEXT


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.data())
def test_text_may_be_split_anywhere(text: str, data: st.DataObject) -> None:
    sent = text.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), min_size=1, max_size=8)))
    fragments = Fragments(10_000)
    for number, (start, end) in enumerate(itertools.pairwise([0, *cuts])):
        frame = Frame(Opcode.CONT if number else Opcode.TEXT, sent[start:end], fin=False)
        fragments.check_begun(frame.serialize(mask=True)[: data.draw(st.integers(1, 5))], 0)
        assert fragments.add(frame) is None
    assert fragments.add(Frame(Opcode.CONT, sent[cuts[-1] :])) == sent


# Frames that are not whole


@pytest.mark.parametrize("size", [10, 200, 70_000])
@pytest.mark.parametrize(
    ("opcode", "begun", "is_refused"),
    [
        (Opcode.TEXT, b"", False),
        (Opcode.TEXT, b"\xce\xba", False),
        (Opcode.TEXT, b"\xce", False),
        (Opcode.TEXT, b"\xce\xba\xf4\x90", True),
        (Opcode.CONT, b"\xff", False),  # goes on with nothing: refused when it is whole
        (Opcode.BINARY, b"\xff", False),
    ],
)
def test_what_has_come_of_a_text_frame_is_checked(size: int, opcode: Opcode, begun: bytes, is_refused: bool) -> None:
    rest = size - len(begun)
    data = b"before" + masked(opcode, begun + b"x" * rest)[:-rest]
    with pytest.raises(FrameError) if is_refused else contextlib.nullcontext():
        Fragments(100_000).check_begun(data, 6)


def test_a_frame_that_goes_on_with_a_text_is_checked_with_what_came_before() -> None:
    fragments = Fragments(LIMIT)
    fragments.add(Frame(Opcode.TEXT, b"\xe2\x82", fin=False))
    fragments.check_begun(masked(Opcode.CONT, b"\xacx")[:-1], 0)
    with pytest.raises(FrameError) as caught:
        fragments.check_begun(masked(Opcode.CONT, b"xx")[:-1], 0)
    assert caught.value.code == CloseCode.BAD_TEXT


def test_a_binary_message_need_not_be_utf_8() -> None:
    assert Fragments(LIMIT).add(Frame(Opcode.BINARY, b"\xff")) == b"\xff"


# The close handshake


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1008, 1011, 3000, 4000, 4999])
def test_the_code_of_a_close_frame_is_echoed(code: int) -> None:
    assert code_to_echo(Frame(Opcode.CLOSE, code.to_bytes(2, "big") + b"bye")) == code


def test_a_close_frame_without_a_code_is_answered_as_usual() -> None:
    assert code_to_echo(Frame(Opcode.CLOSE, b"")) == CloseCode.NORMAL


@pytest.mark.parametrize(
    "data", [b"\x03", b"\x00\x00", b"\x03\xed", b"\x03\xee", b"\x07\xd0", b"\xff\xff", b"\x03\xe8\xff"]
)
def test_a_close_frame_that_is_none_is_a_protocol_error(data: bytes) -> None:
    """One byte; the codes 0, 1005, 1006, 2000 and 65535, which nobody may send; a reason that is not UTF-8."""
    assert code_to_echo(Frame(Opcode.CLOSE, data)) == CloseCode.PROTOCOL_ERROR
