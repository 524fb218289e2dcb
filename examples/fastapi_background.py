"""A FastAPI background task with progress.

Beside `make run`, with http://127.0.0.1:3001/?project=demo open, in a second terminal:

    .venv/bin/uvicorn examples.fastapi_background:app --port 8000

and in a third one:

    curl -X POST http://127.0.0.1:8000/projects/demo/exports
"""

import asyncio
from uuid import uuid4

from fastapi import BackgroundTasks, FastAPI

from publisher.aio import current_job, track_job

app = FastAPI()

PAGES = ["cover", "text", "index", "back"]


@app.post("/projects/{project_id}/exports", status_code=202)
async def start_export(project_id: str, background: BackgroundTasks) -> dict[str, str]:
    job_id = uuid4().hex
    background.add_task(export, project_id, job_id)
    return {"jobId": job_id}


@track_job("{project_id}", "{job_id}", "export")
async def export(project_id: str, job_id: str) -> None:
    job = current_job()
    for page in job.track(PAGES, "{n} of {total} pages"):
        await render(page)
    await job.complete(file=f"{job_id}.pdf")


async def render(page: str) -> None:
    """Stands for the work of your task."""
    await asyncio.sleep(1)
