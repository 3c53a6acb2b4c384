"""Small pure parts of the audit trail: bounds, cursors, an event as it is shown."""

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


def event(state: bytes, origin: str = "http", topic: str = "domain.events:PatternDetected") -> ArchivedEvent:
    entry = LogEntry(7, "symbol-AAPL", 3, topic, "id", NOON, state, origin)
    return ArchivedEvent("market-1", entry, *attribution(state), b"\xab" * 32)


def told(archived: ArchivedEvent) -> Any:
    """As the client receives it."""
    return orjson.loads(orjson.dumps(event_documents([archived])))[0]


@given(positions)
def test_a_cursor_comes_back_as_it_was(given_positions: dict[str, int]) -> None:
    assert decode_positions(encode_positions(given_positions)) == given_positions


@given(st.one_of(st.text(), st.binary().map(lambda value: encode_positions({"a": 1})[:-1] + value.hex())))
def test_no_other_text_is_a_cursor(text: str) -> None:
    with pytest.raises(ValueError, match="not a valid cursor"):
        decode_positions(text)


def test_the_cursor_of_65_logs_may_be_sent() -> None:
    far = {f"market-{number}": 10**12 for number in range(64)} | {"users": 10**12}
    assert parse_parameters(EventsParameters, {"cursor": encode_positions(far)}).after == far


@pytest.mark.parametrize(
    ("given_bounds", "expected"),
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
def test_a_whole_number_is_a_position_and_all_else_a_time(given_bounds: dict[str, str], expected: EventFilter) -> None:
    assert parse_parameters(EventsParameters, given_bounds).event_filter() == expected


@pytest.mark.parametrize("text", ["", "1.5", "-1", "1e3", "noon", "1969-12-31", "2026-02-30", "1" * 16, "١"])
def test_what_is_neither_is_refused(text: str) -> None:
    with pytest.raises(Problem, match="from should be"):
        parse_parameters(EventsParameters, {"from": text})


def test_an_event_is_shown_whole() -> None:
    state = b'{"source": "s", "correlation_id": "c", "occurred_at": 1.50, "n": 123456789012345678901234567890}'
    assert told(event(state, "retry f00")) == {
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
        "origin": {"via": "retry", "dead_letter": "f00"},
        "data": orjson.loads(state),
        "data_base64": None,
    }
    assert state in orjson.dumps(event_documents([event(state)])), "the text of the state itself"


@given(st.binary())
def test_no_state_is_lost(state: bytes) -> None:
    found = told(event(state))
    try:
        expected = orjson.loads(state)
    except orjson.JSONDecodeError:
        assert (found["data"], b64decode(found["data_base64"])) == (None, state)
    else:
        assert (found["data"], found["data_base64"]) == (expected, None)


def test_what_is_not_known_is_null() -> None:
    found = told(event(b"[]", "", "elsewhere:Thing")._replace(hash=None))
    assert (found["type"], found["hash"], found["occurred_at"]) == ("elsewhere:Thing", None, None)
    assert found["origin"] == {"via": None, "dead_letter": None}


def test_what_an_event_said_in_short() -> None:
    assert (
        summarize(b'{"source": "s", "symbol": "AAPL", "pattern": "Doji", "confidence": 0.8}')
        == "pattern=Doji confidence=0.8"
    )
    assert summarize(b"\x00\x01") == "2 bytes"
    long = summarize(orjson.dumps({"note": "x" * 200}))
    assert (len(long), long[-1]) == (80, "…")
