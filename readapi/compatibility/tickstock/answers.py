"""Answers as the platform documents them: pure functions that add its members to the documents of TickView."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from readapi.compatibility.tickstock.figures import PatternFigures
from readapi.compatibility.tickstock.shown_values import SHOWN_VALUES

Document = dict[str, Any]

_FACTORS = {"rs": "relative_strength", "vol": "relative_volume"}
"""Member of a pattern -> its column."""

NO_PAGE = {"page": 0, "per_page": 0, "total": 0, "pages": 0}
"""The pagination of a scan that was refused."""


def iso(moment: float | None) -> str | None:
    """Return a time in ISO 8601."""
    return None if moment is None else datetime.fromtimestamp(moment, UTC).isoformat()


def problem(document: Document, path: str) -> Document:
    """Describe an error as the platform does."""
    members: Document = {"error": document["title"], "message": document["detail"]}
    if path.endswith("/api/patterns/scan"):
        members |= {"patterns": [], "pagination": NO_PAGE}
    return document | members


def scan(document: Document) -> Document:
    """Fill in the default indicators, and add the raw values under the names that the pages read."""
    return document | {"patterns": [_pattern(row) for row in document["patterns"]]}


def _pattern(row: Document) -> Document:
    raw = {
        "type": row.get("pattern_type"),
        "change_percent": row.get("price_change"),
        "volume": row.get("relative_volume"),
        "timestamp": row.get("detected_at"),
    }
    indicators: Document = {name: row[name] or f"{SHOWN_VALUES[column]:.1f}x" for name, column in _FACTORS.items()}
    if "rsi" in row:
        indicators["rsi"] = SHOWN_VALUES["rsi"] if row["rsi"] is None else row["rsi"]
    return row | indicators | (raw if "pattern_type" in row else {})


def summary(document: Document, figures: PatternFigures, cache: Mapping[str, Any]) -> Document:
    """Add the counts of patterns, types and symbols."""
    counted = document["summary"]
    return document | {
        "total_patterns": counted["total"],
        "high_confidence_patterns": counted["high_confidence"],
        "pattern_types": {
            "distribution": counted["top_types"],
            "top_patterns": [{"pattern": name, "count": count} for name, count in counted["top_types"].items()],
        },
        "symbols": {
            "active_symbols": counted["symbols"],
            "top_symbols": [{"symbol": name, "count": count} for name, count in counted["top_symbols"].items()],
        },
        "cache_performance": {
            "hit_ratio": cache["cache_hit_ratio"],
            "cached_patterns": figures.cached_patterns,
            "last_event_time": figures.last_event_time,
        },
    }


def patterns_health(document: Document, cache: Mapping[str, Any], response_time_ms: float) -> Document:
    """Add the health and the metrics of the platform's cache of patterns."""
    names = ("cached_patterns", "cache_hit_ratio", "events_processed", "last_event_time")
    return document | {
        "healthy": document["status"] == "healthy",
        "message": "; ".join(document["reasons"]) or "the read model of the patterns is current",
        "metrics": {name: cache[name] for name in names} | {"response_time_ms": response_time_ms},
    }


def symbols(document: Document, asked: Mapping[str, Any], response_time_ms: float) -> Document:
    """Add the state of each symbol and the filters. TickView lists only symbols that are traded."""
    return document | {
        "symbols": [row | {"active": True} for row in document["symbols"]],
        "filters": {name: asked.get(name) for name in ("market", "search")} | {"limit": int(asked["limit"])},
        "performance": {"api_response_time_ms": response_time_ms, "source": "replica"},
    }


def symbol(document: Document) -> Document:
    """Put the members of the symbol at the top level."""
    row: Document = document["symbol"]
    return document | row | {"last_updated": iso(row["updated_at"])}


def universes(document: Document) -> Document:
    """Add the number of symbols of each universe."""
    rows = [_described(row) | {"count": row["symbol_count"]} for row in document["universes"]]
    return document | {"universes": rows, "total_universes": document["count"]}


def universe(document: Document) -> Document:
    """Add the key, the symbols and the description of a universe."""
    row = _described(document["universe"])
    return document | {
        "universe_key": row["key"],
        "tickers": row["symbols"],
        "metadata": {"count": document["count"], "criteria": row["criteria"], "description": row["description"]},
    }


def _described(row: Document) -> Document:
    """Replace missing texts, of which the platform has none."""
    texts = {"description": row["description"] or row["name"] or row["key"], "criteria": row["criteria"] or ""}
    return row | texts | {"category": row["category"] or ""}


def user_lists(document: Document, user: str, done: str | None) -> Document:
    """Add the user, the platform's names of the content of presets, and a message about the effect of the request."""
    named = {
        name: [_list(row) for row in value] if isinstance(value, list) else _list(value) | {"user_id": user}
        for name, value in document.items()
        if name in ("watchlists", "presets", "watchlist", "preset")
    }
    message = {"message": f"{next(iter(document))} {done}"} if done else {}
    return document | named | {"user_id": user} | message


def _list(row: Document) -> Document:
    return row | {"filters": row["parameters"], "is_default": row["default"]} if "parameters" in row else row


def dashboard(document: Document, database_status: str) -> Document:
    """Add the numbers of symbols and events."""
    counted, events = document["symbols"] or {"total": 0, "active": 0, "by_market": {}}, document["statistics"]
    return document | {
        "symbols_count": counted["total"],
        "active_symbols_count": counted["active"],
        "symbols_by_market": counted["by_market"],
        "events_count": events["total"],
        "latest_event_time": iso(max(events["latest"].values(), default=None)),
        "database_status": database_status,
    }


def discovery_health(document: Document, performance: Mapping[str, Any]) -> Document:
    """Add the health of the platform's components."""
    servers, intake = document["servers"], document["intake"]
    names = ("runtime_seconds", "requests_processed", "average_response_time_ms", "redis_performance")
    return document | {
        "healthy": document["status"] == "healthy",
        "components": {
            "redis_manager": servers["redis"]["status"],
            "pattern_cache": document["read_models"].get("patterns", {"status": "unhealthy"})["status"],
            "tickstock_database": servers["postgres"]["status"] if "postgres" in servers else "not configured",
            "event_subscriber": "healthy" if intake and intake["pubsub"]["heard"] else "unhealthy",
        },
        "performance": {name: performance[name] for name in names},
    }
