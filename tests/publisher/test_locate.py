"""Asking Sentinels where the primary is, while some of them do not answer; real ones are in tests/contract."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis.exceptions import AuthenticationError, ConnectionError

from publisher.transport import async_driver
from publisher.transport import sentinels as module
from publisher.transport.circuit import circuit_of
from publisher.transport.sentinels import Address, locate
from publisher.transport.sync_driver import run
from publisher.transport.url import SENTINEL_SECONDS, RedisUrl
from tests.contract.deadlines import PATIENCE, wait_for
from tests.contract.processes import free_port
from tests.odd_redis import OK, OddRedis, odd_sentinel

OLD, NEW = ("127.0.0.1", 1), ("127.0.0.1", 2)
DRIVERS: list[Callable[..., Any]] = [run, async_driver.run]


class OneSentinel:
    """Names a primary; may be frozen, or close connections without an answer."""

    def __init__(self) -> None:
        self.place, self.epoch = OLD, 1
        self.is_closing = False
        self.asked = 0
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.server: OddRedis = odd_sentinel(self._answer)
        self.at = f"127.0.0.1:{self.server.port}"

    def _answer(self) -> tuple[str, int, int, str] | None:
        self.asked += 1
        self.goes_on.wait(2 * PATIENCE)
        return None if self.is_closing else (*self.place, self.epoch, "5000")

    def fail_over(self) -> None:
        self.place, self.epoch = NEW, 2


@pytest.fixture
def pair() -> Iterator[tuple[OneSentinel, OneSentinel]]:
    pair = OneSentinel(), OneSentinel()
    yield pair
    for one in pair:
        one.goes_on.set()
        one.server.end()


def url_of(*sentinels: OneSentinel) -> RedisUrl:
    return RedisUrl.parse(f"redis+sentinel://{','.join(one.at for one in sentinels)}/m")


def call(driver: Callable[..., Any], url: RedisUrl) -> Address:
    address: Address = run(locate(url)) if driver is run else asyncio.run(driver(locate(url)))
    return address


def seconds_of(driver: Callable[..., Any], url: RedisUrl) -> float:
    began = time.monotonic()
    call(driver, url)
    return time.monotonic() - began


def quickest_of(calls: int, driver: Callable[..., Any], url: RedisUrl) -> float:
    """What each has to wait for, they all do; the machine does not hold up every one of them."""
    return min(seconds_of(driver, url) for _ in range(calls))


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_sentinel_that_hung_up_once_is_asked_with_the_next_question(
    driver: Callable[..., Any], pair: tuple[OneSentinel, OneSentinel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may lead a failover in the next moment, and replicas follow it: the others hear of that seconds later."""
    monkeypatch.setattr(module, "SILENT_SECONDS", PATIENCE)  # it hangs up at once, if the machine lets it
    leader, other = pair
    leader.is_closing = True
    assert call(driver, url_of(leader, other)) == OLD
    leader.is_closing = False
    leader.fail_over()
    assert call(driver, url_of(leader, other)) == NEW


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_sentinel_that_refuses_costs_nothing_and_is_left_out_by_nobody(
    driver: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SILENT_SECONDS", PATIENCE)  # it refuses at once, if the machine lets it
    other = OneSentinel()
    url = RedisUrl.parse(f"redis+sentinel://127.0.0.1:{free_port()},{other.at}/m")
    assert quickest_of(3, driver, url) < SENTINEL_SECONDS
    assert not circuit_of(url.at_sentinel(*url.hosts[0])).is_open
    other.server.end()


@pytest.mark.parametrize("is_left_out", [True, False])
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_frozen_sentinel_costs_one_question_its_time_and_is_heard_soon_after_it_goes_on(
    driver: Callable[..., Any],
    pair: tuple[OneSentinel, OneSentinel],
    is_left_out: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The control leaves none out."""
    if not is_left_out:
        monkeypatch.setattr(module, "SILENT_SECONDS", 10.0)
    frozen, other = pair
    url = url_of(frozen, other)
    call(driver, url)
    frozen.goes_on.clear()
    assert seconds_of(driver, url) > SENTINEL_SECONDS * 0.9
    assert (quickest_of(3, driver, url) < SENTINEL_SECONDS / 2) == is_left_out
    frozen.fail_over()
    frozen.goes_on.set()
    wait_for(lambda: call(driver, url) == NEW, "its answer")


def test_a_sentinel_that_takes_its_time_to_say_no_is_not_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong password is to be read in the log, and is not tried again."""
    monkeypatch.setattr(module, "SILENT_SECONDS", 0.0)
    server = OddRedis(lambda words: OK if words[0] != "SENTINEL" else b"-NOAUTH Authentication required.\r\n")
    url = RedisUrl.parse(f"redis+sentinel://127.0.0.1:{server.port}/m")
    for _ in range(2):
        with pytest.raises(AuthenticationError):
            run(locate(url))
    server.end()


def test_where_all_are_silent_the_first_question_takes_its_time_and_no_other(
    pair: tuple[OneSentinel, OneSentinel], caplog: pytest.LogCaptureFixture
) -> None:
    url = url_of(*pair)
    for one in pair:
        one.goes_on.clear()
    took = []
    for _ in range(4):
        began = time.monotonic()
        with pytest.raises(ConnectionError, match="no Sentinel tells where 'm' is"):
            run(locate(url))
        took.append(time.monotonic() - began)
    assert took[0] > SENTINEL_SECONDS
    assert min(took[1:]) < SENTINEL_SECONDS / 2
    for one in pair:
        one.goes_on.set()
    wait_for(lambda: not any(circuit_of(url.at_sentinel(*place)).is_open for place in url.hosts), "their answers")
    assert run(locate(url)) == OLD
    assert caplog.messages == [], "no Redis was away"
