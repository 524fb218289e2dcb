"""What a broken or hostile client may send after its handshake: valid frames, mutated ones, and bytes that are none."""

import json
import random

from .raw import BINARY, CLOSE, PING, PONG, TEXT, frame

CONTINUATION = 0x0
FRAMES_OF_A_CLIENT = 100
GOOD_TEXTS = (
    b'{"type":"ping"}',
    *(json.dumps({"type": "subscribe", "projectId": f"fuzz{number}"}).encode() for number in range(20)),
    *(json.dumps({"type": "subscribe", "projectId": f"fuzz{number}", "since": number}).encode() for number in range(5)),
    *(json.dumps({"type": "unsubscribe", "projectId": f"fuzz{number}"}).encode() for number in range(20)),
)
BAD_TEXTS = (
    b"", b"{", b"null", b"[" * 5_000, b'{"type":1}', b'{"type":"x"}', b'{"type":"subscribe"}', b"\xff", b"\xed\xa0\x80",
    b'"\\ud800"', b'{"type":"subscribe","projectId":"-"}', b'{"type":"auth","token":"x"}', b'{"type":"auth"}',
    b"9" * 400,
)  # fmt: skip


class Fuzzer:
    """The frames of one client after another, all from one seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def client(self) -> list[bytes]:
        """The frames of a client that is mostly well-behaved, or mostly not."""
        bad = self.random.choice((0.0, 0.01, 0.01, 0.05, 0.5))
        return [self._bad() if self.random.random() < bad else self._good() for _ in range(FRAMES_OF_A_CLIENT)]

    def pieces(self, frames: list[bytes]) -> list[bytes]:
        """The frames in writes of any size: pipelined, whole, or in pieces; sometimes without their end."""
        data = b"".join(frames)
        if self.random.random() < 0.3:
            data = data[: self.random.randrange(len(data))]
        size = self.random.choice((7, 100, 1_400, 65_536))
        return [data[position : position + size] for position in range(0, len(data), size)]

    def _bytes(self, most: int) -> bytes:
        return self.random.randbytes(self.random.randint(0, most))

    def _good(self) -> bytes:
        kind = self.random.randrange(10)
        if kind == 0:
            return frame(self.random.choice((PING, PONG)), self._bytes(125))
        if kind == 1:
            text = self.random.choice(GOOD_TEXTS)
            cut = self.random.randrange(len(text))
            return frame(TEXT, text[:cut], final=False) + frame(CONTINUATION, text[cut:])
        return frame(TEXT, self.random.choice(GOOD_TEXTS))

    def _bad(self) -> bytes:
        return self.random.choice(
            (self._mutated, self._noise, self._odd_head, self._bad_message, self._bad_close, self._bad_fragment)
        )()

    def _mutated(self) -> bytes:
        data = bytearray(self._good())
        for _ in range(self.random.randint(1, 3)):
            position = self.random.randrange(len(data))
            change = self.random.randrange(3)
            if change == 0:
                data[position] ^= 1 << self.random.randrange(8)
            elif change == 1:
                data[position : position + self.random.randint(0, 3)] = self._bytes(3)
            else:
                data[position] = self.random.choice((0, 0x7D, 0x7E, 0x7F, 0x80, 0xFE, 0xFF))
            data = data or bytearray(b"\0")
        return bytes(data)

    def _noise(self) -> bytes:
        return self._bytes(300)

    def _odd_head(self) -> bytes:
        """Any opcode and reserved bits, and a length that is padded, huge or of more than comes."""
        length = self.random.choice((b"\xfe" + self._two(), b"\xff" + bytes(6) + self._two(), b"\xff" + b"\xff" * 8))
        return bytes([self.random.randrange(256)]) + length + self._bytes(300)

    def _two(self) -> bytes:
        return self.random.randbytes(2)

    def _bad_message(self) -> bytes:
        if self.random.random() < 0.2:
            return frame(BINARY, self._bytes(2_000))
        return frame(TEXT, self.random.choice((*BAD_TEXTS, self._bytes(200), b"x" * 16_385)))

    def _bad_close(self) -> bytes:
        return frame(CLOSE, self.random.choice((b"", b"\x03", self._two(), self._two() + self._bytes(123))))

    def _bad_fragment(self) -> bytes:
        return frame(self.random.choice((CONTINUATION, TEXT, PING)), self._bytes(50), final=False)
