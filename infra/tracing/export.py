"""The export of spans, configured by the standard environment variables of OpenTelemetry."""

import os
from collections.abc import Callable

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter

from infra.processes.errors import StartupError


def start_export(role: str) -> Callable[[], None]:
    """Start the export of this process. A provider that a host application has set stays, and exports the spans.

    Args:
        role: The role of the process.

    Returns:
        A function that exports the last spans and ends the export.

    Raises:
        StartupError: The environment names an exporter that TickView does not know.
    """
    if isinstance(trace.get_tracer_provider(), TracerProvider):
        return lambda: None
    # The library reads the sampler and further attributes from the environment.
    name = os.environ.get("OTEL_SERVICE_NAME", "tickview")
    provider = TracerProvider(resource=Resource.create({"service.name": name, "tickview.role": role}))
    provider.add_span_processor(BatchSpanProcessor(_exporter()))
    trace.set_tracer_provider(provider)
    return provider.shutdown


def check_exporter() -> str:
    """Return the name of the exporter. Raises StartupError if TickView does not know it."""
    name = os.environ.get("OTEL_TRACES_EXPORTER") or "otlp"
    if name not in ("otlp", "console"):
        raise StartupError(f"OTEL_TRACES_EXPORTER={name}: expected one of otlp, console, none")
    return name


def _exporter() -> SpanExporter:
    if check_exporter() == "console":
        return ConsoleSpanExporter()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()
