"""The messages with which clients of Socket.IO subscribe: filters of the scan, also under the names of the UI."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from readapi.patterns.list_filters import QueryParameters, as_query_parameters
from readapi.socket_io.events import Feed

FEEDS: Mapping[str, Feed] = {
    "subscribe": "patterns",
    "subscribe_patterns": "patterns",
    "subscribe_pattern_alerts": "pattern_alerts",
    "subscribe_tier_patterns": "tier_patterns",
}
"""Event of a client -> the feed to which the client subscribes."""

ALIASES = {
    "tickers": "symbols",
    "symbol": "symbols",
    "patterns": "pattern_types",
    "pattern_type": "pattern_types",
    "tier": "timeframe",
    "tiers": "timeframe",
    "min_confidence": "confidence_min",
    "confidence_threshold": "confidence_min",
}
"""Name that the UI uses -> parameter of the scan."""

LISTED: Mapping[Feed, str] = {"patterns": "symbols", "pattern_alerts": "symbols", "tier_patterns": "timeframe"}
"""Feed -> the parameter that a message without names gives, such as ``["AAPL"]``."""


class RequestedFilters(NamedTuple):
    """The filters of a subscription."""

    parameters: QueryParameters
    """Parameters of the scan, before their validation."""
    ignored: list[str]
    """Members of the message that are no filters."""


def requested_filters(feed: Feed, message: Any, known: Collection[str]) -> RequestedFilters:
    """Read the filters from the message of a client.

    Args:
        feed: The feed to which the client subscribes.
        message: An object of filters, also within its member ``filters``; a list or a string; or None for no filters.
        known: Names of the parameters that may be given.
    """
    if isinstance(message, str | list):
        message = {LISTED[feed]: message}
    members: dict[str, Any] = dict(message) if isinstance(message, dict) else {}
    if isinstance(members.get("filters"), dict):
        members |= members.pop("filters")
    named = {ALIASES.get(name, name): value for name, value in members.items() if value not in (None, [], "")}
    parameters = {name: value for name, value in named.items() if name in known}
    return RequestedFilters(as_query_parameters(parameters), sorted(named.keys() - parameters.keys()))
