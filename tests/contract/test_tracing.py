"""Traces through the whole system, of a publisher and a replica that each have a provider of their own."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .client import watching
from .deadlines import eventually
from .processes import Finished, Process, RedisServer, Replica, environment, free_port, run

PROVIDER = """
import sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
spans = open(sys.argv[1], "a")
exporter = ConsoleSpanExporter(out=spans, formatter=lambda span: span.to_json(indent=None) + "\\n")
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
"""
SERVE = PROVIDER + "from gateway.commands.cli import main; main(['serve'])"
WORK = """
from publisher import broadcast_to_project, track_job
def work(project):
    broadcast_to_project(project, {"type": "progress", "jobId": "one", "jobType": "audio", "progress": 40})
    with track_job(project, "two", "audio"):
        pass
"""
TRACED_WORK = PROVIDER + WORK + 'with trace.get_tracer("job").start_as_current_span("work"): work(sys.argv[2])'
PLAIN_WORK = WORK + "import sys; work(sys.argv[2])"


class TracedReplica(Replica):
    def __init__(self, redis_url: str, log: Path, spans: Path) -> None:
        self.port = free_port()
        env = environment(redis_url, GATEWAY_HOST="127.0.0.1", GATEWAY_PORT=self.port)
        Process.__init__(self, [sys.executable, "-c", SERVE, str(spans)], env, log)


@pytest.fixture
def traced_replica(redis_server: RedisServer, tmp_path: Path) -> Iterator[TracedReplica]:
    replica = TracedReplica(redis_server.url, tmp_path / "replica.log", tmp_path / "replica.spans")
    try:
        yield replica.wait_ready()
        assert replica.stop() == 0
        assert "Traceback" not in replica.log
    finally:
        replica.end()


def spans(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def publish(code: str, redis_server: RedisServer, file: Path, project: str) -> Finished:
    done = run([sys.executable, "-c", code, str(file), project], environment(redis_server.url), within=30)
    assert done.returncode == 0, done.stderr
    return done


async def test_a_trace_goes_from_the_job_to_the_delivery_and_not_to_the_browser(
    traced_replica: TracedReplica, redis_server: RedisServer, tmp_path: Path, project: str
) -> None:
    ours = tmp_path / "publisher.spans"
    async with watching(traced_replica.ws, project) as one, watching(traced_replica.ws, project) as two:
        publish(TRACED_WORK, redis_server, ours, project)
        for client in (one, two):
            events = await client.until(lambda message: message["type"] == "job_complete", "the end")
            assert not [event for event in events if "traceparent" in event]
    (work,) = [span for span in spans(ours) if span["name"] == "work"]
    created = [span for span in spans(ours) if span["name"] == "create job event"]
    assert len(created) >= 2
    assert {span["parent_id"] for span in created} == {work["context"]["span_id"]}
    await eventually(lambda: len(spans(tmp_path / "replica.spans")) >= len(created), "a span for each event")
    delivered = spans(tmp_path / "replica.spans")
    assert {span["name"] for span in delivered} == {"deliver job event"}
    assert {span["context"]["trace_id"] for span in delivered} == {work["context"]["trace_id"]}
    assert {span["parent_id"] for span in delivered} == {span["context"]["span_id"] for span in created}
    assert {span["attributes"]["progress.connections"] for span in delivered} == {2}
    async with watching(traced_replica.ws, project) as late:
        assert [event["jobId"] for event in await late.events(2)] == ["one", "two"]
        assert "traceparent" not in json.dumps(late.received)


async def test_control_a_publisher_without_a_provider_makes_no_spans(
    traced_replica: TracedReplica, redis_server: RedisServer, tmp_path: Path, project: str
) -> None:
    async with watching(traced_replica.ws, project) as client:
        publish(PLAIN_WORK, redis_server, tmp_path / "none", project)
        await client.until(lambda message: message["type"] == "job_complete", "the end")
    assert spans(tmp_path / "replica.spans") == []
    remembered = redis_server.command("HGETALL", redis_server.keys(project)[0])
    assert b"traceparent" not in b"".join(remembered.values())
