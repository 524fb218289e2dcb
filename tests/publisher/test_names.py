"""The names that publisher and gateway share; a change here parts the two."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from publisher.field_errors import EventError
from publisher.names import check_project_id, job_field, jobs_key, redis_channel_of

ALLOWED = "ABCXYZabcxyz0189_-.:"


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_\-.:]{0,127}", fullmatch=True))
def test_a_project_id_is_returned_as_it_is(project_id: str) -> None:
    assert check_project_id(project_id) == project_id


def test_a_project_id_has_1_to_128_characters() -> None:
    assert check_project_id("a")
    assert check_project_id("a" * 128)


@pytest.mark.parametrize(
    "project_id",
    [
        "",
        "a" * 129,
        "_a",
        "-a",
        ".a",
        ":a",
        "a b",
        " a",
        "a ",
        "a\n",
        "\na",
        "a\x00",
        "a{b}",
        "a/b",
        "a*",
        "a?",
        "é",
        "\uff41",
        "\u0660",
        "a\ud800",
    ],
)
def test_a_project_id_of_another_form_is_a_value_error(project_id: str) -> None:
    with pytest.raises(EventError):
        check_project_id(project_id)


@pytest.mark.parametrize("project_id", [None, 1, 1.5, True, b"a", ["a"], {"a": 1}, object()])
def test_a_project_id_of_another_type_is_a_value_error(project_id: object) -> None:
    with pytest.raises(EventError):
        check_project_id(project_id)


@given(st.text(st.sampled_from(ALLOWED + " {}*/\n\x00é"), max_size=130))
def test_what_is_accepted_is_made_of_the_allowed_characters_only(text: str) -> None:
    try:
        check_project_id(text)
    except ValueError:
        return
    assert 1 <= len(text) <= 128
    assert text[0].isalnum()
    assert set(text) <= set(ALLOWED)


def test_a_channel_is_named_after_its_project() -> None:
    assert redis_channel_of("p_1") == "project:p_1"


def test_a_namespace_stands_before_it() -> None:
    assert redis_channel_of("p_1", "staging") == "staging:project:p_1"


def test_the_key_has_the_channel_as_its_hash_tag() -> None:
    """Redis Cluster hashes what stands in the first braces: the key is where the channel is."""
    assert jobs_key("staging:project:p_1") == "{staging:project:p_1}:jobs"


names = st.text(st.characters(exclude_characters="\n"), min_size=1, max_size=8)


@given(names, st.none() | names, names, st.none() | names)
def test_two_jobs_never_share_a_field(
    job: str, sentence: str | None, other_job: str, other_sentence: str | None
) -> None:
    same = (job, sentence) == (other_job, other_sentence)
    assert (job_field(job, sentence) == job_field(other_job, other_sentence)) == same


@given(names, st.none() | names)
def test_no_job_is_mistaken_for_the_fields_beside_it(job: str, sentence: str | None) -> None:
    assert job_field(job, sentence) not in ("seq", "from")
