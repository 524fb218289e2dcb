"""WebSocket frames (RFC 6455): written by hand, since all clients get the same bytes; read by the library's parser.

Pure functions over bytes, without a socket.
"""

from codecs import utf_8_decode
from collections.abc import Generator, Iterator
from struct import Struct

from websockets.exceptions import PayloadTooBig, ProtocolError
from websockets.frames import Close, apply_mask  # type: ignore[attr-defined]  # the fastest of its apply_mask
from websockets.frames import Frame as Frame  # also for modules that read frames
from websockets.frames import Opcode as Opcode

from gateway.codes import CloseCode

MAX_FRAGMENTS = 1_024  # of one message: empty fragments do not count against its size
PING = b"\x89\x00"  # without a payload: only the pong's arrival counts
_MASK_AT = {126: 4, 127: 10}  # from the start of a frame, by its short length; else 2
_MASKED = 0x80  # of a client's frame: added to its length
_WHOLE = {0x81: Opcode.TEXT, 0x8A: Opcode.PONG}  # of one frame, by its first byte
_TEXT = 0x81  # FIN and opcode 1; a server's frames are not masked (RFC 6455, 5.1)
_SHORT = Struct("!BB").pack
_MEDIUM = Struct("!BBH").pack
_LONG = Struct("!BBQ").pack


def text_frame(payload: bytes) -> bytes:
    """One unfragmented text frame (RFC 6455, 5.2)."""
    length = len(payload)
    if length < 126:
        return _SHORT(_TEXT, length) + payload
    if length < 65_536:
        return _MEDIUM(_TEXT, 126, length) + payload
    return _LONG(_TEXT, 127, length) + payload


def close_frame(code: int, reason: str = "") -> bytes:
    """A close frame. The reason is cut to the 123 bytes that a control frame has for it."""
    payload = code.to_bytes(2, "big") + reason.encode()[:123].decode(errors="ignore").encode()
    return _SHORT(0x88, len(payload)) + payload


def pong_frame(payload: bytes) -> bytes:
    return _SHORT(0x8A, len(payload)) + payload


def payloads(frames: bytes) -> Iterator[bytes]:
    """The payloads of joined frames of `text_frame`, for an ASGI server that writes the frames itself."""
    position = 0
    while position < len(frames):
        length, position = frames[position + 1], position + 2
        if length == 126:
            length, position = int.from_bytes(frames[position : position + 2], "big"), position + 2
        elif length == 127:
            length, position = int.from_bytes(frames[position : position + 8], "big"), position + 8
        yield frames[position : position + length]
        position += length


class FrameError(Exception):
    """Bytes from a client that end its connection, with the close code to tell it."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def read_frame(data: bytes, position: int, max_bytes: int) -> tuple[Frame | None, int]:
    """Return the frame at `position` and where the next one begins; None and `position` while it is incomplete.

    Raises `FrameError` for bytes that are not a frame (1002) and for a long one (1009). An unfinished frame is parsed
    again from its start when more has come. That is cheap, since only the header is read before the length is known,
    and a connection need not keep a parser.
    """
    start = position
    if (short := _short_frame(data, position, max_bytes)) is not None:
        return short
    if len(data) >= position + 4:
        _check_length(data, position)

    def read_exact(size: int) -> Generator[None, None, bytes]:
        nonlocal position
        if len(data) - position < size:
            yield
        position += size
        return data[position - size : position]

    parser = Frame.parse(read_exact, mask=True, max_size=max_bytes)
    try:
        next(parser)
    except StopIteration as finished:
        return finished.value, position
    except ProtocolError as error:
        raise FrameError(CloseCode.PROTOCOL_ERROR, str(error)) from None
    except PayloadTooBig:
        raise FrameError(CloseCode.MESSAGE_TOO_BIG, f"a message has at most {max_bytes} bytes") from None
    return None, start


def _short_frame(data: bytes, position: int, max_bytes: int) -> tuple[Frame, int] | None:
    """Read what nearly all clients send, without the library's parser: a whole text of less than 126 bytes, or a pong.

    None for anything else, and for what may be wrong.
    """
    if len(data) < position + 6 or (opcode := _WHOLE.get(data[position])) is None:
        return None
    size, payload = data[position + 1] - _MASKED, position + 6
    if not 0 <= size < 126 or size > max_bytes or len(data) < payload + size:
        return None
    return Frame(opcode, apply_mask(data[payload : payload + size], data[position + 2 : payload])), payload + size


def _check_length(data: bytes, position: int) -> None:
    """Refuse a length that is written in more bytes than it needs (RFC 6455, 5.2), which the library takes."""
    short, long = data[position + 1] & 0x7F, data[position + 2 : position + 10]
    is_padded = (short == 126 and long[:2] < b"\x00\x7e") or (short == 127 and long[:6] == bytes(6))
    if is_padded:
        raise FrameError(CloseCode.PROTOCOL_ERROR, "a length is written in too many bytes")


def begun_payload(data: bytes, position: int) -> bytes:
    """What has come of the payload of the unfinished frame at `position`, which `read_frame` has accepted so far."""
    if len(data) < position + 2:
        return b""
    mask = position + _MASK_AT.get(data[position + 1] & 0x7F, 2)
    return apply_mask(data[mask + 4 :], data[mask : mask + 4]) if len(data) > mask + 4 else b""


class Fragments:
    """An unfinished message, in one frame or several (RFC 6455, 5.4). Lives until it is finished."""

    __slots__ = ("_cut", "_max_bytes", "_parts", "_size", "is_text")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._parts: list[bytes] = []
        self._size = 0
        self._cut = b""
        """The first bytes of a character that goes on in the next frame."""
        self.is_text = False

    def add(self, frame: Frame) -> bytes | None:
        """Take the next data frame, and return the message if it was the last. Raises `FrameError`."""
        if (frame.opcode is Opcode.CONT) != bool(self._parts):
            raise FrameError(CloseCode.PROTOCOL_ERROR, "a continuation of nothing, or a message inside another")
        if not self._parts:
            self.is_text = frame.opcode is Opcode.TEXT
        self._parts.append(bytes(frame.data))
        self._size += len(frame.data)
        if self._size > self._max_bytes or len(self._parts) > MAX_FRAGMENTS:
            raise FrameError(CloseCode.MESSAGE_TOO_BIG, f"a message has at most {self._max_bytes} bytes")
        if self.is_text:
            self._cut = check_text(self._cut + self._parts[-1], is_whole=frame.fin)
        return b"".join(self._parts) if frame.fin else None

    def check_begun(self, data: bytes, position: int) -> None:
        """Raise `FrameError` if the unfinished frame at `position` has to be text, and what has come of it is not."""
        opcode = data[position] & 0x0F
        if opcode == Opcode.TEXT or (opcode == Opcode.CONT and self.is_text):
            check_text(self._cut + begun_payload(data, position), is_whole=False)


def check_text(data: bytes, *, is_whole: bool) -> bytes:
    """Return the bytes at the end that are a part of a character. Raises `FrameError` if this is not UTF-8."""
    try:
        return data[utf_8_decode(data, "strict", is_whole)[1] :]
    except UnicodeDecodeError:
        raise FrameError(CloseCode.BAD_TEXT, "a text message is UTF-8") from None


def code_to_echo(frame: Frame) -> int:
    """The code that answers a client's close frame (RFC 6455, 5.5.1)."""
    try:
        code = Close.parse(bytes(frame.data)).code
    except (ProtocolError, UnicodeDecodeError):
        return CloseCode.PROTOCOL_ERROR
    return CloseCode.NORMAL if code == 1005 else code  # 1005: the frame had no code
