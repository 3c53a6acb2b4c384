"""``/api/symbols`` and ``/api/symbols/{symbol}``: symbols for dropdowns, and one symbol with its active patterns."""

from collections import Counter
from collections.abc import Callable
from typing import Annotated

import orjson
from falcon.asgi import Request, Response
from pydantic import BeforeValidator, Field
from typing_extensions import TypedDict

from projections.queries import PatternQueries, PatternQuery, most_frequent
from readapi.catalogue.filters import loaded
from readapi.catalogue.rendering import SymbolDetails, SymbolSummary, symbol_details
from readapi.catalogue.replicas import SymbolReplica, UnloadedReplica
from readapi.http.operation import Resource, operation
from readapi.http.parameters import LongName, Parameters, check_whole_number
from readapi.http.problems import not_found
from readapi.http.read_model import POSITION_HEADER, ReadModel
from readapi.http.responses import send_with_etag
from readapi.ports.read_models import LiveBuild, format_positions

ROWS_PER_QUERY = 1_000
"""Patterns read per query while the patterns of a symbol are counted."""


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

    def __init__(self, symbols: ReadModel[SymbolReplica | UnloadedReplica]) -> None:
        self.read_model = symbols

    @operation(
        "List or search the listed symbols.",
        scope="read",
        responses={200: SymbolsAnswer},
        query=SymbolsParameters,
        reads=True,
    )
    async def on_get(
        self, req: Request, resp: Response, query: SymbolsParameters, live: LiveBuild[SymbolReplica | UnloadedReplica]
    ) -> None:
        """Send the symbols."""
        symbols = loaded(live).search(query.search or "", query.market, query.limit)
        send_with_etag(req, resp, {"symbols": orjson.Fragment(b"[%b]" % b",".join(symbols)), "count": len(symbols)})


class SymbolResource(Resource):
    """One symbol."""

    def __init__(
        self,
        symbols: ReadModel[SymbolReplica | UnloadedReplica],
        patterns: ReadModel[PatternQueries],
        clock: Callable[[], float],
    ) -> None:
        self.read_model = symbols
        self._patterns = patterns
        self._clock = clock

    @operation(
        "Show a symbol and the counts of its active patterns.",
        scope="read",
        responses={200: SymbolAnswer},
        path={"symbol": "Ticker symbol, percent-encoded. Lower-case letters count as capitals."},
        problems=(404,),
        reads=True,
    )
    async def on_get(
        self,
        req: Request,
        resp: Response,
        _query: Parameters,
        *,
        live: LiveBuild[SymbolReplica | UnloadedReplica],
        symbol: str,
    ) -> None:
        """Send the symbol."""
        patterns = await self._patterns.wait_for_position(req)
        result = loaded(live).get(symbol.upper())
        if result is None:
            raise not_found(f"symbol {symbol!r} in the catalogue")
        # The answer is from two read models and guarantees only the positions that both have reached.
        common = {log: min(position, patterns.positions.get(log, 0)) for log, position in live.positions.items()}
        resp.set_header(POSITION_HEADER, format_positions(common))
        answer = SymbolAnswer(
            symbol=symbol_details(result),
            patterns=await count_patterns(patterns.queries, result.row.symbol, self._clock()),
            **self._patterns.staleness(),
        )
        send_with_etag(req, resp, answer)


async def count_patterns(queries: PatternQueries, symbol: str, now: float) -> SymbolPatterns:
    """Count the patterns of a symbol that are active at ``now`` (epoch seconds)."""
    by_type, by_tier = Counter[str](), Counter[str]()
    query = PatternQuery(now, symbols=frozenset({symbol}), limit=ROWS_PER_QUERY)
    while True:
        page = await queries.scan(query)
        for result in page.rows:
            by_type[result.row.pattern] += 1
            by_tier[result.row.tier] += 1
        if page.end is None:
            return {"total": page.total, "by_type": most_frequent(by_type), "by_tier": most_frequent(by_tier)}
        query = query._replace(after=page.end)
