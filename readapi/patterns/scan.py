"""``/api/patterns/scan``: the active patterns, filtered, sorted, paged."""

from collections.abc import Callable, Hashable
from typing import Annotated, Any, Literal, NamedTuple

import orjson
from falcon.asgi import Request, Response
from pydantic import Field, StringConstraints, ValidationInfo, field_validator
from typing_extensions import TypedDict

from projections.pattern_history import Timeline
from projections.patterns import PatternRow
from projections.queries import (
    MAX_OFFSET,
    Page,
    PatternQueries,
    PatternQuery,
    PatternSort,
    TooDeepError,
)
from projections.versions import Build
from readapi.catalogue.filters import NO_NAMES, Catalogue, CatalogueNames
from readapi.http.cohort_scheduling import yield_to_cohort
from readapi.http.cursors import decode_cursor, encode_cursor
from readapi.http.operation import operation
from readapi.http.parameters import (
    Fraction,
    ListOf,
    Moment,
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
from readapi.http.problems import Problem, invalid
from readapi.http.read_model import FRESH, ReadModel
from readapi.http.responses import Pagination, Performance, encode, pagination, send_encoded
from readapi.patterns.answer_cache import CachedPatternResource, performance
from readapi.patterns.as_of import PatternHistory
from readapi.patterns.list_filters import CallerWorkspace, ListId, QueryParameters
from readapi.patterns.rendering import CompactPattern, FullPattern, render, shown_at
from readapi.ports.read_models import LiveBuild


class PatternFilters(Parameters):
    """Filters are joined by *and*, the values of one filter by *or*."""

    pattern_types: ListOf[Name] | None = None
    """Names of patterns, exactly as announced (``Weekly_Breakout``)."""
    symbols: ListOf[Symbol] | None = None
    """Ticker symbols, compared in capitals."""
    sectors: ListOf[Name] | None = None
    """Sectors of the catalogue, exactly as there (``Technology``)."""
    universe: ListOf[Name] | None = None
    """Keys of universes of the catalogue, exactly as there."""
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

    @property
    def names(self) -> CatalogueNames:
        """What is asked for that the catalogue gives its meaning."""
        if self.sectors is None and self.universe is None:
            return NO_NAMES
        return CatalogueNames(*(frozenset(given) if given else None for given in (self.sectors, self.universe)))

    def symbols_meant(self, catalogue: Catalogue, watched: frozenset[str] | None = None) -> frozenset[str] | None:
        """The symbols that pass, by the catalogue as it is; of the ``watched`` alone, if there are any to be watched.

        Raises UnavailableError.
        """
        symbols = catalogue.among(frozenset(self.symbols) if self.symbols else None, self.names)
        if watched is None:
            return symbols
        return watched if symbols is None else watched & symbols

    def query(self, now: float, symbols: frozenset[str] | None, **order: Any) -> PatternQuery:
        """Which patterns of the ``symbols`` meant are asked for; ``order`` says in which order, and which page."""
        return PatternQuery(
            now=now,
            pattern_types=frozenset(self.pattern_types or ()),
            symbols=symbols,
            tiers=frozenset(self.timeframe or ()),
            confidence_min=self.confidence_min,
            rs_min=self.rs_min,
            vol_min=self.vol_min,
            rsi_range=self.rsi_range,
            **order,
        )


class ScanParameters(PatternFilters):
    """Which patterns, in which order, which page of them, as of when."""

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
    as_of: Moment | None = None
    """Answer what the scan would have shown then, by what had been recorded: ISO 8601 (UTC if no zone is named) or
    epoch seconds, not in the future. Answered from the archive."""
    as_of_valid: Moment | None = None
    """The same by the time of the market: what had happened by then, as far as it is known now."""
    fields: ListOf[Literal["compact", "full"]] = ("compact",)
    """``compact``: the fields of the UI; ``full``: besides these all raw fields, with their provenance."""
    watchlist: ListId | None = None
    """Id of one of one's own watchlists: only its symbols."""
    preset: ListId | None = None
    """Id of one of one's own filter presets: what it says holds where no other parameter says otherwise."""

    @field_validator("cursor")
    @classmethod
    def _goes_on(cls, cursor: str | None, others: ValidationInfo) -> str | None:
        if cursor is not None:
            if others.data.get("page") is not None:
                raise ValueError("cannot be combined with page")
            end = decode_cursor(cursor, (others.data.get("sort_by", ""), others.data.get("sort_order", "")))
            # A NUL stands in no pattern's id, and not every store can be asked for one.
            if "\0" in f"{end.value}{end.key}":
                raise ValueError("is not a valid cursor")
        return cursor

    @field_validator("as_of_valid")
    @classmethod
    def _is_the_only_moment(cls, moment: float | None, others: ValidationInfo) -> float | None:
        if moment is not None and others.data.get("as_of") is not None:
            raise ValueError("cannot be combined with as_of")
        return moment

    @property
    def past(self) -> tuple[Timeline, float] | None:
        """The moment that is asked for, and on which timeline; None for the present."""
        if self.as_of is not None:
            return "recorded", self.as_of
        if self.as_of_valid is not None:
            return "valid", self.as_of_valid
        return None

    def scan(self, now: float, catalogue: Catalogue, watched: frozenset[str] | None = None) -> PatternQuery:
        """What is asked of the read model; of the ``watched`` symbols alone, if there are any to be watched.

        Raises Problem (400) for what the catalogue does not have, UnavailableError.
        """
        catalogue.check(self.names)
        after = decode_cursor(self.cursor, (self.sort_by, self.sort_order)) if self.cursor else None
        return self.query(
            now,
            self.symbols_meant(catalogue, watched),
            sort_by=self.sort_by,
            descending=self.sort_order == "desc",
            offset=((self.page or 1) - 1) * self.per_page,
            after=after,
            limit=self.per_page,
        )


class CacheInfo(TypedDict):
    """Which read model the answer is from, which version of it, and which build of that: ``4.2``."""

    read_model: str
    version: int
    build: str


class Scan(TypedDict):
    """A page of patterns that are active, or were. ``next`` is the cursor of the page after it, null on the last.

    ``stale``: the store has not been heard of for ``age_seconds``, and what was known then is shown.
    """

    patterns: list[CompactPattern | FullPattern]
    pagination: Pagination
    next: str | None
    cache_info: CacheInfo
    stale: bool
    age_seconds: int | None
    performance: Performance


class _Answer(NamedTuple):
    """What is shown: a page as of a moment, and where it came from."""

    page: Page[PatternRow]
    moment: float
    read_model: str
    build: Build
    source: str


class ScanResource(CachedPatternResource):
    """The scan, of now and as of a moment."""

    def __init__(
        self,
        patterns: ReadModel[PatternQueries],
        history: PatternHistory,
        catalogue: Catalogue,
        lists: CallerWorkspace,
        clock: Callable[[], float],
    ) -> None:
        super().__init__(patterns, clock)
        self._history = history
        self._catalogue = catalogue
        self._lists = lists

    def _state(self, live: LiveBuild[PatternQueries], now: float) -> tuple[Hashable, ...] | None:
        state = super()._state(live, now)
        return None if state is None else (*state, self._catalogue.state)

    async def complete_parameters(self, req: Request) -> QueryParameters:
        """The parameters with those of the preset that they name."""
        return await self._lists.complete_parameters(req) if "preset" in req.params else req.params

    async def prepare(self, req: Request, resp: Response, query: ScanParameters) -> LiveBuild[PatternQueries] | None:
        """What is live; nothing where the past is asked for."""
        await yield_to_cohort()
        if query.names:
            await self._catalogue.reach(req)
        return None if query.past else await self.read_model.prepare(req, resp)

    @operation(
        "Filter, sort and page the active patterns",
        scope="read",
        responses={200: Scan},
        query=ScanParameters,
        reads=True,
        uses_cache=True,
        completes_parameters=True,
    )
    async def on_get(
        self, req: Request, resp: Response, query: ScanParameters, live: LiveBuild[PatternQueries] | None
    ) -> None:
        """The page."""
        watched = await self._lists.symbols(req, query.watchlist) if query.watchlist else None
        try:
            answer = await (self._now(query, watched, live) if live else self._then(req, resp, query, watched))
        except TooDeepError:
            raise too_deep("go on from page to page with the cursor in next") from None
        page = answer.page
        number = None if query.cursor else query.page or 1
        content = {
            "patterns": orjson.Fragment(render(page.rows, query.fields, shown_at(answer.moment))),
            "pagination": pagination(number, query.per_page, page.total),
            "next": encode_cursor(page.end, (query.sort_by, query.sort_order)) if page.end else None,
            "cache_info": CacheInfo(
                read_model=answer.read_model, version=answer.build.version, build=str(answer.build)
            ),
            **(self.read_model.staleness() if live else FRESH),
        }
        encoded = encode(content)
        if query.watchlist or query.preset:
            self._lists.tell_position(req, resp)
            send_encoded(req, resp, encoded, performance(req, answer.source), is_private=True)
        elif live:
            await self.send_remembered(req, resp, encoded, live, answer.moment)
        else:
            send_encoded(req, resp, encoded, performance(req, answer.source))

    async def _now(
        self, query: ScanParameters, watched: frozenset[str] | None, live: LiveBuild[PatternQueries]
    ) -> _Answer:
        now = self._clock()
        page = await live.queries.scan(query.scan(now, self._catalogue, watched))
        return _Answer(page, now, self.read_model.name, live.build, live.queries.source)

    async def _then(
        self, req: Request, resp: Response, query: ScanParameters, watched: frozenset[str] | None
    ) -> _Answer:
        assert query.past is not None
        timeline, moment = query.past
        if moment > self._clock():
            name = "as_of" if timeline == "recorded" else "as_of_valid"
            raise invalid([{"field": name, "reason": "lies in the future, of which nothing is known"}])
        asked, recorded = query.scan(moment, self._catalogue, watched), self.read_model.live.positions
        found = await self._history.scan(req, resp, asked, timeline, recorded)
        # There is one build of each version.
        return _Answer(found.page, moment, self._history.name, Build(found.version, 1), self._history.source)


def too_deep(advice: str) -> Problem:
    """400: the page lies deeper than pages can be numbered."""
    return invalid([{"field": "page", "reason": f"lies beyond the first {MAX_OFFSET:,} rows; {advice}"}])
