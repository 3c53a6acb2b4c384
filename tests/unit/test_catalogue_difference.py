"""The difference between a catalogue and its source: after folding its events, no difference is left."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from domain.events import Event
from infra.catalogue.difference import symbol_changes, universe_changes
from infra.catalogue.parsing import RefusedRow, SourceRows, SymbolEntry, UniverseEntry
from projections.specification import Given
from projections.symbols import DETAILS, Symbols
from projections.universes import Universes

SYMBOLS = ("A", "B", "C")


def symbol_entry(symbol: str, active: bool, name: str | None, market_cap: float | None) -> SymbolEntry:
    return SymbolEntry(symbol, active, {**dict.fromkeys(DETAILS), "name": name, "market_cap": market_cap})


names = st.sampled_from((None, "first name", "second name"))
sources = st.lists(
    st.builds(symbol_entry, st.sampled_from(SYMBOLS), st.booleans(), names, st.sampled_from((None, 1.0))),
    unique_by=lambda entry: entry.symbol,
).map(lambda entries: SourceRows({entry.symbol: entry for entry in entries}, []))

universe_sources = st.lists(
    st.builds(
        UniverseEntry, st.sampled_from(("x", "y")), names, names, st.lists(st.sampled_from(SYMBOLS), unique=True)
    ),
    unique_by=lambda entry: entry.key,
).map(lambda entries: SourceRows({entry.key: entry for entry in entries}, []))


@given(st.lists(sources, max_size=6))
def test_folding_symbol_changes_produces_the_symbols_of_the_source(versions: list[SourceRows[SymbolEntry]]) -> None:
    events: list[Event] = []
    event_ids: set[str] = set()
    for number, source in enumerate(versions):
        rows_before = Given(Symbols(), *events).rows()
        changes = symbol_changes(rows_before, source, float(number))
        assert event_ids.isdisjoint(event.event_id for event in changes.events)
        event_ids |= {event.event_id for event in changes.events}
        events += changes.events
        rows = Given(Symbols(), *events).rows()
        traded = {symbol: entry for symbol, entry in source.entries.items() if entry.active}
        assert {symbol for symbol, row in rows.items() if row.active} == traded.keys()
        assert rows.keys() >= source.entries.keys()
        for symbol, entry in source.entries.items():
            assert {name: getattr(rows[symbol], name) for name in DETAILS} == entry.details
        second = symbol_changes(rows, source, float(number))
        assert second.events == []
        assert second.counts["unchanged"] == len(source.entries)


@given(st.lists(universe_sources, max_size=6))
def test_folding_universe_changes_produces_the_universes_of_the_source(
    versions: list[SourceRows[UniverseEntry]],
) -> None:
    events: list[Event] = []
    for number, source in enumerate(versions):
        rows_before = Given(Universes(), *events).rows()
        events += universe_changes(rows_before, source, float(number)).events
        rows = Given(Universes(), *events).rows()
        assert rows.keys() == rows_before.keys() | source.entries.keys()
        for key, entry in source.entries.items():
            assert (rows[key].name, rows[key].description, rows[key].symbols) == entry[1:4]
        assert universe_changes(rows, source, float(number)).events == []


def test_two_synchronizations_give_the_same_change_one_id_and_a_later_change_another_id() -> None:
    def only_event(rows_before: dict[str, Any], now: float, active: bool = True) -> Event:
        [event] = symbol_changes(
            rows_before, SourceRows({"A": symbol_entry("A", active, "first name", None)}, []), now
        ).events
        return event

    first = only_event({}, 1.0)
    assert only_event({}, 2.0).event_id == first.event_id
    listed = Given(Symbols(), first).rows()
    delisted = Given(Symbols(), first, only_event(listed, 3.0, active=False)).rows()
    assert only_event(delisted, 4.0).event_id != first.event_id


def test_a_refused_row_does_not_delist_its_symbol() -> None:
    rows_before = Given(
        Symbols(), *symbol_changes({}, SourceRows({"A": symbol_entry("A", True, None, None)}, []), 1.0).events
    ).rows()
    changes = symbol_changes(rows_before, SourceRows({}, [RefusedRow("row 1", "A", "bad")]), 2.0)
    assert changes.events == []
    assert (changes.counts["refused"], changes.counts["delisted"]) == (1, 0)
