"""What a Redis URL names, in all its forms, and what is said of one that is wrong."""

import inspect
from typing import Any
from urllib.parse import quote, unquote

import pytest
import redis
import redis.asyncio
from hypothesis import given
from hypothesis import strategies as st
from redis import connection
from redis.exceptions import ConnectionError as RedisConnectionError

from publisher.transport.url import RedisUrl, known_options

parse_url: Any = connection.parse_url


def hosts(url: str) -> list[str]:
    return [f"{host}|{port}" for host, port in RedisUrl.parse(url).hosts]


@pytest.mark.parametrize(
    ("url", "kind", "places"),
    [
        ("redis://h", "server", ["h|6379"]),
        ("redis://", "server", ["localhost|6379"]),
        ("redis:///3", "server", ["localhost|6379"]),
        ("rediss://u:p@h:1/2?ssl_ca_certs=/ca.pem", "server", ["h|1"]),
        ("redis://[::1]:7/0", "server", ["::1|7"]),
        ("unix:///run/redis.sock?db=1", "server", []),
        ("redis+sentinel://h/mymaster", "sentinel", ["h|26379"]),
        ("redis+sentinel://u:p@h1:1,h2,[fe80::1]:3/mymaster/2", "sentinel", ["h1|1", "h2|26379", "fe80::1|3"]),
        ("rediss+sentinel://h1,h2/mymaster?ssl_ca_certs=/ca.pem", "sentinel", ["h1|26379", "h2|26379"]),
        ("redis+cluster://u:p@h1:1,h2", "cluster", ["h1|1", "h2|6379"]),
        ("redis+cluster://h1,[::1]/0", "cluster", ["h1|6379", "::1|6379"]),
        ("rediss+cluster://h?ssl_cert_reqs=none", "cluster", ["h|6379"]),
    ],
)
def test_each_form_names_its_hosts(url: str, kind: str, places: list[str]) -> None:
    assert RedisUrl.parse(url).kind == kind
    assert RedisUrl.parse(url).url == url
    assert hosts(url) == places


def test_one_server_behind_it_has_the_same_user_database_and_tls() -> None:
    url = RedisUrl.parse("rediss+sentinel://u%2F:p%40@s1,s2/mymaster/3?ssl_ca_certs=/a%20b.pem&sentinel_password=s%26")
    options = parse_url(url.at("10.0.0.1", 6380))
    assert options.pop("connection_class") is redis.SSLConnection
    assert options == {
        "username": "u/", "password": "p@", "host": "10.0.0.1", "port": 6380, "db": 3, "ssl_ca_certs": "/a b.pem"
    }  # fmt: skip


def test_a_sentinel_has_a_user_of_its_own_and_the_same_tls_and_no_database() -> None:
    url = RedisUrl.parse("rediss+sentinel://u:p@s1/m/3?ssl_ca_certs=/a.pem&sentinel_username=x&sentinel_password=s%26/")
    options = parse_url(url.at_sentinel("::1", 26379))
    assert options.pop("connection_class") is redis.SSLConnection
    assert options.pop("socket_timeout") == options.pop("socket_connect_timeout") == 0.5
    assert options == {
        "username": "x", "password": "s&/", "host": "::1", "port": 26379, "db": 0, "ssl_ca_certs": "/a.pem"
    }  # fmt: skip


def test_without_a_user_for_the_sentinels_they_are_asked_without_one() -> None:
    options = parse_url(RedisUrl.parse("redis+sentinel://u:secret@s1/m").at_sentinel("s1", 1))
    assert "password" not in options
    assert options.get("connection_class") is None


def test_a_node_of_a_cluster_at_an_ipv6_address() -> None:
    assert RedisUrl.parse("redis+cluster://:p@h").at("fe80::1", 7) == "redis://:p@[fe80::1]:7/0"


