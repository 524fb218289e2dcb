"""Which states the link did not survive, and when one of them is refused."""

from gateway.feed.failed_loads import MOST_REMEMBERED, FailedLoads


def test_a_state_is_guilty_after_two_failures_in_a_row() -> None:
    loads = FailedLoads()
    assert not loads.is_suspect("a")
    loads.lost(["a", "b"])
    assert loads.is_suspect("a")
    assert not loads.is_guilty("a")
    loads.loaded("b")
    loads.lost(["a", "b"])
    assert loads.is_guilty("a")
    assert not loads.is_guilty("b")


def test_a_guilty_state_that_is_wanted_again_has_one_try() -> None:
    loads = FailedLoads()
    for _ in range(3):
        loads.lost(["a"])
    loads.try_again("a")
    loads.try_again("unknown")
    assert not loads.is_guilty("a")
    assert loads.is_suspect("a")
    assert not loads.is_suspect("unknown")
    loads.lost(["a"])
    assert loads.is_guilty("a")


def test_they_are_bounded_and_the_oldest_are_forgotten() -> None:
    loads = FailedLoads()
    loads.lost(f"{number}" for number in range(2 * MOST_REMEMBERED))
    assert len(loads._failures) == MOST_REMEMBERED
    assert loads.is_suspect(f"{2 * MOST_REMEMBERED - 1}")
