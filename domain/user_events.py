"""The events of users: changes to their watchlists and filter presets, which together are called lists, and alerts.

Each class stands for one action of a user, or of an operator on behalf of a user. The events of delivered alerts stand
for actions of the service.
"""

from typing import Any, Literal

from pydantic import Field

from domain.events import Event, Timestamp
from domain.streams import alerts_stream, user_stream


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


class AlertEvent(ListEvent):
    """An event about the alert of one filter preset. ``list_id`` is the id of the preset."""


class AlertSet(AlertEvent):
    """A filter preset has an alert, or another alert than before."""

    webhook: str | None = None
    """URL that receives the alerts. None: they go to the user's live connections."""
    salt: str
    """Random hexadecimal digits. The secret that signs the requests to the webhook is derived from them and from the
    key of the user, so that the event does not contain it."""


class AlertRemoved(AlertEvent):
    """A filter preset has no alert any more."""


class AlertEnded(UserEvent):
    """The delivery of one alert has ended. The stream is that of the user's alerts, not that of the workspace."""

    list_id: str
    """Id of the filter preset."""
    delivery_id: str
    """Id of the delivery, the header ``webhook-id`` of its requests."""
    detection: str
    """Event id of the detection that matched the preset."""
    pattern_id: str
    """Id of the detected pattern."""
    channel: Literal["webhook", "push"]
    """The way of the delivery."""
    attempts: int = Field(ge=0)
    """Number of attempts. 0: none was made."""
    status: int | None = None
    """HTTP status of the last answer. None: there was no answer."""

    @property
    def stream(self) -> str:
        """The name of the stream of the user's alerts."""
        return alerts_stream(self.user)


class AlertDelivered(AlertEnded):
    """An alert was delivered: the webhook accepted it, or it was published to the user's live connections."""


class AlertFailed(AlertEnded):
    """The delivery of an alert was given up."""

    reason: str
    """Why the last attempt failed, or why none was made."""


class UserForgotten(UserEvent):
    """The lists of the user were forgotten: the keys of all earlier events of the user are destroyed.

    The event is never encrypted, and has no content besides the id of the user, which the name of the stream contains.
    An event whose key is destroyed is read as this event.
    """

    generation: int = Field(ge=1)
    """The highest generation of the user's keys that is destroyed."""


WORKSPACE_EVENT_TYPES: tuple[type[UserEvent], ...] = (
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
    AlertSet,
    AlertRemoved,
    UserForgotten,
)
"""The event types of workspaces, whose streams are ``user-<user id>``."""

_ALERT_EVENT_TYPES: tuple[type[UserEvent], ...] = (AlertDelivered, AlertFailed)

USER_EVENT_TYPES: dict[str, type[Event]] = {
    event_type.__name__: event_type for event_type in WORKSPACE_EVENT_TYPES + _ALERT_EVENT_TYPES
}
"""Every event type of the users' log by the name of its class."""
