"""Expirer: records the event that ends a row, for every row whose end has passed.

Any number of expirers may run at the same time. The id of the event is derived from the row that it ends, so the log
records each end once.
"""

import time
from typing import Any

from redis import Redis

from domain.codec import encode, topic_of
from infra.log.event_log import EventLog, NewEvent
from infra.read_models.keys import SegmentKeys
from projections.base import ENDS_INDEX, Projection, decode_row
from projections.ports import Segment

EXPIRY_BATCH = 500
"""Highest number of rows that one append ends."""


def expire(client: Redis, log: EventLog, projection: Projection[Any, Any], segment: Segment) -> int:
    """Record the end of rows of a segment that are due. Return their number, at most ``EXPIRY_BATCH``."""
    keys = SegmentKeys(segment)
    due: Any = client.zrange(keys.index(ENDS_INDEX), "-inf", time.time(), byscore=True, offset=0, num=EXPIRY_BATCH)
    if not due:
        return 0
    documents: Any = client.hmget(keys.rows, due)
    events = [projection.expiry(decode_row(projection.row, document)) for document in documents if document is not None]
    log.append(
        [
            NewEvent(event.stream, topic_of(type(event)), encode(event), event.event_id, origin="expirer")
            for event in events
        ]
    )
    return len(due)
