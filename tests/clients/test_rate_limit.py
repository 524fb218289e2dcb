"""A token bucket, at times that the test names."""

from gateway.clients.rate_limit import TokenBucket


def test_an_allowance_gives_its_burst_at_once_and_then_its_rate() -> None:
    bucket = TokenBucket(3, now=100.0)

    def take(now: float) -> bool:
        return bucket.take(rate=2, burst=3, now=now)

    assert [take(100.0) for _ in range(4)] == [True, True, True, False]
    assert [take(100.4), take(100.5), take(100.6)] == [False, True, False]
    assert [take(1_000.0) for _ in range(4)] == [True, True, True, False]


def test_several_are_taken_together_or_none_of_them() -> None:
    bucket = TokenBucket(10, now=0.0)

    def take(count: int, now: float) -> bool:
        return bucket.take(rate=2, burst=10, now=now, count=count)

    assert [take(11, 0.0), take(7, 0.0), take(4, 0.0), take(3, 0.0)] == [False, True, False, True]
    assert [take(4, 1.9), take(4, 2.0)] == [False, True]


def test_it_says_how_long_to_wait_and_then_there_are_as_many() -> None:
    bucket = TokenBucket(10, now=0.0)
    assert bucket.seconds_until(10, rate=2) == 0
    assert bucket.take(rate=2, burst=10, now=0.0, count=10)
    seconds = bucket.seconds_until(5, rate=2)
    assert seconds == 2.5
    assert not bucket.take(rate=2, burst=10, now=seconds - 0.01, count=5)
    assert bucket.take(rate=2, burst=10, now=seconds, count=5)
