"""What people read has no secret and no control character in it: URLs, log lines, errors shown to viewers."""

import pytest

from publisher.failure import describe
from publisher.redaction import escaped, redacted, redacted_redis_url, redacted_web_url, secrets_of

# Texts


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Redis at redis://user:hunter2@h:1/0 is away", "Redis at redis://user:***@h:1/0 is away"),
        ("rediss://:hunter2@h", "rediss://:***@h"),
        ("redis://:hun@ter/2@h/0", "redis://:***@h/0"),
        ("x?password=hunter2&y=1", "x?password=***&y=1"),
        ("Authorization: Bearer hunter2", "Authorization: Bearer ***"),
        ("authorization: bearer  hunter2.abc", "authorization: bearer  ***"),
        ("the key s3cretkey-123 and s3cretkey-123-2", "the key *** and ***"),
        ("http://h:80/a?b=c", "http://h:80/a?b=c"),
        ("12:00 nothing to hide", "12:00 nothing to hide"),
    ],
)
def test_secrets_are_hidden_whoever_logs_them(text: str, masked: str) -> None:
    assert redacted(text, secrets_of(None, ["s3cretkey-123", "s3cretkey-123-2", "", "abc"])) == masked


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("redis://:hunter2@host:6379/0 refused", "redis://:***@host:6379/0 refused"),
        ("postgresql://me:hunter2@host/db", "postgresql://me:***@host/db"),
        ("amqp://me:hun@ter2@host", "amqp://me:***@host"),
        ("cloning https://hunter2@host/a.git", "cloning https://***@host/a.git"),
        ("GET https://a/b?token=hunter2&page=3", "GET https://a/b?token=***&page=3"),
        ("https://a/b?X-Amz-Signature=hunter2&X-Amz-Date=3", "https://a/b?X-Amz-Signature=***&X-Amz-Date=3"),
        ("https://a/b?sig=hunter2&sv=1", "https://a/b?sig=***&sv=1"),
        ("host=a user=b password=hunter2 dbname=c", "host=a user=b password=*** dbname=c"),
        ("api_key: hunter2", "api_key: ***"),
        ("openai_api_key='hunter2'", "openai_api_key='***'"),
        ('{"password": "hunter2", "user": "me"}', '{"password": "***", "user": "me"}'),
        ("{'clientSecret': 'hunter2'}", "{'clientSecret': '***'}"),
        ("Authorization: Bearer hunter2hunter2", "Authorization: Bearer ***"),
        ("(access_token=hunter2)", "(access_token=***)"),
        ("redis://:hun@ter/2@h/0 refused", "redis://:***@h/0 refused"),
        ("connect(password=hun,ter2)", "connect(password=***"),
        ("bearer hunt", "bearer ***"),
        ("Basic dTpodW50ZXIy", "Basic ***"),
    ],
)
def test_what_looks_like_a_secret_is_hidden_from_viewers(text: str, masked: str) -> None:
    assert redacted(text) == masked
    masked = "" if masked.startswith('{"') else masked  # viewers read no JSON
    assert describe(ValueError(text)) == (f"ValueError: {masked}" if masked else "ValueError")
    assert describe(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "https://host:8080/a?page=3",
        "http://host/a:b@c",
        "Connection to redis://host:6379/0 refused",
        "the token is missing",
        "monkey=3",
        "Error 111 connecting to 127.0.0.1:6379",
        "wrote a@b.example to s3://bucket/key",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redacted(text) == text


# Known secrets


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://u:p%40ssw0rd-of-12@a:1,b:2/m/0",
        "redis+sentinel://a:1,b:2/m/0?sentinel_username=u&sentinel_password=p%40ssw0rd-of-12",
        "redis://h/0?db=1&password=p%40ssw0rd-of-12",
        "unix:///run/redis.sock?password=p%40ssw0rd-of-12&db=1",
        "rediss://h?ssl_password=p%40ssw0rd-of-12",
        "redis://p%40ssw0rd-of-12@h",
    ],
)
def test_each_password_of_a_url_is_a_secret(url: str) -> None:
    assert redacted("AUTH p@ssw0rd-of-12, p%40ssw0rd-of-12", secrets_of(url, [])) == "AUTH ***, ***"


@pytest.mark.parametrize(
    "password",
    ["[S3cr3t-Pa55word]", "S3cr3t]Pa55word", "S3cr3t\uff1aPa55word", "S3cr3t\u2100Pa55word", "S3cr3t/Pa55word",
     "S3cr3t#Pa55word", "S3cr3t?Pa55word", "S3cr3t@Pa55word", "S3cr3t:Pa55word"],
)  # fmt: skip
@pytest.mark.parametrize(
    "url", ["redis://u:{}@h:1/0", "redis+sentinel://u:{}@a:1,b:2/m/0", "unix://:{}@/run/s", "u:{}@h"]
)
def test_the_password_of_a_url_that_cannot_be_taken_apart_is_one_too(url: str, password: str) -> None:
    secrets = secrets_of(url.format(password), [])
    assert redacted(f"{password!r} does not appear to be an IPv4 or IPv6 address", secrets) == (
        "'***' does not appear to be an IPv4 or IPv6 address"
    )


