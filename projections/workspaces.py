"""The read model ``workspaces``: the watchlists and filter presets of each user, one row for each user."""

from dataclasses import dataclass, field
from typing import Any

from typing_extensions import TypedDict

from domain.streams import USERS_LOG
from domain.user_events import (
    USER_EVENT_TYPES,
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


@dataclass(frozen=True, slots=True)
class WorkspaceRow:
    """The lists of one user by id, in the order of creation. A restored list comes last."""

    user: str
    """Id of the user."""
    watchlists: dict[str, WatchlistRow] = field(default_factory=dict)
    presets: dict[str, PresetRow] = field(default_factory=dict)
    default_preset: str | None = None
    """Id of the default preset, or None."""


class Workspaces(Projection[WorkspaceRow, UserEvent]):
    """The projection of users' lists."""

    name = "workspaces"
    version = 2
    row = WorkspaceRow
    handles = tuple(USER_EVENT_TYPES.values())
    family = USERS_LOG
    tells_rows = False
    key = "user"
    scope = None

    def keys(self, event: UserEvent) -> tuple[str, ...]:
        """Return the id of the user."""
        return (event.user,)

    def evolve(self, row: WorkspaceRow | None, event: UserEvent) -> WorkspaceRow | None:
        """Apply an event to one list. An event about a list that the user does not have changes nothing.

        A user who was forgotten has no row.
        """
        if isinstance(event, UserForgotten):
            return None
        before = row or WorkspaceRow(event.user)
        watchlists, presets, default = before.watchlists, before.presets, before.default_preset
        match event:
            case DefaultPresetChosen():
                for list_id in (default, event.list_id):
                    presets = _changed(presets, list_id, event)
                default = event.list_id
            case PresetEvent():
                presets = _evolved(presets, event)
                default = None if isinstance(event, PresetDeleted) and event.list_id == default else default
            case WatchlistEvent():
                watchlists = _evolved(watchlists, event)
        if watchlists is before.watchlists and presets is before.presets and default == before.default_preset:
            return before
        return WorkspaceRow(event.user, watchlists, presets, default)


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
        case WatchlistDeleted() | PresetDeleted() if event.list_id in lists:
            return {list_id: one for list_id, one in lists.items() if list_id != event.list_id}
    return lists


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
