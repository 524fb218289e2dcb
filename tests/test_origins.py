"""Which pages may connect."""

import pytest

from gateway.origins import check_origin, is_allowed

HOST = "gateway.example:3001"


def test_a_client_that_sends_no_origin_is_no_browser_and_passes() -> None:
    assert is_allowed(None, HOST, ())
    assert is_allowed(None, None, ())


@pytest.mark.parametrize(
    "origin",
    [
        "https://gateway.example",
        "http://gateway.example:3001",
        "http://gateway.example:8080",
        "https://GATEWAY.example",
    ],
)
def test_the_gateways_own_host_passes_on_any_port(origin: str) -> None:
    assert is_allowed(origin, HOST, ())


@pytest.mark.parametrize("host", ["gateway.example", "GATEWAY.EXAMPLE:80", HOST])
def test_the_host_may_come_with_or_without_a_port(host: str) -> None:
    assert is_allowed("https://gateway.example", host, ())


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost",
        "http://localhost:5173",
        "http://app.localhost:5173",
        "http://127.0.0.1:3000",
        "http://127.8.9.1",
        "http://[::1]:3000",
        "https://LOCALHOST",
    ],
)
def test_loopback_passes(origin: str) -> None:
    assert is_allowed(origin, HOST, ())


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "https://gateway.example.evil.example",
        "https://evil-gateway.example",
        "https://sub.gateway.example",
        "https://gateway.example@evil.example",
        "https://localhost.evil.example",
        "https://evillocalhost",
        "http://127.0.0.1.evil.example",
        "http://128.0.0.1",
        "http://10.0.0.1",
        "http://0.0.0.0",
        "http://[::2]",
        "http://[",
        "http://[::1",
        "null",
        "",
        "gateway.example",
        "file://",
        "https://",
        "//",
        "\x00",
    ],
)
def test_everybody_else_is_refused(origin: str) -> None:
    assert not is_allowed(origin, HOST, ())


@pytest.mark.parametrize("host", [None, "", ":3001", "[", "[::1"])
def test_without_a_host_that_can_be_read_only_loopback_passes(host: str | None) -> None:
    assert not is_allowed("https://gateway.example", host, ())
    assert not is_allowed("null", host, ())
    assert is_allowed("http://localhost", host, ())


def test_a_named_origin_passes_with_its_scheme_and_port_and_no_other() -> None:
    allowed = ("https://app.example", "http://dev.example:5173")
    assert is_allowed("https://app.example", HOST, allowed)
    assert is_allowed("HTTPS://App.Example", HOST, allowed)
    assert is_allowed("http://dev.example:5173", HOST, allowed)
    assert not is_allowed("http://app.example", HOST, allowed)
    assert not is_allowed("https://app.example:8443", HOST, allowed)
    assert not is_allowed("http://dev.example", HOST, allowed)


def test_a_star_lets_everybody_in() -> None:
    assert is_allowed("https://evil.example", None, ("*",))
    assert is_allowed("null", None, ("*",))


def test_null_passes_only_where_it_is_named() -> None:
    assert is_allowed("null", HOST, ("null",))


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "https://app.example.com",
        "http://two.example:8080",
        "http://[::1]:3000",
        "http://10.0.0.1:443",
        "https://x:65535",
        "https://xn--bcher-kva.example",
        "chrome-extension://abcdefghijklmnop",
        "capacitor://localhost",
        "http://my_host",
    ],
)
def test_what_a_browser_sends_is_an_origin(origin: str) -> None:
    assert check_origin(origin) == origin
    assert is_allowed(origin, HOST, (origin,))


@pytest.mark.parametrize(
    "origin",
    [
        "app.example.com",
        "app.example.com:443",
        "https://x/path",
        "https://x?query",
        "https://user@x",
        "https://*.example.com",
        "*.example.com",
        "https://x:443",
        "http://x:80",
        "https://x:port",
        "https://x:0",
        "https://x:65536",
        "https://x:99999",
        "https://x y",
        "https://b\u00fccher.example",
        "https://",
        "://x",
        "foo",
        "null",
        "",
        "*/",
        "https://x\n",
    ],
)
def test_what_would_match_nothing_is_none_and_it_is_said_what_to_write(origin: str) -> None:
    with pytest.raises(ValueError, match=r"such as https://app\.example\.com"):
        check_origin(origin)
