"""Filter presets: parameters are normalized to one form and validated as the scan does; the header If-Match."""

from typing import Any

import falcon.testing
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.list_rules import InvalidListError
from projections.patterns import ActivePatterns
from readapi.http.parameters import parse_parameters
from readapi.http.problems import Problem
from readapi.patterns.list_filters import as_query_parameters
from readapi.patterns.scan_parameters import ScanParameters
from readapi.read_models.filter_parameters import filter_fields
from readapi.users.filter_presets import SINGLE_SCAN_PARAMETERS, normalize_parameters
from readapi.users.list_resource import expected_versions

numbers = st.integers(-100, 100) | st.floats(-100, 100, allow_nan=False)
NAMED: dict[str, st.SearchStrategy[Any]] = {
    "symbols": st.lists(st.sampled_from(("AAPL", "brk.b", "^GSPC")), min_size=1, max_size=3),
    "pattern_types": st.lists(st.sampled_from(("Weekly_Breakout", "é pattern", "1", "1.50")), min_size=1, max_size=3),
    "sectors": st.lists(st.sampled_from(("Energy", "Real Estate")), min_size=1, max_size=3),
    "universe": st.just("mega_cap") | st.just("mega_cap,all"),
    "timeframe": st.just("daily") | st.just("Daily,1min"),
    "confidence_min": st.floats(0, 1) | st.sampled_from(("0.5", 0, 1, "1e-3")),
    "rs_min": numbers,
    "vol_min": numbers.map(str),
    "rsi_range": st.tuples(numbers, numbers).map(sorted) | st.just("30,70.5"),
    "sort_by": st.sampled_from(("confidence", "symbol", "rs")),
    "sort_order": st.sampled_from(("asc", "desc")),
    "per_page": st.integers(1, 100) | st.just("7"),
    "fields": st.sampled_from(("full", ["compact", "full"], "compact,full")),
    "watchlist": st.just("0" * 32),
    "detected_at_min": st.just("2026-11-25T09:00:00Z") | st.floats(0, 2e9),
    "detected_at_max": st.just("2026-11-25") | st.floats(0, 2e9),
}
"""The values of the parameters that the scan declares itself, and of the moments."""

texts = st.lists(st.sampled_from(("A:Doji:daily:0", "B")), min_size=1, max_size=2)
DERIVED = {
    name: numbers if name.endswith(("_min", "_max")) else texts
    for name in filter_fields(ActivePatterns)
    if name in ScanParameters.model_fields and name not in NAMED
}
"""The values of the parameters that the scan derives from the columns of a pattern."""

VALUES = NAMED | DERIVED


def test_the_strategies_cover_every_parameter_of_a_preset() -> None:
    assert VALUES.keys() | SINGLE_SCAN_PARAMETERS == ScanParameters.model_fields.keys()


@given(st.fixed_dictionaries({}, optional=VALUES))
def test_normalized_parameters_mean_the_same_scan(parameters: dict[str, Any]) -> None:
    try:
        normalized = normalize_parameters(parameters)
    except InvalidListError:
        with pytest.raises(Problem, match="is below the lowest value"):
            parse_parameters(ScanParameters, as_query_parameters(parameters)).filters(None)
        return
    assert normalized.keys() == parameters.keys()
    assert normalize_parameters(normalized) == normalized
    assert parse_parameters(ScanParameters, as_query_parameters(normalized)) == parse_parameters(
        ScanParameters, as_query_parameters(parameters)
    )


@given(st.dictionaries(st.text(max_size=3) | st.sampled_from(list(VALUES)), st.none() | st.booleans() | st.text()))
def test_a_preset_refuses_exactly_the_parameters_that_the_scan_refuses(parameters: dict[str, Any]) -> None:
    fields = refused_fields(parameters)
    if not fields:
        assert normalize_parameters(parameters).keys() == parameters.keys()
        return
    with pytest.raises(InvalidListError) as refused:
        normalize_parameters(parameters)
    assert [field for field, _ in refused.value.faults] == [f"parameters.{name}" for name in fields][:10]


def refused_fields(parameters: dict[str, Any]) -> list[str]:
    """Return the fields that the scan refuses."""
    try:
        parse_parameters(ScanParameters, as_query_parameters(parameters))
    except Problem as problem:
        return [error["field"] for error in problem.errors]
    return []


def test_an_item_with_a_comma_is_refused() -> None:
    with pytest.raises(InvalidListError, match=r"parameters\.sectors has an item with a comma"):
        normalize_parameters({"symbols": ["AAPL"], "sectors": ["Energy", "Real Estate, etc"]})


@pytest.mark.parametrize("name", ["pattern_types", "timeframe", "symbols"])
def test_a_text_with_a_comma_stays_an_item_where_values_may_have_commas(name: str) -> None:
    normalized = normalize_parameters({name: ["A,B"]})
    assert [item.upper() for item in normalized[name]] == ["A", "B", "A,B"]
    assert normalize_parameters(normalized) == normalized


def test_bounds_that_contradict_each_other_or_the_default_are_refused() -> None:
    with pytest.raises(InvalidListError, match=r"parameters\.relative_strength_max is below the lowest value, 2"):
        normalize_parameters({"rs_min": 2, "relative_strength_max": 1})
    with pytest.raises(InvalidListError, match=r"parameters\.confidence_max is below the lowest value, 0\.5"):
        normalize_parameters({"confidence_max": 0.3})
    assert normalize_parameters({"confidence_min": 0, "confidence_max": 0.3})


def test_a_list_that_has_too_many_values_in_its_normal_form_is_refused() -> None:
    with pytest.raises(InvalidListError, match=r"parameters\.pattern_types .* at most 100"):
        normalize_parameters({"pattern_types": [f"a{number}, b{number}" for number in range(30)]})


@pytest.mark.parametrize("container", [list, dict])
def test_a_deeply_nested_value_is_refused(container: type) -> None:
    # The deepest nesting that a request body can have.
    deep: Any = 1
    for _ in range(1_000):
        deep = [deep] if container is list else {"a": deep}
    with pytest.raises(InvalidListError, match=r"parameters\.confidence_min"):
        normalize_parameters({"confidence_min": deep})


@pytest.mark.parametrize("name", sorted(SINGLE_SCAN_PARAMETERS))
def test_a_preset_refuses_the_parameters_of_a_single_scan(name: str) -> None:
    with pytest.raises(InvalidListError, match=f"parameters.{name} applies to a single scan"):
        normalize_parameters({name: "1"})


def request(**headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return falcon.testing.create_asgi_req(headers=named)


@pytest.mark.parametrize(
    ("header", "versions"),
    [
        ("*", None),
        ('"1"', {1}),
        ('"1", "22"', {1, 22}),
        ('W/"1"', set()),
        ('W/"1","3"', {3}),
        ("1", set()),
        ('""', set()),
        ('"²"', set()),
        ("", set()),
    ],
)
def test_if_match_names_the_expected_versions(header: str, versions: set[int] | None) -> None:
    assert expected_versions(request(If_Match=header)) == versions


def test_any_version_is_expected_without_if_match() -> None:
    assert expected_versions(request()) is None
