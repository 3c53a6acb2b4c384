"""The registry of channels: the Redis channels of producers, and how a message on each of them is read.

TickView's own channels and those of plug-ins are registered in the same way. An operator can add names of further Redis
channels that carry the same kinds of messages.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from domain.errors import TickViewError
from domain.events import Event
from domain.wire.event_builders import (
    backtest_progress,
    backtest_result,
    pattern_detected,
    pattern_expired,
    pattern_updated,
    system_health,
)
from domain.wire.message import MessageLevels

PATTERNS = "tickstock.events.patterns"
BACKTEST_PROGRESS = "tickstock.events.backtesting.progress"
BACKTEST_RESULTS = "tickstock.events.backtesting.results"
HEALTH = "tickstock.health.status"

INGEST_STREAM = "tickstock.ingest"
"""The Redis stream that takes the same messages. Its entries have the fields ``channel`` and ``payload``."""

EventBuilder = Callable[[MessageLevels, str, float], Event]
"""Builds the event of a message from its levels, the event id, and the time of receipt in seconds since the epoch.

It raises RefusedError for a field that it cannot read.
"""


class Batch(NamedTuple):
    """A message that holds a list of messages."""

    field: str
    """The field that holds the list."""
    item_type: str
    """The event type of an item that names none."""


@dataclass(frozen=True)
class Channel:
    """The declaration of a channel.

    Attributes:
        names: The names of the Redis channels that carry these messages, without further names of the operator.
        builders: The builder of each event type of the wire format, in small letters. If there is only one event type,
            a message need not name it.
        batches: The batch of each event type that stands for several messages.
        untyped: The event type of a message without a type, if there are several event types. None: a message must name
            its type.
        acts_once: The event types of which a message on several channels is one event, because it must act once.
    """

    names: tuple[str, ...]
    builders: Mapping[str, EventBuilder]
    batches: Mapping[str, Batch] = field(default_factory=dict)
    untyped: str | None = None
    acts_once: frozenset[str] = frozenset()

    @property
    def default_type(self) -> str | None:
        """The event type of a message without a type. None: a message must name its type."""
        return next(iter(self.builders)) if len(self.builders) == 1 and not self.batches else self.untyped


CHANNELS: dict[str, Channel] = {}
"""Every channel by the name of each of its Redis channels, or by a pattern of names (``is_pattern``)."""

CHANNEL_OF: dict[str, Channel] = {}
"""The channel of each event type of the wire format."""


class ChannelError(TickViewError, ValueError):
    """An object cannot be a channel. The message is a clause whose subject is the object."""


def register_channel(channel: Channel) -> None:
    """Register a channel under its names and its event types. Registering a channel again changes nothing.

    Raises:
        ChannelError: The object is no complete channel, or a name or an event type belongs to another channel.
    """
    check_channel(channel)
    types = (*channel.builders, *channel.batches)
    for kind, names, known in (("name", channel.names, CHANNELS), ("event type", types, CHANNEL_OF)):
        for name in names:
            if known.get(name, channel) is not channel:
                raise ChannelError(f"has the {kind} {name}, which belongs to another channel: choose another {kind}")
    CHANNELS.update(dict.fromkeys(channel.names, channel))
    CHANNEL_OF.update(dict.fromkeys(types, channel))


def check_channel(channel: Any) -> None:
    """Check that an object is a complete channel.

    Raises:
        ChannelError: The object is no channel, or a part of it is missing or wrong.
    """
    if not isinstance(channel, Channel):
        raise ChannelError("is no channel: expected a domain.wire.Channel")
    if not isinstance(channel.names, tuple) or not channel.names or not all(map(_is_name, channel.names)):
        raise ChannelError(f"has the names {channel.names!r}: expected a tuple of names of Redis channels")
    if not channel.builders or not all(map(callable, channel.builders.values())):
        raise ChannelError("has no builder, or one that is no function: expected a function for each event type")
    for name in (*channel.builders, *channel.batches):
        if not _is_name(name) or name != name.lower():
            raise ChannelError(f"has the event type {name!r}: expected a name in small letters")
    for name, batch in channel.batches.items():
        if not isinstance(batch, Batch) or batch.item_type not in channel.builders:
            raise ChannelError(f"has the batch {name}, whose items have no builder: expected a domain.wire.Batch")
    if channel.untyped not in (None, *channel.builders):
        raise ChannelError(f"reads messages without a type as {channel.untyped!r}, which has no builder")


class FurtherChannel(NamedTuple):
    """A further Redis channel, or a pattern of channels, and the kind of its messages."""

    name: str
    kind: str

    @classmethod
    def parse(cls, text: str) -> "FurtherChannel":
        """Parse ``name=kind``.

        Raises:
            ChannelError: The text has another form, the kind is unknown, or the name cannot be used.
        """
        name, _, kind = text.rpartition("=")
        if kind not in KINDS or not _is_name(name):
            raise ChannelError(f"{text!r} is no channel. Write name=kind, with one of the kinds {', '.join(KINDS)}.")
        if {*name} & {*"[]\\"}:
            raise ChannelError(f"{name!r} contains [, ] or \\. A pattern of channels may only contain * and ?.")
        return cls(name, kind)


def add_further_channel(further: FurtherChannel) -> None:
    """Read the messages of a further Redis channel like those of its kind. Adding it again changes nothing.

    Raises:
        ChannelError: The name belongs to a channel of another kind.
    """
    channel = KINDS[further.kind]
    if CHANNELS.setdefault(further.name, channel) is not channel:
        raise ChannelError(f"{further.name} already carries messages of another kind. Choose another channel.")


def is_pattern(name: str) -> bool:
    """Return whether a name is a pattern of the names of Redis channels, as PSUBSCRIBE takes it."""
    return not {*"*?"}.isdisjoint(name)


def subscription_of(channel: str) -> str | None:
    """Return the name or the first pattern in ``CHANNELS`` by which a Redis channel is heard. None: it is not heard."""
    if channel in CHANNELS:
        return channel
    return next((name for name in CHANNELS if is_pattern(name) and fnmatchcase(channel, name)), None)


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and name.isprintable() and name == name.strip() != ""


for _channel in (
    Channel(
        (PATTERNS,),
        {
            "pattern_detected": pattern_detected,
            "pattern_updated": pattern_updated,
            "pattern_expired": pattern_expired,
        },
        {"patterns_batch": Batch("patterns", item_type="pattern_detected")},
        untyped="pattern_detected",
        acts_once=frozenset({"pattern_expired"}),
    ),
    Channel((BACKTEST_PROGRESS,), {"backtest_progress": backtest_progress}),
    Channel((BACKTEST_RESULTS,), {"backtest_result": backtest_result}),
    Channel(
        (HEALTH,),
        dict.fromkeys(("system_health", "system_health_update", "streaming_health"), system_health),
        untyped="system_health",
    ),
):
    register_channel(_channel)

KINDS: Mapping[str, Channel] = {
    "patterns": CHANNELS[PATTERNS],
    "progress": CHANNELS[BACKTEST_PROGRESS],
    "results": CHANNELS[BACKTEST_RESULTS],
    "health": CHANNELS[HEALTH],
}
"""The kinds of messages that further Redis channels can carry."""
