"""Run the function of app.py once, without Inngest's server: `python examples/inngest/try_it.py`.

Beside `make run`, http://127.0.0.1:3001/?project=demo shows the job. `executor.py` stands in for Inngest's server.
"""

import asyncio
import logging
import os
import sys

os.environ.setdefault("INNGEST_DEV", "1")  # no signing key is needed
from app import app, make_video
from executor import Run


async def main() -> int:
    run = Run(app, make_video, {"projectId": "demo", "jobType": "video"}, event_name="video/make")
    print(f"Job {run.run_id} of project demo ...")
    status, outcome = await run.execute()
    print(f"{status} after {run.requests} requests: {outcome}")
    return 0 if status == "completed" else 1


if __name__ == "__main__":
    logging.getLogger("inngest").setLevel(logging.ERROR)
    sys.exit(asyncio.run(main()))
