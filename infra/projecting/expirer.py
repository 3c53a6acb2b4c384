"""Expirer: records the event that ends a row, for every row whose end has passed.

Any number of expirers may run at the same time. The id of the event is derived from the row that it ends, so the log
records each end once.
"""

import time
from collections.abc import Mapping
from itertools import count
from typing import Any

from domain.codec import encode, topic_of
from domain.errors import TickViewError
from infra.log.append import Appended, NewEvent
from infra.log.event_log import EventLog
from infra.read_models.keys import SegmentKeys
from infra.redis.connections import RedisClient
from projections.base import ENDS_INDEX, Projection, decode_row
from projections.decoding import describe_error
from projections.ports import Segment

EXPIRY_BATCH = 500
"""Highest number of rows that one append ends."""


class ExpiryError(TickViewError):
    """Rows cannot be ended. All other rows that are due were ended."""


def expire(client: RedisClient, log: EventLog, projection: Projection[Any, Any], segment: Segment) -> int:
    """Record the end of rows of a segment that are due. Return their number, about ``EXPIRY_BATCH`` at most.

    Raises:
        ExpiryError: Rows cannot be read, their projection cannot end them, or the log refuses their end.
        RedisError: The rows cannot be read now.
        PersistenceError: The log cannot append now.
    """
    keys, now = SegmentKeys(segment), time.time()
    ended, errors = 0, list[str]()
    for offset in count(step=EXPIRY_BATCH):
        due: Any = client.zrange(keys.index(ENDS_INDEX), "-inf", now, byscore=True, offset=offset, num=EXPIRY_BATCH)
        events: dict[bytes, NewEvent] = {}
        checkpoint, documents = _read_rows(client, keys, due)
        for key, document in zip(due, documents, strict=True):
            if document is not None:
                try:
                    events[key] = _expiry(projection, document)
                except Exception as error:  # noqa: BLE001 any error of a projection must leave the other rows alone
                    errors.append(f"{key.decode()}: {describe_error(error)}")
        if events:
            places = dict(zip(events, log.append(list(events.values())), strict=True))
            errors += _refusals(client, keys, places, checkpoint)
        ended += len(events)
        if ended >= EXPIRY_BATCH or len(due) < EXPIRY_BATCH:
            break
    if errors:
        raise ExpiryError(f"{len(errors)} rows of {segment.read_model} cannot be ended, the first is {errors[0]}")
    return ended


def _read_rows(client: RedisClient, keys: SegmentKeys, due: list[bytes]) -> tuple[int, list[bytes | None]]:
    """Read the checkpoint, and the rows after the checkpoint. None: there is no such row any more."""
    if not due:
        return 0, []
    with client.pipeline(transaction=False) as pipeline:
        pipeline.hget(keys.state, "checkpoint")
        pipeline.hmget(keys.rows, due)
        checkpoint, documents = pipeline.execute()
    return int(checkpoint or 0), documents


def _refusals(client: RedisClient, keys: SegmentKeys, places: Mapping[bytes, Appended], checkpoint: int) -> list[str]:
    """Return why the log refused to end rows.

    It had another event with the id: that event is folded, and the row remains. Parked rows remain for another reason.
    """
    refused = [key for key, place in places.items() if place.duplicate and place.position <= checkpoint]
    if not refused:
        return []
    parked: Any = client.hmget(keys.parked, refused)
    return [
        f"{key.decode()}: the event at position {places[key].position} has the id of the end, but did not end the row"
        for key, parking in zip(refused, parked, strict=True)
        if parking is None
    ]


def _expiry(projection: Projection[Any, Any], document: bytes) -> NewEvent:
    """Return the event that ends a row."""
    event = projection.expiry(decode_row(projection.row, document))
    return NewEvent(event.stream, topic_of(type(event)), encode(event), event.event_id, origin="expirer")
