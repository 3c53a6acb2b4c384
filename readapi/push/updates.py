"""Topic updates: commits of one topic, put together into messages for groups of clients."""

from collections.abc import Iterable, Iterator
from functools import cached_property

from readapi.ports.commits import Commit
from readapi.push.change_index import ChangeIndex
from readapi.push.changes import Change, changes_of
from readapi.push.event_ids import TopicPosition, TopicPositions, format_id
from readapi.push.messages import PushMessage, changes_message, message
from readapi.push.subscriptions import Subscription, filters_digest
from readapi.push.topics import Topic

CHANGES_PER_MESSAGE = 500
"""Highest number of changes per message. A single commit with more changes is not split."""


MAX_REMEMBERED_BYTES = 2_097_152
"""Highest number of bytes of the messages that one update remembers. Beyond, messages are encoded for each client."""


class TopicUpdate:
    """One step forward in a topic, from which the messages to all clients are made.

    An update either has changes that lead to ``positions``, or it is a reset: clients must load the topic anew and
    continue at ``positions``. The message for a subscription is encoded once and shared by all its clients, as far
    as ``MAX_REMEMBERED_BYTES`` allows.

    Args:
        topic: The topic that moves.
        positions: Positions of all topics after the update.
        reset_reason: Why clients must load the topic anew. None for an update with changes.
    """

    def __init__(self, topic: Topic, positions: TopicPositions, reset_reason: str | None = None) -> None:
        self.topic = topic
        self.positions = positions
        self.reset_reason = reset_reason
        self.changes: list[Change] = []
        self.recorded_at: list[float] = []
        """Time at which the last event of each commit was recorded, in epoch seconds, where the time is known."""
        self.traces: list[str] = []
        """The traces to which the changes belong, each as a ``traceparent``."""
        self._messages: dict[Subscription, PushMessage | None] = {}
        self._remembered_bytes = 0

    def message(self, subscription: Subscription) -> PushMessage | None:
        """Return the message for the clients of a subscription. None if the update does not concern them."""
        if subscription in self._messages:
            return self._messages[subscription]
        message = self._message(subscription)
        self._remembered_bytes += 0 if message is None else len(message.body)
        if self._remembered_bytes <= MAX_REMEMBERED_BYTES:
            self._messages[subscription] = message
        return message

    @cached_property
    def _index(self) -> ChangeIndex:
        """The index of the changes, which are complete when the first message is made."""
        return ChangeIndex(self.topic.projection, self.changes)

    def _message(self, subscription: Subscription) -> PushMessage | None:
        subscribed = next((each for each in subscription if each.topic is self.topic), None)
        if subscribed is None:
            return None
        if self.reset_reason is not None:
            event_id = event_id_for(subscription, self.positions)
            return message("reset", event_id, topic=self.topic.name, reason=self.reset_reason)
        rendered = subscribed.render(self._index)
        if not rendered:
            return None
        event_id = event_id_for(subscription, self.positions)
        name = self.topic.name
        return changes_message(name, event_id, self.positions[name].last_commits, rendered, self.traces)


def updates_from(
    topic: Topic, positions: TopicPositions, commits: Iterable[Commit], now: float
) -> Iterator[TopicUpdate]:
    """Put commits together into updates of at most ``CHANGES_PER_MESSAGE`` changes. No commit is split.

    Args:
        topic: The topic of the commits.
        positions: Positions of all topics before the commits.
        commits: Commits that follow ``positions``, in order for each log.
        now: Time of sending, in epoch seconds.
    """
    update = TopicUpdate(topic, positions)
    for commit in commits:
        if update.changes and len(update.changes) + len(commit.changes) > CHANGES_PER_MESSAGE:
            yield update
            update = TopicUpdate(topic, update.positions)
        build, last_commits = update.positions[topic.name]
        position = TopicPosition(build, {**last_commits, commit.log: commit.id})
        update.positions = {**update.positions, topic.name: position}
        update.changes += changes_of(topic, commit, now)
        if commit.recorded_at is not None:
            update.recorded_at.append(commit.recorded_at)
        update.traces += commit.traces
    if update.positions is not positions:
        yield update


def event_id_for(subscription: Subscription, positions: TopicPositions) -> str:
    """Return the event id of a message to the clients of a subscription."""
    return format_id(
        {each.topic.name: positions[each.topic.name] for each in subscription}, filters_digest(subscription)
    )
