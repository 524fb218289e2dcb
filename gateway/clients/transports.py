"""How many connections a port has open, and which of them give way when there are too many. No I/O."""

from typing import Protocol

from gateway.operations.counters import Counters

SPARE_TRANSPORTS = (
    256  # beside GATEWAY_MAX_CONNECTIONS: for handshakes, probes, pages, and connections that are closing
)


class Waiting(Protocol):
    """A connection that may wait for its client."""

    is_counted: bool
    """Set by `Transports` alone."""

    def drop(self) -> None:
        """Close it at once, without an answer."""


class Transports:
    """The open connections of one port, WebSockets too. Lives as long as the port; used by one event loop only.

    A connection that waits for its client (no request yet, half of one, or an answer that is not read) costs that
    client nothing. So it gives way to a new one when the port is full, the oldest first. A request whose answer is
    being made and a WebSocket keep their place.
    """

    def __init__(self, limit: int, counters: Counters) -> None:
        self.limit = limit
        self.open = 0
        """The number of connections, without those that were dropped."""
        self._counters = counters
        self._waiting: dict[Waiting, None] = {}
        """In the order in which they began to wait."""
        self.on_lost = self._on_lost  # bound once, not for each connection that keeps it

    def enter(self, connection: Waiting) -> bool:
        """Count a new connection, which waits for its first request. False: there is no place for it."""
        if self.open >= self.limit and not self._drop_oldest():
            connection.is_counted = False
            return False
        self.open += 1
        connection.is_counted = True
        self._waiting[connection] = None
        return True

    def _drop_oldest(self) -> bool:
        oldest = next(iter(self._waiting), None)
        if oldest is None:
            return False
        self._counters.requests_dropped += 1
        self.leave(oldest)  # now: its transport closes in a later turn, and many may come in this one
        oldest.drop()
        return True

    def waits(self, connection: Waiting) -> None:
        if connection.is_counted:
            self._waiting.pop(connection, None)
            self._waiting[connection] = None

    def is_served(self, connection: Waiting) -> None:
        self._waiting.pop(connection, None)

    def leave(self, connection: Waiting) -> None:
        """The connection is closed. May be called twice."""
        self._waiting.pop(connection, None)
        if connection.is_counted:
            connection.is_counted = False
            self.open -= 1

    def replace(self, connection: Waiting, other: Waiting) -> None:
        """The other goes on with the connection, and waits for the rest of its request."""
        if connection.is_counted:
            self.hand_over(connection)
            other.is_counted = True
            self._waiting[other] = None

    def hand_over(self, connection: Waiting) -> None:
        """The connection became a WebSocket, whose end is told by `on_lost`."""
        self._waiting.pop(connection, None)
        connection.is_counted = False

    def _on_lost(self) -> None:
        """A WebSocket, or a handshake, is closed."""
        self.open -= 1
