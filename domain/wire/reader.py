"""The reader of one message: from a channel and a payload to events and refusals."""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

import orjson

from domain.events import Event
from domain.wire.channels import CHANNEL_OF, CHANNELS, DEFAULT_TYPE
from domain.wire.event_builders import EVENT_BUILDERS
from domain.wire.message import MessageLevels, parse_message, split_levels
from domain.wire.refusal import Refusal, RefusedError, preview

MAX_BYTES = 1_048_576
"""Default for the highest number of bytes in a message."""

_EXPECTED_TYPES = f"expected one of {', '.join(CHANNEL_OF)}"
_EXPECTED_ITEM_TYPES = "expected one of pattern_detected, pattern_updated, pattern_expired"


class ReadResult(NamedTuple):
    """The events and the refusals of one message. At least one of both is not empty. A batch may have both."""

    events: tuple[Event, ...]
    refusals: tuple[Refusal, ...]


def read(channel: str, payload: bytes, received_at: float, *, max_bytes: int = MAX_BYTES) -> ReadResult:
    """Read a message. The function does not raise: a message that it cannot read gives a refusal.

    The id of an event is the producer's ``event_id``, or else it is derived from the channel and the content. The same
    message thus always gives the same ids.

    Args:
        channel: The name of the channel.
        payload: The bytes of the message.
        received_at: The time of receipt in seconds since the epoch. It replaces times that the message does not give.
        max_bytes: The highest accepted number of bytes.
    """
    try:
        if channel not in CHANNELS:
            raise RefusedError(
                "unknown-channel", f"the channel {preview(channel)} is unknown: expected {' or '.join(CHANNELS)}"
            )
        content = parse_message(payload, max_bytes)
        message = MessageLevels(split_levels(content))
        event_type = _event_type(message, channel)
        if event_type == "patterns_batch":
            return _read_batch(channel, message, received_at, max_bytes)
        event_id = message.take_event_id() or _derived_id(channel.encode(), content)
        return ReadResult((EVENT_BUILDERS[event_type](message, event_id, received_at),), ())
    except RefusedError as refused:
        return ReadResult((), (refused.refusal,))


def channel_for(payload: Mapping[str, Any]) -> str | None:
    """Return the channel of a message by its event type, or None if the type is missing or unknown."""
    event_type = MessageLevels(split_levels(payload)).take_event_type()[1]
    return CHANNEL_OF.get(_normalize(event_type))


def _event_type(message: MessageLevels, channel: str) -> str:
    name, value = message.take_event_type()
    if value is None and channel not in DEFAULT_TYPE:
        raise RefusedError("missing-field", f"event_type is missing or empty: {_EXPECTED_TYPES}")
    event_type = DEFAULT_TYPE[channel] if value is None else _normalize(value)
    if event_type not in CHANNEL_OF:
        raise RefusedError("unknown-event-type", f"unknown event type: {name} is {preview(value)}, {_EXPECTED_TYPES}")
    if CHANNEL_OF[event_type] != channel:
        raise RefusedError(
            "wrong-channel",
            f"{event_type} belongs on {CHANNEL_OF[event_type]}, not on {channel}: publish the message there",
        )
    return event_type


def _normalize(event_type: Any) -> str:
    return event_type.strip().lower() if isinstance(event_type, str) else ""


def _derived_id(context: bytes, content: Any) -> str:
    canonical = orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
    return blake2b(context + b"\0" + canonical, digest_size=16).hexdigest()


def _read_batch(channel: str, batch: MessageLevels, received_at: float, max_bytes: int) -> ReadResult:
    """Read a batch. The fields of the batch itself, such as its source, apply to each of its items."""
    items = batch.take("patterns")[1]
    if not isinstance(items, list) or not items:
        raise RefusedError("empty-batch", f"patterns is {preview(items)}: expected a list of at least one pattern")
    envelope = orjson.dumps(batch.levels, option=orjson.OPT_SORT_KEYS)
    if len(envelope) * len(items) > max_bytes:
        raise RefusedError(
            "too-large",
            f"the {len(envelope)} bytes of the batch beside its {len(items)} patterns are stored with each pattern, "
            f"together more than the {max_bytes} bytes allowed: send smaller batches",
        )
    context = channel.encode() + b"\0" + blake2b(envelope, digest_size=16).digest()
    events, refusals = [], []
    for index, item in enumerate(items):
        try:
            events.append(_read_item(context, batch, item, received_at))
        except RefusedError as refused:
            refusals.append(Refusal(refused.refusal.code, f"patterns[{index}]: {refused.refusal.reason}"))
    return ReadResult(tuple(events), tuple(refusals))


def _read_item(context: bytes, batch: MessageLevels, item: Any, received_at: float) -> Event:
    if not isinstance(item, dict):
        raise RefusedError("not-an-object", f"the item is {preview(item)}, not an object: expected a JSON object")
    message = MessageLevels([dict(level) for level in batch.levels] + split_levels(item), shared=len(batch.levels))
    name, value = message.take_event_type()
    event_type = "pattern_detected" if value is None else _normalize(value)
    if event_type not in EVENT_BUILDERS or CHANNEL_OF[event_type] != CHANNEL_OF["patterns_batch"]:
        raise RefusedError(
            "unknown-event-type", f"unknown event type: {name} is {preview(value)}, {_EXPECTED_ITEM_TYPES}"
        )
    event_id = message.take_event_id() or _derived_id(context, item)
    return EVENT_BUILDERS[event_type](message, event_id, received_at)
