"""OpenTelemetry spans of deliveries, for events that carry their publisher's `traceparent`.

OpenTelemetry is not imported here: an application that set a provider has imported it.
"""

import re
import sys
import time
from collections.abc import Iterable
from typing import Any

from publisher.tracing import TRACER

# Matches only a key of the event: inside a JSON string the quotes would be escaped.
_TRACEPARENT = re.compile(rb'"traceparent":\s*"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})"')
SAMPLED = 1


class Tracing:
    """Makes the spans. One per replica."""

    def __init__(self, trace: Any) -> None:
        self._trace = trace
        self._tracer = trace.get_tracer(TRACER)

    def on_delivered(self, payloads: Iterable[bytes], sockets: int, started_ns: int) -> None:
        """End a span for each traced event, from `started_ns` until now, when it was written to all `sockets`."""
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
    """None if no provider is set (the `opentelemetry-instrument` command sets one)."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None or isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return None
    return Tracing(trace)
