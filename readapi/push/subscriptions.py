"""What clients may be interested in, and what a change is to those who are: a row to set, one to remove, or nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import sha256
from math import inf
from typing import Any, Literal, NamedTuple

import orjson
from typing_extensions import TypedDict

from projections.backtests import BacktestRow
from projections.base import StoredRow, read_row
from projections.patterns import PatternRow
from projections.queries import PatternQuery, ResultRow
from readapi.backtests.resources import Backtest, backtest_document
from readapi.patterns.rendering import CompactPattern, FullPattern, compact, full
from readapi.ports.commits import Commit, RowChange
from readapi.push.event_ids import Topic

ALWAYS = -inf
"""A moment at which nothing has elapsed."""


class SetPattern(TypedDict):
    """A pattern matches the filters now: it is new, or it has changed."""

    op: Literal["set"]
    pattern: CompactPattern | FullPattern


class SetBacktest(TypedDict):
    """A run is new, or it has changed."""

    op: Literal["set"]
    backtest: Backtest


class Remove(TypedDict):
    """There is no such row any more, or it does not match the filters any more."""

    op: Literal["remove"]
    id: str


class PatternChange:
    """A change of one pattern: decoded once, and rendered once for all who are told of it at the same moment."""

    def __init__(self, change: RowChange, log: str, now: float, *, knows_old: bool) -> None:
        self._change = change
        self._log = log
        self._now = now
        self.knows_old = knows_old

    @cached_property
    def old(self) -> PatternRow | None:
        """The row before, if there was one and it is known."""
        old = self._change.old if self.knows_old else None
        return read_row(PatternRow, old).row if old else None

    @cached_property
    def new(self) -> PatternRow | None:
        """The row now; None if it is no longer active."""
        if self._stored is None:
            return None
        row = self._stored.row
        return row if row.expires_at is None or row.expires_at > self._now else None

    @cached_property
    def _stored(self) -> StoredRow[PatternRow] | None:
        return read_row(PatternRow, self._change.new) if self._change.new else None

    @cached_property
    def names(self) -> tuple[str, str, str] | None:
        """Symbol, pattern and tier, of which each id is made; None where it is not."""
        if self._stored is not None:
            return self._stored.row.symbol, self._stored.row.pattern, self._stored.row.tier
        parts = self._change.key.rsplit(":", 3)
        return (parts[0], parts[1], parts[2]) if len(parts) == 4 else None

    @cached_property
    def compact(self) -> bytes:
        """The row in the words of the UI."""
        return _json(SetPattern(op="set", pattern=compact(self._known.row, self._now)))

    @cached_property
    def full(self) -> bytes:
        """The row with all raw fields."""
        return _json(
            SetPattern(op="set", pattern=full(ResultRow(self._known.row, self._log, self._known.position), self._now))
        )

    @property
    def _known(self) -> StoredRow[PatternRow]:
        assert self._stored is not None
        return self._stored

    @cached_property
    def removed(self) -> bytes:
        """The row is to go."""
        return _json(Remove(op="remove", id=self._change.key))


class RequestedFilters(NamedTuple):
    """What somebody asked for that may come to mean something else: by the catalogue, or by lists of theirs."""

    given: tuple[tuple[str, str | tuple[str, ...]], ...]
    """Parameters by name, in order."""
    user: str | None
    """On whose lists it depends, if on any."""


@dataclass(frozen=True)
class PatternSubscription:
    """The patterns that match some filters; whether all raw fields are wanted."""

    query: PatternQuery
    """As of ``ALWAYS``: what has elapsed meanwhile did match when it was told."""
    full: bool = False
    asked: RequestedFilters | None = None
    """What ``query`` is the meaning of now; None where it always means the same."""

    @cached_property
    def meaning(self) -> str:
        """16 digits that tell meanings apart; empty where there is but one."""
        return _digest(self.query) if self.asked else ""

    def tell(self, change: PatternChange) -> bytes | None:
        """What the change is to somebody who has been told all changes before it."""
        if change.new is not None and self.query.matches(change.new):
            return change.full if self.full else change.compact
        return change.removed if self._may_have_been_told(change) else None

    def _may_have_been_told(self, change: PatternChange) -> bool:
        if change.knows_old:
            return change.old is not None and self.query.matches(change.old)
        return change.names is None or self.query.may_match(*change.names)


@lru_cache(maxsize=256)
def _digest(query: PatternQuery) -> str:
    """The same in every process; many clients ask for the same few universes."""
    filters = [sorted(value) if isinstance(value, frozenset) else value for value in query]
    return sha256(repr(filters).encode()).hexdigest()[:16]


class BacktestChange:
    """A change of one run, rendered once for all."""

    def __init__(self, change: RowChange, log: str, _now: float, *, knows_old: bool) -> None:
        del knows_old
        self._change = change
        self._log = log

    @property
    def job_id(self) -> str:
        """Of the run."""
        return self._change.key

    @cached_property
    def told(self) -> bytes:
        """The run as it is now."""
        if self._change.new is None:
            return _json(Remove(op="remove", id=self.job_id))
        row, position = read_row(BacktestRow, self._change.new)
        return _json(SetBacktest(op="set", backtest=backtest_document(ResultRow(row, self._log, position))))


@dataclass(frozen=True)
class BacktestSubscription:
    """Some runs; all if none is named."""

    job_ids: frozenset[str] = frozenset()

    def tell(self, change: BacktestChange) -> bytes | None:
        """What the change is to somebody interested in these runs."""
        return change.told if not self.job_ids or change.job_id in self.job_ids else None


Change = PatternChange | BacktestChange
TopicSubscription = PatternSubscription | BacktestSubscription
Subscription = tuple[tuple[Topic, TopicSubscription], ...]
"""What one client wants of each topic; clients of equal interests are told the same."""


def meaning_of(interests: Subscription) -> str:
    """16 digits that tell apart what they mean; empty where that is always the same."""
    return "".join(interest.meaning for _, interest in interests if isinstance(interest, PatternSubscription))


CHANGES: dict[Topic, type[PatternChange] | type[BacktestChange]] = {
    "patterns": PatternChange,
    "backtests": BacktestChange,
}


def changes_of(topic: Topic, commit: Commit, now: float) -> Sequence[Change]:
    """The changes of a commit, to be told at ``now``."""
    kind = CHANGES[topic]
    return [kind(change, commit.log, now, knows_old=commit.knows_old) for change in commit.changes]


def _json(value: Any) -> bytes:
    return orjson.dumps(value)
