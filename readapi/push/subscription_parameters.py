"""Query parameters of live push, and how they are resolved to a subscription.

Some filters depend on data that can change: ``sectors`` and ``universe`` depend on the catalogue, ``watchlist`` and
``preset`` on the user's workspace. Such a subscription remembers the request, so that it can be resolved again.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from projections.workspaces import WorkspaceRow
from readapi.catalogue.filters import Catalogue
from readapi.http.client_stream import MAX_EVENT_ID_LENGTH
from readapi.http.parameters import ListOf, LongName, parse_parameters
from readapi.http.problems import Problem, invalid
from readapi.patterns.list_filters import ListId, QueryParameters, watchlist_symbols, with_preset
from readapi.patterns.scan_parameters import PatternFilters
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
    """Query parameters of a subscription to patterns."""

    fields: ListOf[Literal["compact", "full"]] = ("compact",)
    """Fields of each pattern. ``compact``: the fields that the UI shows. ``full``: the compact fields, all raw fields
    and their provenance."""
    watchlist: ListId | None = None
    """Id of one of your watchlists. Only patterns of its symbols are sent. The subscription follows later changes of
    the watchlist."""
    preset: ListId | None = None
    """Id of one of your filter presets. Its filters and ``fields`` apply wherever the request sets no other value. The
    subscription follows later changes of the preset."""
    last_event_id: (
        Annotated[
            str, StringConstraints(max_length=MAX_EVENT_ID_LENGTH), Field(json_schema_extra={"format": "event-id"})
        ]
        | None
    ) = None
    """``id`` of the last message that you received. The changes after it are sent first. The header ``Last-Event-ID``,
    which an ``EventSource`` sends when it reconnects, takes precedence."""

    @property
    def needs_workspace(self) -> bool:
        """Whether the filters depend on the workspace of the user."""
        return self.watchlist is not None or self.preset is not None

    def subscription(
        self, parameters: QueryParameters, catalogue: Catalogue, workspace: WorkspaceRow | None
    ) -> Subscription:
        """Resolve the subscription.

        Args:
            parameters: The query parameters from which this model was parsed.
            catalogue: The catalogue.
            workspace: The workspace of the user, if ``needs_workspace``.

        Raises:
            Problem: 400, the request names a sector, universe or list that does not exist.
            UnavailableError: The catalogue is not loaded yet.
        """
        return (("patterns", self._pattern_subscription(parameters, catalogue, workspace)),)

    def _pattern_subscription(
        self, parameters: QueryParameters, catalogue: Catalogue, workspace: WorkspaceRow | None
    ) -> PatternSubscription:
        if not self.catalogue_names and workspace is None:
            return PatternSubscription(self.query(ALWAYS, self.resolve_symbols(catalogue)), "full" in self.fields)
        requested = RequestedFilters(_hashable(parameters), workspace.user if workspace else None)
        filters = _apply_preset(requested, workspace)
        catalogue.check(filters.catalogue_names)
        return _resolve(filters, requested, catalogue, workspace)


class SubscriptionParameters(PatternSubscriptionParameters):
    """Query parameters of a subscription to several topics."""

    topics: ListOf[Topic] = ("patterns", "backtests")
    """Topics to subscribe to. ``patterns``: the active patterns that match the filters. ``backtests``: progress and
    results of backtest runs."""
    job_ids: ListOf[LongName] | None = None
    """Ids of the backtest runs to subscribe to. All runs if it is missing."""

    def subscription(
        self, parameters: QueryParameters, catalogue: Catalogue, workspace: WorkspaceRow | None
    ) -> Subscription:
        """Resolve the subscription, as in the base class."""
        self._refuse_parameters_of_other_topics()
        subscription: Subscription = ()
        for topic in sorted(set(self.topics)):
            if topic == "patterns":
                subscription += super().subscription(parameters, catalogue, workspace)
            else:
                subscription += (("backtests", BacktestSubscription(frozenset(self.job_ids or ()))),)
        return subscription

    def _refuse_parameters_of_other_topics(self) -> None:
        owners: dict[str, Topic] = dict.fromkeys(_PATTERN_FILTERS, "patterns")
        owners["job_ids"] = "backtests"
        for name in sorted(self.model_fields_set & owners.keys()):
            if owners[name] not in self.topics:
                reason = f"applies to the topic {owners[name]}, which is not among the requested topics"
                raise invalid([{"field": name, "reason": reason}])


_PATTERN_FILTERS = PatternSubscriptionParameters.model_fields.keys() - {"last_event_id"}
"""Names of the parameters that select patterns and their fields."""


def list_owners(subscription: Subscription) -> set[str]:
    """Return the users on whose workspaces a subscription depends."""
    requests = [topic.requested for _, topic in subscription if isinstance(topic, PatternSubscription)]
    return {requested.user for requested in requests if requested and requested.user is not None}


def renewed(subscription: Subscription, catalogue: Catalogue, workspaces: Mapping[str, WorkspaceRow]) -> Subscription:
    """Resolve a subscription again.

    Args:
        subscription: The subscription as resolved before.
        catalogue: The current catalogue.
        workspaces: User -> current workspace. A subscription stays unchanged if the workspace of its user is missing.

    Returns:
        A subscription that is equal to ``subscription`` if its filters select the same symbols and fields as before.
    """
    return tuple((topic, _renewed(subscribed, catalogue, workspaces)) for topic, subscribed in subscription)


def _renewed(
    subscribed: TopicSubscription, catalogue: Catalogue, workspaces: Mapping[str, WorkspaceRow]
) -> TopicSubscription:
    if not isinstance(subscribed, PatternSubscription) or subscribed.requested is None:
        return subscribed
    requested = subscribed.requested
    workspace = None if requested.user is None else workspaces.get(requested.user)
    if requested.user is not None and workspace is None:
        return subscribed
    try:
        return _resolve(_apply_preset(requested, workspace), requested, catalogue, workspace)
    except UnavailableError:
        return subscribed
    except Problem:
        # A list that was deleted selects no symbol, like a universe that was deleted.
        return replace(subscribed, query=subscribed.query._replace(symbols=frozenset()))


def _apply_preset(requested: RequestedFilters, workspace: WorkspaceRow | None) -> PatternSubscriptionParameters:
    """Parse the requested filters, completed by the preset. Raises Problem (400) for an unknown preset."""
    parameters: QueryParameters = {
        name: value if isinstance(value, str) else list(value) for name, value in requested.parameters
    }
    if workspace is not None:
        parameters = with_preset(parameters, workspace, _PATTERN_FILTERS)
    return parse_parameters(PatternSubscriptionParameters, parameters)


def _resolve(
    filters: PatternSubscriptionParameters,
    requested: RequestedFilters,
    catalogue: Catalogue,
    workspace: WorkspaceRow | None,
) -> PatternSubscription:
    """Resolve the symbols. Raises Problem (400) if there is no such watchlist, and UnavailableError."""
    watched = watchlist_symbols(workspace, filters.watchlist) if workspace and filters.watchlist else None
    query = filters.query(ALWAYS, filters.resolve_symbols(catalogue, watched))
    return PatternSubscription(query, "full" in filters.fields, requested)


def _hashable(parameters: QueryParameters) -> tuple[tuple[str, str | tuple[str, ...]], ...]:
    return tuple(
        (name, value if isinstance(value, str) else tuple(value))
        for name, value in sorted(parameters.items())
        if name in _PATTERN_FILTERS
    )
