"""Tracing: an event carries its publisher's trace and a replica continues it; without a provider nothing happens."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from gateway.operations.tracing import SAMPLED, Tracing, tracing
from publisher.events import event_from_json
from publisher.job_state import JobState
from publisher.publication import Publication
from publisher.settings import PublisherSettings
from publisher.tracing import with_trace
from tests.fakes import FakeClient, new_hub, progress

PLAIN = progress("job", 40)
EVENT = {"type": "progress", "jobId": "job", "jobType": "audio", "progress": 40}


class Traces:
    """A provider of the test's own: the global one can be set only once in a process."""

    def __init__(self, **options: Any) -> None:
        self.provider = TracerProvider(**options)
        self._exporter = InMemorySpanExporter()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        names = {name: getattr(trace, name) for name in dir(trace)}
        self.module = SimpleNamespace(
            **names | {"get_tracer": self.provider.get_tracer, "get_tracer_provider": lambda: self.provider}
        )

    def span(self, name: str) -> Any:
        return self.provider.get_tracer("test").start_as_current_span(name)

    def taken(self, name: str) -> list[ReadableSpan]:
        return [span for span in self._exporter.get_finished_spans() if span.name == name]


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch) -> Iterator[Traces]:
    traces = Traces()
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", traces.module)
    yield traces
    traces.provider.shutdown()


def traceparent(payload: bytes) -> str | None:
    found: str | None = json.loads(payload).get("traceparent")
    return found


# The publisher


def test_an_event_carries_a_span_below_the_callers(traces: Traces) -> None:
    with traces.span("work") as work:
        payload = with_trace(PLAIN)
    (created,) = traces.taken("create job event")
    assert created.kind is trace.SpanKind.PRODUCER
    assert created.parent is not None
    assert created.context is not None
    assert created.parent.span_id == work.get_span_context().span_id
    sent = traceparent(payload)
    assert sent is not None
    assert sent[:-2] == f"00-{created.context.trace_id:032x}-{created.context.span_id:016x}-"
    assert int(sent[-2:], 16) & SAMPLED
    assert {**json.loads(payload), "traceparent": None} == {**json.loads(PLAIN), "traceparent": None}
    assert event_from_json(payload) == event_from_json(PLAIN)


def test_what_nobody_follows_is_not_traced(traces: Traces) -> None:
    assert with_trace(PLAIN) == PLAIN
    assert traces.taken("create job event") == []


def test_without_opentelemetry_nothing_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "opentelemetry.trace")
    assert with_trace(PLAIN) == PLAIN


def test_a_tracer_that_fails_does_not_cost_the_event(traces: Traces) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError

    traces.module.get_tracer = fail
    with traces.span("work"):
        assert with_trace(PLAIN) == PLAIN


def test_a_tracked_job_is_traced_though_another_thread_sends_it(traces: Traces) -> None:
    with traces.span("work") as work:
        state = JobState(PublisherSettings(), "p", job_id="j", job_type="audio")
    (event,) = state.take()
    sent = traceparent(state.publication(event).payload)
    assert sent is not None
    assert sent.split("-")[1] == f"{work.get_span_context().trace_id:032x}"


@pytest.mark.parametrize("module", ["publisher", "gateway.commands.cli", "gateway.operations.tracing"])
def test_nobody_needs_what_is_not_used(module: str) -> None:
    """redis-py imports OpenTelemetry where it is installed; ours import none."""
    code = f"import sys; sys.modules['opentelemetry'] = None; import {module}; print('loaded')"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "loaded\n"


# The gateway


def traced(traces: Traces) -> tuple[bytes, str]:
    """An event of a traced publisher, and its `traceparent`."""
    with traces.span("work"):
        payload = Publication.of("p", EVENT, "").payload
    parent = traceparent(payload)
    assert parent is not None
    return payload, parent


async def test_a_delivery_is_a_span_below_the_publishers_and_no_client_sees_that(traces: Traces) -> None:
    payload, parent = traced(traces)
    hub, _ = new_hub()
    clients = [FakeClient(hub) for _ in range(2)]
    for client in clients:
        client.subscribe("p")
    hub.on_loaded("project:p", {})
    before = time.time_ns()
    hub.on_events({b"project:p": [PLAIN, payload, b"junk"]})
    (span,) = traces.taken("deliver job event")
    assert span.kind is trace.SpanKind.CONSUMER
    assert span.parent is not None
    assert parent[:-2] == f"00-{span.parent.trace_id:032x}-{span.parent.span_id:016x}-"
    assert span.parent.is_remote
    assert span.attributes == {"progress.connections": 2}
    assert span.start_time is not None
    assert span.end_time is not None
    assert before <= span.start_time <= span.end_time <= time.time_ns()
    late = FakeClient(hub)
    late.subscribe("p")
    for client in (*clients, late):
        assert [message for message in client.told() if "traceparent" in message] == []


async def test_a_remembered_event_is_given_without_its_trace(traces: Traces) -> None:
    payload, _ = traced(traces)
    hub, _ = new_hub()
    client = FakeClient(hub)
    client.subscribe("p")
    hub.on_loaded("project:p", {b"seq": b"5", b"from": b"1", b"job\n": b'{"seq":5,' + payload[1:]})
    told = client.told()
    assert [message["type"] for message in told] == ["connected", "subscribed", "progress"]
    assert not [message for message in told if "traceparent" in message]


@pytest.mark.parametrize(
    "field",
    [
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",  # not sampled
        "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "00-0af7-b7ad6b7169203331-01",
        "x" * 100_000,
        "",
    ],
)
async def test_what_is_no_traceparent_is_no_span(traces: Traces, field: str) -> None:
    Tracing(traces.module).on_delivered([PLAIN[:-1] + b',"traceparent":"%s"}' % field.encode()], 1, 0)
    assert traces.taken("deliver job event") == []


async def test_a_text_that_looks_like_a_field_is_none(traces: Traces) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    Tracing(traces.module).on_delivered([progress("job", 1, message=f'"traceparent":"{parent}"')], 1, 0)
    assert traces.taken("deliver job event") == []


async def test_an_invalid_parent_ends_nothing(traces: Traces) -> None:
    zero = f"00-{0:032x}-{0:016x}-01"
    Tracing(traces.module).on_delivered([PLAIN[:-1] + b',"traceparent":"%s"}' % zero.encode()], 1, time.time_ns())


def test_without_a_provider_a_replica_has_no_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tracing() is None, "the API alone is no provider"
    monkeypatch.delitem(sys.modules, "opentelemetry.trace")
    assert tracing() is None


def test_what_is_not_sampled_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    traces = Traces(sampler=ALWAYS_OFF)
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", traces.module)
    payload, parent = traced(traces)
    assert not int(parent[-2:], 16) & SAMPLED
    Tracing(traces.module).on_delivered([payload], 1, 0)
    assert traces.taken("deliver job event") == []
