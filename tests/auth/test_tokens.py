"""Which tokens are accepted, and why others are not. No clock: `NOW` is passed."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth.grant import Grant
from gateway.auth.keys import KeySet, UnknownKid, public_keys, secret_keys
from gateway.auth.refusal import NotAuthorised, Reason
from gateway.auth.tokens import Rules, read_token
from publisher.tokens import mint
from tests.auth.keys import OLD_SECRET, SECRET, base64url, claims, hs256, jwk, jwks, part, public_pem, signed

RULES = Rules(max_seconds=86_400)
KEYS = secret_keys([SECRET])


def read(token: str, keys: KeySet = KEYS, rules: Rules = RULES) -> Grant:
    return read_token(token, keys, rules, time.time())


def refusal(token: str, keys: KeySet = KEYS, rules: Rules = RULES) -> Reason:
    with pytest.raises(NotAuthorised) as refused:
        read(token, keys, rules)
    for piece in token.split("."):
        assert len(piece) < 12 or piece not in str(refused.value)  # no token in an error
    return refused.value.reason


def refused(token: str, keys: KeySet = KEYS, rules: Rules = RULES) -> bool:
    return refusal(token, keys, rules) is Reason.BAD_TOKEN


def test_a_token_is_accepted_and_says_what_it_allows() -> None:
    expires_at = int(time.time()) + 60
    grant = read(hs256(claims(exp=expires_at, projects=["film_1", "team_3.*"], publish=["film_1"], iat=5)))
    assert (grant.sub, grant.expires_at, grant.issued_at) == ("user_1", expires_at, 5)
    assert [grant.covers(name) for name in ("film_1", "team_3.x", "team_3.", "film_2", "team_30")] == [True] * 3 + [
        False
    ] * 2
    assert grant.publish.covers("film_1")
    assert not grant.publish.covers("team_3.x")


def test_a_minted_token_is_accepted() -> None:
    grant = read(mint(["film_1"], sub="user_1", seconds=60, publish="x*", secret=SECRET))
    assert grant.sub == "user_1"
    assert 58 < grant.expires_at - time.time() <= 60
    assert grant.publish.covers("xy")


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_a_public_key_has_one_algorithm_by_its_type(algorithm: str) -> None:
    keys = public_keys(public_pem(algorithm))
    assert read(signed(algorithm, claims()), keys).covers("film_1")
    assert refused(signed(algorithm, claims(), number=1), keys)  # of another key


# Algorithms


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_hs256_with_the_pem_of_the_public_key_as_the_secret_is_refused(algorithm: str) -> None:
    pem = public_pem(algorithm)
    keys = public_keys(pem)
    for secret in (pem, pem.strip(), pem.encode()):
        assert refused(hs256(claims(), secret), keys)
        assert refused(hs256(claims(), secret, {"alg": algorithm}), keys)


@pytest.mark.parametrize(
    "alg", ["none", "None", "NONE", "hs256", "Hs256", "HS384", "HS512", "RS256", "", None, 5, ["HS256"]]
)
def test_another_algorithm_is_refused(alg: object) -> None:
    assert refused(hs256(claims(), header={"alg": alg}))


def test_a_token_without_alg_or_signature_is_refused() -> None:
    assert refused(hs256(claims(), header={"typ": "JWT"}))
    head, body, _ = hs256(claims()).split(".")
    assert refused(f"{head}.{body}.")
    assert refused(f"{part({'alg': 'none'})}.{body}.")
    assert refused(f"{part({'alg': 'none'})}.{body}.{base64url(b'x')}")


# Form


@pytest.mark.parametrize(
    "header",
    [{"crit": ["exp"]}, {"crit": []}, {"b64": False}, {"jku": "https://x"}, {"jwk": {}}, {"x5u": "https://x"}],
)
def test_a_header_that_names_keys_or_changes_what_is_signed_is_refused(header: dict[str, Any]) -> None:
    assert refused(hs256(claims(), header={"alg": "HS256"} | header))


def test_a_token_of_another_form_is_refused() -> None:
    token = hs256(claims())
    head, body, signature = token.split(".")
    for other in (
        "", ".", "..", "...", head, f"{head}.{body}", f"{token}.", f".{token}", f"{head}..{signature}", f" {token}",
        f"{token}\n", f"{token}=", token.replace(".", " "), f"{head}.{body}.{signature}.{signature}", "a.b.c", "é.é.é",
        f"{head}+.{body}.{signature}",
    ):  # fmt: skip
        assert refused(other), other


def test_a_token_has_at_most_4096_characters() -> None:
    rest = 4_096 - len(hs256(claims(x="")))
    longest = max((hs256(claims(x="x" * (rest * 3 // 4 - less))) for less in range(6)), key=len)
    assert 4_092 <= len(longest) <= 4_096
    assert read(longest)
    assert refused(longest + "xxxxx")
    assert refused("a" * 4_097)


@pytest.mark.parametrize(
    "text",
    [
        b'{"exp":9,"exp":9,"projects":["a"]}', b'{"exp":9999999999,"projects":["a"],"projects":["b"]}',
        b'{"exp":9,"projects":["a"],"x":{"y":1,"y":2}}', b"[]", b'"x"', b"null", b"", b"{",
        b"\xff\xfe{}", b'{"sub":"\xe9"}',
        b'{"exp":NaN}', b"[" * 3_000, '{"exp":1}'.encode("utf-16"), b'\xef\xbb\xbf{"exp":1}',
        b'{"exp": ' + b"9" * 2_900 + b"}",
    ],
)  # fmt: skip
def test_claims_that_are_not_one_plain_json_object_are_refused(text: bytes) -> None:
    assert refused(hs256(text))


def test_a_header_with_a_field_twice_is_refused() -> None:
    assert refused(hs256(claims(), header=b'{"alg":"HS256","alg":"HS256"}'))


# Claims


@pytest.mark.parametrize("exp", [None, True, False, "9999999999", 1e300, 1796072472.5, [1], {}, -1e300, 10**30])
def test_exp_is_a_whole_number(exp: object) -> None:
    given = claims() | {"exp": exp} if exp is not None else claims(exp=None)
    assert refused(hs256(given))


def test_a_token_that_expired_says_so_but_only_if_it_was_ours() -> None:
    past = claims(exp=int(time.time()) - 1)
    assert refusal(hs256(past)) is Reason.TOKEN_EXPIRED
    assert refusal(hs256(claims(exp=-5))) is Reason.TOKEN_EXPIRED
    assert refused(hs256(past, OLD_SECRET))


def test_exp_is_at_most_max_seconds_away() -> None:
    now = int(time.time())
    assert read(hs256(claims(exp=now + 50)), rules=Rules(60))
    assert refused(hs256(claims(exp=now + 70)), rules=Rules(60))
    assert refused(hs256(claims(exp=now + 86_400 * 365 * 30_000)))


@pytest.mark.parametrize(
    "projects",
    [
        None, "film_1", "*", [], ["film_1", 5], ["film_*_1"], ["*film"], ["**"],
        ["film_1", "-x"], [""], ["é"], ["film_1\n"],
        ["film_1"] * 101, {"film_1": 1}, True, [["film_1"]], ["x" * 129], [None],
    ],
)  # fmt: skip
def test_projects_is_a_list_of_ids_or_beginnings_of_ids(projects: object) -> None:
    assert refused(hs256(claims(projects=projects)))


def test_a_beginning_covers_longer_ids_of_the_same_case_only() -> None:
    grant = read(hs256(claims(projects=["film_*"])))
    assert [grant.covers(name) for name in ("film_1", "film_", "film", "Film_1", "my_film_1")] == [True] * 2 + [
        False
    ] * 3
    assert read(hs256(claims(projects=["*"]))).covers("anything")
    assert read(hs256(claims(projects=["film_1"] * 100))).covers("film_1")
    assert not read(hs256(claims(projects=["film_1"]))).covers("film_12")


@pytest.mark.parametrize("publish", ["film_1", [], ["a*b"], [5], {}])
def test_publish_has_the_same_form(publish: object) -> None:
    assert refused(hs256(claims(publish=publish)))


@pytest.mark.parametrize("sub", [5, "", "x" * 257, "a\nb", ["x"], True, "\u202e"])
def test_sub_is_a_short_text(sub: object) -> None:
    assert refused(hs256(claims(sub=sub)))


def test_a_sub_may_be_any_id_or_be_left_out() -> None:
    for sub in ("auth0|1234", "ann@example.com", "id with spaces", "名前"):
        assert read(hs256(claims(sub=sub))).sub == sub
    assert read(hs256(claims(sub=None))).sub is None


def test_a_lone_surrogate_in_sub_is_refused() -> None:
    assert refused(hs256(b'{"exp":9999,"projects":["a"],"sub":"\\ud800"}'))


def test_a_token_from_the_future_is_refused_but_not_for_a_clock_a_little_ahead() -> None:
    now = time.time()
    for name in ("iat", "nbf"):
        assert read(hs256(claims(**{name: now + 3})))
        assert read(hs256(claims(**{name: int(now) - 1_000})))
        for wrong in (now + 60, "1", True, 1e300, -1):
            assert refused(hs256(claims(**{name: wrong}))), (name, wrong)


def test_audience_and_issuer_are_required_where_they_are_set() -> None:
    rules = Rules(86_400, "gateway", "app")
    for aud in ("gateway", ["other", "gateway"]):
        assert read(hs256(claims(aud=aud, iss="app")), rules=rules)
    for wrong in (
        claims(), claims(aud="gateway"), claims(iss="app"),
        claims(aud="gateway2", iss="app"), claims(aud=["x"], iss="app"),
        claims(aud="gateway", iss="APP"), claims(aud=["gateway", 5], iss="app"), claims(aud={"gateway": 1}, iss="app"),
    ):  # fmt: skip
        assert refused(hs256(wrong), rules=rules)
    assert read(hs256(claims(aud="whoever", iss="whoever")))


# Keys


def test_a_rotation_from_new_and_old_to_new_refuses_nobody() -> None:
    old, new = hs256(claims(), OLD_SECRET), hs256(claims(), SECRET)
    both = secret_keys([SECRET, OLD_SECRET])
    assert read(old, both)
    assert read(new, both)
    assert read(new, secret_keys([SECRET]))
    assert refused(old, secret_keys([SECRET]))


def test_a_kid_that_no_key_has_is_unknown() -> None:
    keys = public_keys(jwks(jwk("ES256", "a"), jwk("EdDSA", "b")))
    assert read(signed("ES256", claims(), kid="a"), keys)
    assert read(signed("ES256", claims()), keys)
    for unknown in ("c", ""):
        with pytest.raises(UnknownKid):
            read(signed("ES256", claims(), kid=unknown), keys)
    with pytest.raises(UnknownKid):
        read(hs256(claims(), header={"alg": "HS256", "kid": "x"}))
    assert refused(signed("ES256", claims(), kid="b"), keys)
    assert refused(hs256(claims(), header={"alg": "HS256", "kid": 5}))


# Anything


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda data: f"{part({'alg': 'HS256'})}.{part(data)}.x"))
def test_no_text_is_a_token(text: str) -> None:
    assert refused(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(["exp", "projects", "sub", "iat", "nbf", "publish"]), JSON)
def test_odd_claims_are_refused_or_read_and_never_break_anything(name: str, value: Any) -> None:
    token = hs256(json.dumps(claims() | {name: value}).encode())
    try:
        grant = read(token)
    except NotAuthorised:
        return
    assert isinstance(grant.sub, str | None)
    assert type(grant.expires_at) is int


def test_a_new_key_may_have_another_algorithm_than_those_that_are_known() -> None:
    keys = public_keys(jwks(jwk("ES256", "a")))
    with pytest.raises(UnknownKid):
        read(signed("EdDSA", claims(), kid="new"), keys)
    assert refused(signed("EdDSA", claims()), keys)
    assert refused(hs256(claims(), header={"alg": "HS256", "kid": "new"}), keys)
