"""Places that servers name: what no URL can say leads nowhere, and not to another server. No connection."""

import pytest
from redis.connection import parse_url
from redis.exceptions import ConnectionError

from gateway.feed.kinds import check_redis_url
from publisher.transport.routes import routes_of
from publisher.transport.url import RedisUrl, is_address

URL = RedisUrl.parse("redis+cluster://user:secret@127.0.0.1:7001")
ODD = [
    ("?", 7005), ("", 7005), ("host", 0), ("host", 65_536), ("host", -1), ("host", 10**400), ("a b", 1), ("a@b", 1),
    ("a/b", 1), ("a#b", 1), ("a\\b", 1), ("a\n", 1), ("a\x00b", 1), ("a%3Fb", 1), ("a:b", 1), ("[::1]", 1), ("a..b", 1),
    ("h" * 64, 1), ("\u2100", 1),
]  # fmt: skip


@pytest.mark.parametrize(("host", "port"), ODD)
def test_what_is_no_place_is_refused_and_may_pass(host: str, port: int) -> None:
    assert not is_address(host, port)
    with pytest.raises(ConnectionError, match="not a valid server address") as raised:
        URL.at(host, port)
    assert "secret" not in str(raised.value)
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize(
    ("host", "port"),
    [("10.0.0.1", 1), ("::1", 65_535), ("fe80::1%eth0", 7), ("Redis_1.Example", 6_379), ("m\u00fcnchen.example", 1)],
)
def test_a_place_is_where_the_url_leads(host: str, port: int) -> None:
    options = parse_url(URL.at(host, port))  # type: ignore[no-untyped-call]
    assert (options["host"], options["port"], options["password"]) == (host.lower(), port, "secret")


def test_who_writes_such_a_host_is_told_at_once() -> None:
    for check in (check_redis_url, routes_of):
        with pytest.raises(ValueError, match="host 1 is not a valid host:port"):
            check("redis+cluster://a..b:7127")
