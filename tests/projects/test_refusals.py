"""When a refused project is tried again; on a clock of the test's own."""

from gateway.projects.refusals import FIRST_SECONDS, MOST_PROJECTS, MOST_SECONDS, Refusals


def test_the_pause_doubles_with_each_refusal_up_to_a_minute() -> None:
    refusals, now, pauses = Refusals(), 100.0, []
    for _ in range(8):
        refusals.add("p", now)
        began = now
        while refusals.holds("p", now):
            now += 0.25
        pauses.append(now - began)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]


def test_a_second_refusal_within_the_pause_does_not_make_it_longer() -> None:
    """Each viewer of a project that meets a bug refuses it."""
    refusals = Refusals()
    for _ in range(100):
        refusals.add("p", 100)
    assert refusals.holds("p", 100 + FIRST_SECONDS - 0.01)
    assert not refusals.holds("p", 100 + FIRST_SECONDS)


def test_a_project_that_was_served_or_forgotten_begins_anew() -> None:
    refusals = Refusals()
    refusals.add("p", 100)
    refusals.add("p", 101)
    refusals.drop("p")
    assert not refusals.holds("p", 101)
    refusals.add("p", 102)
    assert not refusals.holds("p", 102 + FIRST_SECONDS)
    refusals.add("p", 103 + 2 * MOST_SECONDS)
    assert not refusals.holds("p", 103 + 2 * MOST_SECONDS + FIRST_SECONDS)


def test_projects_do_not_count_for_each_other_and_are_bounded() -> None:
    refusals = Refusals()
    for number in range(2 * MOST_PROJECTS):
        refusals.add(f"p{number}", 100)
    assert not refusals.holds("other", 100)
    assert len(refusals._until) == MOST_PROJECTS
    assert refusals.holds(f"p{2 * MOST_PROJECTS - 1}", 100)
