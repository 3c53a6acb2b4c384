"""The publisher: sends new commits of the change feeds to all clients that are up to date."""

from collections.abc import Callable

from readapi.push.change_feed import ChangeFeeds
from readapi.push.metrics import PushMetrics
from readapi.push.subscribers import Subscribers
from readapi.push.updates import TopicUpdate


class Publisher:
    """The change feeds of one API process, and the clients that receive them.

    Args:
        clock: Returns the time in epoch seconds.
        on_commit: Called whenever a feed has commits to publish.
    """

    def __init__(self, clock: Callable[[], float], on_commit: Callable[[], None]) -> None:
        self.clock = clock
        self.metrics = PushMetrics()
        self.feeds = ChangeFeeds(on_commit)
        self.subscribers = Subscribers(self.metrics)

    async def publish(self) -> None:
        """Send all commits that are not published yet."""
        for feed in self.feeds:
            # Taken before the updates: a client that joins during the broadcast starts after these updates.
            audience = self.subscribers.audience()
            for update in feed.take_updates(self.feeds.published, self.clock()):
                clients = await self.subscribers.broadcast(audience, update.message)
                if update.reset_reason is not None:
                    self.metrics.reset.inc(clients)
                elif clients:
                    self._observe_latency(update)
        self.feeds.notify_published()

    def _observe_latency(self, update: TopicUpdate) -> None:
        now = self.clock()
        for recorded_at in update.recorded_at:
            self.metrics.seconds.observe(max(now - recorded_at, 0))
