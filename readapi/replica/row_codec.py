"""Keeps a row small: what no column has of it, as JSON; and puts it together again."""

from typing import Any

import orjson

from projections.base import LOWEST, StoredRow
from projections.patterns import PatternRow
from readapi.replica.columns import NEVER, Columns


def pack(stored: StoredRow[PatternRow]) -> bytes:
    """The part of a row that no column has."""
    row = stored.row
    packed = orjson.dumps(
        (
            stored.position,
            row.updated_at,
            row.current_price,
            row.price_change,
            row.indicators,
            row.source,
            row.event_id,
            row.correlation_id,
            row.extra,
        )
    )
    # A copy, for what the encoder returns occupies some kilobytes however short it is.
    return packed[1:-1]


def unpack(columns: Columns, slot: int) -> StoredRow[PatternRow]:
    """The row in a slot, whole."""
    position, updated_at, current_price, price_change, indicators, source, event_id, correlation_id, extra = (
        orjson.loads(b"[%b]" % columns.packed[slot])
    )

    def number(name: str) -> Any:
        value = float(columns.numbers[name][slot])
        return None if value in (LOWEST, NEVER) else value

    row = PatternRow(
        id=columns.keys[slot],
        symbol=columns.text("symbol", slot),
        pattern=columns.text("type", slot),
        tier=columns.text("tier", slot),
        confidence=number("confidence"),
        detected_at=number("detected_at"),
        updated_at=updated_at,
        expires_at=number("expiry"),
        current_price=current_price,
        price_change=price_change,
        relative_strength=number("relative_strength"),
        relative_volume=number("relative_volume"),
        rsi=number("rsi"),
        indicators=indicators,
        source=source,
        event_id=event_id,
        correlation_id=correlation_id,
        extra=extra,
    )
    return StoredRow(row, position)
