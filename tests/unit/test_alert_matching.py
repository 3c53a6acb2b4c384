"""The matching of detections with alerts: an alert matches what the scan would have shown when it was recorded."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.codec import encode, topic_of
from domain.events import Event, PatternDetected
from domain.log import LogEntry
from infra.alerting.matching import (
    MAX_PATTERN_BYTES,
    Detection,
    compile_filters,
    deliveries_of,
    detections_of,
    matching,
    sources_of,
)
from projections.base import encode_row
from projections.patterns import ActivePatterns, PatternRow
from projections.workspaces import AlertRow, PresetRow, WatchlistRow, WorkspaceRow
from readapi.compatibility.tickstock.shown_values import SHOWN_VALUES
from readapi.patterns.list_filters import as_query_parameters
from readapi.patterns.scan_parameters import ScanParameters
from readapi.read_models.filter_parameters import AS_THEY_ARE
from readapi.replica.replica import Replica
from tests.catalogue import CatalogueFixture, symbol_row
from tests.events import NOON, pattern_detected, pattern_expired, pattern_updated

SYMBOLS = ("AAPL", "MSFT", "TPC", "TpC", "JPM")
WATCHLIST, PRESET = "a" * 32, "b" * 32
CATALOGUE = CatalogueFixture(
    [
        symbol_row("AAPL", sector="Tech"),
        symbol_row("MSFT", sector="Tech"),
        symbol_row("JPM", sector="Banks"),
    ],
    {"leaders": ["AAPL", "JPM"]},
).catalogue
RECORDED_AT = NOON + 1.0

measures = st.none() | st.sampled_from((0.0, 1.2, 30.0, 70.0, 100.0))
detections = st.builds(
    pattern_detected,
    symbol=st.sampled_from(SYMBOLS),
    pattern=st.sampled_from(("Doji", "Hammer")),
    tier=st.sampled_from(("daily", "intraday")),
    confidence=st.sampled_from((0.0, 0.3, 0.5, 0.8, 1.0)),
    relative_strength=measures,
    relative_volume=measures,
    rsi=measures,
    expires_at=st.none() | st.sampled_from((NOON, RECORDED_AT, RECORDED_AT + 0.5)),
)
presets = st.fixed_dictionaries(
    {},
    optional={
        "symbols": st.lists(st.sampled_from((*SYMBOLS, "tpc")), min_size=1, max_size=2),
        "pattern_types": st.lists(st.sampled_from(("Doji", "Hammer")), min_size=1, max_size=2),
        "timeframe": st.lists(st.sampled_from(("Daily", "intraday")), min_size=1, max_size=2),
        "sectors": st.lists(st.sampled_from(("Tech", "Banks")), min_size=1, max_size=2),
        "universe": st.just(["leaders"]),
        "watchlist": st.just(WATCHLIST),
        "confidence_min": st.sampled_from((0, 0.5, 0.8)),
        "rs_min": st.sampled_from((0, 1, 1.2)),
        "vol_min": st.sampled_from((0, 1, 1.2)),
        "rsi_range": st.sampled_from(([0, 100], [30, 70], [0, 70])),
        "sort_by": st.just("symbol"),
        "per_page": st.just(1),
    },
)


def workspace(parameters: dict[str, Any], since: float = NOON, watched: list[str] | None = None) -> WorkspaceRow:
    common: Any = {"name": "any", "created_at": since, "updated_at": since, "version": 1}
    alert = AlertRow(webhook=None, salt="5a", created_at=since, updated_at=since, version=1)
    watchlists = {} if watched is None else {WATCHLIST: WatchlistRow(id=WATCHLIST, symbols=watched, **common)}
    presets = {PRESET: PresetRow(id=PRESET, parameters=parameters, **common)}
    return WorkspaceRow("alice", watchlists, presets, None, {PRESET: alert}, has_alerts=True)


def entry(event: Event, recorded_at: float = RECORDED_AT) -> LogEntry:
    return LogEntry(7, event.stream, 1, topic_of(type(event)), event.event_id, recorded_at, encode(event))


def matches(row: WorkspaceRow, detection: Detection, shown_values: Mapping[str, float] = AS_THEY_ARE) -> bool:
    compiled = [(source, compile_filters(source, CATALOGUE, shown_values)) for source in sources_of(row)]
    assert len(compiled) == 1
    return list(matching(detection, compiled)) != []


def is_scanned(
    row: PatternRow, parameters: dict[str, Any], watched: frozenset[str] | None, shown_values: Mapping[str, float]
) -> bool:
    """Return whether the scan shows the row at the moment of the recording."""
    replica = Replica(ActivePatterns())
    replica.put("market-0", [(row.id, encode_row(row, 1))])
    asked = ScanParameters.model_validate(as_query_parameters(parameters))
    query = asked.query(RECORDED_AT, CATALOGUE, watched, shown_values)
    return asyncio.run(replica.page(query)).total == 1


@given(detections, presets, st.sampled_from((AS_THEY_ARE, SHOWN_VALUES)))
def test_an_alert_matches_a_detection_exactly_if_the_scan_shows_it(
    event: PatternDetected, parameters: dict[str, Any], shown_values: Mapping[str, float]
) -> None:
    [detection] = detections_of("market-0", [entry(event)])
    watched = frozenset(("AAPL", "TPC"))
    expected = is_scanned(detection.row, parameters, watched if "watchlist" in parameters else None, shown_values)
    assert matches(workspace(parameters, watched=["AAPL", "TpC"]), detection, shown_values) is expected


def test_an_alert_compares_the_numbers_that_the_api_shows() -> None:
    [detection] = detections_of("market-0", [entry(pattern_detected())])
    preset = workspace({"confidence_min": 0, "rs_min": 1.0, "vol_min": 1.0, "rsi_range": [40, 60]})
    assert detection.row.rsi is None
    assert matches(preset, detection, SHOWN_VALUES)
    assert not matches(preset, detection)


def test_only_detections_after_the_alert_count() -> None:
    [detection] = detections_of("market-0", [entry(pattern_detected())])
    assert matches(workspace({}, since=RECORDED_AT), detection)
    assert not matches(workspace({}, since=RECORDED_AT + 0.001), detection)


def test_a_deleted_watchlist_matches_nothing() -> None:
    [detection] = detections_of("market-0", [entry(pattern_detected())])
    assert matches(workspace({"watchlist": WATCHLIST}, watched=["AAPL"]), detection)
    assert not matches(workspace({"watchlist": WATCHLIST}), detection)


@pytest.mark.parametrize("parameters", [{"no_such_parameter": 1}, {"confidence_max": 0.3}])
def test_a_preset_that_no_scan_can_use_has_no_effect_on_other_alerts(parameters: dict[str, Any]) -> None:
    assert list(sources_of(workspace(parameters))) == []


def test_updates_ends_and_detections_from_the_future_are_no_detections() -> None:
    events = [pattern_updated(confidence=0.9), pattern_expired(), pattern_detected(detected_at=NOON + 10 * 86_400)]
    assert list(detections_of("market-0", map(entry, events))) == []


def test_a_delivery_has_the_same_id_whenever_the_event_is_matched_and_bounded_bytes() -> None:
    large = pattern_detected(event_id="e", extra={"note": "x" * MAX_PATTERN_BYTES})
    [detection] = detections_of("market-0", [entry(large)])
    compiled = [(source, compile_filters(source, CATALOGUE, AS_THEY_ARE)) for source in sources_of(workspace({}))]
    [first], [again] = deliveries_of(detection, compiled), deliveries_of(detection, compiled)
    assert first.id == again.id
    assert orjson.loads(bytes(first.pattern)) == orjson.loads(orjson.dumps(replace(detection.row, extra={})))
    other = [(source._replace(since=NOON - 1), test) for source, test in compiled]
    assert deliveries_of(detection, other)[0].id != first.id
