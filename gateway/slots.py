"""Who owns which slots of a Cluster, put together from what several nodes say. No I/O."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from publisher.slot_map import Span, read_slots, text_of


class View(NamedTuple):
    """What one node knows."""

    spans: tuple[Span, ...]
    epochs: Mapping[str, int]
    """By the id of a node: how new its claim to its slots is."""
    migrating: frozenset[int]
    """Slots of this node that are on their way to another: the keys go first, one by one."""

    @classmethod
    def of(cls, host: str, slots: Any, nodes: Any) -> "View":
        """Read the answers to CLUSTER SLOTS and CLUSTER NODES, from a node that was reached at `host`.

        Raises `ValueError` for what are no such answers.
        """
        epochs: dict[str, int] = {}
        migrating: set[int] = set()
        for line in text_of(nodes).splitlines():
            words = line.removeprefix("txt:").split()
            if len(words) < 8 or not words[6].isdecimal():
                continue
            epochs[words[0]] = int(words[6])
            if "myself" in words[2].split(","):
                migrating |= {int(slot) for slot in re.findall(r"\[(\d{1,5})->-", line)}
        return cls(read_slots(slots, host), epochs, frozenset(migrating))


def owners(views: Iterable[View]) -> dict[int, str]:
    """The address of the primary of each slot; where nodes disagree, the newest claim counts, as among themselves.

    A primary that was cut off from the others goes on saying that its slots are its own.
    """
    claims = {(view.epochs.get(span.node, 0), span) for view in views for span in view.spans}
    found: dict[int, str] = {}
    for _, span in sorted(claims):
        found.update(dict.fromkeys(range(span.first, span.last + 1), f"{span.host}:{span.port}"))
    return found


def host_and_port(address: str) -> tuple[str, int]:
    """Take `host:port` apart; the host may be an IPv6 address."""
    host, _, port = address.rpartition(":")
    return host, int(port)
