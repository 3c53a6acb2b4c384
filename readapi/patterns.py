"""``/api/patterns/scan`` and ``/api/patterns/{id}``: the active patterns, filtered, sorted, paged; and one of them."""

import time
from collections.abc import Callable
from typing import Annotated, Any, Literal

from falcon.asgi import Request, Response
from pydantic import Field, StringConstraints, ValidationInfo, field_validator
from typing_extensions import TypedDict

from projections.patterns import PatternRow
from projections.queries import (
    DEEPEST_OFFSET,
    Found,
    Page,
    PatternQueries,
    PatternQuery,
    PatternSort,
    TooDeepError,
)
from readapi.answers import Pagination, pagination, send_tagged
from readapi.cursors import decode_cursor, encode_cursor
from readapi.operation import Resource, operation
from readapi.parameters import (
    Fraction,
    ListOf,
    Name,
    Number,
    PageNumber,
    PageSize,
    Parameters,
    Range,
    SortOrder,
    Symbol,
    TierName,
)
from readapi.pattern_rows import CompactPattern, FullPattern, compact, full
from readapi.ports import LiveBuild
from readapi.problems import Problem, invalid, not_found
from readapi.read_model import ReadModel


class ScanParameters(Parameters):
    """Filters are joined by *and*, the values of one filter by *or*."""

    pattern_types: ListOf[Name] | None = None
    """Names of patterns, exactly as announced (``Weekly_Breakout``)."""
    symbols: ListOf[Symbol] | None = None
    """Ticker symbols, compared in capitals."""
    timeframe: ListOf[TierName] | None = None
    """Detector tiers (``daily``, ``intraday``, ``1min``), compared in small letters."""
    confidence_min: Fraction = 0.5
    """Lowest confidence."""
    rs_min: Number | None = None
    """Lowest relative strength; a pattern without one does not pass."""
    vol_min: Number | None = None
    """Lowest relative volume; a pattern without one does not pass."""
    rsi_range: Range | None = None
    """Lowest and highest RSI, both included: ``30,70``; a pattern without one does not pass."""
    sort_by: PatternSort = "confidence"
    """Patterns of the same value are in order of their ids; a missing value is the lowest of all."""
    sort_order: SortOrder = "desc"
    """``desc`` is the exact reverse of ``asc``."""
    page: PageNumber | None = None
    """Number of the page, from 1; only the first 10,000 patterns can be paged by number."""
    per_page: PageSize = 30
    """Patterns a page."""
    cursor: Annotated[str, StringConstraints(max_length=500), Field(json_schema_extra={"format": "cursor"})] | None = (
        None
    )
    """``next`` of the page before, instead of ``page``; any depth costs the same."""
    fields: ListOf[Literal["compact", "full"]] = ("compact",)
    """``compact``: the fields of the UI; ``full``: besides these all raw fields, with their provenance."""

    @field_validator("cursor")
    @classmethod
    def _goes_on(cls, cursor: str | None, others: ValidationInfo) -> str | None:
        if cursor is not None:
            if others.data.get("page") is not None:
                raise ValueError("cannot be combined with page")
            decode_cursor(cursor, (others.data.get("sort_by", ""), others.data.get("sort_order", "")))
        return cursor

    def query(self, now: float) -> PatternQuery:
        """What is asked of the read model."""
        after = decode_cursor(self.cursor, (self.sort_by, self.sort_order)) if self.cursor else None
        return PatternQuery(
            now=now,
            pattern_types=frozenset(self.pattern_types or ()),
            symbols=frozenset(self.symbols or ()),
            tiers=frozenset(self.timeframe or ()),
            confidence_min=self.confidence_min,
            rs_min=self.rs_min,
            vol_min=self.vol_min,
            rsi_range=self.rsi_range,
            sort_by=self.sort_by,
            descending=self.sort_order == "desc",
            offset=((self.page or 1) - 1) * self.per_page,
            after=after,
            limit=self.per_page,
        )


