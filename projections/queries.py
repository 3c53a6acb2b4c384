"""The queries of the read models: query values, results, and the ports that answer them.

Every implementation of a port gives the same answers: equal rows, in the same order, with equal totals.
"""

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Generic, Literal, NamedTuple, Protocol, TypeVar

from domain.errors import TickViewError
from projections.activity import ActivityRow
from projections.backtests import BacktestRow
from projections.base import read_row
from projections.pattern_history import Timeline
from projections.patterns import PatternRow
from projections.producers import ProducerRow
from projections.workspaces import WorkspaceRow

Row = TypeVar("Row")

PatternSort = Literal["confidence", "detected_at", "symbol", "rs", "volume"]
"""Sort value of a scan. ``rs`` is the relative strength, ``volume`` the relative volume."""

BacktestSort = Literal[
    "started_at",
    "updated_at",
    "progress",
    "win_rate",
    "total_trades",
    "winning_trades",
    "roi",
    "sharpe_ratio",
    "max_drawdown",
    "duration_days",
]
"""Sort value of the list of backtest runs: a time, the progress or a metric of the results."""

MAX_OFFSET = 10_000
"""Highest number of rows that a page can skip. Deeper pages need a cursor, whose cost does not grow with depth."""

MAX_GROUPS = 1_000
"""Highest number of pattern types, and of tiers, in statistics."""

TOP_SYMBOLS = 100
"""Highest number of symbols in statistics."""

Positions = Mapping[str, int]
"""A position for each log, by the name of the log."""


class ResultRow(NamedTuple, Generic[Row]):
    """A row with its provenance.

    Attributes:
        row: The row.
        log: The log of the event that last changed the row.
        position: The position of that event in the log.
    """

    row: Row
    log: str
    position: int


def read_result(row_type: type[Row], log: str, document: bytes) -> ResultRow[Row]:
    """Deserialize a stored row of the log ``log``, and ignore unknown fields."""
    row, position = read_row(row_type, document)
    return ResultRow(row, log, position)


class Cursor(NamedTuple):
    """The end of a page: the sort value and the key of its last row."""

    value: float | str
    key: str


class Page(NamedTuple, Generic[Row]):
    """One page of the rows that match a query, in order."""

    rows: Sequence[ResultRow[Row]]
    total: int
    """Exact number of matching rows on all pages."""
    end: Cursor | None
    """Cursor of the next page. None: this is the last page."""


class HistoryPage(NamedTuple):
    """A page of a query about the past, with the state of the read model that answered."""

    page: Page[PatternRow]
    version: int
    """Version of the read model ``pattern_history``."""
    positions: Positions
    """The position up to which each log is folded."""
    recorded_at: Mapping[str, float]
    """Time at which the event at that position was recorded, in seconds since the epoch. 0: there is no event."""


class TooDeepError(TickViewError, ValueError):
    """The page begins after ``MAX_OFFSET``, and there are matching rows."""


class PatternQuery(NamedTuple):
    """A scan of the patterns.

    A row must satisfy every filter. It satisfies a filter with several values if it has one of them. It does not
    satisfy a bound on a value that it does not have. Rows are ordered by sort value and id. A missing value is lower
    than every other. Descending order is the exact reverse of ascending order.
    """

    now: float
    """Time of the scan in seconds since the epoch. A row matches only if its ``expires_at`` is later or None."""
    pattern_types: frozenset[str] = frozenset()
    """Names of patterns. Empty: every pattern matches."""
    symbols: frozenset[str] | None = None
    """Symbols, possibly thousands. None: every symbol matches. Empty: no symbol matches."""
    tiers: frozenset[str] = frozenset()
    """Tiers. Empty: every tier matches."""
    confidence_min: float = 0.0
    """Lowest confidence, from 0 to 1."""
    rs_min: float | None = None
    """Lowest relative strength, as a factor."""
    vol_min: float | None = None
    """Lowest relative volume, as a factor."""
    rsi_range: tuple[float, float] | None = None
    """Lowest and highest relative strength index, both included."""
    sort_by: PatternSort = "confidence"
    descending: bool = True
    offset: int = 0
    """Number of rows to skip, from 0."""
    after: Cursor | None = None
    """End of the previous page. With a cursor, ``offset`` must be 0."""
    limit: int = 30
    """Highest number of rows on the page."""

    def matches(self, row: PatternRow) -> bool:
        """Return whether the row satisfies the filters, regardless of the page."""
        return (
            (row.expires_at is None or row.expires_at > self.now)
            and self.may_match(row.symbol, row.pattern, row.tier)
            and row.confidence >= self.confidence_min
            and (self.rs_min is None or _within(row.relative_strength, self.rs_min, inf))
            and (self.vol_min is None or _within(row.relative_volume, self.vol_min, inf))
            and (self.rsi_range is None or _within(row.rsi, *self.rsi_range))
        )

    def may_match(self, symbol: str, pattern: str, tier: str) -> bool:
        """Return whether a row with this symbol, pattern and tier can match."""
        return (
            (self.symbols is None or symbol in self.symbols)
            and (not self.pattern_types or pattern in self.pattern_types)
            and (not self.tiers or tier in self.tiers)
        )


