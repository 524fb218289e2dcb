"""From which address a client comes."""

import pytest

from gateway.http.addresses import Addresses, check_network, read_address

PROXIES = ["127.0.0.1", "::1", "10.0.0.0/8"]


def key(
    peer: str | None, *x_forwarded_for: str, forwarded: tuple[str, ...] = (), trusted: list[str] = PROXIES
) -> str | None:
    return Addresses(1, trusted).key_of(peer, x_forwarded_for, forwarded)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("203.0.113.7", "203.0.113.7"),
        (" 203.0.113.7:4711", "203.0.113.7"),
        ("2001:db8::7", "2001:db8::7"),
        ("[2001:DB8::7]:4711", "2001:db8::7"),
        ('"[2001:db8::7]"', "2001:db8::7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
    ],
)
def test_an_address_is_read_as_proxies_write_it(text: str, address: str) -> None:
    assert str(read_address(text)) == address


@pytest.mark.parametrize("text", ["", "unknown", "_hidden", "a.example", "1.2.3", "1.2.3.4.5", "testclient"])
def test_other_words_are_no_address(text: str) -> None:
    assert read_address(text) is None


def test_a_peer_that_is_no_trusted_proxy_counts_as_itself_whatever_it_says() -> None:
    assert key("203.0.113.7", "198.51.100.1") == "203.0.113.7"
    assert key("203.0.113.7", forwarded=("for=198.51.100.1",)) == "203.0.113.7"
    assert key("127.0.0.1", "198.51.100.1", trusted=[]) == "127.0.0.1"


@pytest.mark.parametrize(
    ("x_forwarded_for", "client"),
    [
        (["203.0.113.7"], "203.0.113.7"),
        (["198.51.100.1, 203.0.113.7"], "203.0.113.7"),  # the first one is what the client itself sent
        (["198.51.100.1, 203.0.113.7, 10.1.2.3"], "203.0.113.7"),
        (["198.51.100.1", "203.0.113.7:1", "10.1.2.3"], "203.0.113.7"),
        (["10.9.9.9, 10.1.2.3"], "10.9.9.9"),  # a client of one's own network
        (["203.0.113.7, unknown"], "127.0.0.1"),
        ([], "127.0.0.1"),
    ],
)
def test_behind_trusted_proxies_the_last_address_counts_that_is_none_of_them(
    x_forwarded_for: list[str], client: str
) -> None:
    assert key("127.0.0.1", *x_forwarded_for) == client


@pytest.mark.parametrize(
    "forwarded",
    [
        ("for=203.0.113.7",),
        ('for=198.51.100.1;proto=https, For="203.0.113.7:80";by=10.0.0.1',),
        ("for=198.51.100.1", "proto=https;for=203.0.113.7", "for=10.1.2.3"),
    ],
)
def test_forwarded_is_read_where_there_is_no_x_forwarded_for(forwarded: tuple[str, ...]) -> None:
    assert key("10.0.0.1", forwarded=forwarded) == "203.0.113.7"
    assert key("10.0.0.1", "203.0.113.9", forwarded=forwarded) == "203.0.113.9"
    assert key("10.0.0.1", forwarded=("proto=https",)) == "10.0.0.1"


def test_an_ipv6_network_of_a_customer_counts_as_one() -> None:
    one, other = key("2001:db8:0:1::7"), key("2001:db8:0:1:ffff::9")
    assert one == other == "2001:db8:0:1::/64"
    assert key("2001:db8:0:2::7") != one
    assert key("::ffff:203.0.113.7") == "203.0.113.7"


def test_without_a_limit_or_an_address_nobody_is_counted() -> None:
    assert Addresses(0, []).key_of("203.0.113.7", [], []) is None
    assert key(None) is None
    assert key("testclient") is None


def test_an_address_is_full_until_one_of_its_connections_has_gone() -> None:
    addresses = Addresses(2, [])
    for _ in range(2):
        assert not addresses.is_full("a")
        addresses.enter("a")
    assert addresses.is_full("a")
    assert not addresses.is_full("b")
    assert not addresses.is_full(None)
    addresses.leave("a")
    assert not addresses.is_full("a")
    addresses.leave("a")
    assert addresses._counts == {}


@pytest.mark.parametrize(
    ("text", "network"),
    [("10.0.0.7", "10.0.0.7"), ("10.1.2.3/8", "10.0.0.0/8"), ("2001:DB8::/32", "2001:db8::/32"), ("::1", "::1")],
)
def test_a_network_is_taken_in_its_usual_form(text: str, network: str) -> None:
    assert check_network(text) == network


@pytest.mark.parametrize("text", ["proxy.example", "10.0.0", "10.0.0.0/33", "*", ""])
def test_what_is_no_network_is_told(text: str) -> None:
    with pytest.raises(ValueError, match=r"10\.0\.0\.0/8"):
        check_network(text)
