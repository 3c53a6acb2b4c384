"""The row codec of the replica: the attributes of a row that no column has are stored as compact JSON."""

from typing import Any

import orjson

from projections.base import LOWEST, StoredRow
from projections.patterns import PatternRow
from readapi.replica.columns import NO_SCORE, Columns


def encode_payload(stored: StoredRow[PatternRow]) -> bytes:
    """Encode the attributes of a row that no column has: a JSON array without its brackets."""
    row = stored.row
    payload = orjson.dumps(
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
    # The encoder's result occupies some kilobytes however short it is. The slice is a copy of the exact length.
    return payload[1:-1]


def decode_row(columns: Columns, slot: int) -> StoredRow[PatternRow]:
    """Decode the row in a slot from its payload and the columns."""
    position, updated_at, current_price, price_change, indicators, source, event_id, correlation_id, extra = (
        orjson.loads(b"[%b]" % columns.payloads[slot])
    )

    def number(name: str) -> Any:
        value = float(columns.numbers[name][slot])
        return None if value in (LOWEST, NO_SCORE) else value

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
