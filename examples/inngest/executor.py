"""A stand-in for Inngest's server, for trying the example and for tests: it sends the requests to the app.

It calls the function again for each step with the results so far. Attempts are counted from 0 in each step, up to
`max_attempts`. The function receives the error of a step that failed for good. The steps of a parallel group are
planned one by one.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import fastapi
import httpx
import inngest

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # the SDK configures a model in a way that pydantic deprecates
    import inngest.fast_api

ROOT = "step"


@dataclass
class Run:
    """One run of a function."""

    app: fastapi.FastAPI
    function: inngest.Function[Any]
    data: dict[str, Any]
    max_attempts: int = 4
    run_id: str = field(default_factory=lambda: uuid4().hex)
    steps: dict[str, Any] = field(default_factory=dict)
    requests: int = 0
    has_planned: bool = False
    before_request: Callable[[int], None] = lambda number: None
    event_name: str = "test"

    async def execute(self) -> tuple[str, Any]:
        """Run the function to its end; returns ("completed", output) or ("failed", error)."""
        attempt = 0
        while True:
            response = await self.request(ROOT, attempt)
            if response.status_code == 200:
                return "completed", response.json()
            if response.status_code != 206:
                if self._is_final(response, attempt):
                    return "failed", response.json()
                attempt += 1
                continue
            ops = response.json()
            planned = [op for op in ops if op["op"] == "StepPlanned"]
            for op in planned:
                self.has_planned = True
                await self._execute_planned(op["id"])
            if planned:
                continue
            attempt = self._take(ops[0], response, attempt)

    async def _execute_planned(self, step_id: str) -> None:
        attempt = 0
        while step_id not in self.steps:
            response = await self.request(step_id, attempt)
            assert response.status_code == 206, response.text
            attempt = self._take(response.json()[0], response, attempt)

    def _take(self, op: dict[str, Any], response: httpx.Response, attempt: int) -> int:
        """Remember the result of a step; returns the number of the next attempt."""
        if op["op"] in ("StepError", "StepFailed"):
            if not self._is_final(response, attempt):
                return attempt + 1
            self.steps[op["id"]] = {"error": op["error"]}
        elif op["op"] == "Sleep":
            self.steps[op["id"]] = None
        else:
            self.steps[op["id"]] = {"data": op.get("data")}
        return 0

    def _is_final(self, response: httpx.Response, attempt: int) -> bool:
        return response.headers.get("x-inngest-no-retry") == "true" or attempt + 1 >= self.max_attempts

    async def request(self, step_id: str, attempt: int) -> httpx.Response:
        """Call the function once, with the request that Inngest's executor would send."""
        self.before_request(self.requests)
        self.requests += 1
        event = {"name": self.event_name, "data": self.data, "id": "", "ts": 0}
        body = {
            "ctx": {
                "attempt": attempt,
                "disable_immediate_execution": self.has_planned,
                "max_attempts": self.max_attempts,
                "run_id": self.run_id,
                "stack": {"stack": list(self.steps)},
            },
            "event": event,
            "events": [event],
            "steps": self.steps,
            "use_api": False,
        }
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://app.test") as client:
            return await client.post(
                "/api/inngest",
                params={"fnId": self.function.id, "stepId": step_id},
                json=body,
                headers={"x-inngest-server-kind": "dev"},
            )


def serve(client: inngest.Inngest, *functions: inngest.Function[Any]) -> fastapi.FastAPI:
    """An app that serves the functions."""
    app = fastapi.FastAPI()
    inngest.fast_api.serve(app, client, list(functions))
    return app
