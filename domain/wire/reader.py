"""The reader of one message: from a channel and a payload to events and refusals."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, NamedTuple

import orjson
from pydantic import ValidationError

from domain.codec import decode, encode, topic_of
from domain.event_types import EVENT_TYPES
from domain.events import OWN_IDS, Event
from domain.horizon import Horizon, clamp
from domain.origins import is_traceparent
from domain.streams import USER_PREFIXES
from domain.wire.channels import CHANNEL_OF, CHANNELS, Channel, EventBuilder, subscription_of
from domain.wire.conventions import DEFAULT_CONVENTIONS, Conventions
from domain.wire.message import MessageLevels, parse_message, split_levels
from domain.wire.refusal import Refusal, RefusedError, preview, shorten

MAX_BYTES = 1_048_576
"""Default for the highest number of bytes in a message."""

MAX_ITEMS = 10_000
"""Highest number of items in a batch."""

DIGEST_LENGTH = 16
"""Number of hexadecimal digits of the digest of a content."""

STORED_FACTOR = 2
"""The events of a message have at most this number times the bytes of the largest message. JSON numbers can grow: the
event stores ``1e15`` as ``1000000000000000.0``."""


class ReadResult(NamedTuple):
    """The events and the refusals of one message. At least one of both is not empty. A batch may have both."""

    events: tuple[Event, ...]
    refusals: tuple[Refusal, ...]
    contents: tuple[str, ...] = ()
    """For each event a digest of the message or of the item of the batch. Equal ids must have equal contents."""
    percent: tuple[str | None, ...] = ()
    """For each event the name of the field that was converted from per cent, or None."""
    trace: str | None = None
    """The ``traceparent`` of the message, or None."""
    items: tuple[int, ...] = ()
    """For each event the number of its item in the batch, from 0. An event that is no item has the number 0."""

    def without(self, items: int) -> "ReadResult":
        """Return the result without the events of some items of the batch. Bit n stands for the item n."""
        kept = [index for index, item in enumerate(self.items) if not items >> item & 1]
        return self._replace(
            events=tuple(self.events[index] for index in kept),
            contents=tuple(self.contents[index] for index in kept),
            percent=tuple(self.percent[index] for index in kept),
            items=tuple(self.items[index] for index in kept),
        )


class Bounds(NamedTuple):
    """The bounds of a message.

    Attributes:
        max_bytes: The highest accepted number of bytes.
        horizon: How far ahead of ``now`` the times of an event may be.
        now: The present time in seconds since the epoch. None: the times are not bounded.
    """

    max_bytes: int = MAX_BYTES
    horizon: Horizon = Horizon()
    now: float | None = None


UNBOUNDED_TIMES = Bounds()
"""The default bounds: times are not bounded."""


def read(
    channel: str,
    payload: bytes,
    received_at: float,
    bounds: Bounds = UNBOUNDED_TIMES,
    conventions: Conventions = DEFAULT_CONVENTIONS,
) -> ReadResult:
    """Read a message. The function does not raise: a message that it cannot read gives a refusal.

    The id of an event is the producer's ``event_id``, or else it is derived from the channel and the content. The same
    message thus always gives the same ids.

    Args:
        channel: The name of the channel.
        payload: The bytes of the message.
        received_at: The time of receipt in seconds since the epoch. It replaces times that the message does not give.
        bounds: The bounds of the message.
        conventions: The conventions of the producer.
    """
    max_bytes = bounds.max_bytes
    try:
        declaration = CHANNELS.get(channel) or _declaration(channel)
        content = parse_message(payload, max_bytes)
        trace = _take_trace(content) if "traceparent" in content else None
        message = MessageLevels(split_levels(content), conventions=conventions)
        event_type = _event_type(message, declaration, channel)
        if event_type in declaration.batches:
            result = _read_batch(channel, event_type, message, received_at, bounds)
        else:
            context = _context(declaration, event_type, channel)
            event_id, digest = _identify(message, context, content)
            event = _bound(_build(declaration.builders[event_type], message, event_id, received_at), bounds)
            result = ReadResult((event,), (), (digest,), (message.percent,), items=(0,))
        if len(payload) > max_bytes // 4:  # smaller messages cannot grow beyond the bound
            _check_stored_bytes(result.events, STORED_FACTOR * max_bytes)
        return result if trace is None else result._replace(trace=trace)
    except RefusedError as refused:
        return ReadResult((), (refused.refusal,))


def _take_trace(content: dict[str, Any]) -> str | None:
    """Remove the ``traceparent`` of a message. A message that comes again in another trace is still the same event."""
    if not is_traceparent(content["traceparent"]):
        return None
    trace: str = content.pop("traceparent")
    return trace


def _declaration(channel: str) -> Channel:
    subscription = subscription_of(channel)
    if subscription is None:
        raise RefusedError(
            "unknown-channel", f"the channel {preview(channel)} is unknown: {_expected(list(CHANNELS)[:8])}"
        )
    return CHANNELS[subscription]


def channel_for(payload: Mapping[str, Any]) -> str | None:
    """Return the channel of a message by its event type, or None if the type is missing or unknown."""
    event_type = MessageLevels(split_levels(payload)).take_event_type()[1]
    declaration = CHANNEL_OF.get(_normalize(event_type))
    return declaration.names[0] if declaration else None


def _event_type(message: MessageLevels, declaration: Channel, channel: str) -> str:
    name, value = message.take_event_type()
    event_type = declaration.default_type if value is None else _normalize(value)
    if event_type is None:
        raise RefusedError("missing-field", f"event_type is missing or empty: {_expected(CHANNEL_OF)}")
    known = CHANNEL_OF.get(event_type)
    if known is None:
        raise RefusedError(
            "unknown-event-type", f"unknown event type: {name} is {preview(value)}, {_expected(CHANNEL_OF)}"
        )
    if known is not declaration:
        raise RefusedError(
            "wrong-channel",
            f"{event_type} belongs on {' or '.join(known.names)}, not on {channel}: publish the message there",
        )
    return event_type


def _expected(event_types: Iterable[str]) -> str:
    return f"expected one of {', '.join(event_types)}"


def _normalize(event_type: Any) -> str:
    return event_type.strip().lower() if isinstance(event_type, str) else ""


def _context(declaration: Channel, event_type: str, channel: str) -> bytes:
    """Return the context of a derived id: the channel, unless the event must act once on whichever channel it comes."""
    return (declaration.names[0] if event_type in declaration.acts_once else channel).encode()


def _identify(message: MessageLevels, context: bytes, content: Any) -> tuple[str, str]:
    """Return the id of an event, and the digest of the content that has the id."""
    event_id = message.take_event_id()
    if event_id is None:
        derived = _derived_id(context, content)
        return derived, derived[:DIGEST_LENGTH]
    if event_id.startswith(OWN_IDS):
        raise RefusedError(
            "reserved-id", f"event_id is {preview(event_id)}: ids that begin with {OWN_IDS} are reserved"
        )
    return event_id, _derived_id(b"", content)[:DIGEST_LENGTH]


def _derived_id(context: bytes, content: Any) -> str:
    canonical = orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
    return blake2b(context + b"\0" + canonical, digest_size=16).hexdigest()


def _build(builder: EventBuilder, message: MessageLevels, event_id: str, received_at: float) -> Event:
    """Build an event. A failure of the builder is a refusal, so that it never stops the recorder.

    The builder may be part of a plug-in.
    """
    try:
        event = builder(message, event_id, received_at)
        _check_event(event)
    except RefusedError:
        raise
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise RefusedError("invalid-event", f"{field} of {error.title} is invalid: {first['msg']}") from error
    except Exception as error:
        name = f"{builder.__module__}.{getattr(builder, '__qualname__', repr(builder))}"
        problem = " ".join(f"{type(error).__name__}: {error}".split())[:500]
        raise RefusedError(
            "reader-failed", f"{name} failed: {problem}: correct the reader, then retry the dead letter"
        ) from error
    return event


def _bound(event: Event, bounds: Bounds) -> Event:
    """Refuse an event with a time beyond the horizon, or replace the time."""
    if bounds.now is None or not (exceeded := bounds.horizon.exceeded(event, bounds.now)):
        return event
    if bounds.horizon.clamps:
        return clamp(event, bounds.now, exceeded)
    field, limit = next(iter(exceeded.items()))
    claimed = datetime.fromtimestamp(getattr(event, field), UTC).isoformat(timespec="seconds")
    raise RefusedError(
        "in-the-future",
        f"{field} is {claimed}, more than {limit - bounds.now:.0f} s ahead: check the clock and the time zone of the "
        "producer",
    )


def _check_event(event: Event) -> None:
    """Check that an event can be recorded and read again. TickView's own event types guarantee both."""
    event_type = type(event)
    if event_type.__module__ == Event.__module__:
        return
    if EVENT_TYPES.get(event_type.__name__) is not event_type:
        raise TypeError(f"{event_type.__name__} is no registered event type")
    if not event.stream or not event.stream.isprintable() or event.stream.startswith(USER_PREFIXES):
        raise ValueError(f"the stream {event.stream!r} is no name of a stream of the market")
    if decode(topic_of(event_type), event.event_id, encode(event)) != event:
        raise ValueError(f"{event_type.__name__} does not have the same content when it is read again")


