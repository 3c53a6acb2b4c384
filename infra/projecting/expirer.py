"""Expirer: records a ``PatternExpired`` event for every active pattern whose ``expires_at`` has passed.

Any number of expirers may run at the same time. The id of an expiry event is derived from the row that it ends, so
the log records each expiry once.
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

EXPIRY_BATCH = 500
"""Highest number of patterns that one append expires."""


def expire(client: Redis, log: EventLog, segment: Segment) -> int:
    """Record the expiry of patterns of a segment that are due. Return their number, at most ``EXPIRY_BATCH``."""
    keys = SegmentKeys(segment)
    due: Any = client.zrange(keys.index("expiry"), "-inf", time.time(), byscore=True, offset=0, num=EXPIRY_BATCH)
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
