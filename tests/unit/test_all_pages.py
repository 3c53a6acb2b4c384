"""All pages of a read model: the documents of a page are those of the moment at which it was read."""

import asyncio

import pytest

from projections.base import encode_row
from projections.patterns import ActivePatterns
from projections.queries import Query, RowQueries
from projections.versions import Build
from readapi.http.cursors import Order, decode_cursor, encode_cursor
from readapi.http.read_model import ReadModel
from readapi.ports.read_models import LiveBuild
from readapi.read_models.page_parameters import MAX_CURSOR_LENGTH, page_parameters
from readapi.read_models.pages import LivePages
from readapi.read_models.rendering import all_columns
from readapi.replica.replica import Replica
from tests.pattern_queries import NOW, pattern_row
from tests.unit.test_read_model_endpoints import LiveReplica


@pytest.mark.parametrize("added", ["ZZZ", None])
def test_a_change_between_two_waits_leaves_the_documents_of_a_page_as_they_were(added: str | None) -> None:
    replica = Replica(ActivePatterns())
    rows = [pattern_row(symbol, "Doji", "daily", NOW, 0.8) for symbol in ("AAPL", "MSFT")]
    replica.put("market-0", [(row.id, encode_row(row, 1)) for row in rows])

    async def test() -> list[str]:
        live: LiveBuild[RowQueries[object]] = LiveBuild(Build(1, 1), replica, {"market-0": 1})
        pages = LivePages(ReadModel(ActivePatterns(), LiveReplica(replica), 0), live, NOW)
        batches = await pages.read_all(Query(NOW, sort_by="symbol", limit=10), all_columns(ActivePatterns()))
        replica.put("market-0", [(rows[0].id, None)])
        if added:
            row = pattern_row(added, "Doji", "daily", NOW, 0.8)
            replica.put("market-0", [(row.id, encode_row(row, 2))])
        return [document["symbol"] async for batch in batches for document in batch]

    assert asyncio.run(test()) == ["AAPL", "MSFT"]


def test_the_cursor_of_the_longest_names_is_accepted() -> None:
    row = pattern_row("\U0001f600" * 32, "\uac00" * 64, "\uac01" * 32, NOW, 0.8)
    parameters = page_parameters(ActivePatterns(), "Parameters")
    order = Order("symbol", "asc", "text", "symbol")
    replica = Replica(ActivePatterns())
    replica.put("market-0", [(row.id, encode_row(row, 1)), ("Z", encode_row(pattern_row("Z", "D", "d", NOW, 1), 1))])
    page = asyncio.run(replica.page(Query(NOW, sort_by="symbol", descending=True, limit=1)))
    assert page.end
    cursor = encode_cursor(page.end, order)
    assert 500 < len(cursor) < MAX_CURSOR_LENGTH
    assert decode_cursor(cursor, order) == page.end
    assert parameters.model_validate({"sort_by": "symbol", "sort_order": "asc", "cursor": cursor}).cursor == cursor
