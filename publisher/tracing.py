"""The trace of an event (OpenTelemetry, W3C Trace Context), if the program has traces.

OpenTelemetry is not imported here: a program that has not imported it has no provider, and an event costs one look into
`sys.modules`. Where it is imported (redis-py 8 does) and no span is open, an event costs a microsecond. The trace goes
into `traceparent`, a field beside those of the event. Gateways read it and do not send it to browsers.
"""

import logging
import sys
from typing import Any

logger = logging.getLogger("publisher")

TRACER = "progress-gateway"


def context_now() -> Any:
    """The caller's context, for events that another thread sends later; None without traces."""
    trace = sys.modules.get("opentelemetry.trace")
    context = sys.modules.get("opentelemetry.context")
    if trace is None or context is None or not trace.get_current_span().get_span_context().is_valid:
        return None
    return context.get_current()


def with_trace(payload: bytes, context: Any = None) -> bytes:
    """An event's JSON with the `traceparent` of a new span, whose parent is the span of `context` or of the caller."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return payload
    try:
        if not trace.get_current_span(context).get_span_context().is_valid:
            return payload  # without a parent, each event would be a trace of its own
        span = trace.get_tracer(TRACER).start_span("create job event", context, kind=trace.SpanKind.PRODUCER)
        span.end()
        made = span.get_span_context()
        parent = b"00-%032x-%016x-%02x" % (made.trace_id, made.span_id, made.trace_flags)
    except Exception:  # a bug in an exporter or a sampler must not cost the event
        logger.debug("No trace for an event", exc_info=True)
        return payload
    return payload[:-1] + b',"traceparent":"' + parent + b'"}'
