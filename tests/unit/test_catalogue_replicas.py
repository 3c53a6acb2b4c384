"""The catalogue in memory: searching, what its filters mean, and that nothing derived outlives a change."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.base import encode_row
from readapi.catalogue.filters import CatalogueNames
from readapi.catalogue.replicas import UnloadedReplica
from readapi.http.problems import Problem
from readapi.ports.errors import UnavailableError
from tests.catalogue import LOGS, CatalogueFixture, symbol_row

NAMES = {
    "A": "Agilent Technologies",
    "AA": "Alcoa",
    "AAPL": "Apple Inc.",
    "BA": "Boeing",
    "META": "Meta Platforms",
    "TA": "TravelCenters of America",
    "X:BTCUSD": None,
}


def found(known: CatalogueFixture, text: str = "", market: str | None = None, limit: int = 100) -> list[str]:
    return [orjson.loads(one)["symbol"] for one in known.symbols.search(text, market, limit)]


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
def test_what_begins_with_the_text_comes_first(text: str, symbols: list[str]) -> None:
    known = CatalogueFixture([symbol_row(name, name=about) for name, about in reversed(NAMES.items())])
    assert found(known, text) == symbols
    assert found(known, text, limit=2) == symbols[:2]


@given(
    st.text("ABab ", max_size=3), st.lists(st.tuples(st.text("AB", min_size=1, max_size=3), st.text("ab ", max_size=5)))
)
def test_a_search_finds_what_has_the_text_and_nothing_else(text: str, rows: list[tuple[str, str]]) -> None:
    known = CatalogueFixture([symbol_row(name, name=about) for name, about in rows])
    has = {name for name, about in dict(rows).items() if text.upper() in name or text.lower() in about}
    hits = found(known, text)
    assert sorted(hits) == sorted(has)
    begins = [name.startswith(text.upper()) for name in hits]
    assert begins == sorted(begins, reverse=True)


def test_a_change_is_seen_at_once_and_a_delisted_symbol_is_not_shown() -> None:
    known = CatalogueFixture(
        [symbol_row("A", market="stocks", sector="Energy"), symbol_row("B", market="crypto", sector="Energy")]
    )
    assert (found(known), found(known, market="crypto")) == (["A", "B"], ["B"])
    assert known.symbols.sectors == {"Energy": {"A", "B"}}
    state = known.catalogue.state
    known.symbols.put(LOGS[0], [])
    assert known.catalogue.state == state
    known.put_symbols(symbol_row("B", market="crypto", sector="Energy", active=False))
    assert known.catalogue.state != state
    assert (found(known), known.symbols.sectors) == (["A"], {"Energy": {"A"}})
    assert known.symbols.statistics == (2, 1, {"stocks": 1}, {"Energy": 1})
    gone = known.symbols.get("B")
    assert gone is not None
    assert gone.row.active is False
    known.symbols.put(LOGS[0], [("A", None), ("B", encode_row(symbol_row("B"), 2))])
    assert (found(known), known.symbols.statistics.total) == (["B"], 1)


def names(**given: Any) -> CatalogueNames:
    return CatalogueNames(*(frozenset(given[name]) if name in given else None for name in ("sectors", "universes")))


def test_filters_mean_sets_of_symbols() -> None:
    known = CatalogueFixture(
        [
            symbol_row("A", sector="Energy"),
            symbol_row("B", sector="Energy"),
            symbol_row("C", sector="Health"),
            symbol_row("D"),
        ],
        {"ab": ["A", "B", "ELSEWHERE"], "cd": ["C", "D"], "none": []},
    )
    restrict = known.catalogue.restrict
    assert restrict(None, names()) is None
    assert restrict(frozenset("A"), names()) == {"A"}
    assert restrict(None, names(sectors=["Energy"])) == {"A", "B"}
    assert restrict(None, names(sectors=["Energy", "Health"])) == {"A", "B", "C"}
    assert restrict(None, names(universes=["ab"])) == {"A", "B", "ELSEWHERE"}
    assert restrict(None, names(universes=["ab", "cd"], sectors=["Health"])) == {"C"}
    assert restrict(frozenset("AC"), names(universes=["cd"])) == {"C"}
    assert restrict(None, names(universes=["none"])) == frozenset()
    assert restrict(None, names(universes=["gone"])) == frozenset()


def test_what_is_not_there_is_refused_with_what_is() -> None:
    known = CatalogueFixture([symbol_row("A", sector="Energy")], {f"u{number}": [] for number in range(40)})
    known.catalogue.check(names(sectors=["Energy"], universes=["u1", "u2"]))
    with pytest.raises(Problem) as refused:
        known.catalogue.check(names(sectors=["Coal", "Energy"], universes=["x"]))
    assert refused.value.errors == [
        {"field": "sectors", "reason": "names 'Coal', and there is no such sector; known: Energy"},
        {"field": "universe", "reason": "names 'x', and there is no such universe; known: 40 others"},
    ]


def test_while_it_is_being_loaded_only_those_wait_who_need_it() -> None:
    known = CatalogueFixture()
    build = known.catalogue.symbols.live.build
    known.live_symbols.move_to(build, {}, UnloadedReplica())
    assert known.catalogue.restrict(None, names()) is None
    known.catalogue.check(names())
    with pytest.raises(UnavailableError, match="being loaded"):
        known.catalogue.check(names(sectors=["Energy"]))
