"""Traces of real processes, exported to a collector: from a producer through every role to the request for the row."""

from collections.abc import Iterator
from contextlib import ExitStack
from secrets import token_hex

import httpx
import orjson
import pytest
from redis import Redis

from domain.wire import INGEST_STREAM, PATTERNS
from tests.collector import CollectedSpan, Collector, running_collector
from tests.processes.api_service import api, detection
from tests.processes.push_clients import receive, receive_changes, websocket
from tests.processes.roles import running_role, wait_until


class Trace:
    """A trace that a producer or a client begins."""

    def __init__(self) -> None:
        self.id, self.span_id = token_hex(16), token_hex(8)
        self.parent = f"00-{self.id}-{self.span_id}-01"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with running_collector() as collector:
        yield collector


@pytest.fixture
def client(redis_url: str, collector: Collector, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx.Client]:
    """All roles, with traces. Their last spans are exported at their end."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    with ExitStack() as stack:
        for role in ("record", "project"):
            stack.enter_context(running_role(role, redis_url=redis_url))
        yield stack.enter_context(api(redis_url, api_processes=1))


def named(spans: list[CollectedSpan], name: str, **attributes: str) -> list[CollectedSpan]:
    """Return the spans of a name with these attributes, whose names are without ``tickview.``."""
    wanted = {f"tickview.{key}": value for key, value in attributes.items()}
    return [span for span in spans if span.name == name and wanted.items() <= span.attributes.items()]


def folded_events(spans: list[CollectedSpan]) -> int:
    """Return the number of events in the batches that patterns has committed."""
    return sum(int(span.attributes["tickview.events"]) for span in named(spans, "commit", read_model="patterns"))


def wait_for_spans(collector: Collector, trace: Trace, *names: str, events: int = 1) -> list[CollectedSpan]:
    """Wait until spans of all these names, and commits of so many events, have arrived. Return the trace's spans."""

    def have_arrived() -> bool:
        spans = collector.of_trace(trace.id)
        return {*names} <= {span.name for span in spans} and folded_events(spans) >= events

    wait_until(have_arrived, f"spans {names} and commits of {events} events arrive")
    return collector.of_trace(trace.id)


def test_one_trace_leads_from_the_producer_to_the_request_for_the_row(
    client: httpx.Client, redis: Redis, collector: Collector
) -> None:
    trace = Trace()
    with websocket(client, "/ws?symbols=TRACED") as connection:
        assert receive(connection)["type"] == "ready"
        message = {**detection("TRACED"), "traceparent": trace.parent}
        redis.xadd(INGEST_STREAM, {"channel": PATTERNS, "payload": orjson.dumps(message)})
        pushed = receive_changes(connection)
    [traceparent], [change] = pushed["traceparents"], pushed["changes"]
    row = client.get(f"/api/patterns/{change['pattern']['id']}", headers={"traceparent": traceparent})
    assert row.json()["pattern"]["symbol"] == "TRACED"
    scanned = client.get("/api/patterns/scan?symbols=TRACED", headers={"traceparent": traceparent})
    assert scanned.json()["pagination"]["total"] == 1

    request, scan = "GET /api/patterns/{pattern_id:path}", "GET /api/patterns/scan"
    spans = wait_for_spans(collector, trace, "record", "push", request, scan)
    [record] = named(spans, "record")
    [fold] = named(spans, "fold", read_model="patterns")
    [commit] = named(spans, "commit", read_model="patterns")
    [push] = named(spans, "push", read_model="patterns")
    [answer] = named(spans, request)
    chain = [record, fold, commit, push, answer]
    assert [span.role for span in chain] == ["record", "project", "project", "serve", "serve"]
    assert [span.parent_id for span in chain] == [trace.span_id, *(span.span_id for span in chain[:-1])]
    assert traceparent == f"00-{trace.id}-{push.span_id}-01"
    assert {span.trace_id for span in collector.spans} == {trace.id}, "requests without a sampled parent are not traced"
    [event] = client.post("/api/events", json=detection("UNTRACED")).json()["events"]
    [(_, entry)] = redis.xrevrange(f"tickview:{{{event['log']}}}:log", count=1)
    assert entry[b"origin"] == b"http subject=developer"


def test_a_request_with_messages_of_several_traces_is_one_batch(client: httpx.Client, collector: Collector) -> None:
    poster, producer = Trace(), Trace()
    many = {**detection("ONE"), "event_type": "patterns_batch", "patterns": [{"symbol": f"S{n}"} for n in range(20)]}
    messages = [many, {**detection("OTHER"), "traceparent": producer.parent}]
    posted = client.post("/api/events", json=messages, headers={"traceparent": poster.parent})
    assert (posted.status_code, len(posted.json()["events"])) == (201, 21), posted.text

    spans = wait_for_spans(collector, poster, "POST /api/events", "record", events=20)
    [request], [record] = named(spans, "POST /api/events"), named(spans, "record")
    assert (request.parent_id, record.parent_id) == (poster.span_id, request.span_id)
    assert (record.links, record.attributes["tickview.messages"]) == ((producer.id,), 2)
    [other] = named(wait_for_spans(collector, producer, "record"), "record")
    assert (other.parent_id, other.links) == (producer.span_id, (poster.id,))
    assert len(named(spans, "fold", read_model="patterns")) <= 4, "the events of a log are folded at once"


def test_without_a_collector_the_trace_is_still_part_of_the_event(redis_url: str, redis: Redis) -> None:
    """The extra is installed, but the environment requests no traces."""
    trace, other, message = Trace(), Trace(), detection("AAPL")
    with api(redis_url, api_processes=1) as client:
        posted = client.post("/api/events", json=message, headers={"traceparent": trace.parent})
        assert posted.status_code == 201, posted.text
        [event] = client.post("/api/events", json={**message, "traceparent": other.parent}).json()["events"]
    assert event["duplicate"], "a message that comes again in another trace is the same event"
    [(_, entry)] = redis.xrange(f"tickview:{{{event['log']}}}:log")
    assert entry[b"origin"].endswith(f" trace={trace.parent}".encode())
