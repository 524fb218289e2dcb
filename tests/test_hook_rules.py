"""The hook's core in Node against the rules in Python, on random events: a page that was there, one that opens now, and
one that comes back after a cut. test_job_rules.py compares the rules with publish.lua, so all of them agree.

Needs Node and `make frontend/node_modules/.installed`, which `make test` runs first; without them it fails.
"""

import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from publisher.job_rules import Verdict, judge
from tests.job_cases import Given, Model, State, cases, full, rounded
from tests.test_job_rules import events

EXAMPLES = 10 * settings().max_examples  # an example takes a few ms, and needs several events that meet
FRONTEND = Path(__file__).parents[1] / "frontend"


class Core:
    """The core in Node, a process for all tests of this file."""

    def __init__(self) -> None:
        self._node = subprocess.Popen(
            ["node", "scripts/play.mjs"], cwd=FRONTEND, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def play(self, *steps: Mapping[str, Any]) -> State:
        """The state of the jobs after these steps: see frontend/scripts/play.mjs."""
        assert self._node.stdin is not None
        assert self._node.stdout is not None
        self._node.stdin.write(json.dumps(steps) + "\n")
        self._node.stdin.flush()
        answer = self._node.stdout.readline()
        assert answer, "Node ended: is frontend/node_modules there? `make frontend/node_modules/.installed`"
        state: State = json.loads(answer)
        return state

    def close(self) -> None:
        self._node.communicate()


@pytest.fixture(scope="module")
def core() -> Iterator[Core]:
    node = Core()
    yield node
    node.close()


class Project(Model):
    """A project that numbers its events, as Redis does, and remembers the last one of each part."""

    def __init__(self) -> None:
        super().__init__()
        self.published: list[Given] = []
        """What live pages receive: the events that were accepted."""
        self._begins: list[Given] = []
        """Those of them that began a run."""

    def send(self, given: Mapping[str, Any]) -> None:
        event = full(given)
        job = self.jobs.get(event["jobId"])
        number = None if job is None else job.number
        known = None if job is None else job.parts.get(event.get("sentenceId", ""))
        answer = self.publish(given)
        if answer in ("replaced", "ended", "lower"):
            return
        if event.get("attempt") == "next":
            event["attempt"] = answer
        event["seq"] = len(self.published) + 1
        self.published.append(event)
        last = self.jobs[event["jobId"]].parts[event.get("sentenceId", "")]
        if judge(number, known, last.event) is Verdict.BEGINS:
            self._begins.append(event)

    def known_after(self, cut: int, state: State) -> State:
        """What of `state` a page can know that was there until `cut`, and is given what is newer.

        The gateway does not say that a job began anew. A page sees it by a higher attempt, if an event that carries it
        is remembered; else it cannot tell which of the sentences that it knows are of the old run.
        """
        numbers: dict[str, int] = {}
        for event in self.published[:cut]:
            numbers[event["jobId"]] = max(numbers.get(event["jobId"], -1), event.get("attempt", -1))
        begun = {event["jobId"] for event in self._begins if event["seq"] > cut}
        last = {job_id: shown.get("attempt", -1) for job_id, shown in self.state().items()}
        hidden = {job_id for job_id in begun & numbers.keys() if last[job_id] <= numbers[job_id]}
        return {job_id: shown for job_id, shown in state.items() if job_id not in hidden}

    def remembered(self, since: int = 0) -> list[Given]:
        """The last events of all parts that are newer than `since`, in order of seq."""
        parts = {(job_id, part) for job_id, job in self.jobs.items() for part in job.parts}
        last = {(event["jobId"], event.get("sentenceId", "")): event for event in self.published}
        return sorted((last[part] for part in parts if last[part]["seq"] > since), key=lambda event: event["seq"])


@given(st.lists(events, max_size=40), st.data())
@settings(max_examples=EXAMPLES, deadline=None)
def test_the_core_and_the_rules_agree(core: Core, sent: list[Given], data: st.DataObject) -> None:
    project = Project()
    for event in sent:
        project.send(event)
    truth = rounded(project.state())
    live = [{"live": event} for event in project.published]
    assert core.play(*live) == truth
    assert core.play({"replay": project.remembered(), "isWhole": True}) == truth

    cut = data.draw(st.integers(0, len(live)), label="cut")
    resumed = core.play(*live[:cut], {"replay": project.remembered(cut), "isWhole": not cut})
    assert project.known_after(cut, resumed) == project.known_after(cut, truth)


@given(st.lists(events, max_size=40))
@settings(max_examples=EXAMPLES, deadline=None)
def test_the_core_refuses_what_the_rules_refuse(core: Core, sent: list[Given]) -> None:
    """Events by plain PUBLISH have no seq, and nothing has judged them before they reach a page."""
    project = Model()
    live = []
    for event in sent:
        answer = project.publish(event)
        given = full(event)
        if given.get("attempt") == "next":
            given["attempt"] = answer
        live.append({"live": given})
    assert core.play(*live) == rounded(project.state())


@pytest.mark.parametrize("case", cases(), ids=lambda case: case["name"])
def test_a_page_that_comes_back_at_any_point_of_a_case(core: Core, case: Any) -> None:
    project = Project()
    for event in case["events"]:
        project.send(event)
    live = [{"live": event} for event in project.published]
    for cut in range(len(live) + 1):
        resumed = core.play(*live[:cut], {"replay": project.remembered(cut), "isWhole": not cut})
        assert project.known_after(cut, resumed) == project.known_after(cut, rounded(case["jobs"])), f"cut after {cut}"
