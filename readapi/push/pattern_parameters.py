"""Query parameters of a subscription to patterns, and how they are resolved to filters.

Some filters depend on data that can change: ``sectors`` and ``universe`` depend on the catalogue, ``watchlist`` and
``preset`` on the user's workspace. Such a subscription remembers the request, so that it can be resolved again.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Literal

from projections.queries import Equality, Filter
from projections.workspaces import WorkspaceRow
from readapi.catalogue.filters import Catalogue
from readapi.http.parameters import ListOf, parse_parameters
from readapi.http.problems import Problem
from readapi.patterns.list_filters import ListId, QueryParameters, watchlist_symbols, with_preset
from readapi.patterns.scan_parameters import PatternFilters
from readapi.ports.errors import UnavailableError
from readapi.push.subscriptions import RequestedFilters, Subscription, TopicSubscription, shared_filters
from readapi.push.topic_parameters import EventId, TopicParameters
from readapi.push.topics import Topic
from readapi.read_models.filter_parameters import filters_of


class PatternSubscriptionParameters(PatternFilters, TopicParameters):
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
    last_event_id: EventId | None = None
    """``id`` of the last message that you received. The changes after it are sent first. The header ``Last-Event-ID``,
    which an ``EventSource`` sends when it reconnects, takes precedence."""

    @property
    def needs_workspace(self) -> bool:
        """Whether the filters depend on the workspace of the user."""
        return self.watchlist is not None or self.preset is not None

    def subscription(
        self, topic: Topic, parameters: QueryParameters, catalogue: Catalogue, workspace: WorkspaceRow | None
    ) -> TopicSubscription:
        """Resolve the subscription, as in the base class."""
        if not self.catalogue_names and workspace is None:
            return self.resolve(topic, catalogue)
        requested = RequestedFilters(
            _hashable(parameters, type(self)), type(self), workspace.user if workspace else None
        )
        completed = _apply_preset(requested, workspace)
        catalogue.check(completed.catalogue_names)
        return replace(completed.resolve(topic, catalogue, workspace), requested=requested)

    def resolve(self, topic: Topic, catalogue: Catalogue, workspace: WorkspaceRow | None = None) -> TopicSubscription:
        """Resolve the symbols. Raises Problem (400) if there is no such watchlist, and UnavailableError."""
        watched = watchlist_symbols(workspace, self.watchlist) if workspace and self.watchlist else None
        # The scan gives its parameters their meaning. Further parameters are derived from the columns.
        derived = {name: value for name, value in self if name not in PatternSubscriptionParameters.model_fields}
        symbols, shown_values = self.resolve_symbols(catalogue, watched), topic.shown_values
        filters = self.filters(symbols, shown_values) + filters_of(topic.projection, derived, shown_values)
        return TopicSubscription(topic, shared_filters(filters), self.fields)


def list_owners(subscription: Subscription) -> set[str]:
    """Return the users on whose workspaces a subscription depends."""
    requests = [each.requested for each in subscription if each.requested]
    return {requested.user for requested in requests if requested.user is not None}


def renewed(subscription: Subscription, catalogue: Catalogue, workspaces: Mapping[str, WorkspaceRow]) -> Subscription:
    """Resolve a subscription again.

    Args:
        subscription: The subscription as resolved before.
        catalogue: The current catalogue.
        workspaces: User -> current workspace. A subscription stays unchanged if the workspace of its user is missing.

    Returns:
        A subscription that is equal to ``subscription`` if its filters select the same symbols and fields as before.
    """
    return tuple(_renewed(each, catalogue, workspaces) for each in subscription)


def _renewed(
    subscribed: TopicSubscription, catalogue: Catalogue, workspaces: Mapping[str, WorkspaceRow]
) -> TopicSubscription:
    requested = subscribed.requested
    if requested is None:
        return subscribed
    workspace = None if requested.user is None else workspaces.get(requested.user)
    if requested.user is not None and workspace is None:
        return subscribed
    try:
        completed = _apply_preset(requested, workspace)
        return replace(completed.resolve(subscribed.topic, catalogue, workspace), requested=requested)
    except UnavailableError:
        return subscribed
    except Problem:
        # A list that was deleted selects no symbol, like a universe that was deleted.
        return replace(subscribed, filters=(*_without_symbols(subscribed.filters), NO_SYMBOL))


NO_SYMBOL = Equality("symbol", frozenset())
"""A filter that no pattern satisfies."""


def _without_symbols(filters: Collection[Filter]) -> list[Filter]:
    return [each for each in filters if each.column != NO_SYMBOL.column]


def _apply_preset(requested: RequestedFilters, workspace: WorkspaceRow | None) -> PatternSubscriptionParameters:
    """Parse the requested filters, completed by the preset. Raises Problem (400) for an unknown preset."""
    parameters: QueryParameters = {
        name: value if isinstance(value, str) else list(value) for name, value in requested.parameters
    }
    model: type[PatternSubscriptionParameters] = requested.model
    if workspace is not None:
        parameters = with_preset(parameters, workspace, _names(model))
    return parse_parameters(model, parameters)


def _hashable(
    parameters: QueryParameters, model: type[PatternSubscriptionParameters]
) -> tuple[tuple[str, str | tuple[str, ...]], ...]:
    return tuple(
        (name, value if isinstance(value, str) else tuple(value))
        for name, value in sorted(parameters.items())
        if name in _names(model)
    )


def _names(model: type[PatternSubscriptionParameters]) -> Collection[str]:
    """Return the names of the parameters that select patterns and their fields."""
    return model.model_fields.keys() - {"last_event_id"}
