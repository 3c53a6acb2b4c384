"""Reading messages of producers: sample messages become the expected events or refusals; batches, sizes, ids."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any, get_args

import pytest

from domain import codec, wire
from domain.events import Event

SAMPLES = Path(__file__).parent.parent / "wire"
RECEIVED_AT = 1757009999.5

BODY = {"symbol": "AAPL", "pattern": "Doji", "confidence": 0.8, "timestamp": 1757001600.0}
DETECTION = {"event_type": "pattern_detected", **BODY}

REASONS = {
    "confidence is not a number": ("not-a-number", "confidence is ", "not a number"),
    "confidence outside 0..1": ("out-of-range", "confidence is ", "expected a number from 0 to 1"),
    "empty batch": ("empty-batch", "patterns"),
    "no confidence": ("missing-field", "confidence is missing"),
    "no job id": ("missing-field", "job_id is missing"),
    "no pattern": ("missing-field", "pattern is missing"),
    "no progress": ("missing-field", "progress is missing"),
    "no status": ("missing-field", "status is missing"),
    "no symbol": ("missing-field", "symbol is missing"),
    "not a name": ("not-a-name", " is ", "expected 1 to "),
    "not a symbol": ("not-a-symbol", "symbol is ", "not a symbol"),
    "not a text": ("wrong-type", "not a text"),
    "not a time": ("not-a-time", " is ", "not a time"),
    "not a whole number": ("not-a-number", "processed_symbols is 1.5", "not a whole number"),
    "not an object": ("not-an-object", "not an object"),
    "not an object inside": ("wrong-type", " is a list", "not an object"),
    "not JSON": ("not-json", "not JSON"),
    "NUL character": ("control-character", "NUL"),
    "number too large": ("not-a-number", "too large"),
    "price is not a number": ("not-a-number", "current_price is an object", "not a number"),
    "progress is not a number": ("not-a-number", "progress is ", "not a number"),
    "progress outside 0..1": ("out-of-range", "progress is ", "expected a number from 0 to 1"),
    "rsi is not a number": ("not-a-number", "rsi is 'n/a'", "not a number"),
    "too deep": ("too-deep", "deeper than"),
    "unknown channel": ("unknown-channel", "'tickstock.unknown'"),
    "unknown event type": ("unknown-event-type", "unknown event type"),
    "unknown status": ("unknown-status", "status is 'processing'"),
    "wrong channel": ("wrong-channel", "belongs on"),
}
"""The field ``why`` of a sample -> the code of the refusal, and words of its reason."""


PLUGIN_CODES = {"invalid-event", "reader-failed"}
"""The codes of refusals that TickView's own builders never cause."""


def samples(name: str) -> list[Any]:
    lines = [json.loads(line) for line in (SAMPLES / name).read_bytes().splitlines()]
    assert len(lines) > 12, f"{name} has lost its lines"
    return [
        pytest.param(line, id=f"{number}-{line.get('why') or line['expect'].get('event', 'batch')}")
        for number, line in enumerate(lines, 1)
    ]


def message_bytes(payload: Any) -> bytes:
    return payload.encode() if isinstance(payload, str) else json.dumps(payload).encode()


def read(payload: Any, channel: str = wire.PATTERNS) -> wire.ReadResult:
    return wire.read(channel, message_bytes(payload), RECEIVED_AT)


def read_one(payload: Any, channel: str = wire.PATTERNS) -> Event:
    result = read(payload, channel)
    assert result.refusals == ()
    (event,) = result.events
    return event


def check(result: wire.ReadResult) -> None:
    """Check properties of every result: events can be stored, and refusals are printable and short."""
    assert result.events or result.refusals
    for event in result.events:
        assert codec.decode(codec.topic_of(type(event)), event.event_id, codec.encode(event)) == event
        assert event.stream.isprintable()
    for refusal in result.refusals:
        assert refusal.code in set(get_args(wire.Code)) - PLUGIN_CODES
        assert refusal.reason.isprintable()
        assert 0 < len(refusal.reason) < 400


@pytest.mark.parametrize("line", samples("valid.jsonl"))
def test_valid_samples_become_the_expected_events(line: dict[str, Any]) -> None:
    result = read(line["payload"], line["channel"])
    check(result)
    expect = line["expect"]
    assert result.refusals == ()
    assert len(result.events) == expect.get("events", 1)
    event = result.events[0]
    counted = {"event": type(event).__name__, "events": len(result.events)}
    assert {name: counted[name] if name in counted else getattr(event, name) for name in expect} == expect


@pytest.mark.parametrize("line", samples("invalid.jsonl"))
def test_invalid_samples_are_refused_with_their_reason(line: dict[str, Any]) -> None:
    result = read(line["payload"], line["channel"])
    check(result)
    assert result.events == ()
    (refusal,) = result.refusals
    code, *words = REASONS[line["why"]]
    assert refusal.code == code
    for word in words:
        assert word in refusal.reason


