"""What one client may say: a burst, then a rate; and how a burst is told from an abuse. Times are the test's."""

import pytest

from gateway.clients.allowance import ABUSE_SECONDS, Allowance, Limits, Verdict

LIMITS = Limits(max_bytes=100, rate=50, burst=200)


def verdicts(allowance: Allowance, now: float, count: int) -> list[Verdict]:
    return [allowance.take(now) for _ in range(count)]


def test_a_burst_may_come_at_once_and_then_so_many_a_second() -> None:
    allowance = Allowance(LIMITS, now=0.0)
    assert verdicts(allowance, 0.0, 201) == [Verdict.HEAR] * 200 + [Verdict.WAIT]
    assert verdicts(allowance, 1.0, 51) == [Verdict.HEAR] * 50 + [Verdict.WAIT]


def test_what_was_said_before_it_was_made_counts() -> None:
    allowance = Allowance(LIMITS, now=0.0, spent=LIMITS.uncounted)
    assert verdicts(allowance, 0.0, 151) == [Verdict.HEAR] * 150 + [Verdict.WAIT]


@pytest.mark.parametrize("limits", [LIMITS, Limits(100, rate=1, burst=10), Limits(100, rate=500, burst=10)])
def test_who_says_more_than_the_rate_for_seconds_is_closed(limits: Limits) -> None:
    allowance, now = Allowance(limits, now=0.0), 0.0
    heard = 0
    while (verdict := allowance.take(now)) is not Verdict.CLOSE:
        if verdict is Verdict.HEAR:
            heard += 1
        else:
            now += allowance.seconds_to_wait
    assert ABUSE_SECONDS <= now <= ABUSE_SECONDS + 1
    assert heard <= limits.burst + now * limits.rate


def test_who_is_quieter_after_a_burst_is_not_closed_for_the_next_one() -> None:
    allowance, now = Allowance(LIMITS, now=0.0), 0.0
    for _ in range(20):
        assert Verdict.CLOSE not in verdicts(allowance, now, 300)
        now += 2.0  # half of the burst is there again


def test_who_keeps_to_the_rate_never_waits() -> None:
    allowance = Allowance(LIMITS, now=0.0)
    assert {allowance.take(number / 50) for number in range(10_000)} == {Verdict.HEAR}


def test_the_wait_is_short_and_then_there_is_something_to_take() -> None:
    allowance = Allowance(LIMITS, now=0.0)
    verdicts(allowance, 0.0, 201)
    assert allowance.seconds_to_wait == 0.1
    assert verdicts(allowance, 0.1, 6) == [Verdict.HEAR] * 5 + [Verdict.WAIT]


def test_the_wait_is_never_longer_than_a_second() -> None:
    allowance = Allowance(Limits(max_bytes=100, rate=1, burst=10_000), now=0.0)
    verdicts(allowance, 0.0, 10_001)
    assert allowance.seconds_to_wait == 1.0


def test_it_has_recovered_once_half_of_the_burst_is_there() -> None:
    allowance = Allowance(LIMITS, now=0.0)
    assert allowance.has_recovered(0.0)
    verdicts(allowance, 0.0, 201)
    assert not allowance.has_recovered(1.9)
    assert allowance.has_recovered(2.0)
