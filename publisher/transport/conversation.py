"""What the publisher and Redis say to each other, as generators that do no I/O.

A conversation yields a step; a driver does it and sends back what came of it, or throws the error. So each conversation
is written once, for ordinary and for `async` code: `sync_driver` and `async_driver` know nothing but the steps.
"""

import time
from collections.abc import Callable, Generator, Sequence
from math import inf
from typing import Any, NamedTuple, TypeVar

from publisher.transport.circuit import Circuit, NotAsked

LOOK_AGAIN_SECONDS = 0.01

Command = bytes | tuple[Any, ...]
"""A command in Redis' protocol, or its words."""


class Request(NamedTuple):
    """Commands for one server. The driver sends back the answers, errors in place, or throws an error."""

    url: str
    commands: Sequence[Command]
    until: float = inf
    """When to stop waiting, on the monotonic clock. For `async` code; the other has the timeouts of its sockets."""
    is_single: bool = False
    """The connection is not kept: the next request to this server comes late, or never."""


class Pause(NamedTuple):
    """Do nothing for a while."""

    seconds: float


class Together(NamedTuple):
    """Conversations that may run at once; the driver sends back what each returned."""

    conversations: Sequence["Conversation[Any]"]


class Probe(NamedTuple):
    """Open a circuit, and have a thread repeat a conversation until it raises no error that may pass."""

    circuit: Circuit
    conversation: Callable[[], "Conversation[Any]"]
    then: Callable[[], object] | None = None
    """Called when the circuit is closed again."""


Step = Request | Pause | Together | Probe
Returned = TypeVar("Returned")
Conversation = Generator[Step, Any, Returned]


def wait_for(circuit: Circuit) -> Conversation[None]:
    """Return if the server is worth a try, else raise `NotAsked`; nearly always at once."""
    if not circuit.is_open:
        return
    end = time.monotonic() + circuit.grace()
    while circuit.is_open:
        if time.monotonic() >= end:
            raise NotAsked
        yield Pause(LOOK_AGAIN_SECONDS)
