"""Pure functions of the audit endpoints: range ends, cursors, documents of events, summaries."""

from base64 import b64decode
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.log import LogEntry
from infra.archive.row_format import ArchivedEvent, attribution
from infra.cli.history import summarize
from readapi.audit.event_documents import event_documents
from readapi.audit.parameters import EventsParameters
from readapi.http.cursors import decode_positions, encode_positions
from readapi.http.parameters import parse_parameters
from readapi.http.problems import Problem
from readapi.ports.archive import EventFilter

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC).timestamp()
positions = st.dictionaries(st.text(max_size=9), st.integers(0, 10**15 - 1), max_size=9)


def archived_event(state: bytes, origin: str = "http", topic: str = "domain.events:PatternDetected") -> ArchivedEvent:
    entry = LogEntry(7, "symbol-AAPL", 3, topic, "id", NOON, state, origin)
    return ArchivedEvent("market-1", entry, *attribution(state), b"\xab" * 32)


def document(archived: ArchivedEvent) -> Any:
    """The event as a client receives it."""
    return orjson.loads(orjson.dumps(event_documents([archived])))[0]


@given(positions)
def test_a_cursor_survives_encoding(cursor_positions: dict[str, int]) -> None:
    assert decode_positions(encode_positions(cursor_positions)) == cursor_positions


@given(st.one_of(st.text(), st.binary().map(lambda value: encode_positions({"a": 1})[:-1] + value.hex())))
def test_any_other_text_is_refused_as_a_cursor(text: str) -> None:
    with pytest.raises(ValueError, match="not a valid cursor"):
        decode_positions(text)


def test_the_cursor_of_65_logs_is_accepted() -> None:
    cursor_positions = {f"market-{number}": 10**12 for number in range(64)} | {"users": 10**12}
    assert parse_parameters(EventsParameters, {"cursor": encode_positions(cursor_positions)}).after == cursor_positions


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, EventFilter()),
        ({"from": "3", "to": "9"}, EventFilter(from_position=3, to_position=9)),
        ({"from": "0", "to": "0"}, EventFilter(from_position=0, to_position=0)),
        ({"from": "2026-01-02T12:00"}, EventFilter(from_time=NOON)),
        ({"to": "2026-01-02T14:00:00.000+02:00"}, EventFilter(to_time=NOON)),
        ({"from": "9", "to": "2026-01-02T12:00:00Z"}, EventFilter(from_position=9, to_time=NOON)),
        ({"from": "20260102"}, EventFilter(from_position=20260102)),
        ({"from": "2026"}, EventFilter(from_position=2026)),
    ],
)
def test_an_integer_is_a_position_and_any_other_range_end_is_a_time(
    parameters: dict[str, str], expected: EventFilter
) -> None:
    assert parse_parameters(EventsParameters, parameters).event_filter() == expected


@pytest.mark.parametrize("text", ["", "1.5", "-1", "1e3", "noon", "1969-12-31", "2026-02-30", "1" * 16, "١"])
def test_a_range_end_that_is_no_position_and_no_time_is_refused(text: str) -> None:
    with pytest.raises(Problem, match="from should be"):
        parse_parameters(EventsParameters, {"from": text})


def test_a_document_contains_all_of_the_event() -> None:
    state = b'{"source": "s", "correlation_id": "c", "occurred_at": 1.50, "n": 123456789012345678901234567890}'
    assert document(archived_event(state, "retry f00")) == {
        "log": "market-1",
        "position": 7,
        "hash": "ab" * 32,
        "stream": "symbol-AAPL",
        "version": 3,
        "type": "PatternDetected",
        "event_id": "id",
        "source": "s",
        "correlation_id": "c",
        "recorded_at": NOON,
        "occurred_at": 1.5,
        "origin": {
            "via": "retry",
            "subject": None,
            "token": None,
            "dead_letter": "f00",
            "percent": None,
            "trace": None,
        },
        "data": orjson.loads(state),
        "data_base64": None,
        "forgotten": False,
    }
    assert state in orjson.dumps(event_documents([archived_event(state)])), "the document contains the stored text"


@given(st.binary())
def test_a_state_that_is_no_json_is_encoded_in_base64(state: bytes) -> None:
    shown_event = document(archived_event(state))
    try:
        expected = orjson.loads(state)
    except orjson.JSONDecodeError:
        assert (shown_event["data"], b64decode(shown_event["data_base64"])) == (None, state)
    else:
        assert (shown_event["data"], shown_event["data_base64"]) == (expected, None)


def test_unknown_fields_of_a_document_are_null() -> None:
    shown_event = document(archived_event(b"[]", "", "elsewhere:Thing")._replace(hash=None))
    assert (shown_event["type"], shown_event["hash"], shown_event["occurred_at"]) == ("elsewhere:Thing", None, None)
    assert shown_event["origin"] == dict.fromkeys(("via", "subject", "token", "dead_letter", "percent", "trace"))


def test_a_summary_lists_the_main_fields_and_is_at_most_80_characters_long() -> None:
    assert (
        summarize(b'{"source": "s", "symbol": "AAPL", "pattern": "Doji", "confidence": 0.8}')
        == "pattern=Doji confidence=0.8"
    )
    assert summarize(b"\x00\x01") == "2 bytes"
    summary = summarize(orjson.dumps({"note": "x" * 200}))
    assert (len(summary), summary[-1]) == (80, "…")
