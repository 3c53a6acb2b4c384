"""The expirer: turns ``expires_at`` passing into ``PatternExpired`` events in the log.

Any number of expirers may run: the id of such an event follows from the row it ends, so the log keeps one.
"""

import time
from hashlib import sha256
from typing import Any

from redis import Redis

from domain.codec import encode, topic_of
from domain.events import PatternExpired
from infra.log.event_log import EventLog, NewEvent
from infra.read_models.keys import SegmentKeys
from projections.base import StoredRow, decode_row
from projections.patterns import PatternRow
from projections.ports import Segment

EXPIRED_AT_ONCE = 500
"""Patterns expired in one append, at most."""


def expire(client: Redis, log: EventLog, segment: Segment) -> int:
    """Record that patterns of the segment have elapsed; returns how many were due, at most ``EXPIRED_AT_ONCE``."""
    keys = SegmentKeys(segment)
    due: Any = client.zrange(keys.index("expiry"), "-inf", time.time(), byscore=True, offset=0, num=EXPIRED_AT_ONCE)
    if not due:
        return 0
    documents: Any = client.hmget(keys.rows, due)
    events = [_expiry_of(decode_row(PatternRow, document)) for document in documents if document is not None]
    log.append(
        [
            NewEvent(event.stream, topic_of(PatternExpired), encode(event), event.event_id, origin="expirer")
            for event in events
        ]
    )
    return len(due)


def _expiry_of(stored: StoredRow[PatternRow]) -> PatternExpired:
    row = stored.row
    assert row.expires_at is not None
    identity = f"{row.id} {row.expires_at!r} {stored.position}"
    return PatternExpired(
        event_id="elapsed-" + sha256(identity.encode()).hexdigest()[:32],
        occurred_at=row.expires_at,
        source="tickview",
        correlation_id=row.correlation_id,
        symbol=row.symbol,
        pattern=row.pattern,
        detected_at=row.detected_at,
        tier=row.tier,
        reason="elapsed",
        expires_at=row.expires_at,
    )
