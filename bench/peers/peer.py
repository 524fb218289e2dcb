"""What the comparison has to know of a peer."""

from collections.abc import Callable
from dataclasses import dataclass, field

from bench.servers import Kind


@dataclass(frozen=True)
class Peer:
    """One other server, in one or more settings."""

    name: str
    prepare: Callable[[], str | None]  # its version; builds it first, where that needs no rights; None: not installed
    install: str  # the one command that installs it
    kinds: tuple[Kind, ...]  # one for each setting
    settings: dict[str, str] = field(default_factory=dict)  # of each kind, what differs from the defaults
