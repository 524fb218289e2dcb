"""What Sentinels say of the primary, and whom to believe. No Sentinel; real ones are in tests/contract."""

import pytest
from redis.exceptions import AuthenticationError, ConnectionError, ResponseError

from publisher.transport.sentinels import Known, newest, read
from publisher.transport.url import RedisUrl

URL = RedisUrl.parse("redis+sentinel://s1,s2,s3/mymaster")


STATE = [
    b"name", b"mymaster", b"ip", b"10.0.0.1", b"port", b"1", b"role-reported-time", b"1500", b"config-epoch", b"7",
]  # fmt: skip


def test_a_sentinel_tells_where_the_primary_is_and_since_when() -> None:
    assert read([STATE, [b"10.0.0.1", b"1"]]) == Known(7, "10.0.0.1", 1, 1.5)


def test_the_address_is_the_one_that_is_new_amid_a_failover() -> None:
    assert read([STATE, [b"10.0.0.2", b"6379"]]) == Known(7, "10.0.0.2", 6379, 0.0)


@pytest.mark.parametrize(
    "answers",
    [
        [[], None], [[b"config-epoch"], [b"h", b"1"]], [None, None], [[b"x", b"y"], [b"h", b"1"]],
        [STATE, [b"h", b"70000"]], [STATE, [b"h", b"0"]], [STATE, [b"?", b"1"]], [STATE, [b"", b"1"]],
        [[*STATE[:7], b"9" * 400, *STATE[8:]], [b"10.0.0.1", b"1"]], [[*STATE[:9], b"9" * 400], [b"h", b"1"]],
        [[*STATE[:9], b"-1"], [b"h", b"1"]],
    ],
)  # fmt: skip
def test_what_no_sentinel_would_say_is_an_error(answers: list[object]) -> None:
    with pytest.raises((ValueError, TypeError, LookupError)):
        read(answers)


def test_the_newest_failover_counts_whoever_answers_first() -> None:
    answers: list[Known | Exception] = [Known(3, "old", 1, 9.0), ConnectionError("x"), Known(4, "new", 2, 0.5)]
    assert newest(URL, answers).address == ("new", 2)


def test_of_those_that_know_the_same_the_one_that_heard_of_it_first_counts() -> None:
    assert newest(URL, [Known(4, "new", 2, 0.0), Known(4, "new", 2, 2.5)]).seconds == 2.5


def test_where_none_knows_it_is_said_why_and_tried_again() -> None:
    errors = [ConnectionError("refused"), ConnectionError("refused"), ResponseError("No such master with that name")]
    with pytest.raises(ConnectionError, match="no Sentinel tells where 'mymaster' is: refused; No such master"):
        newest(URL, errors)


def test_a_password_that_sentinels_do_not_take_is_not_tried_again() -> None:
    with pytest.raises(AuthenticationError):
        newest(URL, [AuthenticationError("invalid username-password pair")] * 3)
