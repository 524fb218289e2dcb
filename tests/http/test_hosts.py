"""Which names a replica answers to."""

import pytest

from gateway.http.hosts import Host, Hosts, check_name, is_loopback, read_host

PUBLIC = "0.0.0.0"
LOOPBACK = ["127.0.0.1", "::1", "localhost"]


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("gateway.example", Host("gateway.example", None)),
        ("GATEWAY.example.:3001", Host("gateway.example", 3001)),
        ("gateway.example:", Host("gateway.example", None)),
        ("my_host:1", Host("my_host", 1)),
        ("127.0.0.1:3001", Host("127.0.0.1", 3001)),
        ("[::1]", Host("::1", None)),
        ("[2001:DB8:0:0::1]:443", Host("2001:db8::1", 443)),
        ("", Host("", None)),
    ],
)
def test_a_host_is_read_without_its_spelling(text: str, host: Host) -> None:
    assert read_host(text) == host


@pytest.mark.parametrize(
    "text", ["a b", "[", "[::1", "[gateway]", "::1", "a:b", "a:65536", "a@b", "a/b", "http://a", "a,b", "é", ".", "-a"]
)
def test_what_is_no_host_is_none(text: str) -> None:
    assert read_host(text) is None


@pytest.mark.parametrize("listens_on", LOOPBACK)
@pytest.mark.parametrize("name", ["localhost", "app.localhost", "127.0.0.1", "::1", "10.0.0.7", "2001:db8::1"])
def test_a_replica_on_loopback_answers_what_no_stranger_can_own(listens_on: str, name: str) -> None:
    assert Hosts(listens_on).answers(name)


@pytest.mark.parametrize("listens_on", LOOPBACK)
@pytest.mark.parametrize(
    "name",
    ["evil", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "127.0.0.1.nip.io", "", "0x7f.1"],
)
def test_a_replica_on_loopback_answers_no_name_that_a_stranger_can_own(listens_on: str, name: str) -> None:
    for is_probe in (False, True):
        assert not Hosts(listens_on).answers(name, is_probe=is_probe)
        assert not Hosts(listens_on, origins=["*"]).answers(name, is_probe=is_probe)


def test_the_hosts_of_its_origins_are_answered_on_loopback() -> None:
    hosts = Hosts("127.0.0.1", origins=["https://app.example", "http://[2001:db8::1]:80"])
    assert hosts.answers("app.example")
    assert hosts.answers("localhost")
    assert not hosts.answers("evil.example")


def test_on_another_address_all_names_are_answered() -> None:
    assert Hosts(PUBLIC).answers("anything.example")
    assert Hosts(PUBLIC).answers("")


@pytest.mark.parametrize("listens_on", [PUBLIC, *LOOPBACK])
def test_named_hosts_are_answered_and_no_others(listens_on: str) -> None:
    hosts = Hosts(listens_on, ["progress.example"], ["https://app.example"])
    assert hosts.answers("progress.example")
    for name in ("app.example", "evil.example", "localhost", "127.0.0.1", ""):
        assert not hosts.answers(name)


def test_probes_by_address_are_answered_whatever_is_named() -> None:
    """kubelet and Prometheus know a pod by its address. A name could be anybody's."""
    hosts = Hosts(PUBLIC, ["progress.example"])
    assert hosts.answers("10.0.0.7", is_probe=True)
    assert hosts.answers("localhost", is_probe=True)
    assert not hosts.answers("evil.example", is_probe=True)


@pytest.mark.parametrize("listens_on", [PUBLIC, *LOOPBACK])
def test_a_star_answers_all(listens_on: str) -> None:
    assert Hosts(listens_on, ["*"]).answers("anything.example")


@pytest.mark.parametrize("name", ["::ffff:127.0.0.1", "127.0.0.2", "a.localhost"])
def test_loopback_has_many_names(name: str) -> None:
    assert is_loopback(name)


@pytest.mark.parametrize("name", ["*", "progress.example", "127.0.0.1", "my_host"])
def test_a_name_of_the_setting_is_kept(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["https://a.example", "a.example:443", "*.example", "a,b", ""])
def test_a_name_that_no_host_can_match_is_refused_and_told_what_to_write(name: str) -> None:
    with pytest.raises(ValueError, match=r"such as progress\.example\.com"):
        check_name(name)
