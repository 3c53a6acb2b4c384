"""Comparing catalogues: after what is recorded has been folded, nothing is left to record."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from domain.events import Event
from infra.catalogue.difference import symbol_changes, universe_changes
from infra.catalogue.parsing import RefusedRow, SourceRows, SymbolEntry, UniverseEntry
from projections.symbols import DETAILS, Symbols
from projections.universes import Universes
from tests.unit.spec import Given

SYMBOLS = ("A", "B", "C")


def symbol_entry(symbol: str, active: bool, name: str | None, market_cap: float | None) -> SymbolEntry:
    return SymbolEntry(symbol, active, {**dict.fromkeys(DETAILS), "name": name, "market_cap": market_cap})


names = st.sampled_from((None, "one", "other"))
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
def test_what_is_folded_is_what_was_read(versions: list[SourceRows[SymbolEntry]]) -> None:
    events: list[Event] = []
    ids: set[str] = set()
    for number, found in enumerate(versions):
        known = Given(Symbols(), *events).rows()
        changes = symbol_changes(known, found, float(number))
        assert ids.isdisjoint(event.event_id for event in changes.events)
        ids |= {event.event_id for event in changes.events}
        events += changes.events
        rows = Given(Symbols(), *events).rows()
        traded = {symbol: entry for symbol, entry in found.entries.items() if entry.active}
        assert {symbol for symbol, row in rows.items() if row.active} == traded.keys()
        for symbol, entry in traded.items():
            assert {name: getattr(rows[symbol], name) for name in DETAILS} == entry.details
        again = symbol_changes(rows, found, float(number))
        assert again.events == []
        assert again.counts["unchanged"] == len(found.entries)


@given(st.lists(universe_sources, max_size=6))
def test_universes_are_what_was_read_last(versions: list[SourceRows[UniverseEntry]]) -> None:
    events: list[Event] = []
    for number, found in enumerate(versions):
        known = Given(Universes(), *events).rows()
        events += universe_changes(known, found, float(number)).events
        rows = Given(Universes(), *events).rows()
        assert rows.keys() == known.keys() | found.entries.keys()
        for key, entry in found.entries.items():
            assert (rows[key].name, rows[key].description, rows[key].symbols) == entry[1:]
        assert universe_changes(rows, found, float(number)).events == []


def test_two_who_see_the_same_change_give_it_the_same_id_and_the_next_alike_another() -> None:
    def listing(known: dict[str, Any], now: float, active: bool = True) -> Event:
        [event] = symbol_changes(known, SourceRows({"A": symbol_entry("A", active, "one", None)}, []), now).events
        return event

    first = listing({}, 1.0)
    assert listing({}, 2.0).event_id == first.event_id
    listed = Given(Symbols(), first).rows()
    delisted = Given(Symbols(), first, listing(listed, 3.0, active=False)).rows()
    assert listing(delisted, 4.0).event_id != first.event_id


def test_a_symbol_whose_row_is_refused_is_left_as_it_is() -> None:
    known = Given(
        Symbols(), *symbol_changes({}, SourceRows({"A": symbol_entry("A", True, None, None)}, []), 1.0).events
    ).rows()
    changes = symbol_changes(known, SourceRows({}, [RefusedRow("row 1", "A", "bad")]), 2.0)
    assert changes.events == []
    assert (changes.counts["refused"], changes.counts["delisted"]) == (1, 0)
