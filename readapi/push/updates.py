"""From commits to messages: what one step forward is to clients of different interests."""

from collections.abc import Iterable, Iterator

from readapi.ports.commits import Commit
from readapi.push.event_ids import Topic, TopicPosition, TopicPositions, format_id
from readapi.push.messages import Message, changes_message, message
from readapi.push.subscriptions import Change, Subscription, changes_of, meaning_of

CHANGES_PER_MESSAGE = 500
"""A message has no more changes than these, unless one commit has."""


class TopicUpdate:
    """Changes of one topic that lead to ``places``; or, with ``reset``, no changes, and the reason."""

    def __init__(self, topic: Topic, places: TopicPositions, reset: str | None = None) -> None:
        self.topic = topic
        self.places = places
        self.reset = reset
        self.changes: list[Change] = []
        self.recorded_at: list[float] = []
        """When the last event of each commit was recorded, in epoch seconds, where that is known."""
        self._messages: dict[Subscription, Message | None] = {}

    def message(self, interests: Subscription) -> Message | None:
        """What those of these interests are told; None if nothing. Made once for all of them."""
        if interests not in self._messages:
            self._messages[interests] = self._message(interests)
        return self._messages[interests]

    def _message(self, interests: Subscription) -> Message | None:
        interest = dict(interests).get(self.topic)
        if interest is None:
            return None
        if self.reset is not None:
            return message("reset", id_for(interests, self.places), topic=self.topic, reason=self.reset)
        told = [text for change in self.changes if (text := interest.tell(change)) is not None]  # type: ignore[arg-type]
        if not told:
            return None
        return changes_message(self.topic, id_for(interests, self.places), self.places[self.topic].marks, told)


def steps(topic: Topic, places: TopicPositions, commits: Iterable[Commit], now: float) -> Iterator[TopicUpdate]:
    """The way from ``places`` over these commits of a topic, told at ``now``: from commit to commit, none is torn."""
    step = TopicUpdate(topic, places)
    for commit in commits:
        if step.changes and len(step.changes) + len(commit.changes) > CHANGES_PER_MESSAGE:
            yield step
            step = TopicUpdate(topic, step.places)
        build, marks = step.places[topic]
        step.places = {**step.places, topic: TopicPosition(build, {**marks, commit.log: commit.id})}
        step.changes += changes_of(topic, commit, now)
        if commit.recorded_at is not None:
            step.recorded_at.append(commit.recorded_at)
    if step.places is not places:
        yield step


def id_for(interests: Subscription, places: TopicPositions) -> str:
    """The id of a message to those who have these interests."""
    return format_id({topic: places[topic] for topic, _ in interests}, meaning_of(interests))
