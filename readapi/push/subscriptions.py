"""Subscriptions: which changes of which topics a client receives.

Subscriptions are immutable and hashable. Clients with equal subscriptions form one group, for which a message is
encoded once.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import sha256
from math import inf
from typing import NamedTuple

from projections.queries import PatternQuery
from readapi.push.changes import BacktestChange, PatternChange
from readapi.push.event_ids import Topic

ALWAYS = -inf
"""A moment before every expiry, in epoch seconds: at this moment no row has expired."""


class RequestedFilters(NamedTuple):
    """The filters as the client requested them, where their effect can change.

    The catalogue determines the symbols of ``sectors`` and ``universe``. The user's workspace determines the symbols of
    ``watchlist`` and the filters of ``preset``.
    """

    parameters: tuple[tuple[str, str | tuple[str, ...]], ...]
    """Query parameters, ordered by name."""
    user: str | None
    """The user whose workspace is needed. None if the filters name no list of a user."""


@dataclass(frozen=True)
class PatternSubscription:
    """A subscription to the patterns that match a query."""

    query: PatternQuery
    """The filters, with symbols resolved. ``now`` is ``ALWAYS``: an expired row did match when it was sent."""
    full: bool = False
    """Whether the client receives all raw fields."""
    requested: RequestedFilters | None = None
    """The request from which ``query`` was resolved. None if the request always resolves to the same query."""

    @cached_property
    def digest(self) -> str:
        """Digest of the resolved filters, 16 hexadecimal digits. Empty if the filters cannot change."""
        return _digest(self.query) if self.requested else ""

    def render(self, change: PatternChange) -> bytes | None:
        """Return the change as JSON for clients that have received all changes before it.

        Returns:
            ``set`` if the new row matches, ``remove`` if the client may have the old row, None if the change does not
            concern these clients.
        """
        if change.new is not None and self.query.matches(change.new):
            return change.full if self.full else change.compact
        return change.removal if self._may_have_received(change) else None

    def _may_have_received(self, change: PatternChange) -> bool:
        if change.knows_old:
            return change.old is not None and self.query.matches(change.old)
        return change.identity is None or self.query.may_match(*change.identity)


@lru_cache(maxsize=256)
def _digest(query: PatternQuery) -> str:
    """Hash a query. The digest is the same in every process. Cached, because many clients share few universes."""
    filters = [sorted(value) if isinstance(value, frozenset) else value for value in query]
    return sha256(repr(filters).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class BacktestSubscription:
    """A subscription to some backtest runs, or to all runs if ``job_ids`` is empty."""

    job_ids: frozenset[str] = frozenset()

    def render(self, change: BacktestChange) -> bytes | None:
        """Return the change as JSON, or None if the change is of another run."""
        return change.rendered if not self.job_ids or change.job_id in self.job_ids else None


TopicSubscription = PatternSubscription | BacktestSubscription
"""The filters of one client for one topic."""

Subscription = tuple[tuple[Topic, TopicSubscription], ...]
"""The subscription of one client: topic and filters, ordered by topic."""


def filters_digest(subscription: Subscription) -> str:
    """Return the digest of a client's resolved filters. Empty if the filters cannot change."""
    return "".join(topic.digest for _, topic in subscription if isinstance(topic, PatternSubscription))
