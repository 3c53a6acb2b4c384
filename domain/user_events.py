"""The events of users: what became of their watchlists and filter presets, which together are called lists.

Each class stands for one thing that a user, or an operator on a user's behalf, did.
"""

from typing import Any

from domain.events import Event, Timestamp
from domain.streams import user_stream


class UserEvent(Event):
    """Something that one user's workspace went through; ``source`` is who did it."""

    user: str

    @property
    def stream(self) -> str:
        return user_stream(self.user)


class ListEvent(UserEvent):
    """Something about one list."""

    list_id: str


class WatchlistEvent(ListEvent):
    """Something about a watchlist."""


class WatchlistCreated(WatchlistEvent):
    """A watchlist began, with its symbols in the user's order."""

    name: str
    symbols: tuple[str, ...] = ()


class WatchlistRenamed(WatchlistEvent):
    """It is called otherwise now."""

    name: str


class WatchlistChanged(WatchlistEvent):
    """These are its symbols now."""

    symbols: tuple[str, ...]


class WatchlistDeleted(WatchlistEvent):
    """It is no more."""


class WatchlistRestored(WatchlistEvent):
    """A deleted one is there again, as it was."""

    name: str
    symbols: tuple[str, ...] = ()
    created_at: Timestamp
    version: int
    """Of the list: one more than when it was deleted."""


class PresetEvent(ListEvent):
    """Something about a filter preset."""


class PresetCreated(PresetEvent):
    """A preset began: scan parameters under a name."""

    name: str
    parameters: dict[str, Any]


class PresetRenamed(PresetEvent):
    """It is called otherwise now."""

    name: str


class PresetChanged(PresetEvent):
    """These are its parameters now."""

    parameters: dict[str, Any]


class PresetDeleted(PresetEvent):
    """It is no more; if it was the default, there is none."""


class PresetRestored(PresetEvent):
    """A deleted one is there again, as it was, but not as the default."""

    name: str
    parameters: dict[str, Any]
    created_at: Timestamp
    version: int
    """Of the list: one more than when it was deleted."""


class DefaultPresetChosen(UserEvent):
    """One preset is the default now, in place of any other; or none is."""

    list_id: str | None


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
    )
}
"""Every type of the users' events by its name."""
