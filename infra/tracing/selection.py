"""The classes that take part in traces: those with spans if this process traces, else those without.

The imports are in the functions, because OpenTelemetry may not be installed, and because the hub imports
``prometheus_client``, which must not be imported before ``tickview serve`` has named its folder.
"""

from typing import TYPE_CHECKING

from infra.projecting.projector import Projector
from infra.recording.recorder import Recorder
from infra.tracing import is_enabled

if TYPE_CHECKING:
    from readapi.push.hub import Hub


def recorder_class() -> type[Recorder]:
    """Return the class of recorders."""
    if not is_enabled():
        return Recorder
    from infra.tracing.recording import TracedRecorder

    return TracedRecorder


def projector_class() -> type[Projector]:
    """Return the class of projectors."""
    if not is_enabled():
        return Projector
    from infra.tracing.projecting import TracedProjector

    return TracedProjector


def hub_class() -> "type[Hub]":
    """Return the class of live push."""
    from readapi.push.hub import Hub

    if not is_enabled():
        return Hub
    from infra.tracing.pushing import TracedHub

    return TracedHub


def request_tracing() -> object | None:
    """Return the Falcon middleware that traces requests. None if this process does not trace.

    Raises:
        StartupError: The environment names an exporter that TickView does not know.
    """
    if not is_enabled():
        return None
    from infra.tracing.export import check_exporter
    from infra.tracing.requests import TracedRequests

    check_exporter()
    return TracedRequests()
