"""The npm package for job authors keeps the rules of this one: figures, words, and a test for each on both sides."""

import re
from pathlib import Path
from typing import Any

import pytest

from publisher import events, names, publication, sender
from publisher.failure import CANCELLED, TIMED_OUT, WORKER_ENDED
from publisher.job import WILL_RETRY
from publisher.job_state import (
    HEARTBEAT_SECONDS,
    LEAST_PAUSE_SECONDS,
    MOST_HEARTBEAT_SECONDS,
    MOST_PER_SECOND,
    PROMISED_HEARTBEATS,
    RETRY_SECONDS,
)
from publisher.transport import circuit, options

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "publisher-js"
CONSTANT = re.compile(r"^(?:export )?const ([A-Z_]+) = ([^;]+);", re.MULTILINE)
ROW = re.compile(r"^\| .+? \| `(tests/[\w/]+\.py)`: (\w+) \| `([\w-]+\.test\.ts)`: (.+) \|$", re.MULTILINE)

# By file and name: the value in Python, in the unit of the name there.
FIGURES: dict[tuple[str, str], Any] = {
    ("fields", "MAX_TEXT"): events.MAX_TEXT,
    ("fields", "MAX_FILE_BYTES"): events.MAX_FILE_BYTES,
    ("fields", "MAX_DATA_BYTES"): events.MAX_DATA_BYTES,
    ("fields", "MAX_DATA_LEVELS"): events.MAX_DATA_LEVELS,
    ("events", "MAX_EVENT_BYTES"): events.MAX_EVENT_BYTES,
    ("events", "NEXT"): events.NEXT,
    ("publication", "MAX_JOBS"): publication.MAX_JOBS,
    ("publication", "MAX_PARTS"): publication.MAX_PARTS,
    ("publication", "MAX_BYTES"): publication.MAX_BYTES,
    ("publication", "TIME_TO_LIVE_SECONDS"): publication.TIME_TO_LIVE_SECONDS,
    ("publication", "BATCH"): publication.BATCH,
    ("job-state", "LEAST_PAUSE_MS"): LEAST_PAUSE_SECONDS * 1_000,
    ("job-state", "MOST_PER_SECOND"): MOST_PER_SECOND,
    ("job-state", "RETRY_MS"): RETRY_SECONDS * 1_000,
    ("job-state", "HEARTBEAT_SECONDS"): HEARTBEAT_SECONDS,
    ("job-state", "MOST_HEARTBEAT_SECONDS"): MOST_HEARTBEAT_SECONDS,
    ("job-state", "PROMISED_HEARTBEATS"): PROMISED_HEARTBEATS,
    ("circuit", "GIVE_UP_MS"): circuit.GIVE_UP_SECONDS * 1_000,
    ("circuit", "ANSWER_MS"): options.SOCKET_TIMEOUT_SECONDS * 1_000,
    ("circuit", "PROBE_PAUSE_MS"): circuit.PROBE_PAUSE_SECONDS * 1_000,
    ("circuit", "MOST_PROBE_PAUSE_MS"): circuit.MOST_PROBE_PAUSE_SECONDS * 1_000,
    ("circuit", "GRACE_MS"): circuit.GRACE_SECONDS * 1_000,
    ("circuit", "GRACE_PAUSE_MS"): circuit.GRACE_PAUSE_SECONDS * 1_000,
    ("circuit", "RETRY_DELAYS_MS"): [seconds * 1_000 for seconds in circuit.RETRY_DELAYS_SECONDS],
    ("log", "PAUSE_MS"): circuit.LOG_PAUSE_SECONDS * 1_000,
    ("sender", "WAIT_MS"): sender.WAIT_SECONDS * 1_000,
    ("stopping", "EXIT_MS"): sender.EXIT_SECONDS * 1_000,
    ("failure", "CANCELLED"): CANCELLED,
    ("failure", "TIMED_OUT"): TIMED_OUT,
    ("failure", "WORKER_ENDED"): WORKER_ENDED,
    ("failure", "WILL_RETRY"): WILL_RETRY,
    ("names", "PROJECT_ID_RULE"): names.PROJECT_ID_RULE,
}


def source(name: str) -> str:
    return (PACKAGE / "src" / f"{name}.ts").read_text()


def value(written: str) -> Any:
    written = written.removesuffix(" as const")
    if written.startswith('"'):
        return written.strip('"')
    if written.startswith("["):
        return [float(item) for item in written.strip("[]").split(",")]
    number, _, shift = written.partition(" << ")
    return float(int(number) << int(shift or 0))


@pytest.mark.parametrize(("name", "constant"), FIGURES)
def test_a_figure_is_the_same_in_both_languages(name: str, constant: str) -> None:
    assert value(dict(CONSTANT.findall(source(name)))[constant]) == pytest.approx(FIGURES[name, constant])


@pytest.mark.parametrize("field", [name for name in events.RULES if name != "seq"])
def test_a_rule_has_the_same_words(field: str) -> None:
    rule = re.search(rf'^  "?{re.escape(field)}"?: ["`](.+)["`],$', source("fields"), re.MULTILINE)
    assert rule is not None
    words = rule[1]
    for name, number in (("MAX_SEQ", events.MAX_SEQ), *CONSTANT.findall(source("fields"))):
        words = words.replace("${" + name + "}", str(number).replace("_", ""))
    assert words == re.sub(r" \(in Python,.*\)", "", events.RULES[field])


def test_each_rule_has_a_test_in_both_languages() -> None:
    rows = ROW.findall((ROOT / "docs" / "publishing-ts.md").read_text())
    assert len(rows) > 25
    for python_file, function, typescript_file, title in rows:
        assert re.search(rf"def {function}\(", (ROOT / python_file).read_text()), (python_file, function)
        assert title in (PACKAGE / "tests" / typescript_file).read_text(), (typescript_file, title)
