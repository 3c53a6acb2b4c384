"""Renewal of subscriptions: filters are resolved again when the catalogue or a user's workspace changes."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from projections.queries import RowQueries
from projections.workspaces import WorkspaceRow
from readapi.catalogue.filters import Catalogue
from readapi.http.read_model import ReadModel
from readapi.push.messages import PushMessage
from readapi.push.pattern_parameters import list_owners, renewed
from readapi.push.publisher import Publisher
from readapi.push.subscribers import Subscriber
from readapi.push.subscriptions import Subscription
from readapi.push.topics import PATTERNS
from readapi.push.updates import TopicUpdate
from readapi.push.workspace_changes import ChangedWorkspaces
from readapi.read_models.filter_parameters import AS_THEY_ARE

FILTERS_CHANGED = "the catalogue or a list has changed, and the filters may select other symbols now"
"""Reason of a reset: the filters of a client resolve to another query than before."""


class FilterSources(NamedTuple):
    """What the filters of clients refer to: the catalogue and the workspaces of the users."""

    catalogue: Catalogue
    """The catalogue, which resolves ``sectors`` and ``universe``."""
    workspaces: ReadModel[RowQueries[WorkspaceRow]]
    """The read model of the workspaces, which resolve ``watchlist`` and ``preset``."""
    unavailable_errors: tuple[type[Exception], ...] = ()
    """Errors that the workspaces raise while their store cannot be reached."""
    shown_values: Mapping[str, float] = AS_THEY_ARE
    """Column of a pattern -> the number that answers show where a pattern has none."""


class SubscriptionRenewal:
    """Keeps the subscriptions of connected clients in line with the catalogue and the users' workspaces.

    A client whose filters resolve to another query than before moves to the new subscription and receives a reset.

    Args:
        publisher: The feeds and the connected clients.
        sources: What the filters refer to.
        wait_seconds: Longest wait for the store of workspaces, in seconds.
        on_change: Called whenever subscriptions may have to be renewed.
    """

    def __init__(
        self,
        publisher: Publisher,
        sources: FilterSources,
        wait_seconds: float,
        on_change: Callable[[], None],
    ) -> None:
        self.changed_workspaces = ChangedWorkspaces(on_change)
        self._publisher = publisher
        self._catalogue = sources.catalogue
        self._catalogue_state = sources.catalogue.state
        self._workspaces = sources.workspaces
        self._read_errors: tuple[type[Exception], ...] = (TimeoutError, *sources.unavailable_errors)
        self._wait_seconds = wait_seconds
        self._on_change = on_change

    def on_catalogue_change(self) -> None:
        """Call ``on_change`` if the catalogue has changed since the last renewal."""
        if self._catalogue.state != self._catalogue_state:
            self._on_change()

    async def renew(self) -> None:
        """Renew the subscriptions of all clients whose filters have changed."""
        state = self._catalogue.state
        if self._catalogue_state == state and self.changed_workspaces.is_empty:
            return
        subscribers = self._publisher.subscribers
        audience = subscribers.audience()
        owners = set().union(*(list_owners(subscription) for subscription, _ in audience))
        changed = self.changed_workspaces.take(owners)
        workspaces = await self._read(owners if self._catalogue_state != state else changed)
        self._catalogue_state = state
        for before, framings in audience:
            after = renewed(before, self._catalogue, workspaces)
            if after == before:
                continue
            for _, members in framings:
                for subscriber in members:
                    subscribers.move(subscriber, after)
            clients = await subscribers.broadcast([(after, framings)], self._reset_message)
            self._publisher.metrics.reset.inc(clients)
            await asyncio.sleep(0)

    def renew_before_join(self, subscriber: Subscriber) -> None:
        """Renew the subscription of a client for catalogue changes that happened while the client caught up."""
        subscription = renewed(subscriber.subscription, self._catalogue, {})
        if subscription != subscriber.subscription:
            subscriber.subscription = subscription
            if message := self._reset_message(subscription):
                subscriber.send(message)
            self._publisher.metrics.reset.inc()

    def check_after_join(self, subscriber: Subscriber) -> None:
        """Schedule a check of the client's lists: changes committed before the client joined did not reach it."""
        if owners := list_owners(subscriber.subscription):
            self.changed_workspaces.add(owners)

    async def _read(self, users: Collection[str]) -> Mapping[str, WorkspaceRow]:
        """Read workspaces. If the store cannot be reached, return nothing and put the users back for a later try."""
        if not users:
            return {}
        try:
            # Publishing waits for the renewal, so a store that hangs must not block the renewal.
            async with asyncio.timeout(self._wait_seconds):
                found = await self._workspaces.live.queries.get_many(users, self._publisher.clock())
        except self._read_errors:
            self.changed_workspaces.put_back(users)
            return {}
        return {user: WorkspaceRow(user) for user in users} | {result.key: result.row for result in found}

    def _reset_message(self, subscription: Subscription) -> PushMessage | None:
        feeds = self._publisher.feeds
        return TopicUpdate(feeds[PATTERNS].topic, feeds.published, FILTERS_CHANGED).message(subscription)
