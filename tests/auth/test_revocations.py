"""Which users' tokens are refused, and for how long. No clock: `now` is passed."""

import pytest

from gateway.auth import revocations as module
from gateway.auth.revocations import Revocations

NOW = 1_700_000_000.0
NOW_US = int(NOW * 1_000_000)


def payload(sub: str, at: int = NOW_US) -> bytes:
    return f"{at} {sub}".encode()


def test_tokens_issued_before_are_refused_and_later_ones_are_not() -> None:
    revocations = Revocations(3_600)
    assert not revocations.is_revoked("a", NOW - 5)
    assert revocations.on_events([payload("a")], NOW) == {"a"}
    assert revocations.is_revoked("a", NOW - 5)
    assert revocations.is_revoked("a", NOW)
    assert revocations.is_revoked("a", None)
    assert not revocations.is_revoked("a", NOW + 0.001)
    assert not revocations.is_revoked("b", NOW - 5)
    assert not revocations.is_revoked(None, NOW - 5)


def test_what_is_known_stays_when_redis_comes_back_empty_and_is_told_as_missing() -> None:
    revocations = Revocations(3_600)
    assert revocations.on_loaded({b"a": b"%d" % NOW_US}, NOW) == {"a"}
    assert revocations.on_loaded({}, NOW) == set()
    assert revocations.is_revoked("a", NOW - 5)
    assert revocations.missing({}, NOW) == {"a": NOW_US}
    assert revocations.missing({b"a": b"1"}, NOW) == {}


def test_only_a_later_revocation_is_news() -> None:
    revocations = Revocations(3_600)
    revocations.on_events([payload("a")], NOW)
    assert revocations.on_events([payload("a"), payload("a", NOW_US - 1)], NOW) == set()
    assert revocations.on_events([payload("a", NOW_US + 1)], NOW) == {"a"}


def test_one_is_forgotten_after_the_longest_life_of_a_token() -> None:
    revocations = Revocations(3_600)
    revocations.on_events([payload("a")], NOW)
    assert revocations.missing({}, NOW + 3_599) == {"a": NOW_US}
    assert revocations.missing({}, NOW + 3_601) == {}
    assert len(revocations) == 0
    assert revocations.on_loaded({b"a": b"%d" % NOW_US}, NOW + 3_601) == set()


def test_odd_payloads_are_passed_over() -> None:
    assert Revocations(3_600).on_loaded({b"a": b"x", b"": b"5", b"\xff": b"%d" % NOW_US}, NOW) == set()


def test_their_number_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_REVOKED", 10)
    revocations = Revocations(3_600)
    revocations.on_events([payload(f"user_{n}", NOW_US + n) for n in range(30)], NOW)
    assert len(revocations) == 10
    assert revocations.is_revoked("user_29", NOW)
    assert not revocations.is_revoked("user_0", NOW)