def test_a_batch_yields_its_valid_items_and_refuses_the_invalid_items() -> None:
    invalid = {**BODY, "confidence": 7}
    result = read(
        {
            "type": "patterns_batch",
            "source": "scanner",
            "patterns": [BODY, invalid, {**BODY, "symbol": "MSFT"}, 5],
        }
    )
    assert [event.stream for event in result.events] == ["symbol-AAPL", "symbol-MSFT"]
    assert {event.source for event in result.events} == {"scanner"}
    assert [(refusal.code, refusal.reason) for refusal in result.refusals] == [
        ("out-of-range", "patterns[1]: confidence is 7: expected a number from 0 to 1"),
        ("not-an-object", "patterns[3]: the item is 5, not an object: expected a JSON object"),
    ]


def test_a_batch_item_may_have_its_own_type_and_id() -> None:
    items = [
        {**BODY, "event_id": "of-the-item"},
        {**BODY, "event_type": "pattern_expired"},
        {**BODY, "event_type": "backtest_result"},
    ]
    result = read({"type": "patterns_batch", "event_id": "of-the-batch", "patterns": items})
    assert [type(event).__name__ for event in result.events] == ["PatternDetected", "PatternExpired"]
    assert result.events[0].event_id == "of-the-item"
    assert result.events[1].event_id not in {"of-the-item", "of-the-batch"}
    assert [refusal.code for refusal in result.refusals] == ["unknown-event-type"]


def test_a_batch_that_multiplies_its_fields_too_often_is_refused() -> None:
    batch = {"type": "patterns_batch", "note": "x" * 10_000, "patterns": [BODY] * 1_000}
    (refusal,) = read(batch).refusals
    assert refusal.code == "too-large"


def test_a_message_of_exactly_the_size_limit_is_read() -> None:
    payload = message_bytes(DETECTION)
    assert wire.read(wire.PATTERNS, payload, RECEIVED_AT, wire.Bounds(len(payload))).refusals == ()
    (refusal,) = wire.read(wire.PATTERNS, payload, RECEIVED_AT, wire.Bounds(len(payload) - 1)).refusals
    assert refusal == (
        "too-large",
        f"the message has {len(payload)} bytes, more than the {len(payload) - 1} allowed: split it",
    )


def test_a_message_of_ten_megabytes_is_refused() -> None:
    (refusal,) = read({**DETECTION, "note": "x" * 10_000_000}).refusals
    assert refusal.code == "too-large"


@pytest.mark.parametrize("payload", [b"\xff\xfe", b'{"event_type":"\xed\xa0\x80"}', b'{"a":"\xc3'])
def test_bytes_that_are_no_utf8_are_refused_as_no_json(payload: bytes) -> None:
    (refusal,) = wire.read(wire.PATTERNS, payload, RECEIVED_AT).refusals
    assert refusal.code == "not-json"


@pytest.mark.parametrize("event_id", ["", " ", "a\tb", " padded", "x" * 129, 17, None, {"id": "x"}])
def test_an_invalid_event_id_is_replaced_by_a_derived_id(event_id: Any) -> None:
    event = read_one({**DETECTION, "event_id": event_id})
    assert len(event.event_id) == 32
    assert event.extra == {"event_id": event_id}


def test_a_derived_id_depends_only_on_channel_and_content() -> None:
    payload = message_bytes({"job_id": "j", "progress": 0.5, "status": "completed"})
    first, later = (wire.read(wire.BACKTEST_PROGRESS, payload, at).events[0] for at in (1.0, 2.0))
    assert first.event_id == later.event_id
    assert wire.read(wire.BACKTEST_RESULTS, payload, 1.0).events[0].event_id != first.event_id


@pytest.mark.parametrize(
    ("payload", "channel"),
    [
        ({"event_type": "pattern_expired"}, wire.PATTERNS),
        ({"type": "patterns_batch"}, wire.PATTERNS),
        ({"data": {"event_type": "backtest_progress"}}, wire.BACKTEST_PROGRESS),
        ({"event_type": "backtest_result"}, wire.BACKTEST_RESULTS),
        ({"event_type": "system_health", "type": "cpu"}, wire.HEALTH),
        ({"event_type": "pattern_vanished"}, None),
        ({"event_type": ["pattern_detected"]}, None),
        ({}, None),
    ],
)
def test_the_channel_of_a_payload_follows_from_its_event_type(payload: dict[str, Any], channel: str | None) -> None:
    before = json.dumps(payload)
    assert wire.channel_for(payload) == channel
    assert json.dumps(payload) == before


def test_a_batch_tells_ten_refusals_and_the_number_of_the_others() -> None:
    result = read({"event_type": "patterns_batch", "patterns": [1] * 5_000})
    assert len(result.refusals) == 11
    assert result.refusals[-1].reason == "4990 more items are refused"
    assert sum(len(refusal.reason) for refusal in result.refusals) < 2_000


