"""The ports: bound first, listening last."""

import socket

import pytest

from gateway.operations.ports import CannotListen, address, bind, check_host, listen
from tests.contract.processes import free_port
from tests.raw_http import tcp


def test_it_listens_where_it_is_told() -> None:
    with bind("127.0.0.1", 0) as listener:
        listen(listener)
        assert address(listener) == f"127.0.0.1:{listener.getsockname()[1]}"
        assert not listener.getblocking()
        with tcp(listener.getsockname()[1]):
            pass


def test_it_listens_on_ipv6() -> None:
    with bind("::1", 0) as listener:
        assert listener.family == socket.AF_INET6
        assert address(listener) == f"[::1]:{listener.getsockname()[1]}"


def test_who_calls_before_it_listens_is_refused_and_does_not_wait() -> None:
    with bind("127.0.0.1", 0) as listener, pytest.raises(ConnectionRefusedError), tcp(listener.getsockname()[1]):
        pass


def test_a_port_in_use_is_told_at_once_and_leaves_no_socket() -> None:
    with bind("127.0.0.1", 0) as listener:
        listen(listener)
        with pytest.raises(CannotListen, match=r"in use.*--admin-port"):
            bind("127.0.0.1", listener.getsockname()[1], "admin-")


def test_of_two_that_bound_it_at_one_moment_the_second_is_told_when_it_listens() -> None:
    with bind("127.0.0.1", 0) as first, bind("127.0.0.1", first.getsockname()[1]) as second:
        listen(first)
        with pytest.raises(CannotListen, match=r"in use.*--port"):
            listen(second)


@pytest.mark.parametrize("host", ["203.0.113.1", "no-such-host.invalid", "256.1.1.1"])
def test_an_address_that_is_not_ours_is_told(host: str) -> None:
    with pytest.raises(CannotListen, match=host):
        bind(host, free_port())


def test_a_port_can_be_used_again_right_after_the_end() -> None:
    with bind("127.0.0.1", 0) as listener:
        listen(listener)
        port = listener.getsockname()[1]
        with tcp(port):
            listener.setblocking(True)
            accepted, _ = listener.accept()
            accepted.close()  # by us first, so that the address stays in TIME_WAIT
    with bind("127.0.0.1", port) as again:
        listen(again)


# Valid hosts


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "0.0.0.0",
        "::",
        "::1",
        "fe80::1%lo",
        "0",
        "127.1",
        "localhost",
        "my_host",
        "a.example.",
        "bücher.example",
    ],
)
def test_addresses_and_names_are_hosts(host: str) -> None:
    assert check_host(host) == host


def test_the_brackets_of_a_url_are_taken_off() -> None:
    assert check_host("[::1]") == "::1"


@pytest.mark.parametrize(
    "host",
    [
        "http://0.0.0.0",
        "a b",
        "10.0.0.256",
        "1.2.3.4.5",
        "[]",
        "[localhost]",
        "[::1",
        "::g",
        "-a",
        "a-",
        "a/b",
        "*",
        "a..b",
        "a\n",
        "\ud800",
    ],
)
def test_what_can_be_no_host_is_said_before_a_port_is_opened(host: str) -> None:
    with pytest.raises(ValueError, match=r"not a valid host name or address$"):
        check_host(host)


@pytest.mark.parametrize("host", ["0.0.0.0:3001", "localhost:3001", "[::1]:3001", "http://a:80"])
def test_where_a_port_stands_it_is_said_that_it_has_a_setting(host: str) -> None:
    with pytest.raises(ValueError, match="the port is a separate setting"):
        check_host(host)
