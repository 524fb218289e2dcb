"""Spans of deliveries (OpenTelemetry), for events that carry the `traceparent` of their publisher.

Nothing of OpenTelemetry is imported here: who has set a provider has imported it.
"""

import re
import sys
import time
from collections.abc import Iterable
from typing import Any

from publisher.tracing import TRACER

# As a key of an event: within a JSON text the quotes would have backslashes.
_TRACEPARENT = re.compile(rb'"traceparent":\s*"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})"')
SAMPLED = 1


class Tracing:
    """Made once for a replica."""

    def __init__(self, trace: Any) -> None:
        self._trace = trace
        self._tracer = trace.get_tracer(TRACER)

    def on_delivered(self, payloads: Iterable[bytes], sockets: int, started_ns: int) -> None:
        """A span for each event that is traced: from when it was taken to its write to the last of these sockets."""
        for payload in payloads:
            found = _TRACEPARENT.search(payload)
            if found is None or not int(found[3], 16) & SAMPLED:
                continue
            span = self._tracer.start_span(
                "deliver job event",
                self._parent(found),
                kind=self._trace.SpanKind.CONSUMER,
                attributes={"progress.connections": sockets},
                start_time=started_ns,
            )
            span.end(time.time_ns())

    def _parent(self, found: re.Match[bytes]) -> Any:
        trace = self._trace
        parent = trace.SpanContext(
            int(found[1], 16), int(found[2], 16), is_remote=True, trace_flags=trace.TraceFlags(int(found[3], 16))
        )
        return trace.set_span_in_context(trace.NonRecordingSpan(parent))


def tracing() -> Tracing | None:
    """None where nobody has set a provider (the `opentelemetry-instrument` command does)."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None or isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return None
    return Tracing(trace)
