"""What Redis remembers of a project: the hash that publish.lua keeps, read in steps. No I/O, no clock."""

from collections.abc import Callable, Generator, Mapping
from operator import attrgetter
from typing import NamedTuple

from gateway.projects.entry import Entry
from publisher.events import MAX_SEQ
from publisher.publication import FORMAT, MAX_JOBS

READ_AT_ONCE = 50  # fields of a state that are read in one step: 1 ms or less


class NewerFormatError(ValueError):
    """A later version keeps the project in a format that this one does not know."""

    def __init__(self, number: int) -> None:
        super().__init__(
            f"Redis keeps it in format {number}, and this version reads {FORMAT}: update this replica, or see "
            "docs/upgrading.md"
        )


class Remembered(NamedTuple):
    """The last event of a part, as Redis remembers it."""

    seq: int
    """0 without one."""
    field: str
    job_id: str
    entry: Entry | None
    """None: it is known here already."""


class Memory(NamedTuple):
    """What Redis remembers of a project: the hash that publish.lua keeps, as it was read."""

    parts: list[Remembered]
    """The last event of each part, in order of seq."""
    numbers: dict[str, int]
    """The attempts of jobs whose own event does not tell it."""
    seq: int
    """The project's newest seq; 0 if Redis names none."""
    complete_from: int
    """The seq from which on `parts` is complete; 0 for an empty hash."""
    is_trimmed: bool
    """True if an event since `complete_from` may be missing or forgotten: jobs were, or the hash says no beginning."""

    def covers(self, seq: int) -> bool:
        """Whether an event of this seq is here, or was replaced by another one that is."""
        return 0 < self.complete_from <= seq <= self.seq


def read_memory(
    state: Mapping[bytes, bytes],
    read_part: Callable[[bytes, bytes], Remembered],
    on_bad: Callable[[ValueError], None],
) -> Generator[None, None, Memory]:
    """Read a hash, some fields in each step.

    `read_part` reads a field and its payload; it raises `ValueError` for what is not an event, which `on_bad` is told.
    Raises `NewerFormatError`: half of a picture, taken for the whole one, would hide events.
    """
    if (kept_in := _whole_number(state.get(b"format"))) > FORMAT:
        raise NewerFormatError(kept_in)
    parts: list[Remembered] = []
    numbers: dict[str, int] = {}
    for index, (field, payload) in enumerate(state.items(), 1):
        if index % READ_AT_ONCE == 0:
            yield
        if b"\n" not in field:  # seq and from, and what the script counts
            if field.startswith(b"\t") and (number := payload.partition(b":")[0]):
                numbers[field[1:].decode(errors="replace")] = _whole_number(number)
            continue
        try:
            parts.append(read_part(field, payload))
        except ValueError as error:
            on_bad(error)
    parts.sort(key=_seq_of)
    seq, beginning = _whole_number(state.get(b"seq")), _whole_number(state.get(b"from"))
    if parts and not beginning:  # the newest event could not be remembered, or somebody else wrote to the hash
        return Memory(parts, numbers, seq, parts[-1].seq + 1, is_trimmed=True)
    # The script says what is left until it checks the bounds again; version 0.1 forgot at 1,000 parts.
    is_trimmed = b"left" in state or len(parts) >= MAX_JOBS
    return Memory(parts, numbers, seq, beginning, is_trimmed)


_seq_of = attrgetter("seq")


def _whole_number(text: bytes | None) -> int:
    """Read a number of the hash that can be a seq; 0 for anything else, since others can write to the hash."""
    number = int(text) if text is not None and text.isdigit() and len(text) < 17 else 0
    return number if number <= MAX_SEQ else 0
