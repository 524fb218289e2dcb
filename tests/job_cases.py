"""The cases of tests/cases/, and the small model of a project that they are played on."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from publisher.events import Event, Progress, check_event
from publisher.job_rules import Verdict, judge, view_of, view_of_job

CASES = Path(__file__).parent / "cases"

Given = dict[str, Any]  # an event of a case
State = dict[str, Any]  # what a case says of the jobs


def cases() -> list[Any]:
    return [case for path in sorted(CASES.glob("*.json")) for case in json.loads(path.read_text())["cases"]]


def full(event: Mapping[str, Any]) -> Given:
    """An event of a case with the fields that the case leaves out; `atLeast` is no field of an event."""
    kind = event.get("type", "progress")
    rest = {name: value for name, value in event.items() if name != "atLeast"}
    return {"type": kind, "jobId": "j", "jobType": "audio"} | rest


@dataclass(frozen=True)
class Last:
    """The last event of a part."""

    event: Event

    @property
    def attempt(self) -> int | None:
        return self.event.attempt

    @property
    def is_terminal(self) -> bool:
        return not isinstance(self.event, Progress)

    @property
    def progress(self) -> float:
        return self.event.progress if isinstance(self.event, Progress) else 0


@dataclass
class Job:
    number: int | None = None
    parts: dict[str, Last] = field(default_factory=dict)


class Model:
    """A project by the rules of publisher.job_rules, and nothing else: no order of seq, no bounds."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}

    def publish(self, given: Mapping[str, Any]) -> str | int:
        """Take an event of a case; the answer is that of a case."""
        fields = full(given)
        job = self.jobs.get(fields["jobId"], Job())
        asks_next = fields.get("attempt") == "next"
        if asks_next:
            least = given.get("atLeast", 0)
            fields["attempt"] = least if job.number is None else max(least, job.number + 1)
        event = check_event(fields)
        part = event.sentence_id or ""
        verdict = judge(job.number, job.parts.get(part), event)
        if verdict.is_accepted:
            self.jobs[event.job_id] = job
            if verdict is Verdict.BEGINS:
                job.parts.clear()
            if event.attempt is not None:
                job.number = event.attempt
            job.parts.pop(part, None)
            job.parts[part] = Last(event)
        if asks_next:
            assert event.attempt is not None
            return event.attempt
        return "news" if verdict.is_accepted else verdict.value

    def state(self) -> State:
        return {
            job_id: state_of({part: last.event for part, last in job.parts.items()})
            for job_id, job in self.jobs.items()
        }


def state_of(parts: Mapping[str, Event]) -> State:
    """How a job stands by the last events of its parts, in the words of a case."""
    sentences = {part: event for part, event in parts.items() if part}
    view = view_of_job(parts.get(""), sentences.values())
    numbers = [event.attempt for event in parts.values() if event.attempt is not None]
    return {
        "status": view.status,
        "percent": round(view.percent, 6),
        **({"attempt": max(numbers)} if numbers else {}),
        "sentences": {
            part: dict(zip(("status", "percent"), view_of(event), strict=True)) for part, event in sentences.items()
        },
    }


def rounded(state: Any) -> Any:
    """A state with its percents as the cases compare them."""
    if isinstance(state, Mapping):
        return {name: round(value, 4) if name == "percent" else rounded(value) for name, value in state.items()}
    return state
