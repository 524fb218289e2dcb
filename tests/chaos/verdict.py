"""Who holds what at the end of a round, beside what Redis remembers and what publishers were told.

A viewer has lost an event if, for a job of a project that it watches,

- Redis remembers the job, and the viewer holds another event of it, or none; or
- Redis was emptied since, and the viewer holds nothing as new as the last event whose seq a publisher was given, and
  was not told after that event that something may be missing (`recovered: false`). If it was told so, it holds what it
  had, and the job is in doubt: that is what a page shows.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tests.chaos.viewers import Event, Viewer

Remembered = Mapping[str, Mapping[str, Event]]
Taken = Mapping[tuple[str, str], int]


class Loss(NamedTuple):
    """What one viewer does not hold."""

    viewer: int
    project: str
    job: str
    held: int
    """The seq of what it holds; 0 for nothing."""
    due: int


class Verdict(NamedTuple):
    """Of one round."""

    held: int
    doubtful: int
    lost: list[Loss]


def remembered_by(hashes: Iterable[tuple[str, Mapping[bytes, bytes]]]) -> Remembered:
    """The last event of each job of each project, as Redis has it."""
    found = {}
    for project, fields in hashes:
        found[project] = {job.decode(): json.loads(event) for job, event in fields.items() if b"\n" in job}
    return found


def judge(
    viewers: Iterable[Viewer],
    remembered: Remembered,
    taken: Taken,
    *,
    handovers: Sequence[tuple[int, int]] | None = None,
) -> Verdict:
    """`handovers`: the last moments of primaries whose replicas took over, where there are such.

    There, a failover may take an event with it that a viewer was shown, and rightly holds still; and what a primary
    accepted in that moment, and nobody remembers, may have reached nobody.
    """
    forgotten: dict[str, dict[str, int]] = defaultdict(dict)
    for (project, job), seq in taken.items():
        is_last_breath = any(begin <= seq <= end for begin, end in handovers or ())
        if job not in remembered[project] and not is_last_breath:
            forgotten[project][job] = seq
    held, doubtful, lost = 0, 0, []
    for viewer in viewers:
        for project, picture in viewer.pictures.items():
            for job, event in remembered[project].items():
                has = picture.get(job)
                is_newer = handovers is not None and has is not None and has.seq > event["seq"]
                if has is not None and (has.message == event or is_newer):
                    held += 1
                else:
                    lost.append(Loss(viewer.number, project, job, has.seq if has else 0, event["seq"]))
            for job, seq in forgotten[project].items():
                has = picture.get(job)
                if has is not None and has.seq >= seq:
                    held += 1
                elif viewer.doubt_since[project] >= seq:
                    doubtful += 1
                else:
                    lost.append(Loss(viewer.number, project, job, has.seq if has else 0, seq))
    return Verdict(held, doubtful, lost)
