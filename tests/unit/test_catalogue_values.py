"""The catalogue in memory: search, filters, and derived data that follows every change."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.base import encode_row
from projections.symbols import Symbols
from readapi.catalogue.filters import CatalogueNames
from readapi.catalogue.symbol_index import SymbolIndex
from readapi.http.problems import Problem
from readapi.ports.errors import UnavailableError
from tests.catalogue import LOGS, CatalogueFixture, symbol_row
from tests.row_queries import OracleQueries

NAMES = {
    "A": "Agilent Technologies",
    "AA": "Alcoa",
    "AAPL": "Apple Inc.",
    "BA": "Boeing",
    "META": "Meta Platforms",
    "TA": "TravelCenters of America",
    "X:BTCUSD": None,
}


def index(fixture: CatalogueFixture) -> SymbolIndex:
    return fixture.catalogue.symbol_index(fixture.live_symbols.current)


def search(fixture: CatalogueFixture, text: str = "", market: str | None = None) -> list[str]:
    return list(index(fixture).search(text, market))


@pytest.mark.parametrize(
    ("text", "symbols"),
    [
        ("", list(NAMES)),
        ("a", ["A", "AA", "AAPL", "TA", "BA", "META"]),
        ("AA", ["AA", "AAPL"]),
        ("ta", ["TA", "META"]),
        ("tech", ["A"]),
        ("Apple i", ["AAPL"]),
        ("btc", ["X:BTCUSD"]),
        ("nothing", []),
    ],
)
def test_a_search_lists_symbols_that_begin_with_the_text_first(text: str, symbols: list[str]) -> None:
    fixture = CatalogueFixture([symbol_row(name, name=description) for name, description in reversed(NAMES.items())])
    assert search(fixture, text) == symbols


@given(
    st.text("ABab ", max_size=3), st.lists(st.tuples(st.text("AB", min_size=1, max_size=3), st.text("ab ", max_size=5)))
)
def test_a_search_returns_exactly_the_rows_that_contain_the_text(text: str, rows: list[tuple[str, str]]) -> None:
    fixture = CatalogueFixture([symbol_row(name, name=description) for name, description in rows])
    matching = {name for name, description in dict(rows).items() if text.upper() in name or text.lower() in description}
    results = search(fixture, text)
    assert sorted(results) == sorted(matching)
    is_prefix = [name.startswith(text.upper()) for name in results]
    assert is_prefix == sorted(is_prefix, reverse=True)


def test_a_change_is_visible_at_once_and_a_delisted_symbol_is_not_found() -> None:
    fixture = CatalogueFixture(
        [symbol_row("A", market="stocks", sector="Energy"), symbol_row("B", market="crypto", sector="Energy")]
    )
    assert (search(fixture), search(fixture, market="crypto")) == (["A", "B"], ["B"])
    assert index(fixture).sectors == {"Energy": {"A", "B"}}
    state = fixture.catalogue.state
    fixture.symbols.put(LOGS[0], [])
    assert fixture.catalogue.state == state
    fixture.put_symbols(symbol_row("B", market="crypto", sector="Energy", active=False))
    assert fixture.catalogue.state != state
    assert (search(fixture), index(fixture).sectors) == (["A"], {"Energy": {"A"}})
    assert index(fixture).statistics == (2, 1, {"stocks": 1}, {"Energy": 1})
    fixture.symbols.put(LOGS[0], [("A", None), ("B", encode_row(symbol_row("B"), 2))])
    assert (search(fixture), index(fixture).statistics.total) == (["B"], 1)


def names(**fields: Any) -> CatalogueNames:
    return CatalogueNames(*(frozenset(fields[name]) if name in fields else None for name in ("sectors", "universes")))


def test_filters_restrict_a_scan_to_sets_of_symbols() -> None:
    fixture = CatalogueFixture(
        [
            symbol_row("A", sector="Energy"),
            symbol_row("B", sector="Energy"),
            symbol_row("C", sector="Health"),
            symbol_row("D"),
        ],
        {"ab": ["A", "B", "ELSEWHERE"], "cd": ["C", "D"], "none": []},
    )
    restrict = fixture.catalogue.restrict
    assert restrict(None, names()) is None
    assert restrict(frozenset("A"), names()) == {"A"}
    assert restrict(None, names(sectors=["Energy"])) == {"A", "B"}
    assert restrict(None, names(sectors=["Energy", "Health"])) == {"A", "B", "C"}
    assert restrict(None, names(universes=["ab"])) == {"A", "B", "ELSEWHERE"}
    assert restrict(None, names(universes=["ab", "cd"], sectors=["Health"])) == {"C"}
    assert restrict(frozenset("AC"), names(universes=["cd"])) == {"C"}
    assert restrict(None, names(universes=["none"])) == frozenset()
    assert restrict(None, names(universes=["unknown"])) == frozenset()


def test_an_unknown_name_is_refused_with_the_known_names() -> None:
    fixture = CatalogueFixture([symbol_row("A", sector="Energy")], {f"u{number}": [] for number in range(40)})
    fixture.catalogue.check(names(sectors=["Energy"], universes=["u1", "u2"]))
    with pytest.raises(Problem) as refused:
        fixture.catalogue.check(names(sectors=["Coal", "Energy"], universes=["x"]))
    assert refused.value.errors == [
        {"field": "sectors", "reason": "names 'Coal', and there is no such sector; known: Energy"},
        {"field": "universe", "reason": "names 'x', and there is no such universe; known: 40 others"},
    ]


def test_an_unloaded_catalogue_only_refuses_requests_that_filter_by_names() -> None:
    fixture = CatalogueFixture()
    build = fixture.catalogue.symbols.live.build
    fixture.live_symbols.move_to(build, {}, OracleQueries(Symbols, {}))
    assert fixture.catalogue.restrict(None, names()) is None
    fixture.catalogue.check(names())
    with pytest.raises(UnavailableError, match="being loaded"):
        fixture.catalogue.check(names(sectors=["Energy"]))
