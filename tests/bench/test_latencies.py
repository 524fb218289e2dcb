"""How the clients' latencies are read and summed up."""

import math

from bench.latencies import Latencies


def test_the_answer_of_the_clients_is_read() -> None:
    latencies = Latencies.read(["5000000", "1000000:98", "2000000:1", "4992000:1"])
    assert latencies.events == 100
    assert latencies.ms(50) == 1.0
    assert latencies.ms(98) == 1.0
    assert latencies.ms(99) == 2.0
    assert latencies.ms(99.9) == 4.992
    assert latencies.ms(100) == 5.0, "the largest is exact"


def test_no_percentile_exceeds_the_largest() -> None:
    """The middle of the last bucket may lie above all of its values."""
    assert Latencies.read(["1000001", "1007616:3"]).ms(50) == 1.000001


def test_without_events_there_is_no_latency() -> None:
    assert math.isnan(Latencies.read(["0"]).ms(99))


def test_rounds_are_joined() -> None:
    joined = Latencies.joined([Latencies({1_000: 1}, 1_000), Latencies({1_000: 2, 9_000: 1}, 9_001)])
    assert (joined.events, joined.ms(75), joined.ms(100)) == (4, 0.001, 0.009001)


def test_a_curve_leaves_out_what_too_few_events_exceed() -> None:
    curve = Latencies({1_000_000: 990, 2_000_000: 10}, 2_000_000).curve()
    assert curve["99"] == 1.0
    assert "99.9" not in curve
    assert curve["100"] == 2.0
