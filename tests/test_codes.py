"""The codes, which other programs are written against: a change here is a change of the contract."""

import re
from pathlib import Path

import pytest

from gateway.codes import CloseCode, ErrorCode, PublishCode

CONTRACT = {1000, 1001, 1008, 1009, 1012, 4400, 4401, 4503, 4508}  # design.md, "Close codes"


def test_every_close_code_of_the_contract_is_there() -> None:
    assert set(CloseCode) >= CONTRACT


@pytest.mark.parametrize("code", list(CloseCode))
def test_a_close_code_is_one_that_an_endpoint_may_send(code: CloseCode) -> None:
    """RFC 6455, 7.4: 1004 to 1006 and 1015 are never sent, 2000 to 2999 are kept for the protocol."""
    assert code in {1000, 1001, 1002, 1003, *range(1007, 1015)} or 4000 <= code <= 4999


def test_only_two_codes_tell_a_client_not_to_come_back() -> None:
    assert {code for code in CloseCode if 4000 <= code < 4500} == {CloseCode.PROTOCOL_ABUSED, CloseCode.NOT_AUTHORISED}


@pytest.mark.parametrize("enum", [CloseCode, ErrorCode, PublishCode])
def test_no_code_has_two_names(enum: type[CloseCode] | type[ErrorCode] | type[PublishCode]) -> None:
    assert len(enum.__members__) == len(set(enum))


def test_the_error_codes_are_these_words() -> None:
    assert set(ErrorCode) == {
        "not_text", "not_json", "bad_message", "unknown_type", "bad_project_id", "bad_since", "rate_limited",
        "too_many_projects", "forbidden", "unavailable",
    }  # fmt: skip


def test_the_codes_of_a_refused_publication_are_these_words() -> None:
    assert set(PublishCode) == {
        "method_not_allowed", "not_authorised", "forbidden", "body_too_big", "too_many_events", "bad_project_id",
        "bad_sub", "not_json",
        "no_events", "bad_events", "rate_limited", "draining", "overloaded", "redis_unavailable", "redis_refused",
    }  # fmt: skip


def test_the_npm_package_has_the_same_close_codes() -> None:
    source = (Path(__file__).parent.parent / "frontend" / "src" / "codes.ts").read_text()
    assert {name: int(code) for name, code in re.findall(r"(\w+): (\d+),", source)} == dict(CloseCode.__members__)
