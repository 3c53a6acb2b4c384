"""Traces by OpenTelemetry: the spans of record, fold, commit, push and requests, and their export.

The parts of TickView do not know about spans. Subclasses in this package replace them where tracing is on, so that it
costs nothing where it is off. docs/traces.md describes the spans.

This module imports nothing of OpenTelemetry, which may not be installed.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import structlog

logger = structlog.get_logger()

_EXPORTER = "OTEL_TRACES_EXPORTER"
_VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", _EXPORTER)


def is_requested() -> bool:
    """Return whether the environment requests traces: it names an exporter or an endpoint, and turns none off."""
    is_off = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or os.environ.get(_EXPORTER) == "none"
    return not is_off and any(os.environ.get(name) for name in _VARIABLES)


def is_enabled() -> bool:
    """Return whether this process traces: the environment requests it, and the extra ``otel`` is installed."""
    return is_requested() and find_spec("opentelemetry") is not None and find_spec("opentelemetry.sdk") is not None


@contextmanager
def tracing(role: str) -> Iterator[None]:
    """Export the spans of this process until the context ends, if tracing is on.

    Enter the context in the process that makes the spans, never before a fork.

    Args:
        role: The role of the process, which all its spans name.

    Raises:
        StartupError: The environment names an exporter that TickView does not know.
    """
    if not is_enabled():
        if is_requested():
            logger.warning("no traces: the extra is not installed, pip install 'tickview[otel]'")
        yield
        return
    from infra.tracing.export import start_export

    stop_export = start_export(role)
    try:
        yield
    finally:
        stop_export()
