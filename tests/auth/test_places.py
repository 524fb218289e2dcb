"""Where a token may stand in a handshake, and that the next place is never tried."""

import pytest

from gateway.auth.places import token_in
from gateway.auth.refusal import NotAuthorised

BEARER = (b"authorization", b"Bearer one")
COOKIE = (b"cookie", b"a=b; progress=three; c=d")


def test_the_first_place_that_has_one_counts() -> None:
    assert token_in([BEARER, COOKIE], b"token=two", "progress") == "one"
    assert token_in([COOKIE], b"a=b&token=two", "progress") == "two"
    assert token_in([COOKIE], b"", "progress") == "three"
    assert token_in([COOKIE], b"tokens=x", "") is None
    assert token_in([], b"", "progress") is None


def test_one_that_is_empty_is_there_all_the_same() -> None:
    assert token_in([(b"authorization", b"Bearer")], b"token=two", "") == ""
    assert token_in([(b"authorization", b"bearer  ")], b"token=two", "") == ""
    assert token_in([COOKIE], b"token=", "progress") == ""
    assert token_in([COOKIE], b"token", "progress") == ""


def test_another_scheme_is_for_a_proxy() -> None:
    assert token_in([(b"authorization", b"Basic YTpi")], b"token=two", "") == "two"


def test_a_signed_out_user_has_an_empty_cookie() -> None:
    assert token_in([(b"cookie", b"progress=")], b"", "progress") is None


def test_a_token_may_be_escaped_or_quoted() -> None:
    assert token_in([], b"token=a%2Eb", "") == "a.b"
    assert token_in([(b"cookie", b'progress="a.b.c"')], b"", "progress") == "a.b.c"


def test_two_in_one_place_are_refused() -> None:
    for headers, query in (
        ([BEARER, BEARER], b""),
        ([], b"token=a&token=b"),
        ([(b"cookie", b"progress=a; progress=b")], b""),
        ([(b"cookie", b"progress=a"), (b"cookie", b"progress=b")], b""),
    ):
        with pytest.raises(NotAuthorised, match="came twice"):
            token_in(headers, query, "progress")
