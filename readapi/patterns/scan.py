"""``/api/patterns/scan``: filter, sort and page the active patterns."""

from collections.abc import Callable, Hashable, Mapping
from typing import NotRequired

from falcon.asgi import Request, Response
from typing_extensions import TypedDict

from projections.patterns import ActivePatterns, PatternRow
from projections.queries import RowQueries
from readapi.catalogue.filters import Catalogue
from readapi.http.cohort_scheduling import yield_to_cohort
from readapi.http.immediate import ImmediateAnswer, found
from readapi.http.operation import operation
from readapi.http.parameters import parse_query
from readapi.http.read_model import MIN_POSITION_HEADER, ReadModel
from readapi.http.responses import Encoded, Pagination, Performance, performance, send_encoded
from readapi.patterns.answer_cache import CachedPatternResource
from readapi.patterns.documents import COMPACT, FULL, CompactPattern, FullPattern
from readapi.patterns.list_filters import CallerWorkspace, QueryParameters
from readapi.patterns.scan_parameters import ScanParameters
from readapi.ports.read_models import LiveRows
from readapi.read_models.as_of import RowHistory
from readapi.read_models.filter_parameters import AS_THEY_ARE
from readapi.read_models.hints import stand_together
from readapi.read_models.pages import CacheInfo, EncodedAnswer, ImmediatePages, LivePages, Pages, PastPages, encode_page
from readapi.read_models.rendering import texts_of

_WAITING_PARAMETERS = frozenset(("preset", "watchlist", "sectors", "universe", "as_of", "as_of_valid"))
"""The parameters for which an answer needs another read model, which may not be loaded yet, or the archive."""


class Scan(TypedDict):
    """A page of patterns.

    ``next`` is the cursor of the next page, or null on the last page. If ``stale`` is true, the store has not answered
    for ``age_seconds``, and the page shows the last known state. If no pattern matches and a filter names a value that
    no pattern has, ``hint`` names close values. If a symbol or tier in a filter stands for several on the page, which
    differ in the case of letters, ``hint`` names them.
    """

    patterns: list[CompactPattern | FullPattern]
    pagination: Pagination
    next: str | None
    cache_info: CacheInfo
    stale: bool
    age_seconds: int | None
    performance: Performance
    hint: NotRequired[str]


class ScanResource(CachedPatternResource):
    """The scan of the active patterns, and of the patterns as of a moment.

    Requests that arrive together run through the scan as a cohort (see ``readapi.http.cohort_scheduling``).

    Args:
        patterns: The read model of the active patterns.
        history: The read model for moments in the past.
        catalogue: Resolves ``sectors`` and ``universe``.
        caller_workspace: Resolves ``watchlist`` and ``preset``.
        clock: Returns the time in epoch seconds.
        shown_values: Column -> the number that answers show where a pattern has none.
    """

    def __init__(
        self,
        patterns: ReadModel[RowQueries[PatternRow]],
        history: RowHistory,
        catalogue: Catalogue,
        caller_workspace: CallerWorkspace,
        clock: Callable[[], float],
        shown_values: Mapping[str, float] = AS_THEY_ARE,
    ) -> None:
        super().__init__(patterns, clock)
        self._shown_values = shown_values
        self._history = history
        self._catalogue = catalogue
        self._caller_workspace = caller_workspace

    def _state(self, live: LiveRows[PatternRow], now: float) -> tuple[Hashable, ...] | None:
        state = super()._state(live, now)
        return None if state is None else (*state, self._catalogue.state)

    async def complete_parameters(self, req: Request) -> QueryParameters:
        """Add the parameters of the preset, if the request names one."""
        return await self._caller_workspace.complete_parameters(req) if "preset" in req.params else req.params

    async def prepare(self, req: Request, resp: Response, query: ScanParameters) -> LiveRows[PatternRow] | None:
        """Return the live build. None for a moment in the past, which another read model answers."""
        await yield_to_cohort()
        if query.catalogue_names:
            await self._catalogue.wait_for_position(req)
        return None if query.past else await self.read_model.prepare(req, resp)

    @operation(
        "Filter, sort and page the active patterns.",
        scope="read",
        responses={200: Scan},
        query=ScanParameters,
        reads=True,
        uses_cache=True,
        completes_parameters=True,
    )
    async def on_get(
        self, req: Request, resp: Response, query: ScanParameters, live: LiveRows[PatternRow] | None
    ) -> None:
        """Send the page."""
        watched = await self._caller_workspace.symbols(req, query.watchlist) if query.watchlist else None
        pages = self._pages(req, resp, query, live)
        encoded = await self._read(query, pages, live or self.read_model.live, watched)
        if query.watchlist or query.preset:
            self._caller_workspace.set_position_header(req, resp)
            send_encoded(req, resp, encoded, performance(req, pages.source), is_private=True)
        elif live:
            await self.send_and_cache(req, resp, encoded, live, pages.moment)
        else:
            send_encoded(req, resp, encoded, performance(req, pages.source))

    def can_answer(self, req: Request) -> bool:
        """Return whether the answer needs no wait (see ``readapi.http.immediate``)."""
        return (
            self.read_model.live.queries.state(self._clock()) is not None
            and _WAITING_PARAMETERS.isdisjoint(req.params)
            and req.get_header(MIN_POSITION_HEADER) is None
        )

    async def answer(self, req: Request) -> ImmediateAnswer:
        """Answer a request that ``can_answer`` accepts. Raises Problem (400)."""
        live, now = self.read_model.live, self._clock()
        encoded = self.cached_answer(req, live, now)
        if encoded is None:
            await yield_to_cohort()
            query = parse_query(ScanParameters, req.query_string)
            await yield_to_cohort()
            # The queries of a read model with a known state do not wait.
            encoded = await self._read(query, ImmediatePages(self.read_model, live, now), live)
            self.cache_repeated(req, encoded, live, now)
            await yield_to_cohort()
        return found(req, encoded, self.read_model.freshness_lines(live), performance(req, live.queries.source))

    async def _read(
        self,
        query: ScanParameters,
        pages: Pages,
        live: LiveRows[PatternRow],
        watched: frozenset[str] | None = None,
    ) -> Encoded:
        """Read and encode a page. An empty page is explained by the values that active patterns have."""
        view = FULL if "full" in query.fields else COMPACT
        asked = query.query(pages.moment, self._catalogue, watched, self._shown_values)
        page = await pages.read_encoded(asked, view)
        if page.answer.page.total:
            hint = _spellings(query, page)
        else:
            hint = await query.filter_values.hint(live.queries, self._clock())
        return encode_page("patterns", page, query.requested_page, hint)

    def _pages(self, req: Request, resp: Response, query: ScanParameters, live: LiveRows[PatternRow] | None) -> Pages:
        now = self._clock()
        if live:
            return LivePages(self.read_model, live, now)
        assert query.past is not None
        return PastPages(self.read_model, self._history, req, resp, query.past, now)


def _spellings(query: ScanParameters, page: EncodedAnswer) -> str | None:
    """Name the symbols and tiers on a page for which a value of a filter stands together."""
    rows = page.answer.page.rows
    filtered = [column for column, values in (("symbol", query.symbols), ("tier", query.timeframe)) if values]
    if any(stand_together(ActivePatterns.columns[column], texts_of(rows, column)) for column in filtered):
        return query.filter_values.spellings(rows, COMPACT.columns)
    return None
