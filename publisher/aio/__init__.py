"""The same as `publisher`, for `async` code.

from publisher.aio import broadcast_to_project, track_job

await broadcast_to_project("project_1", {"type": "progress", "jobId": "job_7", "jobType": "audio", "progress": 40})

async with track_job("project_1", "job_7", "audio") as job:
    job.progress(40, "voice 2 of 5")
"""

from publisher.aio.client import broadcast_many, broadcast_to_project, last_event, revoke_viewer
from publisher.aio.tracking import AsyncTrackedJob, current_job, track, track_job

__all__ = [
    "AsyncTrackedJob",
    "broadcast_many",
    "broadcast_to_project",
    "current_job",
    "last_event",
    "revoke_viewer",
    "track",
    "track_job",
]
