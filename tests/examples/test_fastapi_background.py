"""FastAPI's background tasks, which nobody tries again."""

import asyncio
from types import ModuleType

import httpx
import pytest

from tests.examples.conftest import ITEMS, Audience, Load, Tries, Work

TRIES = Tries("pages")


@pytest.fixture
def example(load: Load, work: Work, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    example = load("fastapi_background")

    async def render(page: str) -> None:
        await asyncio.to_thread(work, page)

    monkeypatch.setattr(example, "render", render)
    monkeypatch.setattr(example, "PAGES", ITEMS)
    return example


async def post(example: ModuleType, project: str) -> httpx.Response:
    """Returns when the background task has ended too: there is no server in between."""
    transport = httpx.ASGITransport(example.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
        return await client.post(f"/projects/{project}/exports")


async def test_success(example: ModuleType, audience: Audience) -> None:
    response = await post(example, audience.project)
    assert (response.status_code, response.json()) == (202, {"jobId": audience.events[-1]["jobId"]})
    assert audience.story() == TRIES.success(0)


async def test_failure(example: ModuleType, audience: Audience, work: Work) -> None:
    work.failures = 1
    await post(example, audience.project)
    assert audience.story() == TRIES.failure(0)
