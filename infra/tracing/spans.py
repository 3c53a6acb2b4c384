"""Spans of a batch: one in each trace that takes part, so that the work on many events stays one piece of work."""

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Self

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

MAX_TRACES = 32
"""Highest number of traces that are followed through one batch. The events of further traces are processed alike."""

MAX_LINKS = 8
"""Highest number of links from a span of a batch to other traces of the batch."""

Attributes = Mapping[str, str | int]

_tracer = trace.get_tracer("tickview")
_propagator = TraceContextTextMapPropagator()


def start_span(name: str, traceparent: str | None, kind: SpanKind, attributes: Attributes) -> Span:
    """Start a span. Its parent is that of ``traceparent``; without it, the span begins a trace."""
    return _tracer.start_span(name, _context(traceparent), kind, attributes)


def traceparent_of(span: Span) -> str:
    """Return the ``traceparent`` under which later spans are children of a span."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier, trace.set_span_in_context(span))
    return carrier["traceparent"]


def fail(span: Span, error: BaseException) -> None:
    """Mark a span as failed, without the message of the error, which may contain data."""
    span.set_status(StatusCode.ERROR, type(error).__name__)


class BatchSpans:
    """The spans of one piece of work on a batch: one in each trace of the batch, with links to the others.

    Args:
        name: The name of the spans.
        traceparents: The ``traceparent`` of each event of the batch, or None for events without a trace.
        attributes: The attributes of all spans.
    """

    def __init__(self, name: str, traceparents: Iterable[str | None], attributes: Attributes) -> None:
        parents = list(dict.fromkeys(filter(None, traceparents)))[:MAX_TRACES]
        contexts = {parent: trace.get_current_span(_context(parent)).get_span_context() for parent in parents}
        self._spans = {
            parent: _tracer.start_span(
                name,
                _context(parent),
                SpanKind.CONSUMER,
                attributes,
                [Link(contexts[other]) for other in parents if other != parent][:MAX_LINKS],
            )
            for parent in parents
        }
        self._children = {parent: traceparent_of(span) for parent, span in self._spans.items()}

    @property
    def traceparents(self) -> tuple[str, ...]:
        """The ``traceparent`` of each span, under which the next piece of work continues."""
        return tuple(self._children.values())

    def child_of(self, traceparent: str | None) -> str | None:
        """Return the ``traceparent`` of the span that continues a trace of the batch."""
        return None if traceparent is None else self._children.get(traceparent, traceparent)

    def end(self, error: BaseException | None = None) -> None:
        """End the spans. Spans with an error are marked as failed."""
        for span in self._spans.values():
            if error is not None:
                fail(span, error)
            span.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self.end(error)


def _context(traceparent: str | None) -> Context:
    """Return the context of a ``traceparent``, and of nothing that the calling thread does beside it."""
    return _propagator.extract({"traceparent": traceparent} if traceparent else {}, Context())
