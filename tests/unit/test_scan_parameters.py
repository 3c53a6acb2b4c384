"""The parameters of the scan: names of their own, and the derived names of every other column."""

from math import inf

import pytest
from hypothesis import given

from projections.patterns import ActivePatterns, PatternRow
from projections.queries import ALWAYS, Equality, Filter, Range, matcher
from readapi.http.parameters import parse_parameters
from readapi.http.problems import Problem
from readapi.patterns.list_filters import QueryParameters
from readapi.patterns.scan_parameters import ALIASES, SORT_ALIASES, ScanParameters
from readapi.push.pattern_parameters import PatternSubscriptionParameters
from readapi.read_models.filter_parameters import filter_fields, filters_of
from tests.catalogue import CatalogueFixture, symbol_row
from tests.oracles.scan_bounds import passes
from tests.pattern_queries import bounded_query, pattern_rows, scan_bounds
from tests.push import TOPICS

CATALOGUE = CatalogueFixture([symbol_row("A", sector="Energy"), symbol_row("B")], {"u": ["A", "B"]}).catalogue


def scan(**parameters: str | list[str]) -> ScanParameters:
    query: QueryParameters = parameters
    return parse_parameters(ScanParameters, query)


def filters(**parameters: str | list[str]) -> set[Filter]:
    return set(scan(**parameters).query(0.0, CATALOGUE).filters)


def test_parameters_with_names_of_their_own_filter_the_columns() -> None:
    assert filters() == {Range("confidence", 0.5)}
    assert filters(
        confidence_min="0", pattern_types="Doji,bull flag", symbols=["aapl"], timeframe="Daily", rsi_range="30,70"
    ) == {
        Equality("pattern", frozenset(("Doji", "bull flag"))),
        Equality("symbol", frozenset(("AAPL",))),
        Equality("tier", frozenset(("daily",))),
        Range("rsi", 30, 70),
    }
    assert filters(confidence_min="0", rs_min="1.5", vol_min="0.1", rsi_range="0,70") == {
        Range("relative_strength", 1.5),
        Range("relative_volume", 0.1),
        Range("rsi", -inf, 70),
    }


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Doji,Hammer", {"Doji", "Hammer"}),
        (["Doji,Hammer", "Harami"], {"Doji", "Hammer", "Doji,Hammer", "Harami"}),
        ("Cup, Handle", {"Cup", " Handle", "Cup, Handle"}),
        (["Cup, Handle", "Cup, Handle"], {"Cup", " Handle", "Cup, Handle"}),
        (",".join(["A"] * 100), {"A"}),
    ],
)
def test_a_text_with_a_comma_in_a_repeated_parameter_also_stands_for_itself(
    value: str | list[str], expected: set[str]
) -> None:
    for parameter, column in (("pattern_types", "pattern"), ("timeframe", "tier")):
        [found] = [each for each in filters(**{parameter: value}) if each.column == column]
        assert isinstance(found, Equality)
        assert {text.lower() for text in found.values} == {text.lower() for text in expected}


@pytest.mark.parametrize("symbol", ["/ES", "M&M.NS", "币安人生USDT", "ES1!", "$SPX", "TpC", "A:B", "x" * 32])
def test_the_symbols_of_the_world_are_filters(symbol: str) -> None:
    assert Equality("symbol", frozenset((symbol.upper(),))) in filters(symbols=symbol)
    assert Equality("symbol", frozenset((symbol.upper(), "A", "B", "A,B"))) in filters(symbols=[symbol, "A,B"])


@pytest.mark.parametrize("symbol", ["", "x" * 33, "A B", "A\tB", "A\x85B", "\u3000"])
def test_a_text_that_is_no_symbol_is_refused(symbol: str) -> None:
    with pytest.raises(Problem, match=r"symbols\[0\] should be a symbol"):
        filters(symbols=symbol)


@given(scan_bounds)
def test_bounds_mean_the_same_in_scans_in_push_and_by_the_names_of_the_columns(bounds: dict[str, str]) -> None:
    expected = set(bounded_query(bounds).filters)
    subscription = parse_parameters(PatternSubscriptionParameters, bounds).resolve(TOPICS["patterns"], CATALOGUE)
    assert set(subscription.filters) == expected
    lowest, highest = map(float, bounds.get("rsi_range", "0,100").split(","))
    by_column = {
        "confidence_min": float(bounds["confidence_min"]),
        "relative_strength_min": float(bounds.get("rs_min", 0)),
        "relative_volume_min": float(bounds.get("vol_min", 0)),
        "rsi_min": lowest,
        "rsi_max": highest,
    }
    assert set(filters_of(ActivePatterns, by_column)) == expected


@given(pattern_rows, scan_bounds)
def test_a_bound_at_the_end_of_its_scale_excludes_no_change_from_push(row: PatternRow, bounds: dict[str, str]) -> None:
    subscription = parse_parameters(PatternSubscriptionParameters, bounds).resolve(TOPICS["patterns"], CATALOGUE)
    assert matcher(ActivePatterns, subscription.filters, ALWAYS)(row.id, row) == passes(row, bounds)


def test_sectors_and_universes_are_resolved_to_symbols() -> None:
    assert filters(confidence_min="0", universe="u") == {Equality("symbol", frozenset("AB"))}
    assert filters(confidence_min="0", universe="u", sectors="Energy") == {Equality("symbol", frozenset("A"))}
    assert filters(confidence_min="0", universe="u", symbols="B,C") == {Equality("symbol", frozenset("B"))}


def test_every_filter_and_sort_key_of_the_read_model_is_a_parameter() -> None:
    own_names = ALIASES | {"rsi_min": "rsi_range", "rsi_max": "rsi_range"}
    derived = [own_names.get(name, name) for name in filter_fields(ActivePatterns)]
    assert set(derived) <= ScanParameters.model_fields.keys()
    for name, column in ActivePatterns.columns.items():
        if column.sort:
            assert scan(sort_by=SORT_ALIASES.get(name, name)).query(0.0, CATALOGUE).sort_by == name
        else:
            with pytest.raises(Problem, match="sort_by"):
                scan(sort_by=name)


def test_columns_without_names_of_their_own_are_filtered_by_the_derived_names() -> None:
    assert filters(confidence_max="0.9", detected_at_min="1970-01-01T00:01:00Z", relative_strength_max="3") == {
        Range("confidence", 0.5, 0.9),
        Range("detected_at", 60),
        Range("relative_strength", -inf, 3),
    }
    with pytest.raises(Problem, match="confidence_max is below the lowest value"):
        filters(confidence_max="0.4")
