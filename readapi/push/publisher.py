"""The publisher: sends new commits of the change feeds to all clients that are up to date."""

from collections.abc import Callable

from readapi.push.change_feed import ChangeFeeds
from readapi.push.metrics import PushMetrics
from readapi.push.subscribers import Audience, Subscribers
from readapi.push.topics import Topics
from readapi.push.updates import TopicUpdate


class Publisher:
    """The change feeds of one API process, and the clients that receive them.

    Args:
        topics: The topics.
        clock: Returns the time in epoch seconds.
        on_commit: Called whenever a feed has commits to publish.
        max_unsent_bytes: Highest number of bytes that wait for all clients together.
    """

    def __init__(
        self, topics: Topics, clock: Callable[[], float], on_commit: Callable[[], None], max_unsent_bytes: int
    ) -> None:
        self.clock = clock
        self.metrics = PushMetrics()
        self.feeds = ChangeFeeds(topics, on_commit)
        self.subscribers = Subscribers(self.metrics, max_unsent_bytes)

    async def publish(self) -> None:
        """Send all commits that are not published yet."""
        for feed in self.feeds:
            updates = feed.take_updates(self.feeds.published, self.clock())
            # A client that joins during a broadcast starts after all these updates.
            audience = self.subscribers.audience(feed.topic) if updates else []
            for update in updates:
                await self._send(update, audience)
        self.feeds.notify_published()

    async def _send(self, update: TopicUpdate, audience: Audience) -> None:
        clients = await self.subscribers.broadcast(audience, update.message)
        if update.reset_reason is not None:
            self.metrics.reset.inc(clients)
        elif clients:
            self._observe_latency(update)

    def _observe_latency(self, update: TopicUpdate) -> None:
        now = self.clock()
        for recorded_at in update.recorded_at:
            self.metrics.seconds.observe(max(now - recorded_at, 0))
