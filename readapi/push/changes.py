"""The changes of rows, as clients receive them: ``set`` with the new row, or ``remove`` with its id.

A change is decoded at most once and rendered at most once per form, however many clients receive it: every derived
value is a cached property, computed on first use.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

import orjson
from typing_extensions import TypedDict

from projections.backtests import BacktestRow
from projections.base import StoredRow, read_row
from projections.patterns import PatternRow
from projections.queries import ResultRow, read_result
from readapi.backtests.resources import Backtest, backtest_document
from readapi.patterns.rendering import CompactPattern, FullPattern, compact, full
from readapi.ports.commits import Commit, RowChange
from readapi.push.event_ids import Topic


class SetPattern(TypedDict):
    """A pattern that matches the filters now. It is new or has changed."""

    op: Literal["set"]
    pattern: CompactPattern | FullPattern


class SetBacktest(TypedDict):
    """A backtest run that is new or has changed."""

    op: Literal["set"]
    backtest: Backtest


class Remove(TypedDict):
    """A row that no longer exists or no longer matches the filters."""

    op: Literal["remove"]
    id: str


class PatternChange:
    """A change of one pattern, shared by all clients.

    Args:
        change: The documents before and after.
        log: The log of the commit.
        now: Time of sending, in epoch seconds. Expiry and time spans refer to it.
        knows_old: Whether the document before is known.
    """

    def __init__(self, change: RowChange, log: str, now: float, *, knows_old: bool) -> None:
        self._change = change
        self._log = log
        self._now = now
        self.knows_old = knows_old

    @cached_property
    def old(self) -> PatternRow | None:
        """The row before the change. None if there was no row, or if the row is unknown."""
        old = self._change.old if self.knows_old else None
        return read_row(PatternRow, old).row if old else None

    @cached_property
    def new(self) -> PatternRow | None:
        """The row after the change. None if the row is gone or has expired."""
        if self._stored is None:
            return None
        row = self._stored.row
        return row if row.expires_at is None or row.expires_at > self._now else None

    @cached_property
    def _stored(self) -> StoredRow[PatternRow] | None:
        return read_row(PatternRow, self._change.new) if self._change.new else None

    @cached_property
    def identity(self) -> tuple[str, str, str] | None:
        """Symbol, pattern type and tier, from the new row or from the pattern id. None if the id has another format."""
        if self._stored is not None:
            return self._stored.row.symbol, self._stored.row.pattern, self._stored.row.tier
        parts = self._change.key.rsplit(":", 3)
        return (parts[0], parts[1], parts[2]) if len(parts) == 4 else None

    @cached_property
    def compact(self) -> bytes:
        """The ``set`` change with the compact row, as JSON."""
        return _json(SetPattern(op="set", pattern=compact(self._existing.row, self._now)))

    @cached_property
    def full(self) -> bytes:
        """The ``set`` change with all raw fields, as JSON."""
        row, position = self._existing
        return _json(SetPattern(op="set", pattern=full(ResultRow(row, self._log, position), self._now)))

    @property
    def _existing(self) -> StoredRow[PatternRow]:
        assert self._stored is not None
        return self._stored

    @cached_property
    def removal(self) -> bytes:
        """The ``remove`` change, as JSON."""
        return _json(Remove(op="remove", id=self._change.key))


class BacktestChange:
    """A change of one backtest run, shared by all clients. The parameters are the same as for ``PatternChange``."""

    def __init__(self, change: RowChange, log: str, _now: float, *, knows_old: bool) -> None:
        del knows_old
        self._change = change
        self._log = log

    @property
    def job_id(self) -> str:
        """The id of the run."""
        return self._change.key

    @cached_property
    def rendered(self) -> bytes:
        """The ``set`` or ``remove`` change, as JSON."""
        if self._change.new is None:
            return _json(Remove(op="remove", id=self.job_id))
        result = read_result(BacktestRow, self._log, self._change.new)
        return _json(SetBacktest(op="set", backtest=backtest_document(result)))


Change = PatternChange | BacktestChange

_CHANGE_TYPES: dict[Topic, type[PatternChange] | type[BacktestChange]] = {
    "patterns": PatternChange,
    "backtests": BacktestChange,
}


def changes_of(topic: Topic, commit: Commit, now: float) -> Sequence[Change]:
    """Return the changes of a commit as they are sent at ``now`` (epoch seconds)."""
    change_type = _CHANGE_TYPES[topic]
    return [change_type(change, commit.log, now, knows_old=commit.knows_old) for change in commit.changes]


def _json(value: Any) -> bytes:
    return orjson.dumps(value)
