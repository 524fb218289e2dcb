"""What viewers see of runs, the same as from TypeScript's middleware: tests/stories/inngest.json.

The other half is publisher-js/tests/inngest/stories.ts. Of what is said twice only the first time counts.
"""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import inngest
import pytest

from examples.inngest.executor import Run, serve
from publisher.inngest import end_reporter, job_of, progress_middleware
from publisher.sender import sender
from tests.contract.processes import RedisServer
from tests.publisher.test_inngest import EVENT, Heard, data, ended, execute

STORIES = json.loads((Path(__file__).parents[1] / "stories" / "inngest.json").read_text())["stories"]


@pytest.fixture
def heard(redis_server: RedisServer, project: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Heard]:
    monkeypatch.setenv("REDIS_URL", redis_server.url)
    heard = Heard(redis_server, project)
    yield heard
    heard.close()


@pytest.fixture
def app() -> inngest.Inngest:
    return inngest.Inngest(app_id="studio", is_production=False, middleware=[progress_middleware()])


def lines(heard: Heard) -> list[list[Any]]:
    lines = [
        [
            event.get("attempt"),
            event.get("progress", event["type"]),
            event.get("message", event.get("error")),
            *([event["reason"]] if "reason" in event else []),
        ]
        for event in heard.events()
    ]
    return [line for index, line in enumerate(lines) if line not in lines[:index]]


async def sent() -> None:
    """Wait until all words were sent: else the latest wins."""
    await asyncio.to_thread(sender.flush, 20)


def three_steps(app: inngest.Inngest, fails: dict[str, int], end: Exception | None) -> inngest.Function[Any]:
    left = dict(fails)

    @app.create_function(fn_id="render", trigger=EVENT, retries=3)
    async def render(ctx: inngest.Context) -> dict[str, Any]:
        job = job_of(ctx)
        await sent()

        async def say(percent: float, message: str) -> None:
            job.progress(percent, message)
            await sent()

        async def step(name: str, percent: float) -> None:
            async def work() -> None:
                if left.get(name, 0) > 0:
                    left[name] -= 1
                    raise ValueError(f"{name} broke")
                await say(percent, name)

            await ctx.step.run(name, work)
            await say(percent + 1, f"after {name}")

        await step("one", 30)
        await step("two", 60)
        await step("three", 90)
        if end is not None:
            raise end
        return {"file": "cat.mp4", "duration": 3.5}

    return render


@pytest.mark.parametrize(
    ("name", "fails", "error", "options"),
    [
        ("three steps", {}, None, {}),
        ("three steps", {}, None, {"event_name": "inngest/function.invoked"}),  # a child is a job of its own
        ("a step is tried three times", {"two": 2}, None, {}),
        ("a step fails for good", {"two": 9}, None, {}),
        ("the function fails for good", {}, ValueError("no disk"), {"max_attempts": 2}),
    ],
)
def test_three_steps(
    heard: Heard,
    app: inngest.Inngest,
    name: str,
    fails: dict[str, int],
    error: Exception | None,
    options: dict[str, Any],
) -> None:
    execute(app, three_steps(app, fails, error), data(heard), **options)
    assert lines(heard) == STORIES[name]


def test_a_run_that_is_cancelled(heard: Heard, app: inngest.Inngest) -> None:
    @app.create_function(fn_id="render", trigger=EVENT)
    async def render(ctx: inngest.Context) -> None:
        await sent()
        job_of(ctx).progress(40, "half")
        await sent()
        await ctx.step.sleep("a night", 1)

    asyncio.run(Run(serve(app, render), render, data(heard), run_id="run").request("step", 0))
    execute(app, end_reporter(app), ended(heard, "cancelled"), event_name="inngest/function.cancelled")
    assert lines(heard) == STORIES["a run is cancelled"]
