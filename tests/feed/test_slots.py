"""Who owns which slots, by what nodes say: the newest claim counts, and nothing that a node says ends a replica."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.feed.slots import View, host_and_port, owners
from publisher.transport.slot_map import SLOTS

A, B = "a" * 40, "b" * 40
NODES = (
    f"{A} 10.0.0.1:6379@16379,one.example myself,master - 0 0 7 connected 0-8190 [8191->-{B}] [9000-<-{B}]\n"
    f"{B} 10.0.0.2:6379@16379 master - 0 1426238317239 9 connected 8191-16383\n"
    "vars currentEpoch 9 lastVoteEpoch 0\n"
)


def slots_of(*spans: tuple[int, int, bytes, str]) -> list[object]:
    return [
        [first, last, [host, 6379, node.encode(), []], [b"replica", 6380, b"c"]] for first, last, host, node in spans
    ]


def test_what_a_node_says_is_read() -> None:
    view = View.of("reached", slots_of((0, 8190, b"", A), (8191, 16383, b"10.0.0.2", B)), NODES.encode())
    assert view.epochs == {A: 7, B: 9}
    assert view.migrating == {8191}
    found = owners([view])
    assert len(found) == SLOTS
    assert found[0] == "reached:6379", "a node that has no name of its own is as it was reached"
    assert found[8191] == "10.0.0.2:6379"


def test_answers_of_valkey_and_of_an_older_redis_are_read() -> None:
    with_prefix = View.of("h", [[0, 1, ["one", 1, A]]], "txt:" + NODES)
    assert with_prefix.epochs == {A: 7, B: 9}
    assert owners([with_prefix]) == {0: "one:1", 1: "one:1"}


def test_the_newest_claim_counts_whoever_says_it() -> None:
    old = View.of("h", slots_of((0, 10, b"old", A)), NODES.replace(" 9 connected", " 6 connected").encode())
    new = View.of("h", slots_of((0, 10, b"new", B)), NODES.encode())
    assert set(owners([old, new]).values()) == {"new:6379"}
    assert set(owners([new, old]).values()) == {"new:6379"}


def test_what_is_said_of_a_node_that_says_otherwise_itself_does_not_count() -> None:
    of_a = View.of("h", slots_of((0, 9, b"two", B)), NODES)
    of_b = View.of("h", slots_of((0, 4, b"two", B), (5, 9, b"one", A)), NODES)
    found = owners([of_a, of_b._replace(node=B)])
    assert found[0] == "two:6379"
    assert 5 not in found, "each says that the other has it"


def test_a_slot_that_nobody_owns_has_no_address() -> None:
    assert 5 not in owners([View.of("h", slots_of((0, 4, b"one", A), (6, 9, b"one", A)), NODES)])


@pytest.mark.parametrize("answer", [None, b"OK", [[1]], [[5, 1, [b"h", 1, b"n"]]], [[0, 99_999, [b"h", 1, b"n"]]], 7])
def test_what_is_no_answer_is_an_error_that_says_so(answer: object) -> None:
    with pytest.raises(ValueError, match="CLUSTER SLOTS"):
        View.of("h", answer, b"")


@given(st.text() | st.binary())
def test_any_list_of_nodes_can_be_read(nodes: str | bytes) -> None:
    View.of("h", [], nodes)


def test_an_address_is_taken_apart() -> None:
    assert host_and_port("::1:6379") == ("::1", 6379)
    assert host_and_port("one.example:6379") == ("one.example", 6379)
