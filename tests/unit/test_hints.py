"""Values of filters that no row has: refusals for closed sets, and hints for open sets."""

import asyncio
from dataclasses import replace

import pytest

from projections.backtests import BacktestRow, Backtests
from projections.patterns import ActivePatterns, PatternRow
from projections.queries import Equality, Filter, Range
from projections.symbols import SymbolRow, Symbols
from readapi.http.problems import FieldError, Problem
from readapi.read_models.hints import MAX_HINTS, FilterValues, close_values
from tests.row_queries import OracleQueries

NOW = 1_000.0


def pattern_row(symbol: str, pattern: str = "Doji_Star", expires_at: float | None = None) -> PatternRow:
    return PatternRow(symbol, symbol, pattern, "daily", 0.5, 900.0, 900.0, expires_at)


ROWS = [pattern_row("AAPL"), pattern_row("MSFT", "Weekly_Breakout"), pattern_row("IBM", "Hammer")]
PATTERNS = OracleQueries(ActivePatterns, {row.id: row for row in (*ROWS, pattern_row("ENDED", "Ended", NOW))})


def values(**filters: str) -> list[Filter]:
    return [Equality(name, frozenset(texts.split(","))) for name, texts in filters.items()]


def hint_of(*filters: Filter, queries: OracleQueries = PATTERNS) -> str | None:
    values = FilterValues(ActivePatterns, filters, {"pattern": "pattern_types"})
    return asyncio.run(values.hint(queries, NOW))


def test_a_hint_names_close_values_as_they_are_stored_under_the_name_of_the_parameter() -> None:
    assert hint_of(*values(pattern="weekly_breakout")) == (
        "at present no row has pattern_types=weekly_breakout; close values: Weekly_Breakout"
    )
    assert hint_of(*values(pattern="doji,Hammer", symbol="APPL")) == (
        "at present no row has pattern_types=doji; close values: Doji_Star; "
        "at present no row has symbol=APPL; close values: AAPL"
    )
    assert hint_of(*values(symbol="ENDED")) == "at present no row has symbol=ENDED; known: MSFT, IBM, AAPL"


def test_there_is_no_hint_without_an_unknown_value() -> None:
    assert hint_of() is None
    assert hint_of(*values(symbol="AAPL", pattern="Weekly_Breakout"), Range("confidence", 2.0)) is None
    assert hint_of(Equality("symbol", frozenset())) is None
    assert hint_of(*values(id="AAPL")) is None


def test_a_hint_names_keys_that_no_row_has() -> None:
    assert hint_of(*values(id="AAPL,unknown")) == "at present no row has id=unknown"


def test_a_hint_explains_a_few_values_only() -> None:
    hint = hint_of(*values(symbol=",".join(f"X{number}" for number in range(9))))
    assert (hint or "").count("no row has") == MAX_HINTS


def test_a_value_beyond_the_counted_groups_is_found_by_a_query() -> None:
    symbols = [f"S{number:04}" for number in range(1_001)]
    queries = OracleQueries(ActivePatterns, {symbol: pattern_row(symbol) for symbol in symbols})
    assert hint_of(*values(symbol="S0000"), queries=queries) is None
    assert hint_of(*values(symbol="T0000"), queries=queries) is not None


def refusal(*filters: Filter, queries: OracleQueries, projection: type[Symbols | Backtests]) -> list[FieldError]:
    async def check() -> None:
        await FilterValues(projection, filters).check(queries, NOW)

    with pytest.raises(Problem) as refused:
        asyncio.run(check())
    return list(refused.value.errors)


def test_an_unknown_value_of_a_closed_set_is_refused_with_the_known_values() -> None:
    symbols = OracleQueries(
        Symbols, {market: SymbolRow(market, 1.0, 1.0, market=market) for market in ("stocks", "crypto")}
    )
    [error] = refusal(*values(market="stock", exchange="unknown"), queries=symbols, projection=Symbols)
    assert error["field"] == "market"
    assert error["reason"] == "names 'stock', and there is no such market; known: stocks, crypto"


def test_declared_values_and_values_of_rows_are_known() -> None:
    run = BacktestRow("j", "paused", 0.5, 1.0, 1.0)
    runs = OracleQueries(Backtests, {"j": run, "k": replace(run, job_id="k", status="completed")})
    asyncio.run(FilterValues(Backtests, values(status="paused,failed,processing")).check(runs, NOW))
    [error] = refusal(*values(status="foo,paused"), queries=runs, projection=Backtests)
    assert "no such status; known: processing, completed, failed, cancelled, paused" in error["reason"]


@pytest.mark.parametrize(
    ("value", "close"), [("aple", ["Apple", "APPLES"]), ("zzz", []), ("HAMMER", ["hammer"]), ("", [])]
)
def test_close_values_are_found_regardless_of_case(value: str, close: list[str]) -> None:
    assert close_values(value, ["Apple", "APPLES", "hammer"]) == close
