"""What can be asked of the read models: the questions, the answers, and the ports that answer them.

Every implementation gives the same answers: the same rows, in the same order, with the same totals.
"""

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Generic, Literal, NamedTuple, Protocol, TypeVar

from domain.errors import TickViewError
from projections.activity import ActivityRow
from projections.backtests import BacktestRow
from projections.pattern_history import Timeline
from projections.patterns import PatternRow
from projections.producers import ProducerRow
from projections.workspaces import WorkspaceRow

Row = TypeVar("Row")
Answer = TypeVar("Answer", covariant=True)

PatternSort = Literal["confidence", "detected_at", "symbol", "rs", "volume"]
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

MAX_OFFSET = 10_000
"""Rows that can be paged past by number; beyond, only a cursor goes on, whose cost does not grow with the depth."""

MAX_GROUPS = 1_000
"""Types and tiers that statistics tell of, at most."""

TOP_SYMBOLS = 100
"""Symbols that statistics tell of, at most."""

Positions = Mapping[str, int]
"""Log -> position in it."""


class ResultRow(NamedTuple, Generic[Row]):
    """A row with its provenance: the log and the position in it of the event that last changed the row."""

    row: Row
    log: str
    position: int


class Cursor(NamedTuple):
    """Where a page ended: the last row's sort value and its key."""

    value: float | str
    key: str


class Page(NamedTuple, Generic[Row]):
    """Some rows of an answer, in order."""

    rows: Sequence[ResultRow[Row]]
    total: int
    """How many rows the whole answer has, exactly."""
    end: Cursor | None
    """Where the next page begins; None if this is the last."""


class HistoryPage(NamedTuple):
    """A page of the past, and what it was answered from."""

    page: Page[PatternRow]
    version: int
    """Of the read model."""
    positions: Positions
    """The position up to which each log is folded."""
    recorded_at: Mapping[str, float]
    """When the event at that position was recorded, in epoch seconds; 0 where there is none."""


class TooDeepError(TickViewError, ValueError):
    """The page lies beyond ``MAX_OFFSET``, and the answer has rows there."""


class PatternQuery(NamedTuple):
    """A scan. Filters are joined by *and*, the values of one filter by *or*.

    A row matches only if its ``expires_at`` is None or after ``now`` (seconds since the epoch). A bound on a value
    that a row does not have does not let it pass. Rows are ordered by (sort value, id); a missing value is the lowest
    of all; descending is the exact reverse of ascending.
    """

    now: float
    pattern_types: frozenset[str] = frozenset()
    """Empty: all pass; so it is with ``tiers``."""
    symbols: frozenset[str] | None = None
    """None: all pass; empty: none. There may be thousands."""
    tiers: frozenset[str] = frozenset()
    confidence_min: float = 0.0
    rs_min: float | None = None
    vol_min: float | None = None
    rsi_range: tuple[float, float] | None = None
    """Lowest and highest, both included."""
    sort_by: PatternSort = "confidence"
    descending: bool = True
    offset: int = 0
    after: Cursor | None = None
    """Begin behind this row; then ``offset`` must be 0."""
    limit: int = 30

    def matches(self, row: PatternRow) -> bool:
        """Whether the row matches: whether it is among the rows of the whole answer, all pages of it."""
        return (
            (row.expires_at is None or row.expires_at > self.now)
            and self.may_match(row.symbol, row.pattern, row.tier)
            and row.confidence >= self.confidence_min
            and (self.rs_min is None or _within(row.relative_strength, self.rs_min, inf))
            and (self.vol_min is None or _within(row.relative_volume, self.vol_min, inf))
            and (self.rsi_range is None or _within(row.rsi, *self.rsi_range))
        )

    def may_match(self, symbol: str, pattern: str, tier: str) -> bool:
        """Whether a row of these may match, whatever else it says."""
        return (
            (self.symbols is None or symbol in self.symbols)
            and (not self.pattern_types or pattern in self.pattern_types)
            and (not self.tiers or tier in self.tiers)
        )


def _within(value: float | None, lowest: float, highest: float) -> bool:
    return value is not None and lowest <= value <= highest


@dataclass(frozen=True)
class PatternStatistics:
    """Counts of the active patterns. Mappings are from name to how many, ordered by (how many, name), descending."""

    total: int
    high_confidence: int
    by_type: Mapping[str, int]
    by_tier: Mapping[str, int]
    by_confidence: Mapping[str, int]
    by_symbol: Mapping[str, int]
    """The most frequent symbols only, 100 at most."""
    symbols: int
    """How many symbols have a pattern."""


def most_frequent(counts: Mapping[str, int], limit: int = MAX_GROUPS) -> dict[str, int]:
    """By (how many, name), descending, those that there are."""
    ordered = sorted(counts.items(), key=lambda item: (item[1], item[0]), reverse=True)
    return {name: count for name, count in ordered[:limit] if count > 0}


class PatternQueries(Protocol):
    """Questions to the read model ``patterns``."""

    source: str
    """Where the answers come from: ``redis`` or ``replica``."""

    def state(self, now: float) -> Hashable | None:
        """What all answers at ``now`` are from: as long as it is equal, so are they, but for the time that passes.

        None where that is not known without asking.
        """
        ...

    async def scan(self, query: PatternQuery) -> Page[PatternRow]:
        """The page of the scan. Raises TooDeepError."""
        ...

    async def get(self, pattern_id: str, now: float) -> ResultRow[PatternRow] | None:
        """One active pattern."""
        ...

    async def statistics(self, now: float) -> PatternStatistics:
        """Counts of the patterns that are active at ``now``."""
        ...


class PatternHistoryQueries(Protocol):
    """Questions to the read model ``pattern_history``."""

    async def scan(self, query: PatternQuery, timeline: Timeline) -> HistoryPage:
        """The page of the scan as of ``query.now``. Raises TooDeepError."""
        ...

    async def folded(self) -> Positions:
        """The position up to which each log is folded."""
        ...


class BacktestQueries(Protocol):
    """Questions to the read model ``backtests``."""

    async def runs(
        self, statuses: frozenset[str], sort_by: BacktestSort, *, descending: bool, offset: int, limit: int
    ) -> Page[BacktestRow]:
        """Runs of these states (of all, if none is named), by (sort value, job id). Raises TooDeepError."""
        ...

    async def get(self, job_id: str) -> ResultRow[BacktestRow] | None:
        """One run."""
        ...


class ActivityQueries(Protocol):
    """Questions to the read model ``activity``."""

    async def since(self, day: str) -> Sequence[ActivityRow]:
        """The rows of a day (UTC, ``2026-11-23``) and all later days, added up over the partitions."""
        ...


class WorkspaceQueries(Protocol):
    """Questions to the read model ``workspaces``."""

    async def get(self, user: str) -> ResultRow[WorkspaceRow] | None:
        """What one user has; None if that user has never done anything."""
        ...

    async def get_many(self, users: Collection[str]) -> Mapping[str, WorkspaceRow]:
        """What each of these has; those who have never done anything are missing."""
        ...


class ProducerQueries(Protocol):
    """Questions to the read model ``producers``."""

    async def latest(self, limit: int) -> Sequence[ResultRow[ProducerRow]]:
        """Those that reported last, the latest first."""
        ...
