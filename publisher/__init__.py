"""Tell everybody who watches a project how its jobs go.

    from publisher import broadcast_to_project
    broadcast_to_project("project_1", {"type": "progress", "jobId": "job_7", "jobType": "audio", "progress": 40})

`publisher.aio` has the same function for `async` code. The only setting is `REDIS_URL`.
"""

from publisher.client import broadcast_many, broadcast_to_project, last_event
from publisher.events import Event, JobComplete, JobFailed, JobType, Progress, Result

__all__ = [
    "Event",
    "JobComplete",
    "JobFailed",
    "JobType",
    "Progress",
    "Result",
    "broadcast_many",
    "broadcast_to_project",
    "last_event",
]
