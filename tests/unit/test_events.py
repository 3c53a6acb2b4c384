"""Event types: their stored form, their schema versions, and their streams.

A golden file exists for every event type and every schema version. It contains a stored state and the event to which
the current code decodes the state. Run this module (``python -m tests.unit.test_events``) to write the file of a new
type or version. It never changes an existing file.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError, create_model

from domain import codec
from domain.event_types import EVENT_TYPES
from domain.events import (
    BacktestCompleted,
    BacktestFailed,
    BacktestProgressed,
    Event,
    HealthReported,
    PatternDetected,
    PatternExpired,
    PatternUpdated,
    PositionLost,
    SymbolChanged,
    SymbolDelisted,
    SymbolListed,
    UndatedExpiry,
    UniverseChanged,
    UniverseDefined,
)
from domain.schemas import schema_of
from domain.streams import USERS_LOG, log_of, market_logs
from domain.user_events import (
    USER_EVENT_TYPES,
    AlertDelivered,
    AlertFailed,
    AlertRemoved,
    AlertSet,
    DefaultPresetChosen,
    PresetChanged,
    PresetCreated,
    PresetDeleted,
    PresetRenamed,
    PresetRestored,
    UserForgotten,
    WatchlistChanged,
    WatchlistCreated,
    WatchlistDeleted,
    WatchlistRenamed,
    WatchlistRestored,
)

KNOWN_TYPES: dict[str, type[Event]] = {**EVENT_TYPES, **USER_EVENT_TYPES}
"""Every event type of every log by the name of its class."""

GOLDEN = Path(__file__).parent.parent / "golden" / "events"

COMMON: dict[str, Any] = {
    "event_id": "0f1e2d3c4b5a69788796a5b4c3d2e1f0",
    "occurred_at": 1757001605.25,
    "source": "tickstock_pl",
    "correlation_id": "flow-1",
    "extra": {"details": {"detection_method": "ML_model_v2", "scores": [0.5, None, True, "é"]}},
}
PATTERN: dict[str, Any] = {
    **COMMON,
    "symbol": "BRK.B",
    "pattern": "Weekly_Breakout",
    "detected_at": 1757001600.125,
    "tier": "daily",
    "expires_at": 1757005200.0,
}
MEASURES: dict[str, Any] = {
    "confidence": 0.85,
    "current_price": 150.25,
    "price_change": -2.3,
    "relative_strength": 1.4,
    "relative_volume": 2.1,
    "rsi": 65.5,
    "indicators": {"sma_20": 148.5},
}
LIST: dict[str, Any] = {**COMMON, "user": "alice", "list_id": "5f2e8f0c6b7d4f9d8f1f0a3c5e7b9d1f"}
PARAMETERS: dict[str, Any] = {"symbols": ["AAPL"], "rsi_range": [30.0, 70.0], "confidence_min": 0.7}
RESTORED: dict[str, Any] = {**LIST, "name": "Tech é", "created_at": 1757001600.5, "version": 4}
DELIVERY: dict[str, Any] = {
    "delivery_id": "msg_0f1e2d3c4b5a69788796a5b4c3d2e1f0",
    "detection": "e-1",
    "pattern_id": "AAPL:Doji:daily:1757001600125",
    "channel": "webhook",
    "attempts": 3,
    "status": 500,
}
BACKTEST: dict[str, Any] = {**COMMON, "job_id": "backtest_1757001600_ab12cd34"}
SYMBOL: dict[str, Any] = {
    **COMMON,
    "symbol": "BRK.B",
    "name": "Berkshire Hathaway Inc. Class B",
    "exchange": "XNYS",
    "market": "stocks",
    "type": "CS",
    "sector": "Financial Services",
    "industry": "Insurance",
    "market_cap": 8.9e11,
    "locale": "us",
    "currency_name": "usd",
    "currency_symbol": "$",
    "cik": "0001067983",
    "composite_figi": "BBG000MM2P62",
    "share_class_figi": "BBG001S8V781",
    "weighted_shares_outstanding": 2.15e9,
}
UNIVERSE: dict[str, Any] = {
    **COMMON,
    "key": "mega_cap",
    "name": "Mega caps",
    "description": "More than 200 billion dollars",
    "symbols": ["AAPL", "BRK.B"],
    "category": "stock_universe",
    "criteria": "market_cap > 200e9",
}

EXAMPLES: tuple[Event, ...] = (
    PatternDetected(**PATTERN, **MEASURES),
    PatternUpdated(**PATTERN, **MEASURES),
    PatternExpired(**PATTERN, reason="elapsed"),
    UndatedExpiry(**COMMON, symbol="BRK.B", pattern="Weekly_Breakout", tier="daily", detected_by=1757001605.25),
    BacktestProgressed(
        **BACKTEST,
        progress=0.25,
        status="running",
        current_symbol="AAPL",
        processed_symbols=25,
        estimated_completion=1757001825.0,
    ),
    BacktestCompleted(**BACKTEST, results={"roi": 0.12, "total_trades": 150}, processing_time_seconds=45.2),
    BacktestFailed(
        **BACKTEST,
        status="cancelled",
        error_message="stopped\nby hand",
        results={"roi": 0.0},
        processing_time_seconds=3.5,
    ),
    HealthReported(**COMMON, status="healthy", metrics={"cpu_usage": 0.35}),
    SymbolListed(**SYMBOL),
    SymbolChanged(**SYMBOL),
    SymbolDelisted(**COMMON, symbol="BRK.B"),
    UniverseDefined(**UNIVERSE),
    UniverseChanged(**UNIVERSE),
    PositionLost(**COMMON, log="market-1"),
    WatchlistCreated(**LIST, name="Tech", symbols=("AAPL", "BRK.B")),
    WatchlistRenamed(**LIST, name="Tech é"),
    WatchlistChanged(**LIST, symbols=("MSFT",)),
    WatchlistDeleted(**LIST),
    WatchlistRestored(**RESTORED, symbols=("MSFT",)),
    PresetCreated(**LIST, name="Strong", parameters=PARAMETERS),
    PresetRenamed(**LIST, name="Very strong"),
    PresetChanged(**LIST, parameters=PARAMETERS),
    PresetDeleted(**LIST),
    PresetRestored(**RESTORED, parameters=PARAMETERS),
    DefaultPresetChosen(**LIST),
    AlertSet(**LIST, webhook="https://example.com/hook", salt="5a" * 16),
    AlertRemoved(**LIST),
    UserForgotten(**COMMON, user="alice", generation=2),
    AlertDelivered(**LIST, **DELIVERY),
    AlertFailed(**LIST, **DELIVERY, reason="the webhook answered 500"),
)
"""One event of each type. Every field differs from its default."""


def golden_path(event_type: type[Event], version: int) -> Path:
    return GOLDEN / f"{event_type.__name__}.v{version}.json"


def golden_of(event: Event) -> dict[str, Any]:
    return {
        "topic": codec.topic_of(type(event)),
        "event_id": event.event_id,
        "state": codec.encode(event).decode(),
        "event": event.model_dump(mode="json"),
        "schema": schema_of(type(event)),
    }


def test_the_examples_have_every_event_type_and_every_field() -> None:
    assert [type(event) for event in EXAMPLES] == list(KNOWN_TYPES.values())
    for event in EXAMPLES:
        at_default = {
            name
            for name, field in type(event).model_fields.items()
            if getattr(event, name) == field.get_default(call_default_factory=True)
        }
        assert at_default == set()


@pytest.mark.parametrize(
    ("event_type", "version"),
    [
        (event_type, version)
        for event_type in KNOWN_TYPES.values()
        for version in range(1, event_type.class_version + 1)
    ],
)
def test_every_stored_version_is_decoded_to_the_current_event(event_type: type[Event], version: int) -> None:
    golden = json.loads(golden_path(event_type, version).read_bytes())
    event = codec.decode(golden["topic"], golden["event_id"], golden["state"].encode())
    assert type(event) is event_type
    assert event.model_dump(mode="json") == golden["event"]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: type(example).__name__)
def test_the_stored_form_changes_only_with_the_class_version(example: Event) -> None:
    golden = json.loads(golden_path(type(example), type(example).class_version).read_bytes())
    assert golden_of(example) == golden, "raise class_version, write an upcast, then run this module"


CHANGES: dict[str, dict[str, Any]] = {
    "a new field": {"another_field": (str | None, None)},
    "a new required field": {"another_field": (str, ...)},
    "another type": {"source": (int, ...)},
    "another default": {"correlation_id": (str | None, "none")},
    "another bound": {"occurred_at": (Annotated[float, Field(ge=1, lt=253402300800)], ...)},
    "no bound": {"occurred_at": (float, ...)},
    "a set of allowed values": {"source": (Literal["tickstock_pl", "other"], ...)},
    "another type of values in an object": {"extra": (dict[str, int], {})},
}


@pytest.mark.parametrize("event_type", KNOWN_TYPES.values(), ids=KNOWN_TYPES)
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_schema_differs_from_the_golden_file(event_type: type[Event], change: dict[str, Any]) -> None:
    golden = json.loads(golden_path(event_type, event_type.class_version).read_bytes())
    unchanged = create_model(event_type.__name__, __base__=event_type)
    changed = create_model(event_type.__name__, __base__=event_type, **change)
    assert schema_of(unchanged) == golden["schema"]
    assert schema_of(changed) != golden["schema"]


@pytest.mark.parametrize("event_type", KNOWN_TYPES.values(), ids=KNOWN_TYPES)
def test_every_schema_version_has_an_upcast_to_the_next(event_type: type[Event]) -> None:
    upcasts = {name for name in dir(event_type) if name.startswith("upcast_")}
    assert upcasts == {f"upcast_v{version}_v{version + 1}" for version in range(1, event_type.class_version)}


def test_every_golden_file_is_of_a_known_type_and_version() -> None:
    expected_names = {
        golden_path(event_type, version).name
        for event_type in KNOWN_TYPES.values()
        for version in range(1, event_type.class_version + 1)
    }
    assert {path.name for path in GOLDEN.iterdir()} == expected_names


def test_a_foreign_topic_is_refused() -> None:
    with pytest.raises(codec.UnknownEventTypeError, match="elsewhere:Thing"):
        codec.decode("elsewhere:Thing", "e", b"{}")


def test_a_state_without_required_fields_is_refused() -> None:
    with pytest.raises(ValueError, match="confidence"):
        codec.decode(codec.topic_of(PatternDetected), "e", b'{"source":"s"}')


@pytest.mark.parametrize(
    "state", [b"[]", b"7", b"null", b'"text"', b'{"class_version":"1"}', b"\xff", b"", b'{"encrypted":1}']
)
def test_a_state_of_another_form_is_refused(state: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        codec.decode(codec.topic_of(PatternDetected), "e", state)


def test_an_event_is_immutable() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        EXAMPLES[0].source = "somebody else"


times = st.floats(0, 253402300800, exclude_max=True)
texts = st.text(st.characters(exclude_categories=["Cs"]))
objects = st.dictionaries(
    texts,
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**63)
        | st.floats(allow_nan=False, allow_infinity=False)
        | texts,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
        max_leaves=6,
    ),
    max_size=4,
)
finite = st.none() | st.floats(allow_nan=False, allow_infinity=False)
fields: dict[str, st.SearchStrategy[Any]] = {
    "occurred_at": times,
    "detected_at": times,
    "detected_by": st.none() | times,
    "expires_at": st.none() | times,
    "estimated_completion": st.none() | times,
    "extra": objects,
    "indicators": objects,
    "results": objects,
    "metrics": objects,
    "confidence": st.floats(0, 1),
    "progress": st.floats(0, 1),
    "current_price": finite,
    "rsi": finite,
    "processing_time_seconds": finite,
    "processed_symbols": st.none() | st.integers(0, 2**53),
    "correlation_id": st.none() | texts,
    "error_message": st.none() | texts,
    "sector": st.none() | texts,
    "market_cap": finite,
    "source": texts,
    "event_id": texts,
    "user": texts,
    "name": texts,
    "symbols": st.lists(texts).map(tuple),
    "parameters": objects,
    "created_at": times,
}


@given(st.sampled_from(EXAMPLES), st.data())
def test_an_event_survives_encoding(example: Event, data: st.DataObject) -> None:
    drawn_fields = {name: data.draw(fields[name], name) for name in type(example).model_fields if name in fields}
    event = type(example).model_validate({**example.model_dump(), **drawn_fields})
    assert codec.decode(codec.topic_of(type(event)), event.event_id, codec.encode(event)) == event


@pytest.mark.parametrize(
    ("example", "stream"),
    list(
        zip(
            EXAMPLES,
            ["symbol-BRK.B"] * 4
            + ["backtest-backtest_1757001600_ab12cd34"] * 3
            + ["source-tickstock_pl"]
            + ["symbol-BRK.B"] * 3
            + ["universe-mega_cap"] * 2
            + ["log-market-1"]
            + ["user-alice"] * 14
            + ["alerts-alice"] * 2,
            strict=True,
        )
    ),
)
def test_an_event_belongs_to_the_stream_of_its_subject(example: Event, stream: str) -> None:
    assert example.stream == stream


def test_the_log_of_a_stream_never_changes() -> None:
    """The log of a stream is part of the stored data, so these values must not change."""
    streams = ["symbol-AAPL", "symbol-MSFT", "symbol-X:BTCUSD", "backtest-1", "source-tickstock_pl", "user-7"]
    assert [log_of(stream, 4) for stream in streams] == [
        "market-1",
        "market-2",
        "market-1",
        "market-2",
        "market-3",
        "users",
    ]
    assert market_logs(2) == ("market-0", "market-1")


@given(texts, st.integers(1, 64))
def test_a_stream_of_the_market_belongs_to_one_of_the_market_logs(name: str, partitions: int) -> None:
    assert log_of(f"symbol-{name}", partitions) in market_logs(partitions)
    assert log_of(f"user-{name}", partitions) == USERS_LOG


if __name__ == "__main__":
    for example in EXAMPLES:
        path = golden_path(type(example), type(example).class_version)
        if not path.exists():
            path.write_text(json.dumps(golden_of(example), indent=2, ensure_ascii=False) + "\n")
