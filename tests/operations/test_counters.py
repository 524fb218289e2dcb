"""The counts of a replica."""

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client import Histogram as ClientHistogram

from gateway.operations.counters import DELIVERY_SECONDS, LAG_SECONDS, Counters, Histogram
from gateway.operations.metrics import buckets

VALUES = [0.0, 0.0005, 0.00050001, 0.003, 0.1, 0.7, 1.0, 9.9, 10.0, 10.1, 5_000.0]


@pytest.mark.parametrize("bounds", [DELIVERY_SECONDS, LAG_SECONDS])
def test_a_histogram_counts_as_the_client_library_does(bounds: tuple[float, ...]) -> None:
    library = CollectorRegistry()
    theirs, ours = ClientHistogram("h", "h", buckets=bounds, registry=library), Histogram(bounds)
    for value in VALUES:
        theirs.observe(value)
        ours.observe(value)
    (family,) = library.collect()
    expected = [(sample.labels["le"], sample.value) for sample in family.samples if sample.name == "h_bucket"]
    assert buckets(ours) == expected
    assert ours.sum == pytest.approx(sum(VALUES))


@pytest.mark.parametrize("bounds", [DELIVERY_SECONDS, LAG_SECONDS])
def test_bounds_rise(bounds: tuple[float, ...]) -> None:
    assert list(bounds) == sorted(set(bounds))


def test_a_batch_is_one_write_for_each_socket() -> None:
    counters = Counters()
    counters.on_delivered(5, 3, 4, None)
    counters.on_delivered(1, 2, 1, 0.0015)
    assert (counters.deliveries, counters.deliveries_joined, counters.sent_bytes) == (5, 9, 17)
    assert sum(counters.delivery.counts) == 1
    assert counters.delivery.sum == pytest.approx(0.0015)


@pytest.mark.parametrize(("age", "seconds"), [(-5.0, [0.0]), (3_599.9, [3_599.9]), (3_600.0, []), (1.7e9, [])])
def test_an_age_is_that_of_a_clock(age: float, seconds: list[float]) -> None:
    counters = Counters()
    counters.on_delivered(1, 1, 1, age)
    assert sum(counters.delivery.counts) == len(seconds)
    assert counters.delivery.sum == sum(seconds)


def test_no_code_makes_a_label() -> None:
    counters = Counters()
    labels = set(counters.closed)
    for code in range(6_000):
        counters.on_closed(code)
    assert set(counters.closed) == labels
    assert sum(counters.closed.values()) == 6_000
    assert all(counters.closed[label] == 1 for label in labels - {"other"})
