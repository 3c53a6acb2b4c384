"""Queries of random read models on the indexes in Redis: the results equal the oracle's on every supported server."""

from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from domain.events import SymbolListed
from infra.read_models import query_plan, row_queries
from infra.read_models.keys import SegmentKeys
from infra.read_models.row_queries import RedisRowQueries
from projections.activity import Activity
from projections.base import Projection
from projections.columns import Column
from projections.ports import Segment
from projections.queries import Equality, Filter, Page, Query, Range
from projections.symbols import Symbols
from readapi.ports.errors import UnavailableError
from tests.declarations import KEYS, NOW, DeclaredProjection, declarations, queries_of, rows_of
from tests.integration.pattern_query_support import (
    LOGS,
    assert_counts,
    assert_page,
    call,
    log_of_key,
    write_rows,
)
from tests.oracles import rows as oracle
from tests.read_model import FIRST_BUILD

on_a_server = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture(params=["values by index", "values by text"], autouse=True)
def many_values(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Look up each value in its index, or compare the texts of rows."""
    monkeypatch.setattr(query_plan, "MANY_VALUES", 0 if request.param == "values by text" else 100)


@st.composite
def histories(draw: st.DrawFn) -> tuple[DeclaredProjection, list[dict[str, Any]]]:
    """Make a projection with generations of rows. A later generation changes and removes rows of an earlier one."""
    projection = draw(declarations())
    later = st.dictionaries(st.sampled_from(KEYS), st.just(None), max_size=3)
    changes = [draw(rows_of(projection, max_size=5)) | draw(later) for _ in range(draw(st.integers(0, 2)))]
    return projection, [draw(rows_of(projection)), *changes]


def remaining(generations: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the rows after all generations."""
    rows: dict[str, Any] = {}
    for generation in generations:
        rows |= generation
    return {key: row for key, row in rows.items() if row is not None}


@on_a_server
@given(histories(), st.data())
def test_pages_equal_the_oracle(
    every_redis_url: str,
    every_redis: Redis,
    history: tuple[DeclaredProjection, list[dict[str, Any]]],
    data: st.DataObject,
) -> None:
    projection, generations = history
    writers = write_rows(every_redis, projection, *generations)
    queries = data.draw(st.lists(queries_of(projection), min_size=3, max_size=8))

    async def read_pages(row_queries: RedisRowQueries[Any]) -> list[Page[Any]]:
        return [await row_queries.page(query) for query in queries]

    rows = remaining(generations)
    for query, page in zip(queries, call(every_redis_url, projection, read_pages), strict=True):
        assert_page(page, oracle.page(projection, rows, query), writers)


@on_a_server
@given(histories(), st.data())
def test_pages_by_cursor_make_up_the_complete_result(
    every_redis_url: str,
    every_redis: Redis,
    history: tuple[DeclaredProjection, list[dict[str, Any]]],
    data: st.DataObject,
) -> None:
    projection, generations = history
    write_rows(every_redis, projection, *generations)
    query = data.draw(queries_of(projection))._replace(offset=0, after=None, limit=data.draw(st.integers(1, 4)))
    expected = oracle.page(projection, remaining(generations), query._replace(limit=1_000))

    async def read_all_pages(queries: RedisRowQueries[Any]) -> list[Page[Any]]:
        pages = [await queries.page(query)]
        while pages[-1].end is not None and len(pages) <= expected.total:
            pages.append(await queries.page(query._replace(after=pages[-1].end)))
        return pages

    pages = call(every_redis_url, projection, read_all_pages)
    assert [result.key for page in pages for result in page.rows] == expected.keys
    assert {page.total for page in pages} == {expected.total}
    assert len(pages) == max(1, -(-expected.total // query.limit))


@on_a_server
@given(histories(), st.sampled_from((0.0, NOW, 1_500.0)))
def test_rows_by_key_and_counts_equal_the_oracle(
    every_redis_url: str, every_redis: Redis, history: tuple[DeclaredProjection, list[dict[str, Any]]], now: float
) -> None:
    projection, generations = history
    write_rows(every_redis, projection, *generations)
    rows = remaining(generations)
    names = [count.name for count in projection.counts]
    present = [key for key in KEYS if key in rows and not oracle.has_ended(projection, rows[key], now)]

    async def read(queries: RedisRowQueries[Any]) -> tuple[Any, Any, Any]:
        single = [await queries.get(key, now) for key in KEYS]
        return single, await queries.get_many(KEYS, now), await queries.counts(names, now)

    single, several, counts = call(every_redis_url, projection, read)
    assert [result and (result.key, result.row, result.log) for result in single] == [
        (key, rows[key], log_of_key(key)) if key in present else None for key in KEYS
    ]
    assert list(several) == [result for result in single if result]
    assert_counts(counts, projection, rows, now)


def test_a_row_that_was_read_is_not_missing_after_redis_has_lost_it(
    redis_url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server loses its end. Workers fold the lost events again, or they are lost for ever."""
    state = SegmentKeys(Segment(Symbols.name, FIRST_BUILD, LOGS[0])).state
    redis.hset(state, "checkpoint", 5)

    async def read(queries: RedisRowQueries[Any]) -> None:
        assert await queries.get("AAPL", NOW) is None
        redis.hset(state, "checkpoint", 4)
        with pytest.raises(UnavailableError, match="Redis has lost the latest changes of symbols"):
            await queries.get("AAPL", NOW)
        redis.hset(state, "checkpoint", 5)
        assert await queries.get("AAPL", NOW) is None
        redis.hset(state, "checkpoint", 3)
        monkeypatch.setattr(row_queries, "LOSS_SECONDS", -1)
        assert await queries.get("AAPL", NOW) is None

    call(redis_url, Symbols, read)


def test_a_read_model_that_merges_rows_of_several_logs_is_answered_by_replicas_only(redis_url: str) -> None:
    for function in (
        lambda queries: queries.page(Query(NOW)),
        lambda queries: queries.get("key", NOW),
        lambda queries: queries.get_many(["key"], NOW),
        lambda queries: queries.counts(["by_day"], NOW),
    ):
        with pytest.raises(UnavailableError, match="activity"):
            call(redis_url, Activity, function)


@dataclass(frozen=True, kw_only=True)
class Quote:
    """A row of version 1."""

    symbol: Annotated[str, Column(equality=True)]
    price: Annotated[float, Column(range=True, sort=True)]


@dataclass(frozen=True, kw_only=True)
class TradedQuote:
    """A row of version 2. Its first index of all rows is one that version 1 does not have."""

    volume: Annotated[float | None, Column(range=True, sort=True)] = None
    symbol: Annotated[str, Column(equality=True, sort=True)]
    price: Annotated[float, Column(range=True, sort=True)]
    venue: Annotated[str | None, Column(equality=True, sort=True)] = None


class Quotes(Projection[Quote, SymbolListed]):
    name, version, row, key, handles = "quotes", 1, Quote, "id", (SymbolListed,)


class TradedQuotes(Projection[TradedQuote, SymbolListed]):
    name, version, row, key, handles = "quotes", 2, TradedQuote, "id", (SymbolListed,)


@pytest.fixture
def former_build(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """The live build of version 1, to which code of version 2 has rolled back."""
    monkeypatch.setattr(row_queries, "FORMER", [Quotes()])
    write_rows(redis, Quotes, {symbol: Quote(symbol=symbol, price=price) for symbol, price in PRICES.items()})


PRICES = {"AAPL": 3.0, "MSFT": 2.0, "TSLA": 1.0}


@pytest.mark.usefixtures("former_build")
@pytest.mark.parametrize(
    ("filters", "sort_by", "expected"),
    [
        ((), None, ["AAPL", "MSFT", "TSLA"]),
        ((), "price", ["TSLA", "MSFT", "AAPL"]),
        ((Range("price", 2.0),), "price", ["MSFT", "AAPL"]),
        ((Equality("symbol", frozenset({"AAPL", "TSLA"})),), "price", ["TSLA", "AAPL"]),
    ],
)
def test_a_build_of_the_former_version_is_queried_by_its_own_indexes(
    redis_url: str, filters: tuple[Filter, ...], sort_by: str | None, expected: list[str]
) -> None:
    page = call(redis_url, TradedQuotes, lambda queries: queries.page(Query(NOW, filters, sort_by)))
    assert [row.key for row in page.rows] == expected
    assert {row.row.volume for row in page.rows} == {None}


@pytest.mark.usefixtures("former_build")
@pytest.mark.parametrize(
    ("filters", "sort_by", "column"),
    [
        ((Equality("venue", frozenset({"XNAS"})),), None, "venue"),
        ((Range("volume", 1.0),), None, "volume"),
        ((), "volume", "volume"),
        ((), "symbol", "symbol"),
    ],
)
def test_a_build_of_the_former_version_has_no_index_of_a_new_column(
    redis_url: str, filters: tuple[Filter, ...], sort_by: str | None, column: str
) -> None:
    with pytest.raises(UnavailableError, match=f"build 1.1 of quotes has no index of the column {column}"):
        call(redis_url, TradedQuotes, lambda queries: queries.page(Query(NOW, filters, sort_by)))
