"""Slots, as nodes of a Cluster tell them."""

import pytest

from publisher.names import jobs_key, redis_channel_of
from publisher.transport.slot_map import Span, read_epoch, read_slots, slot_of


@pytest.mark.parametrize("namespace", ["", "staging"])
def test_the_state_of_a_project_is_in_the_slot_of_its_channel(namespace: str) -> None:
    channel = redis_channel_of("project_1", namespace)
    assert slot_of(channel) == slot_of(jobs_key(channel))


def test_a_slot_is_that_of_redis() -> None:
    assert slot_of("123456789") == 12739  # the example of the Cluster's specification


def test_the_answer_of_a_node_is_read() -> None:
    answer = [
        [0, 99, [b"10.0.0.1", 7000, b"id1", []], [b"10.0.0.2", 7001, b"id2", []]],
        [100, 16383, ["fe80::1", 7002, "id3", []]],
    ]
    assert read_slots(answer, "x") == (Span(0, 99, "10.0.0.1", 7000, "id1"), Span(100, 16383, "fe80::1", 7002, "id3"))


@pytest.mark.parametrize("name", [b"", None, ""])
def test_a_node_without_a_name_is_where_it_was_reached(name: object) -> None:
    assert read_slots([[5, 5, [name, 7000, b"id"]]], "h")[0][:4] == (5, 5, "h", 7000)


@pytest.mark.parametrize(("name", "port"), [(b"?", 7000), (b"h", 0)], ids=["no name yet", "no port without TLS"])
def test_a_node_that_nobody_can_reach_owns_nothing(name: bytes, port: int) -> None:
    reachable = [6, 7, [b"h", 7001, b"id2"]]
    assert read_slots([[0, 5, [name, port, b"id"]], reachable], "h") == (Span(6, 7, "h", 7001, "id2"),)


NODE = [b"h", 1, b"id"]


@pytest.mark.parametrize(
    "answer",
    [
        None, 7, b"OK", [1], [[0, 1]], [[0, 1, []]], [[-1, 3, NODE]], [[0, 16_384, NODE]], [[0, 1, [b"h", b"x", b"i"]]],
        {"a": 1}, [[0, 1, [b"h", 70_000, b"i"]]], [[0, 1, [b"h", -1, b"i"]]], [[0, 1, [b"a/b", 1, b"i"]]],
        [[0, 1, [b"a@b", 1, b"i"]]], [[0, float("inf"), NODE]], [[0, 1, [b"a..b", 1, b"i"]]],
    ],
)  # fmt: skip
def test_what_is_no_such_answer_is_a_value_error(answer: object) -> None:
    with pytest.raises(ValueError, match="CLUSTER SLOTS"):
        read_slots(answer, "h")


def test_the_epoch_is_read_and_what_has_none_is_the_oldest() -> None:
    assert read_epoch(b"cluster_state:ok\r\ncluster_current_epoch:12\r\ncluster_my_epoch:3\r\n") == 12
    assert read_epoch(b"nonsense") == read_epoch(None) == read_epoch(b"cluster_current_epoch:" + b"9" * 5_000) == 0
