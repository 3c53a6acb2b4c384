"""``/api/symbols`` and ``/api/symbols/{symbol}``: what dropdowns show, and one symbol with its live patterns."""

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

ROWS_AT_ONCE = 1_000


class SymbolsParameters(Parameters):
    """Which symbols."""

    market: LongName | None = None
    """Only symbols of this market, exactly as in the catalogue (``stocks``)."""
    search: LongName | None = None
    """Part of the symbol or of the name, in capitals or small letters; what begins with it comes first."""
    limit: Annotated[int, Field(ge=1, le=5_000), BeforeValidator(check_whole_number)] = 1_000
    """Symbols, at most."""


class SymbolsAnswer(TypedDict):
    """Symbols that are traded, and how many these are."""

    symbols: list[SymbolSummary]
    count: int


class SymbolPatterns(TypedDict):
    """The active patterns of a symbol, counted; each object is from name to how many, the most frequent first."""

    total: int
    by_type: dict[str, int]
    by_tier: dict[str, int]


class SymbolAnswer(TypedDict):
    """One symbol and its active patterns."""

    symbol: SymbolDetails
    patterns: SymbolPatterns
    stale: bool
    age_seconds: int | None


class SymbolsResource(Resource):
    """The symbols."""

    def __init__(self, symbols: ReadModel[SymbolReplica | UnloadedReplica]) -> None:
        self.read_model = symbols

    @operation(
        "Symbols for dropdowns: of a market, or found by a search",
        scope="read",
        responses={200: SymbolsAnswer},
        query=SymbolsParameters,
        reads=True,
    )
    async def on_get(
        self, req: Request, resp: Response, query: SymbolsParameters, live: LiveBuild[SymbolReplica | UnloadedReplica]
    ) -> None:
        """The symbols, in order."""
        found = loaded(live).search(query.search or "", query.market, query.limit)
        send_with_etag(req, resp, {"symbols": orjson.Fragment(b"[%b]" % b",".join(found)), "count": len(found)})


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
        "One symbol and the counts of its active patterns",
        scope="read",
        responses={200: SymbolAnswer},
        path={"symbol": "Ticker symbol, compared in capitals, percent-encoded"},
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
        """The symbol."""
        patterns = await self._patterns.wait_for_position(req)
        found = loaded(live).get(symbol.upper())
        if found is None:
            raise not_found(f"symbol {symbol!r} in the catalogue")
        both = {log: min(position, patterns.positions.get(log, 0)) for log, position in live.positions.items()}
        resp.set_header(POSITION_HEADER, format_positions(both))
        answer = SymbolAnswer(
            symbol=symbol_details(found),
            patterns=await counted(patterns.queries, found.row.symbol, self._clock()),
            **self._patterns.staleness(),
        )
        send_with_etag(req, resp, answer)


async def counted(queries: PatternQueries, symbol: str, now: float) -> SymbolPatterns:
    """The patterns of a symbol that are active at ``now``."""
    by_type, by_tier = Counter[str](), Counter[str]()
    query = PatternQuery(now, symbols=frozenset({symbol}), limit=ROWS_AT_ONCE)
    while True:
        page = await queries.scan(query)
        for found in page.rows:
            by_type[found.row.pattern] += 1
            by_tier[found.row.tier] += 1
        if page.end is None:
            return {"total": page.total, "by_type": most_frequent(by_type), "by_tier": most_frequent(by_tier)}
        query = query._replace(after=page.end)
