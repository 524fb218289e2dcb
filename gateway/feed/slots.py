"""Who owns which slots of a Cluster, put together from what several nodes say. No I/O."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from publisher.transport.slot_map import Span, decoded, read_slots


class View(NamedTuple):
    """What one node knows."""

    spans: tuple[Span, ...]
    epochs: Mapping[str, int]
    """By the id of a node: how new its claim to its slots is."""
    node: str
    """Its own id."""
    migrating: frozenset[int]
    """Slots of this node that are on their way to another: the keys go first, one by one."""

    @classmethod
    def of(cls, host: str, slots: Any, nodes: Any) -> "View":
        """Read the answers to CLUSTER SLOTS and CLUSTER NODES, from a node that was reached at `host`.

        Raises `ValueError` for what are no such answers.
        """
        epochs: dict[str, int] = {}
        node = ""
        for line in decoded(nodes).splitlines():
            words = line.removeprefix("txt:").split()
            if len(words) < 8 or not words[6].isdecimal():
                continue
            epochs[words[0]] = int(words[6])
            if "myself" in words[2].split(","):
                node = words[0]
        return cls(read_slots(slots, host), epochs, node, read_migrating(nodes))


def read_migrating(nodes: Any) -> frozenset[int]:
    """The slots that a node is giving away, from its answer to CLUSTER NODES: the rest of that may be very long."""
    own = re.search(r"^\S+ \S+ \S*myself.*", decoded(nodes), re.MULTILINE)
    return frozenset(int(slot) for slot in re.findall(r"\[(\d{1,5})->-", own[0])) if own else frozenset()


def owners(views: Iterable[View]) -> dict[int, str]:
    """The address of the primary of each slot; where nodes disagree, the newest claim counts, as among themselves.

    A primary that was cut off from the others goes on saying that its slots are its own. But what others say of a node
    that says otherwise itself is hearsay: a slot that moves twice in a moment may be said to be where it is no more.
    """
    views = list(views)
    own = {view.node: _slots_of(view, view.node) for view in views}
    claims = {(view.epochs.get(span.node, 0), span) for view in views for span in view.spans}
    found: dict[int, str] = {}
    for _, span in sorted(claims):
        slots = frozenset(range(span.first, span.last + 1))
        found.update(dict.fromkeys(slots & own.get(span.node, slots), f"{span.host}:{span.port}"))
    return found


def _slots_of(view: View, node: str) -> frozenset[int]:
    return frozenset(slot for span in view.spans if span.node == node for slot in range(span.first, span.last + 1))


def host_and_port(address: str) -> tuple[str, int]:
    """Take `host:port` apart; the host may be an IPv6 address."""
    host, _, port = address.rpartition(":")
    return host, int(port)
