"""Query parameters of the scan: filters, order, page and moment.

Some filters and sort keys have names of their own. The parameters of all other columns of a pattern that can be
filtered or sorted are derived from their declarations (``readapi.read_models.filter_parameters``).
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationInfo, create_model, field_validator

from projections.patterns import ActivePatterns
from projections.queries import Equality, Filter, Query
from readapi.catalogue.filters import NO_NAMES, Catalogue, CatalogueNames
from readapi.http.cursors import Order, PageRequest, decode_cursor
from readapi.http.parameters import (
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
from readapi.patterns.list_filters import ListId
from readapi.read_models.filter_parameters import ParameterFields, filter_fields, filters_of
from readapi.read_models.hints import FilterValues
from readapi.read_models.moment_parameters import MomentParameters
from readapi.read_models.page_parameters import CursorText

ALIASES = {
    "pattern_types": "pattern",
    "symbols": "symbol",
    "timeframe": "tier",
    "rs_min": "relative_strength_min",
    "vol_min": "relative_volume_min",
}
"""Parameter of the scan -> the derived parameter that it replaces."""

REPLACED = frozenset((*ALIASES.values(), "confidence_min", "rsi_min", "rsi_max"))
"""The derived parameters in whose place the scan has a parameter of its own. ``rsi_range`` replaces two of them."""

SORT_ALIASES = {"rs": "relative_strength", "volume": "relative_volume"}
"""Sort key of the scan -> the column that it stands for."""

_COLUMN_PARAMETERS = {column: alias for alias, column in ALIASES.items()}


def _derived_fields() -> ParameterFields:
    return {name: field for name, field in filter_fields(ActivePatterns).items() if name not in REPLACED}


def _sort_keys() -> Iterable[str]:
    names = {column: alias for alias, column in SORT_ALIASES.items()}
    sortable = [column.name for column in ActivePatterns.columns.values() if column.sort]
    return [names.get(column, column) for column in sortable]


class _NamedFilters(Parameters):
    """The filters that have names of their own."""

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


if TYPE_CHECKING:
    AllFilters = _NamedFilters
    SortKey = str
else:
    AllFilters = create_model("AllFilters", __base__=_NamedFilters, **_derived_fields())
    SortKey = Literal[tuple(_sort_keys())]


class PatternFilters(AllFilters):
    """Filters on patterns. A pattern must pass every filter. It passes a list filter if it has one of the values."""

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

    def filters(self, symbols: frozenset[str] | None) -> tuple[Filter, ...]:
        """Make the filters of the query for the read model.

        Args:
            symbols: The result of ``resolve_symbols``.
        """
        given = self.__dict__
        values = {ALIASES.get(name, name): given[name] for name in self.model_fields_set}
        # The symbols of a universe are in the case of the rows already. A converted set would have to be hashed anew.
        values.pop("symbol", None)
        values["confidence_min"] = self.confidence_min or None
        if self.rsi_range:
            values["rsi_min"], values["rsi_max"] = self.rsi_range
        filters = filters_of(ActivePatterns, values)
        return filters if symbols is None else (Equality("symbol", symbols), *filters)

    @property
    def filter_values(self) -> FilterValues:
        """The values in the filters, as the client named them."""
        named = self.filters(frozenset(self.symbols) if self.symbols else None)
        return FilterValues(ActivePatterns, named, _COLUMN_PARAMETERS)


class ScanParameters(MomentParameters, PatternFilters):
    """Query parameters of the scan."""

    sort_by: SortKey = "confidence"
    """Sort key. Patterns with equal values are ordered by id. A missing value sorts below all others."""
    sort_order: SortOrder = "desc"
    """Sort order. ``desc`` is the exact reverse of ``asc``."""
    page: PageNumber | None = None
    """Page number, from 1. Page numbers reach the first 10,000 patterns. Use ``cursor`` beyond."""
    per_page: PageSize = 30
    """Patterns per page."""
    cursor: CursorText | None = None
    """The value of ``next`` on the previous page, in place of ``page``. Deep pages cost no more than the first page."""
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
            decode_cursor(cursor, _order(others.data))
        return cursor

    @property
    def requested_page(self) -> PageRequest:
        """The requested page."""
        return PageRequest(self.page, self.cursor, self.per_page, self.order)

    @property
    def order(self) -> Order:
        """The order of the patterns."""
        return _order(self.__dict__)

    def query(self, now: float, catalogue: Catalogue, watched: frozenset[str] | None = None) -> Query:
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
        return Query(
            now,
            self.filters(self.resolve_symbols(catalogue, watched)),
            sort_by=_column_of(self.sort_by),
            descending=self.sort_order == "desc",
            offset=((self.page or 1) - 1) * self.per_page,
            after=decode_cursor(self.cursor, self.order) if self.cursor else None,
            limit=self.per_page,
        )


def _column_of(sort_by: str) -> str:
    return SORT_ALIASES.get(sort_by, sort_by)


def _order(parameters: Mapping[str, Any]) -> Order:
    """Return the order of a page. Invalid parameters are missing: their order is the order of no cursor."""
    sort_by = parameters.get("sort_by", "")
    column = ActivePatterns.columns.get(_column_of(sort_by))
    return Order(sort_by, parameters.get("sort_order", ""), column.kind if column else None)