def _within(value: float | None, lowest: float, highest: float) -> bool:
    return value is not None and lowest <= value <= highest


@dataclass(frozen=True)
class PatternStatistics:
    """Counts of the active patterns. Mappings are ordered by count and name, descending."""

    total: int
    high_confidence: int
    by_type: Mapping[str, int]
    by_tier: Mapping[str, int]
    by_confidence: Mapping[str, int]
    by_symbol: Mapping[str, int]
    """Counts of the most frequent symbols, at most ``TOP_SYMBOLS``."""
    symbols: int
    """Number of symbols that have an active pattern."""


def most_frequent(counts: Mapping[str, int], limit: int = MAX_GROUPS) -> dict[str, int]:
    """Return the highest positive counts, ordered by count and name, descending."""
    ordered = sorted(counts.items(), key=lambda item: (item[1], item[0]), reverse=True)
    return {name: count for name, count in ordered[:limit] if count > 0}


class PatternQueries(Protocol):
    """Queries of the read model ``patterns``."""

    source: str
    """Origin of the answers: ``redis`` or ``replica``."""

    def state(self, now: float) -> Hashable | None:
        """Return a token of the read model's state at the time ``now``, in seconds since the epoch.

        Answers are equal as long as the token is equal, except for values that depend on the time. None: the state is
        not known without a query.
        """
        ...

    async def scan(self, query: PatternQuery) -> Page[PatternRow]:
        """Return a page of a scan.

        Raises:
            TooDeepError: The page begins after ``MAX_OFFSET``, and there are matching rows.
        """
        ...

    async def get(self, pattern_id: str, now: float) -> ResultRow[PatternRow] | None:
        """Return a pattern that is active at ``now``, or None."""
        ...

    async def statistics(self, now: float) -> PatternStatistics:
        """Return the counts of the patterns that are active at ``now``, in seconds since the epoch."""
        ...


class PatternHistoryQueries(Protocol):
    """Queries of the read model ``pattern_history``."""

    async def scan(self, query: PatternQuery, timeline: Timeline) -> HistoryPage:
        """Return a page of the scan as of the time ``query.now``.

        Raises:
            TooDeepError: The page begins after ``MAX_OFFSET``, and there are matching rows.
        """
        ...

    async def folded(self) -> Positions:
        """Return the position up to which each log is folded."""
        ...


class BacktestQueries(Protocol):
    """Queries of the read model ``backtests``."""

    async def runs(
        self, statuses: frozenset[str], sort_by: BacktestSort, *, descending: bool, offset: int, limit: int
    ) -> Page[BacktestRow]:
        """Return a page of backtest runs, ordered by sort value and job id.

        Args:
            statuses: The accepted statuses. Empty: every status.
            sort_by: The sort value.
            descending: Whether the order is descending.
            offset: The number of runs to skip, from 0.
            limit: The highest number of runs on the page.

        Raises:
            TooDeepError: The page begins after ``MAX_OFFSET``, and there are matching runs.
        """
        ...

    async def get(self, job_id: str) -> ResultRow[BacktestRow] | None:
        """Return one run, or None."""
        ...


class ActivityQueries(Protocol):
    """Queries of the read model ``activity``."""

    async def since(self, day: str) -> Sequence[ActivityRow]:
        """Return the rows from a day on (UTC, ``2026-11-23``), added up over the partitions."""
        ...


class WorkspaceQueries(Protocol):
    """Queries of the read model ``workspaces``."""

    async def get(self, user: str) -> ResultRow[WorkspaceRow] | None:
        """Return the workspace of a user, or None if the user never changed a list."""
        ...

    async def get_many(self, users: Collection[str]) -> Mapping[str, WorkspaceRow]:
        """Return the workspaces of users by user id, without users who never changed a list."""
        ...


class ProducerQueries(Protocol):
    """Queries of the read model ``producers``."""

    async def latest(self, limit: int) -> Sequence[ResultRow[ProducerRow]]:
        """Return the producers with the latest reports, the latest first."""
        ...
