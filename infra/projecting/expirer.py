"""Expirer: records the event that ends a row, for every row whose end has passed.

Any number of expirers may run at the same time. The id of the event is derived from the row that it ends, so the log
records each end once.
"""

import time
from itertools import count
from typing import Any

from redis import Redis

from domain.codec import encode, topic_of
from domain.errors import TickViewError
from infra.log.event_log import EventLog, NewEvent
from infra.read_models.keys import SegmentKeys
from projections.base import ENDS_INDEX, Projection, decode_row
from projections.fold import describe_error
from projections.ports import Segment

EXPIRY_BATCH = 500
"""Highest number of rows that one append ends."""


class ExpiryError(TickViewError):
    """Rows cannot be ended. All other rows that are due were ended."""


def expire(client: Redis, log: EventLog, projection: Projection[Any, Any], segment: Segment) -> int:
    """Record the end of rows of a segment that are due. Return their number, about ``EXPIRY_BATCH`` at most.

    Raises:
        ExpiryError: Rows cannot be read, or their projection cannot end them.
        RedisError: The rows cannot be read now.
        PersistenceError: The log cannot append now.
    """
    keys, now = SegmentKeys(segment), time.time()
    ended, errors = 0, list[str]()
    for offset in count(step=EXPIRY_BATCH):
        due: Any = client.zrange(keys.index(ENDS_INDEX), "-inf", now, byscore=True, offset=offset, num=EXPIRY_BATCH)
        documents: Any = client.hmget(keys.rows, due) if due else []
        events: list[NewEvent] = []
        for key, document in zip(due, documents, strict=True):
            if document is not None:
                try:
                    events.append(_expiry(projection, document))
                except Exception as error:  # noqa: BLE001 any error of a projection must leave the other rows alone
                    errors.append(f"{key.decode()}: {describe_error(error)}")
        if events:
            log.append(events)
        ended += len(events)
        if ended >= EXPIRY_BATCH or len(due) < EXPIRY_BATCH:
            break
    if errors:
        raise ExpiryError(f"{len(errors)} rows of {segment.read_model} cannot be ended, the first is {errors[0]}")
    return ended


def _expiry(projection: Projection[Any, Any], document: bytes) -> NewEvent:
    """Return the event that ends a row."""
    event = projection.expiry(decode_row(projection.row, document))
    return NewEvent(event.stream, topic_of(type(event)), encode(event), event.event_id, origin="expirer")
