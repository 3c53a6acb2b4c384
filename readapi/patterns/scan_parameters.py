"""Query parameters of the scan: filters, order, page and moment."""

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, ValidationInfo, field_validator

from projections.pattern_history import Timeline
from projections.queries import PatternQuery, PatternSort
from readapi.catalogue.filters import NO_NAMES, Catalogue, CatalogueNames
from readapi.http.cursors import decode_cursor
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
from readapi.patterns.list_filters import ListId


class PatternFilters(Parameters):
    """Filters on patterns. A pattern must pass every filter. It passes a list filter if it has one of the values."""

    pattern_types: ListOf[Name] | None = None
    """Pattern types, spelled as the producer announces them (``Weekly_Breakout``)."""
    symbols: ListOf[Symbol] | None = None
    """Ticker symbols. Lower-case letters count as capitals."""
    sectors: ListOf[Name] | None = None
    """Sectors, spelled as in the catalogue (``Technology``)."""
    universe: ListOf[Name] | None = None
    """Keys of universes, spelled as in the catalogue."""
    timeframe: ListOf[TierName] | None = None
    """Detector tiers (``daily``, ``intraday``, ``1min``). Capitals count as lower-case letters."""
    confidence_min: Fraction = 0.5
    """Lowest confidence, from 0 to 1."""
    rs_min: Number | None = None
    """Lowest relative strength. A pattern without relative strength does not pass."""
    vol_min: Number | None = None
    """Lowest relative volume. A pattern without relative volume does not pass."""
    rsi_range: Range | None = None
    """Lowest and highest RSI, both included: ``30,70``. A pattern without RSI does not pass."""

    @property
    def catalogue_names(self) -> CatalogueNames:
        """The sectors and universes, which the catalogue resolves to symbols."""
        if self.sectors is None and self.universe is None:
            return NO_NAMES
        sectors, universes = (frozenset(names) if names else None for names in (self.sectors, self.universe))
        return CatalogueNames(sectors, universes)

    def resolve_symbols(self, catalogue: Catalogue, watched: frozenset[str] | None = None) -> frozenset[str] | None:
        """Resolve the filters by symbol, sector, universe and watchlist to one set of symbols.

        Args:
            catalogue: The catalogue.
            watched: Symbols of the watchlist. None without a watchlist.

        Returns:
            The symbols that pass, or None if every symbol passes.

        Raises:
            UnavailableError: The catalogue is not loaded yet.
        """
        symbols = catalogue.restrict(frozenset(self.symbols) if self.symbols else None, self.catalogue_names)
        if watched is None:
            return symbols
        return watched if symbols is None else watched & symbols

    def query(self, now: float, symbols: frozenset[str] | None, **order: Any) -> PatternQuery:
        """Make the query for the read model.

        Args:
            now: Moment of the query, in epoch seconds.
            symbols: The result of ``resolve_symbols``.
            order: The fields of ``PatternQuery`` for order and page.
        """
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
    """Query parameters of the scan."""

    sort_by: PatternSort = "confidence"
    """Sort key. Patterns with equal values are ordered by id. A missing value sorts below all others."""
    sort_order: SortOrder = "desc"
    """Sort order. ``desc`` is the exact reverse of ``asc``."""
    page: PageNumber | None = None
    """Page number, from 1. Page numbers reach the first 10,000 patterns. Use ``cursor`` beyond."""
    per_page: PageSize = 30
    """Patterns per page."""
    cursor: Annotated[str, StringConstraints(max_length=500), Field(json_schema_extra={"format": "cursor"})] | None = (
        None
    )
    """The value of ``next`` on the previous page, in place of ``page``. Deep pages cost no more than the first page."""
    as_of: Moment | None = None
    """Answer as the scan would have answered at this moment, from the events recorded until then. ISO 8601 (UTC if
    there is no offset) or epoch seconds, not in the future. Needs the archive."""
    as_of_valid: Moment | None = None
    """Answer with the patterns that were active in the market at this moment, from all events known now. Same
    format as ``as_of``. Needs the archive."""
    fields: ListOf[Literal["compact", "full"]] = ("compact",)
    """Fields of each pattern. ``compact``: the fields that the UI shows. ``full``: the compact fields, all raw fields
    and their provenance."""
    watchlist: ListId | None = None
    """Id of one of your watchlists. Only patterns of its symbols pass."""
    preset: ListId | None = None
    """Id of one of your filter presets. Its parameters apply wherever the request sets no other value."""

    @field_validator("cursor")
    @classmethod
    def _check_cursor(cls, cursor: str | None, others: ValidationInfo) -> str | None:
        if cursor is not None:
            if others.data.get("page") is not None:
                raise ValueError("cannot be combined with page")
            end = decode_cursor(cursor, (others.data.get("sort_by", ""), others.data.get("sort_order", "")))
            # No pattern id contains NUL, and PostgreSQL accepts no NUL in a text.
            if "\0" in f"{end.value}{end.key}":
                raise ValueError("is not a valid cursor")
        return cursor

    @field_validator("as_of_valid")
    @classmethod
    def _check_single_moment(cls, moment: float | None, others: ValidationInfo) -> float | None:
        if moment is not None and others.data.get("as_of") is not None:
            raise ValueError("cannot be combined with as_of")
        return moment

    @property
    def past(self) -> tuple[Timeline, float] | None:
        """The timeline and the moment in the past, in epoch seconds. None for the present."""
        if self.as_of is not None:
            return "recorded", self.as_of
        if self.as_of_valid is not None:
            return "valid", self.as_of_valid
        return None

    def scan(self, now: float, catalogue: Catalogue, watched: frozenset[str] | None = None) -> PatternQuery:
        """Make the query for one page.

        Args:
            now: Moment of the query, in epoch seconds.
            catalogue: The catalogue.
            watched: Symbols of the watchlist. None without a watchlist.

        Raises:
            Problem: 400, the catalogue has no such sector or universe.
            UnavailableError: The catalogue is not loaded yet.
        """
        catalogue.check(self.catalogue_names)
        after = decode_cursor(self.cursor, (self.sort_by, self.sort_order)) if self.cursor else None
        return self.query(
            now,
            self.resolve_symbols(catalogue, watched),
            sort_by=self.sort_by,
            descending=self.sort_order == "desc",
            offset=((self.page or 1) - 1) * self.per_page,
            after=after,
            limit=self.per_page,
        )
