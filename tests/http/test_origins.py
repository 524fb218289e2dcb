"""Which pages may connect."""

import pytest

from gateway.http.origins import check_origin, is_allowed, scheme_of

HOST = "gateway.example:3001"


def test_a_client_that_sends_no_origin_is_no_browser_and_passes() -> None:
    assert is_allowed(None, HOST, ())
    assert is_allowed(None, None, ())


@pytest.mark.parametrize(
    ("origin", "host", "scheme"),
    [
        # Nothing tells the scheme: a default port may be that of a proxy that takes TLS off.
        ("https://gateway.example", "gateway.example", None),
        ("http://gateway.example", "gateway.example", None),
        ("https://GATEWAY.example", "Gateway.Example.", None),
        ("http://gateway.example", "gateway.example:80", None),
        ("https://gateway.example", "gateway.example:443", None),
        ("http://gateway.example:3001", "gateway.example:3001", None),
        ("http://[2001:db8::1]:3001", "[2001:DB8:0::1]:3001", None),
        # The transport or a proxy tells it.
        ("https://gateway.example", "gateway.example", "https"),
        ("https://gateway.example", "gateway.example:443", "https"),
        ("https://gateway.example:8443", "gateway.example:8443", "https"),
        ("http://gateway.example", "gateway.example", "http"),
    ],
)
def test_the_own_origin_passes(origin: str, host: str, scheme: str | None) -> None:
    for allowed in ((), ("https://app.example",)):
        assert is_allowed(origin, host, allowed, scheme=scheme)


@pytest.mark.parametrize(
    ("origin", "host", "scheme"),
    [
        ("http://gateway.example:8080", "gateway.example:3001", None),
        ("http://gateway.example", "gateway.example:3001", None),
        ("https://gateway.example:3001", "gateway.example:3001", None),
        ("https://gateway.example", "gateway.example:80", None),
        ("http://gateway.example:3001", "gateway.example", None),
        ("http://gateway.example", "gateway.example", "https"),
        ("https://gateway.example", "gateway.example", "http"),
        ("http://gateway.example:443", "gateway.example", "https"),
        ("http://gateway.example:8443", "gateway.example:8443", "https"),
        ("ws://gateway.example", "gateway.example", None),
    ],
)
def test_another_port_or_scheme_of_the_own_host_is_another_origin(origin: str, host: str, scheme: str | None) -> None:
    for allowed in ((), ("https://app.example",)):
        assert not is_allowed(origin, host, allowed, scheme=scheme)


LOOPBACK = [
    "http://localhost",
    "http://localhost:5173",
    "http://app.localhost:5173",
    "http://127.0.0.1:3000",
    "http://127.8.9.1",
    "http://[::1]:3000",
    "https://LOCALHOST",
]


@pytest.mark.parametrize("host", ["127.0.0.1:3001", "localhost", "[::1]:3001", "gateway.localhost"])
@pytest.mark.parametrize("origin", LOOPBACK)
def test_loopback_pages_pass_on_a_loopback_host_until_origins_are_set(origin: str, host: str) -> None:
    assert is_allowed(origin, host, ())
    assert not is_allowed("http://127.0.0.1:9", host, ("https://app.example",))


@pytest.mark.parametrize("origin", LOOPBACK)
def test_loopback_pages_do_not_pass_on_another_host(origin: str) -> None:
    assert not is_allowed(origin, HOST, ())


@pytest.mark.parametrize(
    ("transport", "forwarded", "scheme"),
    [
        ("ws", None, None),
        ("http", "", None),
        ("ws", "gopher", None),
        ("wss", None, "https"),
        ("ws", "https", "https"),
        ("ws", "WSS", "https"),
        ("wss", "http", "http"),
        ("ws", "https, http", "https"),
        ("ws", " ws ", "http"),
    ],
)
def test_the_scheme_is_that_of_the_first_hop(transport: str, forwarded: str | None, scheme: str | None) -> None:
    assert scheme_of(transport, forwarded) == scheme


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
@pytest.mark.parametrize("origin", ["https://gateway.example", "null", "http://localhost"])
def test_without_a_host_that_can_be_read_no_page_passes(origin: str, host: str | None) -> None:
    assert not is_allowed(origin, host, ())


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
