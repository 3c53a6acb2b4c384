"""Tracing: when it is on, and spans of batches."""

from secrets import token_hex

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from infra.processes.errors import StartupError
from infra.projecting.projector import Projector
from infra.recording.recorder import Recorder
from infra.tracing import is_enabled, is_requested, spans
from infra.tracing.selection import hub_class, projector_class, recorder_class, request_tracing
from readapi.push.hub import Hub

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """The spans that end during a test."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(spans, "_tracer", provider.get_tracer("tests"))
    return exporter


def traceparent() -> str:
    return f"00-{token_hex(16)}-{token_hex(8)}-01"


@pytest.mark.parametrize(
    ("variables", "requested"),
    [
        ({}, False),
        (ENDPOINT, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1"}, True),
        ({"OTEL_TRACES_EXPORTER": "console"}, True),
        ({"OTEL_TRACES_EXPORTER": ""}, False),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, False),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_the_environment_requests_traces(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], *, requested: bool
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert is_requested() is requested
    assert is_enabled() is requested
    classes = (recorder_class(), projector_class(), hub_class())
    assert (classes == (Recorder, Projector, Hub)) is not requested
    assert (request_tracing() is not None) is requested


def test_without_the_extra_nothing_is_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(*next(iter(ENDPOINT.items())))
    monkeypatch.setattr("infra.tracing.find_spec", lambda _: None)
    assert (is_requested(), is_enabled(), recorder_class()) == (True, False, Recorder)


def test_an_unknown_exporter_is_refused_before_the_processes_of_the_api_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "zipkin")
    with pytest.raises(StartupError, match="OTEL_TRACES_EXPORTER=zipkin: expected one of otlp, console, none"):
        request_tracing()


def test_a_batch_has_one_span_in_each_of_its_traces_up_to_a_bound(exported: InMemorySpanExporter) -> None:
    parents = [traceparent() for _ in range(spans.MAX_TRACES + 1)]
    with spans.BatchSpans("work", [None, *parents, *parents], {"events": 99}) as batch:
        assert len(batch.traceparents) == spans.MAX_TRACES
        assert batch.child_of(parents[0]) == batch.traceparents[0]
        assert batch.child_of(parents[-1]) == parents[-1], "a trace beyond the bound stays that of the producer"
        assert batch.child_of(None) is None
    ended = exported.get_finished_spans()
    assert [trace.format_trace_id(span.context.trace_id) for span in ended] == [each[3:35] for each in parents[:-1]]
    assert {len(span.links) for span in ended} == {spans.MAX_LINKS}


def test_a_failed_batch_is_marked_without_the_message_of_the_error(exported: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError, match="secret"), spans.BatchSpans("work", [traceparent()], {}):
        raise ValueError("secret")
    [span] = exported.get_finished_spans()
    assert (span.status.status_code, span.status.description, span.events) == (trace.StatusCode.ERROR, "ValueError", ())


def test_a_batch_without_traces_has_no_span(exported: InMemorySpanExporter) -> None:
    with spans.BatchSpans("work", [None, None], {}) as batch:
        assert batch.traceparents == ()
    assert exported.get_finished_spans() == ()
