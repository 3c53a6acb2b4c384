"""What clients of live push ask for, and what that means by the catalogue and by their own lists, as these are now."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from projections.workspaces import WorkspaceRow
from readapi.catalogue.filters import Catalogue
from readapi.http.client_stream import LONGEST_ID
from readapi.http.parameters import ListOf, LongName, parse_parameters
from readapi.http.problems import Problem, invalid
from readapi.patterns.list_filters import ListId, QueryParameters, watchlist_symbols, with_preset
from readapi.patterns.scan import PatternFilters
from readapi.ports.errors import UnavailableError
from readapi.push.event_ids import Topic
from readapi.push.subscriptions import (
    ALWAYS,
    BacktestSubscription,
    PatternSubscription,
    RequestedFilters,
    Subscription,
    TopicSubscription,
)


class PatternSubscriptionParameters(PatternFilters):
    """Which changes of patterns, from where on."""

    fields: ListOf[Literal["compact", "full"]] = ("compact",)
    """``compact``: the fields of the UI; ``full``: besides these all raw fields, with their provenance."""
    watchlist: ListId | None = None
    """Id of one of one's own watchlists: only its symbols, whatever they become."""
    preset: ListId | None = None
    """Id of one of one's own filter presets: its filters and ``fields``, whatever they become, hold where no other
    parameter says otherwise."""
    last_event_id: (
        Annotated[str, StringConstraints(max_length=LONGEST_ID), Field(json_schema_extra={"format": "event-id"})] | None
    ) = None
    """The ``id`` of the last message received: what came after it is told first. The header ``Last-Event-ID`` of
    an ``EventSource`` that reconnects says the same, and prevails."""

    @property
    def names_lists(self) -> bool:
        """Whether it depends on the lists of whoever asks."""
        return self.watchlist is not None or self.preset is not None

    def interests(self, given: QueryParameters, catalogue: Catalogue, own: WorkspaceRow | None) -> Subscription:
        """What is asked for by ``given``, which this was made from; ``own`` is what whoever asks has, if it matters.

        Raises Problem (400), UnavailableError.
        """
        return (("patterns", self._patterns(given, catalogue, own)),)

    def _patterns(self, given: QueryParameters, catalogue: Catalogue, own: WorkspaceRow | None) -> PatternSubscription:
        if not self.names and own is None:
            return PatternSubscription(self.query(ALWAYS, self.symbols_meant(catalogue)), "full" in self.fields)
        asked = RequestedFilters(_hashable(given), own.user if own else None)
        filters = _filters(asked, own)
        catalogue.check(filters.names)
        return _meant(filters, asked, catalogue, own)


class SubscriptionParameters(PatternSubscriptionParameters):
    """Which changes of which topics, from where on."""

    topics: ListOf[Topic] = ("patterns", "backtests")
    """``patterns``, with the filters here; ``backtests``: progress and results."""
    job_ids: ListOf[LongName] | None = None
    """Backtest runs; all if none is named."""

    def interests(self, given: QueryParameters, catalogue: Catalogue, own: WorkspaceRow | None) -> Subscription:
        """As PatternSubscriptionParameters."""
        self._refuse_what_is_for_another_topic()
        interests: Subscription = ()
        for topic in sorted(set(self.topics)):
            if topic == "patterns":
                interests += super().interests(given, catalogue, own)
            else:
                interests += (("backtests", BacktestSubscription(frozenset(self.job_ids or ()))),)
        return interests

    def _refuse_what_is_for_another_topic(self) -> None:
        owners: dict[str, Topic] = dict.fromkeys(_FILTERS, "patterns")
        owners["job_ids"] = "backtests"
        for name in sorted(self.model_fields_set & owners.keys()):
            if owners[name] not in self.topics:
                raise invalid([{"field": name, "reason": f"is for the topic {owners[name]}, which is not asked for"}])


_FILTERS = PatternSubscriptionParameters.model_fields.keys() - {"last_event_id"}
"""Parameters that say which changes of patterns are asked for."""


def users_of(interests: Subscription) -> set[str]:
    """On whose lists they depend."""
    asked = [interest.asked for _, interest in interests if isinstance(interest, PatternSubscription)]
    return {one.user for one in asked if one and one.user is not None}


def renewed(interests: Subscription, catalogue: Catalogue, workspaces: Mapping[str, WorkspaceRow]) -> Subscription:
    """The same interests as they are meant now; what depends on lists of others than these users', as before."""
    return tuple((topic, _renewed(interest, catalogue, workspaces)) for topic, interest in interests)


def _renewed(
    interest: TopicSubscription, catalogue: Catalogue, workspaces: Mapping[str, WorkspaceRow]
) -> TopicSubscription:
    if not isinstance(interest, PatternSubscription) or interest.asked is None:
        return interest
    asked = interest.asked
    own = None if asked.user is None else workspaces.get(asked.user)
    if asked.user is not None and own is None:
        return interest
    try:
        return _meant(_filters(asked, own), asked, catalogue, own)
    except UnavailableError:
        return interest
    except Problem:
        # A list that is gone has no symbols, as a universe that is gone has none.
        return replace(interest, query=interest.query._replace(symbols=frozenset()))


def _filters(asked: RequestedFilters, own: WorkspaceRow | None) -> PatternSubscriptionParameters:
    """What was asked for, with what a preset adds to it. Raises Problem (400) for one that there is not."""
    given: QueryParameters = {name: value if isinstance(value, str) else list(value) for name, value in asked.given}
    return parse_parameters(PatternSubscriptionParameters, given if own is None else with_preset(given, own, _FILTERS))


def _meant(
    filters: PatternSubscriptionParameters, asked: RequestedFilters, catalogue: Catalogue, own: WorkspaceRow | None
) -> PatternSubscription:
    """Raises Problem (400) for a watchlist that there is not, UnavailableError."""
    watched = watchlist_symbols(own, filters.watchlist) if own and filters.watchlist else None
    query = filters.query(ALWAYS, filters.symbols_meant(catalogue, watched))
    return PatternSubscription(query, "full" in filters.fields, asked)


def _hashable(given: QueryParameters) -> tuple[tuple[str, str | tuple[str, ...]], ...]:
    return tuple(
        (name, value if isinstance(value, str) else tuple(value))
        for name, value in sorted(given.items())
        if name in _FILTERS
    )