def test_a_service_has_the_name_that_the_sentinels_know() -> None:
    assert RedisUrl.parse("redis+sentinel://h/my%20primary").service == "my primary"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "scheme"),
        ("nonsense", "scheme"),
        ("http://h", "redis://"),
        ("redis+sentinels://h", r"redis\+sentinel://"),
        ("redis://h1:1,h2:2", r"several hosts.*redis\+sentinel://.*redis\+cluster://"),
        ("redis://h:0", "port"),
        ("redis://h:x", "host:port"),
        ("redis://h:65536", "port"),
        ("redis://[::1", "IPv6"),
        ("redis+cluster://::1", "IPv6"),
        ("redis+cluster://", "host 1"),
        ("redis+cluster://h1,,h3", "host 2"),
        ("redis+cluster://h/1", "only database 0"),
        ("redis+cluster://h/name", "must be a number"),
        ("redis+sentinel://h", "service.*mymaster"),
        ("redis+sentinel://h/", "service.*mymaster"),
        ("redis+sentinel://h/m/one", "must be a number"),
        ("redis+sentinel://h/m/0/1", "must be a number"),
        ("redis://h/m", "must be a number"),
        ("redis://h/0#x", "%23"),
        ("redis+cluster://u:p@h1,u:p@h2", "more than one @"),
        ("rediss+cluster://h/1", r"write rediss\+cluster://"),
    ],
)
def test_what_is_wrong_is_said_with_what_to_write(url: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as raised:
        RedisUrl.parse(url)
    assert "write " in str(raised.value)


@pytest.mark.parametrize("scheme", ["redis", "rediss", "redis+sentinel", "redis+cluster"])
@pytest.mark.parametrize("mark", "/?#@")
def test_no_part_of_a_password_with_a_character_that_ends_it_is_repeated(scheme: str, mark: str) -> None:
    for password in (f"sec{mark}cret", f"{mark}cret", f"sec{mark}"):
        try:
            RedisUrl.parse(f"{scheme}://user:{password}@h1:1/m")
        except ValueError as error:
            message = str(error).replace("mymaster", "")
            assert "sec" not in message
            assert "cret" not in message


USERS = ["redis://{}@h/0", "redis+sentinel://{}@h1,h2/m", "redis+cluster://{}@h1,h2", "unix://{}@/run/s"]
REFUSED_BY_URLLIB = ["[hunter2]", "hunter2]", "[::1]hunter2", "hunter2\uff1a", "\u2100hunter2", "hunter2\udcff"]


@pytest.mark.parametrize("form", USERS)
@pytest.mark.parametrize("password", REFUSED_BY_URLLIB)
def test_a_password_that_urllib_refuses_and_repeats_is_refused_before(form: str, password: str) -> None:
    with pytest.raises(ValueError, match=r"\[ \] as %5B %5D.*%XX.*; write ") as raised:
        RedisUrl.parse(form.format(f"user:{password}"))
    assert "hun" not in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__, "a traceback would show it"


@pytest.mark.parametrize("form", USERS)
@pytest.mark.parametrize("password", REFUSED_BY_URLLIB)
def test_it_is_taken_as_xx(form: str, password: str) -> None:
    text = quote(password, safe="", errors="surrogateescape")
    url = RedisUrl.parse(form.format(f"user:{text}"))
    one = url.url if url.kind == "server" else url.at("h", 1)
    assert parse_url(one)["password"] == unquote(text)


def test_letters_that_are_not_ascii_may_stand_in_a_password() -> None:
    assert parse_url(RedisUrl.parse("redis://u:p\u00e4ssw\u00f6rd@h").url)["password"] == "p\u00e4ssw\u00f6rd"


@pytest.mark.parametrize("host", ["\u2100", "h\uff1a1", "[x", "x]", "a:b", "[::1]"])
def test_a_host_that_redis_names_makes_nobody_repeat_the_password(host: str) -> None:
    """urllib's error would have the whole of `user:password@host` in it."""
    with pytest.raises(RedisConnectionError, match="is not a valid server address") as refused:
        RedisUrl.parse("redis+cluster://u:hunter2@h").at(host, 7)
    assert "hunter2" not in str(refused.value)


def test_a_wrong_ssl_cert_reqs_is_a_value_error_as_all_else_is() -> None:
    """redis-py's is none, and was a traceback of `serve --check-config`."""
    with pytest.raises(ValueError, match="none, optional or required") as raised:
        RedisUrl.parse("rediss://h?ssl_cert_reqs=hunter2")
    assert "hunter2" not in str(raised.value)
    for value in ("none", "optional", "required"):
        RedisUrl.parse(f"rediss://h?ssl_cert_reqs={value}")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis://h/0?pasword=hunter2", "unknown option 'pasword'; the options are db, username, password, "),
        ("redis://h/0?PASSWORD=hunter2", "'PASSWORD'"),
        ("redis://h/0?password=a&auth=hunter2", "'auth'"),
        ("redis://h/0?sentinel_password=hunter2", "'sentinel_password'"),
        ("redis://h/0?ssl_password=hunter2", "'ssl_password' is for TLS: use a rediss scheme"),
        ("rediss://h/0?sslkeyfile=hunter2", "ssl_keyfile"),
        ("redis+sentinel://h/m?sentinelpassword=hunter2", "sentinel_username, sentinel_password; write"),
        ("redis+cluster://h?hunter2", "unknown option; the options are"),
        ("unix:///run/redis.sock?dbase=hunter2", "unknown option 'dbase';.*write unix:///path"),
        ("redis://h/0?protocol=2", "'protocol'"),
    ],
)
def test_an_unknown_option_is_named_with_the_known_ones_and_its_value_is_not(url: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as raised:
        RedisUrl.parse(url)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("scheme", "sync", "asynchronous"),
    [
        ("redis", connection.Connection, redis.asyncio.Connection),
        ("rediss", redis.SSLConnection, redis.asyncio.SSLConnection),
        ("unix", redis.UnixDomainSocketConnection, redis.asyncio.UnixDomainSocketConnection),
    ],
)
def test_each_known_option_is_one_of_the_connections_of_redis_py(scheme: str, sync: type, asynchronous: type) -> None:
    """The oldest redis-py lacks some of TLS."""
    newer = {"ssl_ca_path", "ssl_password", "ssl_min_version", "ssl_ciphers"} if redis.__version__ < "6" else set()
    for kind in (sync, asynchronous):
        bases = [base for base in kind.__mro__ if base is not object]
        taken = {name for base in bases for name in inspect.signature(base.__init__).parameters}  # type: ignore[misc]
        assert set(known_options("server", scheme)) - taken - {"max_connections"} <= newer


@given(
    st.text(max_size=40) | st.from_regex(r"rediss?(\+(sentinel|cluster))?://[\w:@,/\[\]?#=&%.-]{0,30}", fullmatch=True)
)
def test_any_text_is_a_url_or_a_value_error(url: str) -> None:
    try:
        parsed = RedisUrl.parse(url)
    except ValueError:
        return
    for host, port in parsed.hosts:
        assert RedisUrl.parse(parsed.at(host, port)).hosts == ((host, port),)
