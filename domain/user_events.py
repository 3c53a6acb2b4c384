"""The events of users: changes to their watchlists and filter presets, which together are called lists.

Each class stands for one action of a user, or of an operator on behalf of a user.
"""

from typing import Any

from pydantic import Field

from domain.events import Event, Timestamp
from domain.streams import user_stream


class UserEvent(Event):
    """An event about one user's workspace. ``source`` names the user or operator who acted."""

    user: str
    """Id of the user who owns the workspace."""

    @property
    def stream(self) -> str:
        """The name of the user's stream."""
        return user_stream(self.user)


class ListEvent(UserEvent):
    """An event about one list."""

    list_id: str
    """Id of the watchlist or preset."""


class WatchlistEvent(ListEvent):
    """An event about one watchlist."""


class WatchlistCreated(WatchlistEvent):
    """A watchlist was created."""

    name: str
    """Name of the watchlist, 1 to 80 characters."""
    symbols: tuple[str, ...] = ()
    """Symbols in the user's order, 0 to 1,000, without duplicates."""


class WatchlistRenamed(WatchlistEvent):
    """A watchlist has a new name."""

    name: str
    """New name, 1 to 80 characters."""


class WatchlistChanged(WatchlistEvent):
    """A watchlist has new symbols."""

    symbols: tuple[str, ...]
    """All symbols from now on, in the user's order, 0 to 1,000, without duplicates."""


class WatchlistDeleted(WatchlistEvent):
    """A watchlist was deleted."""


class WatchlistRestored(WatchlistEvent):
    """A deleted watchlist was restored to its last state."""

    name: str
    """Name of the watchlist, 1 to 80 characters."""
    symbols: tuple[str, ...] = ()
    """Symbols in the user's order, 0 to 1,000, without duplicates."""
    created_at: Timestamp
    """Time of the original creation."""
    version: int
    """Version of the watchlist: its version at the time of deletion plus one."""


class PresetEvent(ListEvent):
    """An event about one filter preset."""


class PresetCreated(PresetEvent):
    """A filter preset was created."""

    name: str
    """Name of the preset, 1 to 80 characters."""
    parameters: dict[str, Any]
    """Scan parameters by name."""


class PresetRenamed(PresetEvent):
    """A filter preset has a new name."""

    name: str
    """New name, 1 to 80 characters."""


class PresetChanged(PresetEvent):
    """A filter preset has new parameters."""

    parameters: dict[str, Any]
    """All scan parameters from now on, by name."""


class PresetDeleted(PresetEvent):
    """A filter preset was deleted. If it was the default preset, the user has no default preset from now on."""


class PresetRestored(PresetEvent):
    """A deleted filter preset was restored to its last state. It does not become the default preset again."""

    name: str
    """Name of the preset, 1 to 80 characters."""
    parameters: dict[str, Any]
    """Scan parameters by name."""
    created_at: Timestamp
    """Time of the original creation."""
    version: int
    """Version of the preset: its version at the time of deletion plus one."""


class DefaultPresetChosen(UserEvent):
    """The user has another default preset, or none, from now on."""

    list_id: str | None
    """Id of the new default preset. None: the user has no default preset."""


class UserForgotten(UserEvent):
    """The lists of the user were forgotten: the keys of all earlier events of the user are destroyed.

    The event is never encrypted, and has no content besides the id of the user, which the name of the stream contains.
    An event whose key is destroyed is read as this event.
    """

    generation: int = Field(ge=1)
    """The highest generation of the user's keys that is destroyed."""


USER_EVENT_TYPES: dict[str, type[Event]] = {
    event_type.__name__: event_type
    for event_type in (
        WatchlistCreated,
        WatchlistRenamed,
        WatchlistChanged,
        WatchlistDeleted,
        WatchlistRestored,
        PresetCreated,
        PresetRenamed,
        PresetChanged,
        PresetDeleted,
        PresetRestored,
        DefaultPresetChosen,
        UserForgotten,
    )
}
"""Every event type of the users' log by the name of its class."""
