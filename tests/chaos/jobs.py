"""A job process: it publishes through the `publisher` package until it is told to pause, and says what was taken.

Orders come as lines of JSON on stdin: {"go": true}, {"pause": true}, {"mark": "text", "seconds": 20}, each with an
answer: {"events": N, "taken": [[project, job, seq], ...]}, for each job the last event whose seq was returned.
"""

import argparse
import json
import random
import select
import sys
import time
from collections.abc import Iterator
from typing import Any

from publisher import broadcast_many, broadcast_to_project
from publisher.names import job_field

SLOTS = 24  # jobs of one project that this process runs, again and again
STEPS = 6
LONG_MESSAGE = "so much to tell " * 120
Event = dict[str, Any]


class Job:
    """A job that is run over and over: with attempts, with sentences, long-winded, each as its number says."""

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.number = number
        self.attempt = 0
        self.step = 0

    def next_event(self, tag: str) -> Event:
        self.step += 1
        event: Event = {"jobId": self.name, "jobType": "audio"}
        if self.number % 3 == 0:
            event["sentenceId"] = f"s{self.number}"
        if self.number % 2 == 0:
            event["attempt"] = self.attempt
        if self.step < STEPS:
            message = f"{tag} {LONG_MESSAGE}" if self.number % 8 == 1 else tag
            return event | {"type": "progress", "progress": 100 * self.step / STEPS, "message": message}
        self.step = 0
        self.attempt += 1
        if self.number % 5 == 0:
            return event | {"type": "job_failed", "error": tag}
        return event | {"type": "job_complete", "result": {"file": tag}}


class Jobs:
    """Lives as long as the process."""

    def __init__(self, name: str, projects: list[str], rate: float, dice: random.Random) -> None:
        self.projects = projects
        self._pause_seconds = 1 / rate
        self._dice = dice
        self._name = name
        self._jobs: dict[str, list[Job]] = {}
        self.events = 0
        self._said = 0
        self.taken: dict[tuple[str, str], int] = {}

    def publish_one(self) -> None:
        self._said += 1
        project = self._dice.choice(self.projects)
        jobs = self._jobs.setdefault(project, [Job(f"{self._name}_{number}", number) for number in range(SLOTS)])
        event = self._dice.choice(jobs).next_event(f"{self._said}")
        self.note(project, event, broadcast_to_project(project, event))
        time.sleep(self._pause_seconds * self._dice.uniform(0.2, 1.8))

    def mark(self, text: str, seconds: float) -> bool:
        """One event in each project; again, until every one was taken."""
        left, end = list(self.projects), time.monotonic() + seconds
        while left and time.monotonic() < end:
            event = {"type": "progress", "jobId": "marker", "jobType": "script", "progress": 0, "message": text}
            seqs = broadcast_many([(project, event) for project in left])
            for project, seq in zip(left, seqs, strict=True):
                self.note(project, event, seq)
            left = [project for project, seq in zip(left, seqs, strict=True) if seq is None]
            if left:
                time.sleep(0.02)
        return not left

    def note(self, project: str, event: Event, seq: int | None) -> None:
        if seq is not None:
            self.events += 1
            self.taken[project, job_field(event["jobId"], event.get("sentenceId"))] = seq

    def report(self) -> dict[str, Any]:
        """What was taken since the last report."""
        taken, self.taken = self.taken, {}
        return {"events": self.events, "taken": [[project, job, seq] for (project, job), seq in taken.items()]}


def orders(jobs: Jobs) -> Iterator[dict[str, Any]]:
    """Orders as they come; while there is none, and it was told to go, it publishes."""
    goes = False
    while True:
        if goes and not select.select([sys.stdin], [], [], 0)[0]:
            jobs.publish_one()
            continue
        line = sys.stdin.readline()
        if not line:
            return
        order = json.loads(line)
        goes = bool(order.get("go"))
        yield order


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--projects", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    options = parser.parse_args()
    projects = [f"p{number}" for number in range(options.projects)]
    jobs = Jobs(options.name, projects, options.rate, random.Random(f"{options.seed} {options.name}"))
    for order in orders(jobs):
        done = jobs.mark(order["mark"], order["seconds"]) if "mark" in order else True
        print(json.dumps({"done": done} | jobs.report()), flush=True)


if __name__ == "__main__":
    main()
