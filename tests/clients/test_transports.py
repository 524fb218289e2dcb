"""Which connections give way when a port is full."""

from gateway.clients.transports import Transports
from gateway.operations.counters import Counters


class Client:
    is_counted = False

    def __init__(self) -> None:
        self.was_dropped = False

    def drop(self) -> None:
        self.was_dropped = True


def full(limit: int) -> tuple[Transports, list[Client]]:
    transports, clients = Transports(limit, Counters()), [Client() for _ in range(limit)]
    assert all(map(transports.enter, clients))
    return transports, clients


def dropped(clients: list[Client]) -> list[int]:
    return [number for number, client in enumerate(clients) if client.was_dropped]


def test_the_one_that_waits_longest_gives_way() -> None:
    transports, clients = full(3)
    transports.waits(clients[0])  # was answered, and may ask again
    assert transports.enter(Client())
    assert transports.enter(Client())
    assert dropped(clients) == [1, 2]
    assert transports.open == 3


def test_one_that_is_served_or_became_a_websocket_keeps_its_place() -> None:
    transports, clients = full(3)
    transports.is_served(clients[0])
    transports.hand_over(clients[1])
    assert transports.enter(Client())
    assert dropped(clients) == [2]


def test_a_new_one_has_no_place_where_nobody_waits() -> None:
    transports, clients = full(2)
    transports.is_served(clients[0])
    transports.hand_over(clients[1])
    late = Client()
    assert not transports.enter(late)
    transports.leave(late)
    assert transports.open == 2
    transports.on_lost()  # the WebSocket
    assert transports.enter(late)


def test_one_that_was_dropped_does_not_leave_twice_nor_wait_again() -> None:
    transports, clients = full(1)
    assert transports.enter(Client())
    transports.leave(clients[0])
    transports.waits(clients[0])
    transports.leave(clients[0])
    assert transports.open == 1
