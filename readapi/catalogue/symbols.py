"""``/api/symbols`` and ``/api/symbols/{symbol}``: symbols for dropdowns, and one symbol with its active patterns."""

from collections import Counter
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any

import orjson
from falcon.asgi import Request, Response
from pydantic import BeforeValidator, Field
from typing_extensions import TypedDict

from projections.patterns import PatternRow
from projections.queries import ALWAYS, Equality, Query, RowQueries, most_frequent
from projections.symbols import SymbolRow, Symbols
from readapi.catalogue.filters import Catalogue
from readapi.catalogue.symbol_index import symbols_of_patterns
from readapi.http.operation import Resource, operation
from readapi.http.parameters import LongName, Parameters, check_whole_number
from readapi.http.problems import Problem, not_found
from readapi.http.read_model import POSITION_HEADER, ReadModel
from readapi.http.responses import send_with_etag
from readapi.ports.read_models import LiveRows, format_positions
from readapi.read_models.all_rows import all_rows
from readapi.read_models.filter_parameters import filters_of
from readapi.read_models.hints import FilterValues
from readapi.read_models.rendering import render
from readapi.read_models.schemas import document_type

SUMMARY, DETAILED = Symbols.views["summary"], Symbols.views["details"]

if TYPE_CHECKING:
    SymbolSummary = dict[str, Any]
    SymbolDetails = dict[str, Any]
else:
    SymbolSummary = document_type(Symbols, SUMMARY, "SymbolSummary")
    SymbolDetails = document_type(Symbols, DETAILED, "SymbolDetails")


class SymbolsParameters(Parameters):
    """Query parameters of the list of symbols."""

    market: LongName | None = None
    """Market of the symbols, spelled as in the catalogue (``stocks``). All markets if it is missing."""
    search: LongName | None = None
    """Part of the symbol or of the company name. Case does not matter. Matches at the beginning come first."""
    limit: Annotated[int, Field(ge=1, le=5_000), BeforeValidator(check_whole_number)] = 1_000
    """Highest number of symbols to return."""


class SymbolsAnswer(TypedDict):
    """Listed symbols and their number."""

    symbols: list[SymbolSummary]
    count: int


class SymbolPatterns(TypedDict):
    """Counts of a symbol's active patterns. Each object maps a name to a count, the most frequent name first."""

    total: int
    by_type: dict[str, int]
    by_tier: dict[str, int]


class SymbolAnswer(TypedDict):
    """One symbol and the counts of its active patterns."""

    symbol: SymbolDetails
    patterns: SymbolPatterns
    stale: bool
    age_seconds: int | None


class SymbolsResource(Resource):
    """The listed symbols."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.read_model = catalogue.symbols
        self._catalogue = catalogue

    @operation(
        "List or search the listed symbols.",
        scope="read",
        responses={200: SymbolsAnswer},
        query=SymbolsParameters,
        reads=True,
    )
    async def on_get(self, req: Request, resp: Response, query: SymbolsParameters, live: LiveRows[SymbolRow]) -> None:
        """Send the symbols."""
        filters = filters_of(Symbols, {"market": None if query.market is None else (query.market,)})
        await FilterValues(Symbols, filters).check(live.queries, ALWAYS)
        symbols = self._catalogue.symbol_index(live).search(query.search or "", query.market)
        rows = await live.queries.get_many(symbols[: query.limit], ALWAYS)
        content = {"symbols": orjson.Fragment(render(rows, SUMMARY, ALWAYS)), "count": len(rows)}
        send_with_etag(req, resp, content)


class SymbolResource(Resource):
    """One symbol."""

    def __init__(
        self,
        catalogue: Catalogue,
        patterns: ReadModel[RowQueries[PatternRow]],
        clock: Callable[[], float],
    ) -> None:
        self.read_model = catalogue.symbols
        self._catalogue = catalogue
        self._patterns = patterns
        self._clock = clock

    @operation(
        "Show a symbol and the counts of its active patterns.",
        scope="read",
        responses={200: SymbolAnswer},
        path={
            "symbol": "Ticker symbol, percent-encoded. The case of letters matters only if the catalogue has several "
            "symbols that differ in case."
        },
        problems=(404, 409),
        reads=True,
    )
    async def on_get(
        self,
        req: Request,
        resp: Response,
        _query: Parameters,
        *,
        live: LiveRows[SymbolRow],
        symbol: str,
    ) -> None:
        """Send the symbol."""
        patterns = await self._patterns.wait_for_position(req)
        spellings = self._catalogue.symbol_index(live).spellings(symbol)
        result = await live.queries.get(_spelling_of(symbol, spellings), ALWAYS)
        if result is None:
            raise not_found(f"symbol {symbol!r} in the catalogue")
        # The answer is from two read models and guarantees only the positions that both have reached.
        common = {log: min(position, patterns.positions.get(log, 0)) for log, position in live.positions.items()}
        resp.set_header(POSITION_HEADER, format_positions(common))
        answer = SymbolAnswer(
            symbol=DETAILED.render(result, ALWAYS),
            patterns=await count_patterns(
                patterns.queries, result.row.symbol, self._clock(), matches_case=len(spellings) > 1
            ),
            **self._patterns.staleness(),
        )
        send_with_etag(req, resp, answer)


def _spelling_of(symbol: str, spellings: Sequence[str]) -> str:
    """Return the symbol of the catalogue that a request names: the equal symbol, or the only symbol except for case.

    Raises:
        Problem: 409, several symbols differ from the named symbol only in case.
    """
    if symbol in spellings or not spellings:
        return symbol
    if len(spellings) > 1:
        names = " and ".join(spellings)
        raise Problem(HTTPStatus.CONFLICT, "ambiguous", f"{symbol!r} may be {names}: the case of letters differs")
    return spellings[0]


async def count_patterns(
    queries: RowQueries[PatternRow], symbol: str, now: float, *, matches_case: bool
) -> SymbolPatterns:
    """Count the patterns of a symbol that are active at ``now``.

    Args:
        queries: The queries of the patterns.
        symbol: The symbol.
        now: The time, in epoch seconds.
        matches_case: Whether the case of the patterns' symbols must be equal, because other symbols differ in case.
    """
    by_type, by_tier = Counter[str](), Counter[str]()
    async for result in all_rows(queries, Query(now, (Equality("symbol", symbols_of_patterns((symbol,))),))):
        if matches_case and result.row.symbol != symbol:
            continue
        by_type[result.row.pattern] += 1
        by_tier[result.row.tier] += 1
    return {"total": by_type.total(), "by_type": most_frequent(by_type), "by_tier": most_frequent(by_tier)}