class Performance(TypedDict):
    """How long the answer took in the server, and where it came from: ``redis`` or ``replica``."""

    api_response_time_ms: float
    source: str


class CacheInfo(TypedDict):
    """Which read model the answer is from, which version of it, and which build of that: ``4.2``."""

    read_model: str
    version: int
    build: str


class Scan(TypedDict):
    """A page of active patterns. ``next`` is the cursor of the page after it, null on the last."""

    patterns: list[CompactPattern | FullPattern]
    pagination: Pagination
    next: str | None
    cache_info: CacheInfo
    performance: Performance


class Provenance(TypedDict):
    """Who and what last changed a row: the event, where it stands, who announced it, what it belongs to."""

    log: str
    position: int
    event_id: str
    producer: str
    correlation_id: str | None


class OnePattern(TypedDict):
    """A pattern and its provenance."""

    pattern: FullPattern
    provenance: Provenance


class ScanResource(Resource):
    """The scan."""

    def __init__(self, patterns: ReadModel[PatternQueries], clock: Callable[[], float]) -> None:
        self.read_model = patterns
        self._clock = clock

    @operation("Filter, sort and page the active patterns", answers={200: Scan}, query=ScanParameters, reads=True)
    async def on_get(
        self, req: Request, resp: Response, query: ScanParameters, live: LiveBuild[PatternQueries]
    ) -> None:
        """The page."""
        now = self._clock()
        try:
            page = await live.queries.scan(query.query(now))
        except TooDeepError:
            raise too_deep("go on from page to page with the cursor in next") from None
        number = None if query.cursor else query.page or 1
        content = {
            "patterns": _shown(page, query.fields, now),
            "pagination": pagination(number, query.per_page, page.total),
            "next": encode_cursor(page.end, (query.sort_by, query.sort_order)) if page.end else None,
            "cache_info": CacheInfo(read_model=self.read_model.name, version=live.build.version, build=str(live.build)),
        }
        milliseconds = round((time.perf_counter() - req.context.started) * 1_000, 3)
        performance = Performance(api_response_time_ms=milliseconds, source=live.queries.source)
        send_tagged(req, resp, content, {"performance": performance})


def _shown(page: Page[PatternRow], fields: tuple[str, ...], now: float) -> list[Any]:
    if "full" in fields:
        return [full(found, now) for found in page.rows]
    return [compact(found.row, now) for found in page.rows]


def too_deep(advice: str) -> Problem:
    """400: the page lies deeper than pages can be numbered."""
    return invalid([{"field": "page", "reason": f"lies beyond the first {DEEPEST_OFFSET:,} rows; {advice}"}])


class PatternResource(Resource):
    """One pattern."""

    def __init__(self, patterns: ReadModel[PatternQueries], clock: Callable[[], float]) -> None:
        self.read_model = patterns
        self._clock = clock

    @operation(
        "One active pattern and its provenance",
        answers={200: OnePattern},
        path={"pattern_id": "``SYMBOL:pattern:tier:epoch millisecond of detection``, percent-encoded"},
        problems=(404,),
        reads=True,
    )
    async def on_get(
        self, req: Request, resp: Response, _query: Parameters, *, live: LiveBuild[PatternQueries], pattern_id: str
    ) -> None:
        """The pattern."""
        now = self._clock()
        found = await live.queries.get(pattern_id, now)
        if found is None:
            raise not_found(f"active pattern {pattern_id!r}")
        send_tagged(req, resp, OnePattern(pattern=full(found, now), provenance=provenance_of(found)))


def provenance_of(found: Found[Any]) -> Provenance:
    """Who and what last changed the row."""
    return Provenance(
        log=found.log,
        position=found.position,
        event_id=found.row.event_id,
        producer=found.row.source,
        correlation_id=found.row.correlation_id,
    )
