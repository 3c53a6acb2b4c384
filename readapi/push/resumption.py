"""Resumption: a client that reconnects with the id of its last message receives the missed changes, or a reset."""

import asyncio
from typing import NamedTuple

from readapi.push.event_ids import TopicPositions, format_id
from readapi.push.messages import message
from readapi.push.publisher import Publisher
from readapi.push.subscribers import Subscriber
from readapi.push.subscription_renewal import FILTERS_CHANGED
from readapi.push.subscriptions import filters_digest
from readapi.push.topics import PATTERNS
from readapi.push.updates import TopicUpdate, event_id_for, updates_from

CACHED_UPDATES = 32
"""Number of updates cached for other clients that resume from the same positions in the same second."""

DRAIN_SECONDS = 10.0
"""Seconds after which a client that takes no data while it catches up is dropped."""


class ResumePoint(NamedTuple):
    """Where a client continues: the positions in the id of its last message, and the filters of that message."""

    positions: TopicPositions
    filters_digest: str = ""


class Resumption:
    """Brings clients that reconnect up to date from the replay buffers.

    Many clients reconnect together, for example after a restart. They mostly have the same positions, so the updates
    are cached and their messages are encoded once.

    Args:
        publisher: The feeds.
        wait_seconds: Longest wait for changes that the client has and this process has not received yet, in seconds.
    """

    def __init__(self, publisher: Publisher, wait_seconds: float) -> None:
        self._publisher = publisher
        self._feeds = publisher.feeds
        self._wait_seconds = wait_seconds
        self._updates: dict[tuple[str, int], TopicUpdate] = {}
        self._second = 0

    async def resume(self, subscriber: Subscriber, resume_point: ResumePoint) -> bool:
        """Send ``ready``, resets where changes are lost, and all changes after the resume point.

        Returns:
            True if the client is up to date, False if it has disconnected or was dropped.
        """
        metrics = self._publisher.metrics
        await self._feeds.wait_until_published(resume_point.positions, self._wait_seconds)
        have_filters_changed = resume_point.filters_digest != filters_digest(subscriber.subscription)
        positions, resets = self._start(resume_point.positions, FILTERS_CHANGED if have_filters_changed else None)
        event_id = event_id_for(subscriber.subscription, positions)
        subscriber.send(message("ready", event_id, resumed=not resets))
        if not resets:
            metrics.resumed.inc()
        while not subscriber.stream.is_ended:
            for reset in resets:
                _send(subscriber, reset)
            update = self._next_update(positions)
            if update is None:
                return True
            _send(subscriber, update)
            if not await self._drained(subscriber):
                break
            positions, resets = self._start(update.positions)
        return False

    def _start(
        self, positions: TopicPositions, patterns_reset: str | None = None
    ) -> tuple[TopicPositions, list[TopicUpdate]]:
        """Find the positions from which all changes are available, and the resets that lead there.

        Args:
            positions: The positions of the client.
            patterns_reset: Why patterns must be reset even if no change is lost.
        """
        reasons: dict[str, str | None] = {
            name: self._feeds[name].reason_lost(position) for name, position in positions.items()
        }
        if patterns_reset and PATTERNS in reasons:
            reasons[PATTERNS] = patterns_reset
        start = {name: self._feeds[name].published if reason else positions[name] for name, reason in reasons.items()}
        resets = [TopicUpdate(self._feeds[name].topic, start, reason) for name, reason in reasons.items() if reason]
        self._publisher.metrics.reset.inc(len(resets))
        return start, resets

    def _next_update(self, positions: TopicPositions) -> TopicUpdate | None:
        """Return the next update after some positions, from the cache if possible. None if there is none."""
        now = self._publisher.clock()
        key = format_id(positions), int(now)
        if key[1] != self._second:
            self._updates.clear()
            self._second = key[1]
        update = self._updates.get(key)
        if update is None:
            update = self._make_update(positions, now)
            if update is not None:
                self._updates[key] = update
                if len(self._updates) > CACHED_UPDATES:
                    del self._updates[next(iter(self._updates))]
        return update

    def forget_updates(self) -> None:
        """Empty the cache, which has megabytes after many clients have resumed."""
        self._updates.clear()

    def _make_update(self, positions: TopicPositions, now: float) -> TopicUpdate | None:
        for name, position in positions.items():
            feed = self._feeds[name]
            update = next(updates_from(feed.topic, positions, feed.published_after(position), now), None)
            if update is not None:
                return update
        return None

    async def _drained(self, subscriber: Subscriber) -> bool:
        """Wait until the client has taken its data, and let other tasks run. Drop the client if it takes too long."""
        await self._publisher.subscribers.relieve([subscriber])
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                await subscriber.stream.drain()
        except TimeoutError:
            self._publisher.subscribers.drop(subscriber)
            return False
        return not subscriber.stream.is_ended


def _send(subscriber: Subscriber, update: TopicUpdate) -> None:
    message = update.message(subscriber.subscription)
    if message is not None:
        subscriber.send(message)