def test_a_batch_of_too_many_items_is_refused() -> None:
    (refusal,) = read({"event_type": "patterns_batch", "patterns": [1] * 10_001}).refusals
    assert (refusal.code, "10001 items" in refusal.reason) == ("too-large", True)


@pytest.mark.parametrize("value", [{}, [], {"a": 0}], ids=str)
def test_a_message_of_too_many_values_is_refused(value: Any) -> None:
    assert read({**DETECTION, "note": [value] * 30_000}).refusals == ()
    (refusal,) = read({**DETECTION, "note": [value] * 100_000}).refusals
    assert (refusal.code, "values" in refusal.reason) == ("too-large", True)


def test_a_message_whose_numbers_grow_too_much_is_refused() -> None:
    payload = message_bytes({**DETECTION, "note": "numbers"}).replace(
        b'"numbers"', b"[%b]" % b",".join([b"1e15"] * 50_000)
    )
    assert wire.read(wire.PATTERNS, payload, RECEIVED_AT).refusals == ()
    (refusal,) = wire.read(wire.PATTERNS, payload, RECEIVED_AT, wire.Bounds(len(payload))).refusals
    assert (refusal.code, "the events of the message have" in refusal.reason) == ("too-large", True)


@pytest.mark.parametrize("event_id", ["tickview:", "tickview:elapsed-0"])
def test_an_id_of_the_service_is_refused(event_id: str) -> None:
    (refusal,) = read({**DETECTION, "event_id": event_id}).refusals
    assert (refusal.code, event_id in refusal.reason) == ("reserved-id", True)
    batch = read({"event_type": "patterns_batch", "patterns": [{**BODY, "event_id": event_id}, BODY]})
    assert [refusal.code for refusal in batch.refusals] == ["reserved-id"]
    assert len(batch.events) == 1


def test_the_trace_of_a_message_is_no_part_of_its_content() -> None:
    trace = "00-1234567890abcdef1234567890abcdef-1234567890abcdef-01"
    result, plain = read({**DETECTION, "traceparent": trace}), read(DETECTION)

    assert (result.trace, result._replace(trace=None)) == (trace, plain)
    event = read_one({**DETECTION, "traceparent": "none"})
    assert event.extra["traceparent"] == "none", "an invalid one is an unknown field"


def test_equal_content_has_an_equal_digest() -> None:
    message = {**DETECTION, "event_id": "a"}
    assert read(message).contents == read(dict(reversed(message.items()))).contents
    assert read(message).contents != read({**message, "confidence": 0.7}).contents
    batches = [read({"event_type": "patterns_batch", "sent_at": moment, "patterns": [message]}) for moment in (1, 2)]
    assert batches[0].contents == batches[1].contents, "the envelope of a batch is no content of its items"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (20250904, "2025-09-04T00:00:00"),
        ("20250904", "2025-09-04T00:00:00"),
        (20250904.0, "2025-09-04T00:00:00"),
        (20250904103000, "2025-09-04T10:30:00"),
        ("20250904103000", "2025-09-04T10:30:00"),
        (1756981800, "2025-09-04T10:30:00"),
        (1756981800000, "2025-09-04T10:30:00"),
        ("1756981800000000", "2025-09-04T10:30:00"),
        (1756981800000000000, "2025-09-04T10:30:00"),
        (315532800, "1980-01-01T00:00:00"),
    ],
)
def test_a_number_is_read_as_the_time_that_it_says(value: Any, expected: str) -> None:
    (event,) = read({**DETECTION, "timestamp": value}).events
    assert event.occurred_at == datetime.fromisoformat(expected + "+00:00").timestamp()


@pytest.mark.parametrize(
    "value",
    [
        *(0, 1, -1, 20251304, 20250904253000, 99999999, "7"),
        638_925_786_000_000_000,  # .NET ticks
        133_986_426_000_000_000,  # FILETIME
        253_402_300_799,  # the end of 9999 in seconds
        915_148_800_000,  # 1999 in milliseconds
        4_102_444_800_000,  # 2100 in milliseconds
    ],
)
def test_a_number_that_may_be_no_time_is_refused(value: Any) -> None:
    (refusal,) = read({**DETECTION, "timestamp": value}).refusals
    assert (refusal.code, str(value)[:8] in refusal.reason) == ("not-a-time", True)


@pytest.mark.parametrize("value", ["9999-12-31T23:59:59.9999999", "9999-12-31", "9999-12-31T23:59:59Z"])
def test_an_end_in_the_year_9999_is_no_end(value: str) -> None:
    (event,) = read({**DETECTION, "expires_at": value}).events
    assert event.expires_at is None  # type: ignore[attr-defined]
