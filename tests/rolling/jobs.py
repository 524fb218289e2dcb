"""A job process: jobs of a few events each, until its standard input ends; then it says what it published.

So every job has one end, which nothing replaces: a viewer that lacks one has lost it. With a name, which its jobs then
begin with, it runs each job in two attempts. It knows only what version 0.1 of the publisher knows, too.
"""

import json
import random
import select
import sys
import time

from publisher import broadcast_to_project

STEPS = 3


def main() -> None:
    projects, rate = int(sys.argv[1]), float(sys.argv[2])
    name = sys.argv[3] if len(sys.argv) > 3 else ""
    dice = random.Random(1)
    running: dict[str, int] = {}
    ends: list[tuple[str, str]] = []
    number = events = 0
    while not select.select([sys.stdin], [], [], dice.uniform(0, 2 / rate))[0]:
        if len(running) < 3 * projects:
            running[f"{name or 'job'}_{number}"] = 0
            number += 1
        job = dice.choice(list(running))
        project = f"p{int(job.split('_')[1]) % projects}"
        running[job] += 1
        event: dict[str, object] = {"jobId": job, "jobType": "audio"}
        if name:
            event["attempt"] = min(running[job] - 1, 1)
        if running[job] > STEPS:
            del running[job]
            ends.append((project, job))
            seq = broadcast_to_project(project, event | {"type": "job_complete", "result": {"file": f"{job}.mp3"}})
        else:
            seq = broadcast_to_project(project, event | {"type": "progress", "progress": 30 * running.get(job, 0)})
        assert seq is not None, "nothing here is refused"
        events += 1
    time.sleep(0.1)
    print(json.dumps({"events": events, "ends": ends}), flush=True)


if __name__ == "__main__":
    main()
