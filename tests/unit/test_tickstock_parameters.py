"""Parameters of the platform's pages: their meaning as parameters of TickView, and the forgiven errors."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from readapi.compatibility.tickstock.parameters import FORGIVEN, forgive, scan_parameters
from readapi.http.parameters import parse_parameters
from readapi.http.problems import Problem
from readapi.patterns.scan_parameters import ScanParameters


@pytest.mark.parametrize(
    ("given_parameters", "converted"),
    [
        ({"timeframe": "All", "sector": "all", "universe": "ALL", "symbols": ""}, {}),
        ({"timeframe": "Daily", "limit": "50"}, {"timeframe": ["Daily"], "per_page": "50"}),
        (
            {"tier": "daily", "sort": "timestamp_desc"},
            {"timeframe": ["daily"], "sort_by": "detected_at", "sort_order": "desc"},
        ),
        ({"sort_by": "detected_at", "sort_order": "asc"}, {"sort_by": "detected_at", "sort_order": "asc"}),
        ({"sort_by": "Confidence"}, {"sort_by": "confidence"}),
        ({"sector": "Energy", "sectors": ["Technology", ""]}, {"sectors": ["Energy", "Technology"]}),
        ({"pattern_types": ["Doji", "all"]}, {}),
        ({"symbols": "ALL,AAPL"}, {"symbols": ["ALL", "AAPL"]}),
        ({"rsi_range": " ", "rs_min": "0"}, {"rs_min": "0"}),
    ],
)
def test_parameters_of_the_pages_are_converted(given_parameters: dict[str, Any], converted: dict[str, Any]) -> None:
    assert scan_parameters(given_parameters) == converted


@pytest.mark.parametrize(
    ("parameters", "forgiven"),
    [
        (
            {"per_page": "500", "page": "0", "confidence_min": "1.5"},
            {"per_page": "100", "page": "1", "confidence_min": "1.0"},
        ),
        ({"per_page": ["20", "1000"]}, {"per_page": "100"}),
        ({"sort_by": "magic", "sort_order": "up", "rs_min": "much", "rsi_range": "70,30"}, {}),
        ({"_": "1757001600", "refresh": "true", "rs_min": "1.2"}, {"rs_min": "1.2"}),
    ],
)
def test_numbers_are_clamped_and_what_is_unknown_is_ignored(
    parameters: dict[str, Any], forgiven: dict[str, Any]
) -> None:
    assert forgive(ScanParameters, parameters) == forgiven
    parse_parameters(ScanParameters, forgive(ScanParameters, parameters))


@pytest.mark.parametrize("parameters", [{"symbols": "a b"}, {"as_of": "noon"}, {"cursor": "x"}, {"watchlist": "x"}])
def test_an_invalid_selection_of_rows_stays_an_error(parameters: dict[str, Any]) -> None:
    with pytest.raises(Problem):
        parse_parameters(ScanParameters, forgive(ScanParameters, parameters))


texts = st.one_of(st.sampled_from(("", "all", "1", "-1", "1e9", "x", "70,30", "0,100", "desc")), st.text(max_size=4))


@given(st.dictionaries(st.sampled_from(sorted(FORGIVEN)), texts | st.lists(texts, min_size=1, max_size=3)))
def test_no_value_of_a_forgiven_parameter_is_an_error(parameters: dict[str, Any]) -> None:
    parse_parameters(ScanParameters, forgive(ScanParameters, scan_parameters(parameters)))