def _check_stored_bytes(events: Iterable[Event], limit: int) -> None:
    """Refuse a message whose events have too many bytes when they are stored."""
    stored = sum(len(encode(event)) for event in events)
    if stored > limit:
        raise RefusedError(
            "too-large", f"the events of the message have {stored} bytes, more than the {limit} allowed: split it"
        )


def _read_batch(
    channel: str, event_type: str, message: MessageLevels, received_at: float, bounds: Bounds
) -> ReadResult:
    """Read a batch. The fields of the batch itself, such as its source, apply to each of its items."""
    declaration = _declaration(channel)
    field, item_type = declaration.batches[event_type]
    items = message.take(field)[1]
    if not isinstance(items, list) or not items:
        raise RefusedError("empty-batch", f"{field} is {preview(items)}: expected a list of at least one item")
    if len(items) > MAX_ITEMS:
        raise RefusedError("too-large", f"{field} has {len(items)} items, more than the {MAX_ITEMS} allowed: split it")
    envelope = orjson.dumps(message.levels, option=orjson.OPT_SORT_KEYS)
    if len(envelope) * len(items) > bounds.max_bytes:
        raise RefusedError(
            "too-large",
            f"the {len(envelope)} bytes of the batch beside its {len(items)} {field} are stored with each item, "
            f"together more than the {bounds.max_bytes} bytes allowed: send smaller batches",
        )
    envelope_digest = b"\0" + blake2b(envelope, digest_size=16).digest()
    events, contents, percent, read_items, refusals = [], [], [], [], []
    for index, item in enumerate(items):
        try:
            event_type, item_message = _read_item(declaration, item_type, message, item)
            context = _context(declaration, event_type, channel) + envelope_digest
            event_id, digest = _identify(item_message, context, item)
            event = _build(declaration.builders[event_type], item_message, event_id, received_at)
            events.append(_bound(event, bounds))
            contents.append(digest)
            percent.append(item_message.percent)
            read_items.append(index)
        except RefusedError as refused:
            refusals.append(Refusal(refused.refusal.code, f"{field}[{index}]: {refused.refusal.reason}"))
    return ReadResult(tuple(events), tuple(shorten(refusals)), tuple(contents), tuple(percent), items=tuple(read_items))


def _read_item(declaration: Channel, item_type: str, batch: MessageLevels, item: Any) -> tuple[str, MessageLevels]:
    """Return the event type and the levels of an item. The levels of the batch are its outermost levels."""
    if not isinstance(item, dict):
        raise RefusedError("not-an-object", f"the item is {preview(item)}, not an object: expected a JSON object")
    levels = [dict(level) for level in batch.levels] + split_levels(item)
    message = MessageLevels(levels, len(batch.levels), batch.conventions)
    name, value = message.take_event_type()
    event_type = item_type if value is None else _normalize(value)
    if event_type not in declaration.builders:
        raise RefusedError(
            "unknown-event-type",
            f"unknown event type: {name} is {preview(value)}, {_expected(declaration.builders)}",
        )
    return event_type, message
