"""The hub of live push: receives commits and publishes them to all clients of one API process.

Commits are published at once while the process is idle. Commits that arrive during a round of publishing wait for the
next round and share its messages, so that many small commits do not overload the process. Work is shared: a row
is rendered once per round, a message is encoded once for all clients with equal subscriptions, and the bytes are
written to every client unchanged.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, ClassVar, NamedTuple

from projections.queries import AnyProjection
from projections.workspaces import Workspaces
from readapi.ports.commits import CommitListener
from readapi.ports.read_models import Freshness
from readapi.push.connections import Connections, PushBounds
from readapi.push.event_ids import TopicPositions
from readapi.push.messages import message
from readapi.push.metrics import PushMetrics
from readapi.push.publisher import Publisher
from readapi.push.resumption import ResumePoint, Resumption
from readapi.push.subscribers import Subscriber, Subscribers
from readapi.push.subscription_parameters import TopicsParameters
from readapi.push.subscription_renewal import FilterSources, SubscriptionRenewal
from readapi.push.topics import topics_of
from readapi.push.updates import event_id_for

HEARTBEAT_SECONDS = 15.0
"""Seconds between two heartbeats."""

STALENESS_SECONDS = 1.0
"""Longest time in seconds until a heartbeat tells that the store is away, or is back."""

PAUSE_SHARE = 0.25
"""Pause after a round of publishing, as a share of the duration of the round. Requests get at least this time."""

MAX_PAUSE_SECONDS = 0.1
"""Longest pause after a round of publishing, in seconds."""


class PushTimes(NamedTuple):
    """The durations of live push, in seconds.

    Attributes:
        wait_seconds: Longest wait for another part of the system.
        heartbeat_seconds: Time between two heartbeats.
    """

    wait_seconds: float
    heartbeat_seconds: float = HEARTBEAT_SECONDS


class Hub:
    """Live push in one API process. Nothing is published unless ``run`` runs as a task.

    Attributes:
        publisher_class: The class of the publisher.

    Args:
        projections: The projections by name of their read models. Those that tell rows and have a scope are topics.
        sources: What the filters of clients refer to.
        freshness: Tells how long the store has been unreachable, for heartbeats.
        clock: Returns the time in epoch seconds.
        bounds: The bounds of this process.
        times: The durations of this process.
    """

    publisher_class: ClassVar[type[Publisher]] = Publisher

    def __init__(
        self,
        projections: Mapping[str, AnyProjection],
        sources: FilterSources,
        freshness: Freshness,
        clock: Callable[[], float],
        bounds: PushBounds,
        times: PushTimes,
    ) -> None:
        self.topics = topics_of(projections, sources.shown_values)
        self.parameters = TopicsParameters(self.topics)
        self.shown_values = sources.shown_values
        self.catalogue = sources.catalogue
        self._freshness = freshness
        self._heartbeat_seconds = times.heartbeat_seconds
        self.connections = Connections(bounds)
        self._has_work = asyncio.Event()
        wake_up = self._has_work.set
        self._publisher = self.publisher_class(self.topics, clock, wake_up, bounds.unsent_bytes)
        self._renewal = SubscriptionRenewal(self._publisher, sources, times.wait_seconds, wake_up)
        self._resumption = Resumption(self._publisher, times.wait_seconds)

    @property
    def metrics(self) -> PushMetrics:
        """The metrics of live push."""
        return self._publisher.metrics

    @property
    def subscribers(self) -> Subscribers:
        """The clients that are up to date."""
        return self._publisher.subscribers

    @property
    def published(self) -> TopicPositions:
        """Positions up to which the clients have received the changes."""
        return self._publisher.feeds.published

    @property
    def listeners(self) -> Mapping[str, CommitListener]:
        """Name of a read model -> listener for its commits."""
        feeds: dict[str, CommitListener] = {feed.topic.name: feed for feed in self._publisher.feeds}
        return {**feeds, Workspaces.name: self._renewal.changed_workspaces}

    def on_catalogue_change(self) -> None:
        """Renew the subscriptions soon, if the catalogue has changed."""
        self._renewal.on_catalogue_change()

    async def run(self) -> None:
        """Publish commits, renew subscriptions and send heartbeats until cancelled."""
        next_heartbeat = time.monotonic() + self._heartbeat_seconds
        was_stale = False
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(next_heartbeat - time.monotonic(), STALENESS_SECONDS)):
                    await self._has_work.wait()
            if self._has_work.is_set():
                self._has_work.clear()
                started = time.monotonic()
                await self._publisher.publish()
                await self._renewal.renew()
                # The pause gives requests their share, and commits that arrive meanwhile need fewer writes.
                await asyncio.sleep(min((time.monotonic() - started) * PAUSE_SHARE, MAX_PAUSE_SECONDS))
            is_stale = self._freshness.age() is not None
            if is_stale != was_stale or time.monotonic() >= next_heartbeat:
                was_stale = is_stale
                await self._renewal.renew()
                await self.subscribers.expel_unadmitted()
                await self._send_heartbeat()
                self._resumption.forget_updates()
                next_heartbeat = time.monotonic() + self._heartbeat_seconds

    async def _send_heartbeat(self) -> None:
        age, positions = self._freshness.age(), self.published
        staleness = {} if age is None else {"stale": True, "age_seconds": round(age, 3)}
        await self.subscribers.broadcast(
            self.subscribers.audience(),
            lambda subscription: message("heartbeat", event_id_for(subscription, positions), **staleness),
        )

    async def follow(self, subscriber: Subscriber, resume_point: ResumePoint | None) -> None:
        """Bring a client up to date and add it to the audience of all further changes, until ``leave``.

        Args:
            subscriber: The client.
            resume_point: Where the client continues. None if it starts with the present.
        """
        if resume_point is None:
            event_id = event_id_for(subscriber.subscription, self.published)
            subscriber.send(message("ready", event_id, resumed=False))
        elif not await self._resumption.resume(subscriber, resume_point):
            return
        self._renewal.renew_before_join(subscriber)
        self.subscribers.join(subscriber)
        self._renewal.check_after_join(subscriber)

    async def send_alert(self, user: str, alert: Mapping[str, Any]) -> None:
        """Send an alert to all connected clients of a user, and to nobody else.

        The message has no id, so that a client resumes its topics as before.
        """
        alert_message = message("alert", alert=alert)
        await self.subscribers.broadcast(self.subscribers.audience_of(user), lambda _: alert_message)

    def leave(self, subscriber: Subscriber) -> None:
        """Remove a client that has disconnected."""
        self.subscribers.leave(subscriber)
