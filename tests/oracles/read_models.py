"""The expected content of the read models after a history: events folded one by one into plain dictionaries."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import inf
from typing import Any

from domain.events import (
    BacktestCompleted,
    BacktestFailed,
    BacktestProgressed,
    Event,
    HealthReported,
    PatternDetected,
    PatternExpired,
    PatternUpdated,
    SymbolChanged,
    SymbolDelisted,
    SymbolListed,
    UndatedExpiry,
    UniverseChanged,
    UniverseDefined,
)
from domain.user_events import UserEvent, UserForgotten
from projections.activity import Activity
from projections.backtests import Backtests
from projections.base import Projection
from projections.columns import RowColumn
from projections.patterns import ActivePatterns
from projections.producers import Producers
from projections.symbols import Symbols
from projections.universes import Universes
from projections.workspaces import Workspaces
from tests.oracles.rows import as_text
from tests.oracles.workspaces import apply_event, empty_workspace


@dataclass
class ReadModelContent:
    """The content of a read model of one log: rows with the position of their last change, and what follows from it."""

    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    positions: dict[str, int] = field(default_factory=dict)
    indexes: dict[tuple[str, str], dict[str, float]] = field(default_factory=lambda: defaultdict(dict))
    texts: dict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    counts: dict[tuple[str, str], int] = field(default_factory=Counter)
    groups: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def put(self, key: str, row: dict[str, Any] | None, position: int) -> None:
        """Set or remove a row. An unchanged row keeps its position."""
        if self.rows.get(key) == row:
            return
        if row is None:
            del self.rows[key], self.positions[key]
        else:
            self.rows[key], self.positions[key] = row, position

    def place(self, projection: type[Projection[Any, Any]]) -> None:
        """Fill in the indexes, the texts and the counts by value that the columns of the projection declare."""
        names = list(projection.columns)
        for key, row in self.rows.items():
            order = row[projection.order] if projection.order else 0.0
            for name in names:
                self._place_value(key, row[name], order, projection.columns[name])
            if not any(projection.columns[name].has_scores for name in names):
                self.indexes["@all", ""][key] = 0.0
            if projection.ends and row[projection.ends] is not None:
                self.indexes["@ends", ""][key] = row[projection.ends]

    def _place_value(self, key: str, value: Any, order: float, column: RowColumn) -> None:
        declared, name = column.declared, column.name
        if column.kind == "number" and (declared.range or declared.sort):
            self.indexes[name, ""][key] = -inf if value is None else value
        if value is None:
            return
        group = as_text(value, declared.case) if declared.equality else None
        if group is not None:
            self.indexes[f"{name}=", group][key] = order
            self.counts[declared.count or f"by_{name}", group] += 1
        if column.kind == "text" and declared.sort:
            self.texts[name][key] = value
            if declared.case and group not in (None, value):
                self.texts[f"{name}="][key] = group


def _milliseconds(moment: float) -> str:
    return str(round(moment * 1000))


def expected_patterns(events: list[Event]) -> ReadModelContent:
    """Active patterns after events at the positions 1, 2, 3 …"""
    model = ReadModelContent()
    for position, event in enumerate(events, 1):
        if not isinstance(event, PatternDetected | PatternUpdated | PatternExpired):
            continue
        start, end = f"{event.symbol}:{event.pattern}:", f":{_milliseconds(event.detected_at)}"
        if event.tier is None:
            keys = [key for key in model.rows if key.startswith(start) and key.endswith(end)]
        else:
            keys = [start + event.tier + end]
        for key in keys:
            model.put(key, _pattern(model.rows.get(key), event), position)
    for key, row in model.rows.items():
        _summarize_pattern(model, key, row)
    model.place(ActivePatterns)
    return model


def _pattern(row: dict[str, Any] | None, event: Event) -> dict[str, Any] | None:
    fields = event.model_dump()
    if isinstance(event, PatternExpired):
        if row is None:
            return None
        elapsed = event.reason == "elapsed" and event.expires_at is not None
        prolonged = row["expires_at"] is None or (elapsed and row["expires_at"] > event.expires_at)
        return row if elapsed and prolonged else None
    if row is None:
        if fields["confidence"] is None:
            return None
        row = {
            "id": f"{event.symbol}:{event.pattern}:{event.tier}:{_milliseconds(event.detected_at)}",
            "indicators": {},
            "extra": {},
            "updated_at": -inf,
            **{name: fields[name] for name in ("symbol", "pattern", "tier", "detected_at")},
            **dict.fromkeys(("expires_at", "expires_from", "current_price", "price_change", "correlation_id")),
            **dict.fromkeys(("relative_strength", "relative_volume", "rsi")),
        }
    if fields["occurred_at"] < row["updated_at"]:
        return row
    row = dict(row)
    for name in ("confidence", "current_price", "price_change", "correlation_id"):
        row[name] = row.get(name) if fields[name] is None else fields[name]
    for name in ("relative_strength", "relative_volume", "rsi"):
        row[name] = row[name] if fields[name] is None else fields[name]
    _set_end(row, fields)
    row["updated_at"] = fields["occurred_at"]
    row["source"], row["event_id"] = fields["source"], fields["event_id"]
    row["indicators"] = row["indicators"] | fields["indicators"]
    row["extra"] = row["extra"] | fields["extra"]
    row["extra"].pop("tickview:expires_from", None)
    return row


def _set_end(row: dict[str, Any], fields: dict[str, Any]) -> None:
    """Set the end. A default end replaces no announced one."""
    is_default = "tickview:expires_from" in fields["extra"]
    if fields["expires_at"] is not None and not (is_default and row["expires_from"] == "message"):
        row["expires_at"], row["expires_from"] = fields["expires_at"], "default" if is_default else "message"


def _summarize_pattern(model: ReadModelContent, key: str, row: dict[str, Any]) -> None:
    confidence = row["confidence"]
    model.counts["all", ""] += 1
    low = min(int(confidence * 10), 9)
    model.counts["by_confidence", f"0.{low}-{'1.0' if low == 9 else f'0.{low + 1}'}"] += 1
    if confidence >= 0.8:
        model.counts["high_confidence", ""] += 1
    symbol, pattern, _, moment = key.rsplit(":", 3)
    model.groups[f"{symbol}:{pattern}:{moment}"].add(key)


def expected_backtests(events: list[Event]) -> ReadModelContent:
    """Backtest runs after these events."""
    model = ReadModelContent()
    for position, event in enumerate(events, 1):
        if isinstance(event, BacktestProgressed | BacktestCompleted | BacktestFailed):
            model.put(event.job_id, _backtest(model.rows.get(event.job_id), event), position)
    model.place(Backtests)
    return model


METRICS = ("win_rate", "total_trades", "winning_trades", "roi", "sharpe_ratio", "max_drawdown", "duration_days")


def _backtest(row: dict[str, Any] | None, event: Any) -> dict[str, Any]:
    ended = row is not None and row["status"] in ("completed", "failed", "cancelled")
    progressed = isinstance(event, BacktestProgressed)
    if row is None:
        row = {
            "job_id": event.job_id,
            "progress": 0.0,
            "started_at": event.occurred_at,
            "updated_at": event.occurred_at,
        }
        row |= {"ended_at": None, "results": {}, "error_message": None, "processing_time_seconds": None}
        row |= {"correlation_id": None, "extra": {}, **dict.fromkeys(METRICS)}
    elif (ended and (progressed or event.occurred_at < row["updated_at"])) or (
        progressed and event.progress < row["progress"] and event.occurred_at <= row["updated_at"]
    ):
        return row
    row = dict(row)
    row["updated_at"] = max(row["updated_at"], event.occurred_at)
    row["source"], row["event_id"] = event.source, event.event_id
    row["correlation_id"] = event.correlation_id or row["correlation_id"]
    row["extra"] = row["extra"] | event.extra
    if progressed:
        for name in ("status", "progress", "current_symbol", "processed_symbols", "estimated_completion"):
            row[name] = getattr(event, name)
        return row
    row["ended_at"] = event.occurred_at
    row["results"], row["processing_time_seconds"] = event.results, event.processing_time_seconds
    for name in METRICS:
        value = event.results.get(name)
        row[name] = value if type(value) in (int, float) else None
    row["current_symbol"] = row["estimated_completion"] = None
    row.setdefault("processed_symbols", None)
    if isinstance(event, BacktestCompleted):
        row |= {"status": "completed", "progress": 1.0, "error_message": None}
    else:
        row |= {"status": event.status, "error_message": event.error_message}
    return row


def expected_activity(events: list[Event]) -> ReadModelContent:
    """Counts of events by day, type and source."""
    model = ReadModelContent()
    for position, event in enumerate(events, 1):
        if isinstance(event, UserEvent):
            continue
        day = datetime.fromtimestamp(event.occurred_at, UTC).strftime("%Y-%m-%d")
        kind = type(event).__name__
        key = f"{day}/{kind}/{event.source}"
        row = model.rows.get(key, {"day": day, "event_type": kind, "source": event.source, "events": 0})
        first = min(row.get("first_at", inf), event.occurred_at)
        latest = max(row.get("latest_at", -inf), event.occurred_at)
        row = {**row, "events": row["events"] + 1, "first_at": first, "latest_at": latest}
        minute = datetime.fromtimestamp(event.occurred_at, UTC).strftime("%H:%M")
        numbers = {**row.get("minutes", {}), minute: row.get("minutes", {}).get(minute, 0) + 1}
        row["minutes"] = {name: numbers[name] for name in sorted(numbers, reverse=True)[:60]}
        model.put(key, row, position)
    model.place(Activity)
    return model


def expected_producers(events: list[Event]) -> ReadModelContent:
    """The latest health report of each producer, and the number of its expiries that ended no detection."""
    model = ReadModelContent()
    for position, event in enumerate(events, 1):
        if not isinstance(event, HealthReported | UndatedExpiry):
            continue
        unknown = {"status": "unknown", "reported_at": -inf, "metrics": {}, "event_id": "", "extra": {}}
        numbers = {"reports": 0, "unmatched_expiries": 0}
        row = dict(model.rows.get(event.source, {"source": event.source, **unknown, **numbers}))
        if isinstance(event, UndatedExpiry):
            row["unmatched_expiries"] += 1
            if not row["reports"]:
                row["reported_at"] = max(row["reported_at"], event.occurred_at)
        else:
            if not row["reports"] or event.occurred_at >= row["reported_at"]:
                row |= {"status": event.status, "reported_at": event.occurred_at, "metrics": event.metrics}
                row |= {"event_id": event.event_id, "extra": event.extra}
            row["reports"] += 1
        model.put(event.source, row, position)
    model.place(Producers)
    return model


def expected_symbols(events: list[Event]) -> ReadModelContent:
    """The symbols of the catalogue."""
    model = ReadModelContent()
    for position, event in enumerate(events, 1):
        if isinstance(event, SymbolListed | SymbolChanged | SymbolDelisted):
            row = model.rows.get(event.symbol)
            if row is None and isinstance(event, SymbolDelisted):
                continue
            fields = event.model_dump(exclude={"source", "correlation_id", "extra"})
            fields["updated_at"] = fields.pop("occurred_at")
            row = {"listed_at": event.occurred_at, "active": True, **(row or {}), **fields}
            if not isinstance(event, SymbolChanged):
                row["active"] = isinstance(event, SymbolListed)
            model.put(event.symbol, row, position)
    model.place(Symbols)
    return model


def expected_universes(events: list[Event]) -> ReadModelContent:
    """The universes of the catalogue."""
    model = ReadModelContent()
    for position, event in enumerate(events, 1):
        if isinstance(event, UniverseDefined | UniverseChanged):
            fields = event.model_dump(exclude={"source", "correlation_id", "extra"})
            fields["updated_at"] = fields.pop("occurred_at")
            defined_at = model.rows.get(event.key, {}).get("defined_at", event.occurred_at)
            model.put(event.key, {**fields, "defined_at": defined_at}, position)
    model.place(Universes)
    return model


def expected_workspaces(events: list[Event]) -> ReadModelContent:
    """The workspace of each user."""
    model = ReadModelContent()
    for position, event in enumerate(events, 1):
        if isinstance(event, UserEvent):
            workspace = apply_event(model.rows.get(event.user) or empty_workspace(event.user), event)
            model.put(event.user, None if isinstance(event, UserForgotten) else workspace, position)
    model.place(Workspaces)
    return model


ORACLES = {
    "patterns": expected_patterns,
    "backtests": expected_backtests,
    "activity": expected_activity,
    "producers": expected_producers,
    "symbols": expected_symbols,
    "universes": expected_universes,
    "workspaces": expected_workspaces,
}
"""The oracle of each read model."""
