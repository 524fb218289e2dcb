"""The counts of a replica."""

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client import Histogram as ClientHistogram

from gateway.counters import DELIVERY_SECONDS, LAG_SECONDS, Figures, Histogram
from gateway.metrics import buckets

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
    figures = Figures()
    figures.on_delivered(5, 3, 4, None)
    figures.on_delivered(1, 2, 1, 0.0015)
    assert (figures.deliveries, figures.deliveries_joined, figures.sent_bytes) == (5, 9, 17)
    assert sum(figures.delivery.counts) == 1
    assert figures.delivery.sum == pytest.approx(0.0015)


@pytest.mark.parametrize(("age", "seconds"), [(-5.0, [0.0]), (3_599.9, [3_599.9]), (3_600.0, []), (1.7e9, [])])
def test_an_age_is_that_of_a_clock(age: float, seconds: list[float]) -> None:
    figures = Figures()
    figures.on_delivered(1, 1, 1, age)
    assert sum(figures.delivery.counts) == len(seconds)
    assert figures.delivery.sum == sum(seconds)


def test_no_code_makes_a_label() -> None:
    figures = Figures()
    labels = set(figures.closed)
    for code in range(6_000):
        figures.on_closed(code)
    assert set(figures.closed) == labels
    assert sum(figures.closed.values()) == 6_000
    assert all(figures.closed[label] == 1 for label in labels - {"other"})
