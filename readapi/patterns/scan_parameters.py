"""Query parameters of the scan: filters, order, page and moment.

Some filters and sort keys have names of their own. The parameters of all other columns of a pattern that can be
filtered or sorted are derived from their declarations (``readapi.read_models.filter_parameters``).
"""

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Literal

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
    TextsOf,
    TierName,
)
from readapi.patterns.list_filters import ListId
from readapi.read_models.filter_parameters import (
    AS_THEY_ARE,
    FilterParameters,
    ParameterFields,
    filter_fields,
    range_filters,
)
from readapi.read_models.hints import FilterValues
from readapi.read_models.moment_parameters import MomentParameters
from readapi.read_models.page_parameters import CursorText

ALIASES = {
    "pattern": "pattern_types",
    "symbol": "symbols",
    "tier": "timeframe",
    "relative_strength_min": "rs_min",
    "relative_volume_min": "vol_min",
}
"""Derived parameter -> the parameter of the scan that replaces it."""

REPLACED = frozenset((*ALIASES, "confidence_min", "rsi_min", "rsi_max"))
"""The derived parameters in whose place the scan has a parameter of its own. ``rsi_range`` replaces two of them."""

SORT_ALIASES = {"relative_strength": "rs", "relative_volume": "volume"}
"""Column -> its sort key in the scan, if it has another name."""

_FILTERS = FilterParameters(ActivePatterns, ALIASES, without=("symbol", "confidence", "rsi"))
"""The filters that follow from their parameters alone."""


_CONFIDENCE, _RSI = ActivePatterns.columns["confidence"], ActivePatterns.columns["rsi"]


def _derived_fields() -> ParameterFields:
    return {name: field for name, field in filter_fields(ActivePatterns).items() if name not in REPLACED}


def _orders() -> Iterator[Order]:
    for name, column in ActivePatterns.columns.items():
        if column.sort:
            sort_by = SORT_ALIASES.get(name, name)
            yield Order(sort_by, "asc", column.kind, name)
            yield Order(sort_by, "desc", column.kind, name)


_ORDERS = {(order.sort_by, order.sort_order): order for order in _orders()}
"""All orders, by sort key and sort order."""


class _NamedFilters(Parameters):
    """The filters that have names of their own."""

    pattern_types: TextsOf[Name] | None = None
    """Pattern types, spelled as the producer announces them (``Weekly_Breakout``)."""
    symbols: TextsOf[Symbol] | None = None
    """Ticker symbols. The case of letters does not matter: ``tpc`` selects ``TPC`` and ``TpC``."""
    sectors: ListOf[Name] | None = None
    """Sectors, spelled as in the catalogue (``Technology``)."""
    universe: ListOf[Name] | None = None
    """Keys of universes, spelled as in the catalogue."""
    timeframe: TextsOf[TierName] | None = None
    """Detector tiers (``daily``, ``intraday``, ``1min``). The case of letters does not matter, as for symbols."""
    confidence_min: Fraction = 0.5
    """Lowest confidence, from 0 to 1. 0 is no bound."""
    rs_min: Number | None = None
    """Lowest relative strength. 0 is no bound. Above 0, a pattern without relative strength does not pass."""
    vol_min: Number | None = None
    """Lowest relative volume. 0 is no bound. Above 0, a pattern without relative volume does not pass."""
    rsi_range: Range | None = None
    """Lowest and highest RSI, both included: ``30,70``. 0 and 100 are no bounds: every pattern passes ``0,100``. A
    pattern without RSI does not pass any other range."""


if TYPE_CHECKING:
    AllFilters = _NamedFilters
    SortKey = str
else:
    AllFilters = create_model("AllFilters", __base__=_NamedFilters, **_derived_fields())
    SortKey = Literal[tuple(dict.fromkeys(sort_by for sort_by, _ in _ORDERS))]


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

    def filters(
        self, symbols: frozenset[str] | None, shown_values: Mapping[str, float] = AS_THEY_ARE
    ) -> tuple[Filter, ...]:
        """Make the filters of the query for the read model.

        Args:
            symbols: The result of ``resolve_symbols``.
            shown_values: Column -> the number that answers show where a pattern has none.
        """
        given = self.__dict__
        filters = _FILTERS.filters(given, shown_values)
        filters += range_filters(_CONFIDENCE, self.confidence_min, given["confidence_max"], "confidence_max")
        if self.rsi_range:
            filters += range_filters(_RSI, *self.rsi_range, "rsi_range", shown_values)
        return tuple(filters) if symbols is None else (Equality("symbol", symbols), *filters)

    @cached_property
    def named_filters(self) -> tuple[Filter, ...]:
        """The filters as the client named them."""
        return self.filters(frozenset(self.symbols) if self.symbols else None)

    @property
    def filter_values(self) -> FilterValues:
        """The values in the filters, as the client named them."""
        return FilterValues(ActivePatterns, self.named_filters, ALIASES)


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
            order = _ORDERS.get((others.data.get("sort_by", ""), others.data.get("sort_order", "")))
            if order:
                decode_cursor(cursor, order)
        return cursor

    @cached_property
    def requested_page(self) -> PageRequest:
        """The requested page."""
        return PageRequest(self.page, self.cursor, self.per_page, _ORDERS[self.sort_by, self.sort_order])

    def query(
        self,
        now: float,
        catalogue: Catalogue,
        watched: frozenset[str] | None = None,
        shown_values: Mapping[str, float] = AS_THEY_ARE,
    ) -> Query:
        """Make the query for one page.

        Args:
            now: Moment of the query, in epoch seconds.
            catalogue: The catalogue.
            watched: Symbols of the watchlist. None without a watchlist.
            shown_values: Column -> the number that answers show where a pattern has none.

        Raises:
            Problem: 400, the catalogue has no such sector or universe.
            UnavailableError: The catalogue is not loaded yet.
        """
        if not self.catalogue_names and watched is None and not shown_values:
            return self.requested_page.query(now, self.named_filters)
        catalogue.check(self.catalogue_names)
        return self.requested_page.query(now, self.filters(self.resolve_symbols(catalogue, watched), shown_values))