def test_where_no_password_is_none_is_a_secret() -> None:
    for url in (None, "", "redis://[", "redis://h:1/0?db=1"):
        assert secrets_of(url, ["0123456789abcdef"]) == ["0123456789abcdef"]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("ws://h:1/ws", "ws://h:1/ws"),
        ("ws://[::1]:1/ws", "ws://[::1]:1/ws"),
        ("ws://h/ws?token=hunter2", "ws://h/ws?***"),
        ("wss://user:hunter2@h/ws?a=hunter2", "wss://***@h/ws?***"),
        ("wss://hunter2@h/ws", "wss://***@h/ws"),
        ("ws://user:hunt/er2@h/ws", "ws://***@h/ws"),
        ("ws://user:hunt?er2@h/ws", "ws://***"),
        ("ws://user:hunt#er2@h/ws", "ws://***"),
        ("ws://h/ws#hunter2", "ws://***"),
        ("ws://h/ws?token=a@hunter2", "ws://***"),
        ("nonsense", "nonsense"),
        ("h/ws?hunter2", "h/ws?***"),
        ("ws://h/\x1b[2J", "ws://h/\\x1b[2J"),
    ],
)
def test_a_url_that_was_given_is_told_without_user_and_query(url: str, shown: str) -> None:
    assert redacted_web_url(url) == shown


# Redis URLs


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("redis://:secret@host:6379/0", "redis://:***@host:6379/0"),
        ("rediss://user:secret@host", "rediss://user:***@host"),
        ("redis+sentinel://:secret@a:1,b:2/0", "redis+sentinel://:***@a:1,b:2/0"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
        (
            "redis+sentinel://u:secret@a:1,b/m?sentinel_username=u&sentinel_password=secret&ssl_ca_certs=/c.pem",
            "redis+sentinel://u:***@a:1,b/m?sentinel_username=u&sentinel_password=***&ssl_ca_certs=/c.pem",
        ),
        ("rediss+cluster://:secret@[::1]:1,b:2", "rediss+cluster://:***@[::1]:1,b:2"),
        ("redis://secret@host", "redis://***@host"),
        ("https://token@host/path", "https://***@host/***"),
        ("redis://secret:@host", "redis://***@host"),
        ("user:secret@host:6379", "user:***@host:6379"),
        ("host:6379/3", "host:6379/3"),
        ("not a url", "not a url"),
        (
            "redis://h:1/0?socket_timeout=2&DB=1&ssl_cert_reqs=none",
            "redis://h:1/0?socket_timeout=2&DB=1&ssl_cert_reqs=none",
        ),
        ("redis://h/0?pasword=secret&db=1", "redis://h/0?pasword=***&db=1"),
        ("rediss://h?ssl_password=secret", "rediss://h?ssl_password=***"),
        ("redis://h/secret", "redis://h/***"),
        ("redis://user:secret", "redis://user:***"),
        ("user:secret", "user:***"),
        ("redis+cluster://[::1]:1,[::2]:secret", "redis+cluster://[::1]:1,[::2]:***"),
        ("redis+sentinel://h/my%20primary/3", "redis+sentinel://h/my%20primary/3"),
        ("unix:///run/a:b.sock?db=1", "unix:///run/a:b.sock?db=1"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, masked: str) -> None:
    assert redacted_redis_url(url) == masked


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:se/cret@host",
        "redis://user:se:cret@host",
        "redis://user:se@cret@host",
        "redis://user:se?cret@host",
        "redis+sentinel://h/m?sentinel_password=se@cret",
        "redis+cluster://u:secret@h1,u:secret@h2",
        "unix://user:secret@/run/redis.sock",
        "redis://host:6379/0?password=secret",
        "unix:///run/redis.sock?username=u&password=secret&db=1",
        "redis://user:secret@[::1]:6379/0",
        "redis://h/0?PASSWORD=secret",
        "redis://h/0?auth=secret",
        "redis://h/0?secret",
        "redis://h/0?socket_timeout=secret",
        "redis://h/0#secret",
        "redis://user:se/cret",
        "redis://user:se?cret",
        "redis://user:secret#@h",
        "redis//user:secret@h",
        "redis:secret",
        "redis://user:1?a=secret@h",
        "redis://user:1?db=secret@h",
        "redis+sentinel://user:se/cret/x",
        "redis+sentinel://h/m/secret",
        "unix://user:secret/run/redis.sock",
        "reddis://h/secret",
        "redis://user:se\ncret",
        "redis://secret?token@h",
        "redis://user:[secret]@h",
        "redis://user:[secret]",
        "redis://user:secret\u2100@h",
    ],
)
def test_no_part_of_a_password_is_shown_however_it_is_given(url: str) -> None:
    shown = redacted_redis_url(url)
    assert "secret" not in shown
    assert "cret" not in shown


# Control characters


def test_what_can_be_read_is_left_alone() -> None:
    assert escaped("Größe 3 → 漢字") == "Größe 3 → 漢字"
    assert escaped("a\tb\n") == "a\\tb\\n"
