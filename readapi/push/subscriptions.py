"""Subscriptions: which changes of which topics a client receives.

Subscriptions are immutable and hashable. Clients with equal subscriptions form one group, for which a message is
encoded once.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import sha256
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

from projections.queries import ALWAYS, Equality, Filter, Matches, matcher
from projections.views import View
from readapi.push.change_index import ChangeIndex
from readapi.push.topics import Topic


class RequestedFilters(NamedTuple):
    """The filters as the client requested them, where their effect can change.

    The catalogue determines the symbols of ``sectors`` and ``universe``. The user's workspace determines the symbols of
    ``watchlist`` and the filters of ``preset``.
    """

    parameters: tuple[tuple[str, str | tuple[str, ...]], ...]
    """Query parameters, ordered by name."""
    model: type[Any]
    """The model of the query parameters."""
    user: str | None
    """The user whose workspace is needed. None if the filters name no list of a user."""


@dataclass(frozen=True)
class TopicSubscription:
    """A subscription to the rows of one topic that satisfy all filters."""

    topic: Topic
    filters: tuple[Filter, ...] = ()
    """The filters, with symbols resolved."""
    fields: tuple[str, ...] = ()
    """The requested views and members of each row. Empty: the default view of the topic."""
    requested: RequestedFilters | None = None
    """The request from which ``filters`` was resolved. None if the request always resolves to the same filters."""

    @cached_property
    def digest(self) -> str:
        """Digest of the resolved filters, 16 hexadecimal digits. Empty if the filters cannot change."""
        return _digest(self.filters) if self.requested else ""

    @cached_property
    def _view(self) -> View:
        return self.topic.view(self.fields)

    @cached_property
    def _keys(self) -> frozenset[str] | None:
        """The keys that the filters allow. None: all keys."""
        key = self.topic.projection.key
        allowed = [each.values for each in self.filters if isinstance(each, Equality) and each.column == key]
        return frozenset.intersection(*allowed) if allowed else None

    @cached_property
    def _matches(self) -> Matches:
        # An ended row did match when it was sent, so that the moment of the test is before every end.
        return matcher(self.topic.projection, self.filters, ALWAYS)

    @cached_property
    def _narrowest(self) -> Equality | None:
        """The filter by value with the fewest values. None if there is no filter by value."""
        return min((each for each in self.filters if isinstance(each, Equality)), key=_count_values, default=None)

    def render(self, changes: ChangeIndex) -> list[bytes]:
        """Return the changes that concern clients who have received all changes before them, as JSON.

        A change is ``set`` if the new row matches, and ``remove`` if the client may have the old row.
        """
        matches, view, keys = self._matches, self._view, self._keys
        rendered: list[bytes] = []
        for change in changes.candidates(self._narrowest):
            key, new = change.key, change.new
            if new is not None and matches(key, new):
                rendered.append(change.set_in(view))
                continue
            if change.knows_old:
                may_have_old = (old := change.old) is not None and matches(key, old)
            else:
                may_have_old = keys is None or key in keys
            if may_have_old:
                rendered.append(change.removal)
        return rendered


def _count_values(filter_: Equality) -> int:
    """Return the number of values of a filter."""
    return len(filter_.values)


_values: WeakValueDictionary[int, frozenset[str]] = WeakValueDictionary()
"""The values of the filters of all subscriptions, by their hash. The values themselves as keys would never be freed."""


def shared_filters(filters: Iterable[Filter]) -> tuple[Filter, ...]:
    """Return equal filters whose values are those of other subscriptions: a universe can have megabytes of symbols."""
    return tuple(each._replace(values=_shared(each.values)) if isinstance(each, Equality) else each for each in filters)


def _shared(values: frozenset[str]) -> frozenset[str]:
    known = _values.setdefault(hash(values), values)
    return known if known == values else values


@lru_cache(maxsize=32)
def _digest(filters: tuple[Filter, ...]) -> str:
    """Hash filters. The digest is the same in every process. Cached, because many clients share few universes."""
    texts = sorted(repr([sorted(part) if isinstance(part, frozenset) else part for part in each]) for each in filters)
    return sha256("\n".join(texts).encode()).hexdigest()[:16]


Subscription = tuple[TopicSubscription, ...]
"""The subscription of one client: its topics with their filters, ordered by the names of the topics."""


def filters_digest(subscription: Subscription) -> str:
    """Return the digest of a client's resolved filters. Empty if the filters cannot change."""
    return "".join(each.digest for each in subscription)
