"""Events as job handlers write them."""

from typing import Any


def progress(job: str, percent: float = 0, **more: object) -> dict[str, Any]:
    return {"type": "progress", "jobId": job, "jobType": "audio", "progress": percent, **more}


def complete(job: str, **more: object) -> dict[str, Any]:
    return {"type": "job_complete", "jobId": job, "jobType": "audio", "result": {}, **more}


def failed(job: str, error: str = "it broke", **more: object) -> dict[str, Any]:
    return {"type": "job_failed", "jobId": job, "jobType": "audio", "error": error, **more}
