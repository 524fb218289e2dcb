"""Every metric, label and value that rules and dashboard name is there in a scrape of a live replica."""

import re
from collections.abc import Iterator

import httpx
import pytest

from tests.contract.processes import RedisServer, Replica, free_port

from .metrics import expressions, grouped, named, scraped, selections

EXPRESSIONS = expressions()
each = pytest.mark.parametrize("expression", EXPRESSIONS.values(), ids=EXPRESSIONS.keys())


@pytest.fixture(scope="module")
def scrape(
    redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, dict[str, set[str]]]]:
    """Of a replica that has just begun: what is not there from the start cannot be seen to rise from 0."""
    log = tmp_path_factory.mktemp("scrape") / "replica.log"
    admin = free_port()
    replica = Replica(redis_server.url, log, admin_port=admin, publish_keys="k" * 32)
    try:
        replica.wait_ready()
        with httpx.Client(trust_env=False) as http:
            yield scraped(http.get(f"http://127.0.0.1:{admin}/metrics").text)
    finally:
        replica.end()


@each
def test_its_metrics_are_there(scrape: dict[str, dict[str, set[str]]], expression: str) -> None:
    assert named(expression) - scrape.keys() == set()


@each
def test_what_it_selects_and_groups_by_is_there(scrape: dict[str, dict[str, set[str]]], expression: str) -> None:
    for metric, label, operator, value in selections(expression):
        found = scrape[metric].get(label, set())
        if operator == "=":
            assert value in found, (metric, label, found)
        else:
            assert any(re.fullmatch(value, one) for one in found), (metric, label, found)
    labels = {label for metric in named(expression) for label in scrape[metric]}
    assert grouped(expression) - labels == set()


def test_a_wrong_name_would_be_found(scrape: dict[str, dict[str, set[str]]]) -> None:
    assert named("sum(rate(gateway_connectionz_total[5m])) / up") - scrape.keys() == {"gateway_connectionz_total"}
    assert list(selections('sum by (kode) (x_total{job="a", code="4508"})')) == [("x_total", "code", "=", "4508")]
    assert grouped("sum by (namespace, kode) (x_total)") == {"kode"}
