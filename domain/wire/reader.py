"""One message of a channel to its events and refusals."""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

import orjson

from domain.events import Event
from domain.wire.bodies import BODIES
from domain.wire.channels import CHANNEL_OF, CHANNELS, ONLY_TYPE
from domain.wire.message import MessageLevels, parse, unwrap
from domain.wire.refusal import Refusal, RefusedError, preview

MAX_BYTES = 1_048_576
"""The largest message that is read unless told otherwise."""


class ReadResult(NamedTuple):
    """What a message says. A batch may have both; no reading has neither."""

    events: tuple[Event, ...]
    refusals: tuple[Refusal, ...]


def read(channel: str, payload: bytes, received_at: float, *, max_bytes: int = MAX_BYTES) -> ReadResult:
    """The events that ``payload`` announces, and what of it was refused and why. No payload raises.

    ``received_at``, in epoch seconds, stands in for times the message does not give. An event's id is
    the producer's ``event_id``, else derived from channel and content: the same message gives the same ids.
    """
    try:
        if channel not in CHANNELS:
            raise RefusedError(
                "unknown-channel", f"unknown channel {preview(channel)}: expected {' or '.join(CHANNELS)}"
            )
        content = parse(payload, max_bytes)
        message = MessageLevels(unwrap(content))
        event_type = _event_type(message, channel)
        if event_type == "patterns_batch":
            return _read_batch(channel, message, received_at, max_bytes)
        event_id = message.take_event_id() or _derived_id(channel.encode(), content)
        return ReadResult((BODIES[event_type](message, event_id, received_at),), ())
    except RefusedError as refused:
        return ReadResult((), (refused.refusal,))


def channel_for(payload: Mapping[str, Any]) -> str | None:
    """The channel of a message that came without one, by its event type; None if it has no known one."""
    event_type = MessageLevels(unwrap(payload)).take_event_type()[1]
    return CHANNEL_OF.get(_spelled(event_type))


def _event_type(message: MessageLevels, channel: str) -> str:
    name, announced = message.take_event_type()
    if announced is None and channel not in ONLY_TYPE:
        raise RefusedError("missing-field", "event_type is missing or empty")
    event_type = ONLY_TYPE[channel] if announced is None else _spelled(announced)
    if event_type not in CHANNEL_OF:
        raise RefusedError("unknown-event-type", f"unknown event type: {name} is {preview(announced)}")
    if CHANNEL_OF[event_type] != channel:
        raise RefusedError("wrong-channel", f"{event_type} belongs on {CHANNEL_OF[event_type]}, not on {channel}")
    return event_type


def _spelled(event_type: Any) -> str:
    return event_type.strip().lower() if isinstance(event_type, str) else ""


def _derived_id(context: bytes, content: Any) -> str:
    canonical = orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
    return blake2b(context + b"\0" + canonical, digest_size=16).hexdigest()


def _read_batch(channel: str, batch: MessageLevels, received_at: float, max_bytes: int) -> ReadResult:
    """The batch's own fields, such as its source, hold for each of its items."""
    items = batch.take("patterns")[1]
    if not isinstance(items, list) or not items:
        raise RefusedError("empty-batch", f"patterns is {preview(items)}: expected a list with one pattern or more")
    envelope = orjson.dumps(batch.levels, option=orjson.OPT_SORT_KEYS)
    if len(envelope) * len(items) > max_bytes:
        raise RefusedError(
            "too-large",
            f"the batch's own {len(envelope)} bytes, kept with each of its {len(items)} patterns, "
            f"make more than the {max_bytes} allowed",
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
        raise RefusedError("not-an-object", f"the item is {preview(item)}, not an object")
    message = MessageLevels([dict(level) for level in batch.levels] + unwrap(item), shared=len(batch.levels))
    name, announced = message.take_event_type()
    event_type = "pattern_detected" if announced is None else _spelled(announced)
    if event_type not in BODIES or CHANNEL_OF[event_type] != CHANNEL_OF["patterns_batch"]:
        raise RefusedError("unknown-event-type", f"unknown event type: {name} is {preview(announced)}")
    event_id = message.take_event_id() or _derived_id(context, item)
    return BODIES[event_type](message, event_id, received_at)
