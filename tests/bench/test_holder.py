"""The frames of the clients that hold idle connections."""

import pytest

from bench.holder import PING, TEXT, frame, take_frame


def test_a_frame_is_masked_with_zeros() -> None:
    assert frame(TEXT, b"hi") == b"\x81\x82\x00\x00\x00\x00hi"


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_a_frame_of_the_server_is_taken_with_what_follows_it(size: int) -> None:
    length = (
        bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2) if size < 65_536 else b"\x7f" + size.to_bytes(8)
    )
    data = bytes([0x80 | PING]) + length + b"x" * size
    assert take_frame(data + b"rest") == (PING, b"x" * size, b"rest")
    assert take_frame(data[:-1]) is None
