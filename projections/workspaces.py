"""The read model ``workspaces``: the watchlists, filter presets and alerts of each user, one row for each user."""

from dataclasses import dataclass, field
from typing import Annotated, Any

from typing_extensions import TypedDict

from domain.streams import USERS_LOG
from domain.user_events import (
    WORKSPACE_EVENT_TYPES,
    AlertEvent,
    AlertSet,
    DefaultPresetChosen,
    ListEvent,
    PresetChanged,
    PresetCreated,
    PresetDeleted,
    PresetEvent,
    PresetRenamed,
    PresetRestored,
    UserEvent,
    UserForgotten,
    WatchlistChanged,
    WatchlistCreated,
    WatchlistDeleted,
    WatchlistEvent,
    WatchlistRenamed,
    WatchlistRestored,
)
from projections.base import Projection
from projections.columns import Column


class ListRow(TypedDict):
    """The common fields of watchlists and presets. All times are in seconds since the epoch."""

    id: str
    name: str
    created_at: float
    updated_at: float
    version: int
    """Number of changes, from 1 for the creation."""


class WatchlistRow(ListRow):
    """A watchlist."""

    symbols: list[str]
    """Symbols in the user's order, without duplicates."""


class PresetRow(ListRow):
    """A filter preset."""

    parameters: dict[str, Any]
    """Scan parameters by name."""


class AlertRow(TypedDict):
    """The alert of a filter preset. All times are in seconds since the epoch."""

    webhook: str | None
    """URL that receives the alerts. None: they go to the user's live connections."""
    salt: str
    """Random hexadecimal digits, from which the secret of the webhook is derived."""
    created_at: float
    """Time of creation. Detections that were recorded earlier do not count."""
    updated_at: float
    version: int
    """Number of changes, from 1 for the creation."""


@dataclass(frozen=True, slots=True)
class WorkspaceRow:
    """The lists and alerts of one user, in the order of creation. A restored list comes last."""

    user: str
    """Id of the user."""
    watchlists: dict[str, WatchlistRow] = field(default_factory=dict)
    presets: dict[str, PresetRow] = field(default_factory=dict)
    default_preset: str | None = None
    """Id of the default preset, or None."""
    alerts: dict[str, AlertRow] = field(default_factory=dict)
    """The alerts by the id of their preset."""
    has_alerts: Annotated[bool, Column(equality=True)] = False
    """Whether the user has an alert. The alerter finds the users with alerts by this column."""


class Workspaces(Projection[WorkspaceRow, UserEvent]):
    """The projection of users' lists and alerts."""

    name = "workspaces"
    version = 3
    row = WorkspaceRow
    handles = WORKSPACE_EVENT_TYPES
    family = USERS_LOG
    tells_rows = False
    key = "user"
    scope = None

    def keys(self, event: UserEvent) -> tuple[str, ...]:
        """Return the id of the user."""
        return (event.user,)

    def evolve(self, row: WorkspaceRow | None, event: UserEvent) -> WorkspaceRow | None:
        """Apply an event to one list or alert. An event about a list that the user does not have changes nothing.

        A user who was forgotten has no row.
        """
        if isinstance(event, UserForgotten):
            return None
        before = row or WorkspaceRow(event.user)
        watchlists, presets, default, alerts = before.watchlists, before.presets, before.default_preset, before.alerts
        match event:
            case DefaultPresetChosen():
                for list_id in (default, event.list_id):
                    presets = _changed(presets, list_id, event)
                default = event.list_id
            case PresetEvent():
                presets = _evolved(presets, event)
                if isinstance(event, PresetDeleted):
                    default = None if event.list_id == default else default
                    alerts = _without(alerts, event.list_id)
            case AlertEvent():
                alerts = _with_alert(alerts, event) if event.list_id in presets else alerts
            case WatchlistEvent():
                watchlists = _evolved(watchlists, event)
        parts = ((watchlists, before.watchlists), (presets, before.presets), (alerts, before.alerts))
        if all(new is old for new, old in parts) and default == before.default_preset:
            return before
        return WorkspaceRow(event.user, watchlists, presets, default, alerts, bool(alerts))


def _evolved(lists: Any, event: ListEvent) -> Any:
    match event:
        case WatchlistCreated() | WatchlistRestored():
            return {**lists, event.list_id: _begun(event, event.name, symbols=list(event.symbols))}
        case PresetCreated() | PresetRestored():
            return {**lists, event.list_id: _begun(event, event.name, parameters=event.parameters)}
        case WatchlistRenamed() | PresetRenamed():
            return _changed(lists, event.list_id, event, name=event.name)
        case WatchlistChanged():
            return _changed(lists, event.list_id, event, symbols=list(event.symbols))
        case PresetChanged():
            return _changed(lists, event.list_id, event, parameters=event.parameters)
        case WatchlistDeleted() | PresetDeleted():
            return _without(lists, event.list_id)
    return lists


def _with_alert(alerts: dict[str, AlertRow], event: AlertEvent) -> dict[str, AlertRow]:
    if not isinstance(event, AlertSet):
        remaining: dict[str, AlertRow] = _without(alerts, event.list_id)
        return remaining
    before, at = alerts.get(event.list_id), event.occurred_at
    created_at, version = (before["created_at"], before["version"] + 1) if before else (at, 1)
    alert = AlertRow(webhook=event.webhook, salt=event.salt, created_at=created_at, updated_at=at, version=version)
    return {**alerts, event.list_id: alert}


def _without(items: Any, list_id: str) -> Any:
    """Return the items without one. Return the same items if ``list_id`` is not among them."""
    return {key: item for key, item in items.items() if key != list_id} if list_id in items else items


def _begun(event: ListEvent, name: str, **content: Any) -> dict[str, Any]:
    created_at, version = event.occurred_at, 1
    if isinstance(event, WatchlistRestored | PresetRestored):
        created_at, version = event.created_at, event.version
    return {
        "id": event.list_id,
        "name": name,
        "created_at": created_at,
        "updated_at": event.occurred_at,
        "version": version,
        **content,
    }


def _changed(lists: Any, list_id: str | None, event: UserEvent, **changes: Any) -> Any:
    """Return the lists with one list changed. Return the same lists if ``list_id`` is not among them."""
    before = lists.get(list_id or "")
    if before is None:
        return lists
    after = {**before, "updated_at": event.occurred_at, "version": before["version"] + 1, **changes}
    return {**lists, before["id"]: after}
