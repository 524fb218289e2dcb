"""What is said of an outage: once, whatever is tried and however often; on a clock of the test's own."""

import logging
from collections.abc import Callable

import pytest
from redis import exceptions

from gateway.feed.trouble_log import STEADY_SECONDS, TroubleLog
from gateway.operations.logs import LOG_PAUSE_SECONDS, MOST_KINDS

CLOSED = ConnectionResetError("it closed the connection")
AWAY = exceptions.ConnectionError("Error 111 connecting to host:1. Connection refused.")
PASSWORD = exceptions.AuthenticationError("invalid username-password pair or user is disabled.")
NO_RIGHT = exceptions.NoPermissionError("this user has no permissions to run the 'hgetall' command")
Said = Callable[[], list[str]]


@pytest.fixture
def trouble_log() -> TroubleLog:
    return TroubleLog("redis://user:secret@host:1/0")


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Said:
    """The lines since the last look."""
    caplog.set_level(logging.INFO, "gateway.feed")

    def lines() -> list[str]:
        found = [record.getMessage() for record in caplog.records]
        caplog.clear()
        return found

    return lines


def test_an_outage_is_one_line_however_often_it_is_tried_and_its_end_another(
    trouble_log: TroubleLog, said: Said
) -> None:
    trouble_log.live(0)
    assert said() == ["Redis at redis://user:***@host:1/0: live"]
    for number in range(1_000):
        trouble_log.failed(AWAY, 100 + number)
    (line,) = said()
    assert "refused" in line
    assert "Start Redis" in line
    assert "secret" not in line
    trouble_log.live(1_200)
    assert said() == ["Redis at redis://user:***@host:1/0: live"]


def test_another_reason_of_the_same_outage_is_another_line(trouble_log: TroubleLog, said: Said) -> None:
    """The operator brought Redis back, with another password: that is news."""
    trouble_log.live(0)
    for number in range(100):
        trouble_log.failed([CLOSED, AWAY, PASSWORD][number % 3], 100 + number)
    assert [next(word for word in ("closed", "refused", "password") if word in line) for line in said()[1:]] == [
        "closed",
        "refused",
        "password",
    ]


def test_a_link_that_comes_and_goes_is_one_outage_said_once_a_minute(trouble_log: TroubleLog, said: Said) -> None:
    trouble_log.live(0)
    said()
    now = 100.0
    while now < 100 + 3 * LOG_PAUSE_SECONDS - 1:
        trouble_log.failed(CLOSED, now)
        trouble_log.live(now + 0.1)
        now += 1
    assert len(said()) == 2 * 3
    assert trouble_log.failures == 3 * LOG_PAUSE_SECONDS - 1, "each try waits longer"


def test_a_link_that_was_steady_has_an_outage_of_its_own(trouble_log: TroubleLog, said: Said) -> None:
    trouble_log.live(0)
    trouble_log.failed(CLOSED, 100)
    trouble_log.live(101)
    said()
    trouble_log.failed(CLOSED, 101 + STEADY_SECONDS)
    assert len(said()) == 1
    assert trouble_log.failures == 1


def test_what_redis_refuses_is_said_once_a_minute_however_many_projects_it_is(
    trouble_log: TroubleLog, said: Said
) -> None:
    trouble_log.live(0)
    said()
    for number in range(1_000):
        trouble_log.refused("load", f"project:{number}", NO_RIGHT, 100)
    trouble_log.refused("subscribe", "project:x", NO_RIGHT, 100)
    load, subscribe = said()
    assert "refuses to load project:0:" in load
    assert "ACL SETUSER" in load
    assert "refuses to subscribe project:x" in subscribe
    trouble_log.refused("load", "project:0", NO_RIGHT, 100 + LOG_PAUSE_SECONDS)
    assert "999 more since the last such line" in said()[0]


def test_each_project_that_is_left_out_is_named_once_a_minute(trouble_log: TroubleLog, said: Said) -> None:
    """Up to a bound: whoever fills states must not fill the log."""
    trouble_log.live(0)
    said()
    for number in range(1_000):
        trouble_log.left_out(f"project:{number}", ValueError("too large"), 100)
    trouble_log.left_out("project:0", ValueError("too large"), 159)
    lines = said()
    assert len(lines) == MOST_KINDS + 1
    for number in range(MOST_KINDS):
        assert f"project:{number} is not served: too large" in lines[number]
    trouble_log.left_out("project:0", ValueError("too large"), 160)
    assert "(1 more since the last such line)" in said()[0]


def test_the_trouble_is_why_the_feed_is_lost_or_what_was_refused_a_moment_ago(trouble_log: TroubleLog) -> None:
    assert trouble_log.trouble(is_lost=True, now=0) is None
    trouble_log.failed(PASSWORD, 1)
    trouble = trouble_log.trouble(is_lost=True, now=2)
    assert trouble is not None
    assert trouble.error == "invalid username-password pair or user is disabled."
    assert "REDIS_URL" in trouble.hint
    trouble_log.live(3)
    assert trouble_log.trouble(is_lost=False, now=3) is None
    trouble_log.refused("load", "project:0", NO_RIGHT, 100)
    trouble = trouble_log.trouble(is_lost=False, now=101)
    assert trouble is not None
    assert "hgetall" in trouble.error
    assert trouble_log.trouble(is_lost=False, now=100 + LOG_PAUSE_SECONDS) is None
