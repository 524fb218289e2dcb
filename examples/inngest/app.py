"""An Inngest function with progress: it makes a video in three steps, one of which sometimes fails.

    pip install '/path/to/checkout[inngest]' fastapi uvicorn
    INNGEST_DEV=1 uvicorn --app-dir examples/inngest app:app --port 8000
    npx inngest-cli@latest dev -u http://127.0.0.1:8000/api/inngest
    curl -X POST http://127.0.0.1:8000/videos/demo

Beside `make run`, http://127.0.0.1:3001/?project=demo shows the job. `try_it.py` runs it without Inngest's server.
"""

import asyncio
import random

import fastapi
import inngest
import inngest.fast_api

from publisher.inngest import end_reporter, job_of, progress_middleware

client = inngest.Inngest(app_id="studio", middleware=[progress_middleware()])

SENTENCES = ("s1", "s2", "s3")


@client.create_function(fn_id="make-video", trigger=inngest.TriggerEvent(event="video/make"), retries=3)
async def make_video(ctx: inngest.Context) -> dict[str, str | float]:
    """The event carries `projectId` and `jobType`; the middleware publishes begin, end and failure."""
    job = job_of(ctx)

    async def write() -> list[str]:
        for percent in range(0, 30, 5):
            job.progress(percent, "writing the script")
            await asyncio.sleep(0.3)
        return [f"text of {sentence}" for sentence in SENTENCES]

    async def record() -> None:
        for number, sentence_id in enumerate(SENTENCES, 1):
            async with job.sentence(sentence_id) as sentence:  # each sentence has its own bar
                for percent in range(0, 100, 20):
                    sentence.progress(percent, f"voice {number}")
                    await asyncio.sleep(0.1)
            job.progress(30 + 10 * number, f"voice {number} of {len(SENTENCES)}")

    async def render() -> str:
        for percent in range(60, 100, 5):
            if random.random() < 0.05:
                raise OSError("the renderer ran out of memory")  # Inngest tries this step again
            job.progress(percent, "rendering")
            await asyncio.sleep(0.3)
        return "video.mp4"

    await ctx.step.run("write", write)
    await ctx.step.run("record", record)
    return {"file": await ctx.step.run("render", render), "duration": 31.25}  # the result of `job_complete`


functions = [make_video, end_reporter(client)]  # the reporter publishes the end of cancelled runs and dead workers
app = fastapi.FastAPI()
inngest.fast_api.serve(app, client, functions)


@app.post("/videos/{project_id}")
async def order_video(project_id: str) -> None:
    data = {"projectId": project_id, "jobType": "video"}
    await client.send(inngest.Event(name="video/make", data=data))
