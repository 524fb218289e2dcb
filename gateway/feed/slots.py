"""Who owns which slots of a Cluster, from the answers of several nodes. No I/O."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from publisher.transport.slot_map import Span, decoded, read_slots


class View(NamedTuple):
    """What one node says."""

    spans: tuple[Span, ...]
    epochs: Mapping[str, int]
    """How new each node's claim to its slots is, by the id of the node."""
    node: str
    """Its own id."""
    migrating: frozenset[int]
    """The slots that this node is giving away. The keys go first, one by one."""

    @classmethod
    def of(cls, host: str, slots: Any, nodes: Any) -> "View":
        """Read the answers to CLUSTER SLOTS and CLUSTER NODES, from a node that was reached at `host`.

        Raises `ValueError` for any other answers.
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
    """Read the slots that a node is giving away from its answer to CLUSTER NODES, which may be very long."""
    own = re.search(r"^\S+ \S+ \S*myself.*", decoded(nodes), re.MULTILINE)
    return frozenset(int(slot) for slot in re.findall(r"\[(\d{1,5})->-", own[0])) if own else frozenset()


def owners(views: Iterable[View]) -> dict[int, str]:
    """Return the address of the primary of each slot. If nodes disagree, the newest claim counts, as in the Cluster.

    A primary that was cut off goes on claiming its slots, with an old claim. But a node's own view of its slots beats
    what others report about it: their report may be late when a slot moves twice within a moment.
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
    """Split `host:port`. The host may be an IPv6 address."""
    host, _, port = address.rpartition(":")
    return host, int(port)
