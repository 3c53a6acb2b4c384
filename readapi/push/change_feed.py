"""The change feeds of one API process: commits received from the read models, and how far they are published."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress

from projections.versions import Build
from readapi.ports.commits import Commit, CommitIds
from readapi.push.event_ids import TopicPosition, TopicPositions
from readapi.push.replay_buffer import ReplayBuffer
from readapi.push.topics import Topic, Topics
from readapi.push.updates import TopicUpdate, updates_from

SWITCHED = "another build of the read model answers now"
"""Reason of a reset: clients have the changes of another build."""

MISSED = "changes were lost between the read model and this API process"
"""Reason of a reset: the change feed has a gap."""

AHEAD = "the id is ahead of the changes that this API process knows"
"""Reason of a reset: a client has changes that this process has not received."""


class ChangeFeed:
    """The change feed of one topic: a commit listener that buffers commits until the hub publishes them.

    Args:
        topic: The topic.
        on_commit: Called whenever there is something to publish.
        buffer: Buffer for the commits. It also serves clients that reconnect.
    """

    def __init__(self, topic: Topic, on_commit: Callable[[], None], buffer: ReplayBuffer) -> None:
        self.topic = topic
        self.published = buffer.position
        """Position up to which the connected clients have received the changes."""
        self._buffer = buffer
        self._on_commit = on_commit

    def start_build(self, build: Build, last_commits: CommitIds) -> None:
        """Implement ``CommitListener``."""
        self._buffer.start_build(build, last_commits)
        self._on_commit()

    def receive(self, commit: Commit) -> None:
        """Implement ``CommitListener``."""
        self._buffer.add(commit)
        self._on_commit()

    def take_updates(self, positions: TopicPositions, now: float) -> list[TopicUpdate]:
        """Return the unpublished changes and mark them as published.

        Args:
            positions: Published positions of all topics.
            now: Time of sending, in epoch seconds.

        Returns:
            Updates with changes, or a single reset if commits are missing or another build has started.
        """
        is_lost = self._buffer.reason_lost(self.published) is not None
        before, self.published = self.published, self._buffer.position
        if is_lost or not self.published.covers(before):
            reason = MISSED if before.build == self.published.build else SWITCHED
            return [TopicUpdate(self.topic, {**positions, self.topic.name: self.published}, reason)]
        commits = self._buffer.commits_after(before.last_commits)
        return list(updates_from(self.topic, {**positions, self.topic.name: before}, commits, now))

    def published_after(self, position: TopicPosition) -> Iterator[Commit]:
        """Yield the published commits after a position for which ``reason_lost`` is None."""
        published = self.published
        if published.build == self._buffer.build:
            for commit in self._buffer.commits_after(position.last_commits):
                if commit.log in published.last_commits and commit.id <= published.last_commits[commit.log]:
                    yield commit

    def reason_lost(self, position: TopicPosition) -> str | None:
        """Say why the changes after a position cannot be sent. None if they can."""
        return self._buffer.reason_lost(position) or (None if self.published.covers(position) else AHEAD)


class ChangeFeeds:
    """The change feeds of all topics.

    Args:
        topics: The topics.
        on_commit: Called whenever there is something to publish.
    """

    def __init__(self, topics: Topics, on_commit: Callable[[], None]) -> None:
        self._feeds = {name: ChangeFeed(topic, on_commit, ReplayBuffer()) for name, topic in topics.items()}
        self._advanced = asyncio.Event()

    def __iter__(self) -> Iterator[ChangeFeed]:
        return iter(self._feeds.values())

    def __getitem__(self, name: str) -> ChangeFeed:
        return self._feeds[name]

    @property
    def published(self) -> TopicPositions:
        """Positions up to which the connected clients have received the changes."""
        return {name: feed.published for name, feed in self._feeds.items()}

    def notify_published(self) -> None:
        """Wake up everything that waits for published positions."""
        advanced, self._advanced = self._advanced, asyncio.Event()
        advanced.set()

    async def wait_until_published(self, positions: TopicPositions, seconds: float) -> None:
        """Wait until all changes up to ``positions`` are published, at most ``seconds``."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not all(self._feeds[name].published.covers(at) for name, at in positions.items()):
                    await self._advanced.wait()
