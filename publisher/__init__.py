"""Tell everybody who watches a project how its jobs go.

    from publisher import broadcast_to_project
    broadcast_to_project("project_1", {"type": "progress", "jobId": "job_7", "jobType": "audio", "progress": 40})

    with track_job("project_1", "job_7", "audio") as job:
        job.progress(40, "voice 2 of 5")

`publisher.aio` has the same for `async` code. The only setting is `REDIS_URL`.
"""

from publisher.client import broadcast_many, broadcast_to_project, last_event, revoke_viewer
from publisher.events import Event, JobComplete, JobFailed, JobType, Progress, Result
from publisher.outlet import outlets
from publisher.tracking import TrackedJob, current_job, track, track_job

disable, enable = outlets.disable, outlets.enable

__all__ = [
    "Event",
    "JobComplete",
    "JobFailed",
    "JobType",
    "Progress",
    "Result",
    "TrackedJob",
    "broadcast_many",
    "broadcast_to_project",
    "current_job",
    "disable",
    "enable",
    "last_event",
    "revoke_viewer",
    "track",
    "track_job",
]
