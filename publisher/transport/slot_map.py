"""Which node of a Cluster owns which slots, as its nodes tell it. No I/O."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from redis.crc import key_slot

from publisher.transport.url import is_address

SLOTS = 16_384
MOST_DIGITS = 20  # of an epoch, which has 64 bits
NOWHERE = "?"  # the host of a node without a name yet, in a Cluster that uses names


class Span(NamedTuple):
    """A range of slots, and the primary that owns them."""

    first: int
    last: int
    host: str
    port: int
    node: str
    """Its id."""


def slot_of(name: str) -> int:
    """The slot of a key or channel: the same for `project:<id>` and `{project:<id>}:jobs`."""
    slot: int = key_slot(name.encode())
    return slot


def read_slots(answer: Any, host: str) -> tuple[Span, ...]:
    """Read the answer to CLUSTER SLOTS of a node that was reached at `host`.

    Raises `ValueError` for what is no such answer: anything may answer there.
    """
    try:
        return tuple(_spans(answer, host))
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError):
        raise ValueError(f"{host} did not answer CLUSTER SLOTS with slots") from None


def _spans(answer: Sequence[Any], host: str) -> Iterator[Span]:
    for first, last, primary, *_ in answer:
        # An empty name means: the host by which the node was reached. A question mark, or no port, means: nobody can
        # reach the node yet (it may listen with TLS only).
        name, port = decoded(primary[0]) or host, int(primary[1])
        if not 0 <= int(first) <= int(last) < SLOTS:
            raise ValueError
        if name != NOWHERE and port:
            if not is_address(name, port):
                raise ValueError
            yield Span(int(first), int(last), name, port, decoded(primary[2]) if len(primary) > 2 else "")


def read_epoch(answer: Any) -> int:
    """The newest epoch that a node knows of, from its answer to CLUSTER INFO: it rises when slots change hands.

    A node that is cut off from the others goes on giving its old map; its epoch tells.
    """
    for line in decoded(answer).splitlines():
        name, _, value = line.partition(":")
        if name == "cluster_current_epoch" and value.strip().isdecimal() and len(value) <= MOST_DIGITS:
            return int(value)
    return 0


def decoded(word: Any) -> str:
    """A string of Redis' answer as text; empty for null."""
    return word.decode(errors="replace") if isinstance(word, bytes) else str(word or "")
