"""What an error of Redis means: by its code, by redis-py's class, by the system's words."""

import re

import pytest
from redis import exceptions

from publisher.transport.advice import UNKNOWN, advice_for, error_text, with_advice
from publisher.transport.url import RedisUrl


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        # As they stand on the wire.
        ("WRONGPASS invalid username-password pair or user is disabled.", "password"),
        ("NOAUTH Authentication required.", "password"),
        ("NOPERM this user has no permissions to run the 'hgetall' command", "rights"),
        ("READONLY You can't write against a read only replica.", "replica"),
        ("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", "replica"),
        ("LOADING Redis is loading the dataset in memory", "loading"),
        ("MOVED 3999 127.0.0.1:6381", "cluster"),
        ("CLUSTERDOWN Hash slot not served", "cluster down"),
        ("OOM command not allowed when used memory > 'maxmemory'.", "memory"),
        ("-OOM command not allowed when used memory > 'maxmemory'.", "memory"),  # as Redis 6 hands it to a script
        ("MISCONF Redis is configured to save RDB snapshots, but", "disk"),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", "key"),
        ("ERR unknown command 'HELLO', with args beginning with: ", "old"),
        ("ERR unknown command 'EVALSHA', with args beginning with: '{\"message\": \"OOM timeout\"}'", "old"),
        ("ERR DB index is out of range", "database"),
        ("ERR max number of clients reached", "clients"),
        ("ERR Only HELLO messages are accepted by Sentinel instances.", "sentinel"),
        ("TRYAGAIN Multiple keys request during rehashing of slot", "cluster"),
        ("NOREPLICAS Not enough good replicas to write.", "replicas"),
        ("ERR This instance has cluster support disabled", "no cluster"),
        (
            "ERR The user executing the script can't run this command or subcommand script: 1, on @user_script:1.",
            "rights",
        ),
        ("ERR ACL failure in script: User jobs has no permissions to run the 'spublish' command", "rights"),
        ("no Sentinel tells where 'm' is: No such master with that name", "sentinel name"),
        ("no Sentinel tells where 'm' is: Error 111 connecting to h:26379. Connection refused.", "sentinels"),
        (
            "no Sentinel tells where 'm' is: unknown command 'SENTINEL', with args beginning with: 'MASTER'",
            "no sentinel",
        ),
        (exceptions.AuthenticationError("no Sentinel tells where 'm' is: Authentication required."), "sentinels"),
        ("its nodes own no slots: it is no Cluster yet", "cluster down"),
        ("no node of the Cluster owns the project's slot", "cluster down"),
        # As redis-py raises them: without the code, which older ones do not keep.
        (exceptions.AuthenticationError("invalid username-password pair or user is disabled."), "password"),
        (exceptions.NoPermissionError("this user has no permissions to access one of the channels"), "rights"),
        (exceptions.ReadOnlyError("You can't write against a read only replica."), "replica"),
        (exceptions.BusyLoadingError("Redis is loading the dataset in memory"), "loading"),
        (exceptions.MovedError("3999 127.0.0.1:6381"), "cluster"),
        (exceptions.TryAgainError("Multiple keys request during rehashing of slot"), "cluster"),
        (exceptions.ClusterDownError("The cluster is down"), "cluster down"),
        (exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), "memory"),
        (exceptions.TimeoutError("Timeout reading from 127.0.0.1:1"), "silent"),
        (exceptions.TimeoutError(), "silent"),
        (TimeoutError("no probe came back within 3 s"), "silent"),
        (exceptions.ConnectionError("Connection closed by server."), "closed"),
        (ConnectionResetError(104, "Connection reset by peer"), "closed"),
        (exceptions.ConnectionError("Connection not ready"), "closed"),
        (exceptions.ConnectionError("Error 8 while writing to socket. EOF occurred (_ssl.c:2427)."), "closed"),
        (exceptions.ConnectionError("Error 111 connecting to 127.0.0.1:1. Connect call failed"), "away"),
        (exceptions.ConnectionError("Error 111 connecting to 127.0.0.1:1. Connection refused."), "away"),
        (exceptions.ConnectionError("Error -2 connecting to nohost:1. Name or service not known."), "host"),
        (exceptions.ConnectionError("Error 2 connecting to /redis.sock. No such file or directory."), "file"),
        (exceptions.ConnectionError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed"), "certificate"),
        (OSError("[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required"), "client certificate"),
        (OSError("[SSL: WRONG_VERSION_NUMBER] wrong version number"), "tls"),
    ],
)
def test_an_error_is_known_and_its_hint_says_what_to_do(error: Exception | str, meaning: str) -> None:
    advice = advice_for(error)
    assert advice.meaning == meaning
    assert advice.hint.endswith(".")


@pytest.mark.parametrize(
    "reason",
    [
        "CA cert does not include key usage extension",
        "Missing Subject Key Identifier",
        "Basic Constraints of CA cert not marked critical",
    ],
)
def test_what_python_checks_since_3_13_has_a_hint_of_its_own(reason: str) -> None:
    advice = advice_for(f"[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: {reason} (_ssl.c:1020)")
    assert advice.meaning == "certificate"
    assert "keyUsage=critical,keyCertSign,cRLSign" in advice.hint


def test_an_error_that_nobody_knows_has_no_hint() -> None:
    assert advice_for("ERR something new") == UNKNOWN
    assert with_advice("ERR something new") == "ERR something new."


def test_the_text_of_an_error_is_one_line_and_never_empty() -> None:
    assert error_text(ValueError("one\ntwo")) == "one"
    assert error_text(TimeoutError()) == "TimeoutError"


def test_error_and_hint_are_whole_sentences() -> None:
    text = with_advice(exceptions.ConnectionError("Connection refused."))
    assert text.startswith("Connection refused. Nobody listens there.")
    assert ".." not in text


def test_urls_that_are_advised_are_urls() -> None:
    texts = [advice_for(error).hint for error in ("MOVED 1 h:1", "only hello messages are accepted by sentinel",
                                                  "no such master", "cluster support disabled")]  # fmt: skip
    urls = [url.rstrip(".:") for text in texts for url in re.findall(r"rediss?(?:\+\w+)?://\S+", text)]
    assert {RedisUrl.parse(url).kind for url in urls} == {"server", "sentinel", "cluster"}
