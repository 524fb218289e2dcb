"""The trace that an event belongs to (OpenTelemetry, W3C Trace Context), if the program has traces at all.

Nothing of OpenTelemetry is imported here: where nobody has imported it, nobody has set a provider, and an event costs
one look into a dict; where it is there and no span is open (redis-py 8 imports it), a microsecond. `traceparent` is a
field beside those of the event: gateways read it, and drop it like every field that they do not know, so that no
browser sees it.
"""

import logging
import sys
from typing import Any

logger = logging.getLogger("publisher")

TRACER = "progress-gateway"


def context_now() -> Any:
    """The context of the caller, for what is published later by another thread; None without traces."""
    trace = sys.modules.get("opentelemetry.trace")
    context = sys.modules.get("opentelemetry.context")
    if trace is None or context is None or not trace.get_current_span().get_span_context().is_valid:
        return None
    return context.get_current()


def with_trace(payload: bytes, context: Any = None) -> bytes:
    """An event's JSON with the `traceparent` of a span for it, below the span of `context`, or of the caller."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return payload
    try:
        if not trace.get_current_span(context).get_span_context().is_valid:
            return payload  # nobody follows this; each event as a trace of its own would help nobody
        span = trace.get_tracer(TRACER).start_span("create job event", context, kind=trace.SpanKind.PRODUCER)
        span.end()
        made = span.get_span_context()
        parent = b"00-%032x-%016x-%02x" % (made.trace_id, made.span_id, made.trace_flags)
    except Exception:  # of an exporter or a sampler: the event matters more
        logger.debug("No trace for an event", exc_info=True)
        return payload
    return payload[:-1] + b',"traceparent":"' + parent + b'"}'
