"""The workspace of a user: watchlists, filter presets, their alerts, and the commands that change them.

``Workspace`` is an aggregate of the ``eventsourcing`` library by its protocols (``MutableAggregateProtocol``,
``CollectEventsProtocol``). Its stream is ``user-<user id>``. Every command either adds events to the events that
``collect_events`` returns, or raises a WorkspaceError and changes nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from domain import user_events
from domain.alerts import MAX_ALERTS, Alert, apply_alert_event
from domain.list_rules import (
    ExpectedVersions,
    InvalidListError,
    OutdatedError,
    changed_list,
    check_capacity,
    check_watchlist_parameter,
    find_list,
    validate_name,
    validate_symbols,
)
from domain.lists import Preset, PresetDraft, Watchlist
from domain.streams import user_stream


class Stamp(NamedTuple):
    """The source and the time that a command puts on its events."""

    source: str
    """Id of the user or operator who gives the command."""
    at: float
    """Time of the command in seconds since the epoch."""


class Workspace:
    """The watchlists and filter presets of one user, and the alerts of the presets.

    Attributes:
        version: The version of the last event in the workspace. It counts events that are not yet recorded.
        watchlists: The watchlists by id, in the order of creation.
        presets: The filter presets by id, in the order of creation.
        default_preset: The id of the default preset, or None.
        alerts: The alerts by the id of their preset, in the order of creation.
        generation: The lowest generation of the key with which the next events may be encrypted, from 1. Each
            ``UserForgotten`` raises it.
    """

    def __init__(self, user: str) -> None:
        self.user = user
        self.version = 0
        self.watchlists: dict[str, Watchlist] = {}
        self.presets: dict[str, Preset] = {}
        self.default_preset: str | None = None
        self.alerts: dict[str, Alert] = {}
        self.generation = 1
        self._pending: list[user_events.UserEvent] = []

    @property
    def id(self) -> str:
        """The name of the workspace's stream."""
        return user_stream(self.user)

    def collect_events(self) -> Sequence[user_events.UserEvent]:
        """Return the events of the commands since the last call."""
        collected, self._pending = self._pending, []
        return collected

    def create_watchlist(self, stamp: Stamp, list_id: str, name: str, symbols: Sequence[str]) -> None:
        """Create a watchlist.

        Args:
            stamp: The source and time of the command.
            list_id: An id that no list of this user ever had.
            name: The name, 1 to 80 printable characters.
            symbols: The symbols in the user's order, at most 1,000.

        Raises:
            NameTakenError: Another watchlist has the name.
            InvalidListError: The name or a symbol is invalid, or the user has ``MAX_LISTS`` watchlists.
        """
        valid_symbols = validate_symbols(symbols)
        check_capacity(self.watchlists, "watchlists")
        valid_name = validate_name(self.watchlists, name)
        self._record(stamp, user_events.WatchlistCreated, list_id, name=valid_name, symbols=valid_symbols)

    def change_watchlist(
        self,
        stamp: Stamp,
        list_id: str,
        name: str | None,
        symbols: Sequence[str] | None,
        expected: ExpectedVersions | None = None,
    ) -> None:
        """Change the name and the symbols of a watchlist. None leaves the present value.

        Raises:
            NoSuchListError: The user has no such watchlist.
            OutdatedError: The watchlist has none of the expected versions.
            NameTakenError: Another watchlist has the name.
            InvalidListError: The name or a symbol is invalid.
        """
        before = find_list(self.watchlists, list_id, "watchlist", expected)
        valid_symbols = before.symbols if symbols is None else validate_symbols(symbols)
        valid_name = before.name if name is None else validate_name(self.watchlists, name, before.id)
        if valid_name != before.name:
            self._record(stamp, user_events.WatchlistRenamed, list_id, name=valid_name)
        if valid_symbols != before.symbols:
            self._record(stamp, user_events.WatchlistChanged, list_id, symbols=valid_symbols)

    def delete_watchlist(self, stamp: Stamp, list_id: str, expected: ExpectedVersions | None = None) -> None:
        """Delete a watchlist.

        Raises:
            NoSuchListError: The user has no such watchlist.
            OutdatedError: The watchlist has none of the expected versions.
        """
        find_list(self.watchlists, list_id, "watchlist", expected)
        self._record(stamp, user_events.WatchlistDeleted, list_id)

    def create_preset(self, stamp: Stamp, list_id: str, draft: PresetDraft) -> None:
        """Create a filter preset.

        Args:
            stamp: The source and time of the command.
            list_id: An id that no list of this user ever had.
            draft: The content of the preset.

        Raises:
            NameTakenError: Another preset has the name.
            InvalidListError: The name is invalid, the parameters name a watchlist that the user does not have, or the
                user has ``MAX_LISTS`` presets.
        """
        check_watchlist_parameter(draft.parameters, self.watchlists)
        check_capacity(self.presets, "presets")
        valid_name = validate_name(self.presets, draft.name)
        self._record(stamp, user_events.PresetCreated, list_id, name=valid_name, parameters=dict(draft.parameters))
        self._choose_default(stamp, list_id, default=draft.default)

    def change_preset(
        self, stamp: Stamp, list_id: str, draft: PresetDraft, expected: ExpectedVersions | None = None
    ) -> None:
        """Replace the content of a filter preset.

        Raises:
            NoSuchListError: The user has no such preset.
            OutdatedError: The preset has none of the expected versions.
            NameTakenError: Another preset has the name.
            InvalidListError: The name is invalid, or new parameters name a watchlist that the user does not have.
        """
        before = find_list(self.presets, list_id, "preset", expected)
        valid_name = validate_name(self.presets, draft.name, before.id)
        if draft.parameters != before.parameters:
            check_watchlist_parameter(draft.parameters, self.watchlists)
        if valid_name != before.name:
            self._record(stamp, user_events.PresetRenamed, list_id, name=valid_name)
        if draft.parameters != before.parameters:
            self._record(stamp, user_events.PresetChanged, list_id, parameters=dict(draft.parameters))
        self._choose_default(stamp, list_id, default=draft.default)

    def delete_preset(self, stamp: Stamp, list_id: str, expected: ExpectedVersions | None = None) -> None:
        """Delete a filter preset, and its alert with it.

        Raises:
            NoSuchListError: The user has no such preset.
            OutdatedError: The preset has none of the expected versions.
        """
        find_list(self.presets, list_id, "preset", expected)
        self._record(stamp, user_events.PresetDeleted, list_id)

    def set_alert(
        self, stamp: Stamp, list_id: str, webhook: str | None, salt: str, expected: ExpectedVersions | None = None
    ) -> None:
        """Give a filter preset an alert, or replace its alert.

        Args:
            stamp: The source and time of the command.
            list_id: The id of the preset.
            webhook: The URL that receives the alerts. None: they go to the user's live connections.
            salt: Random hexadecimal digits, from which the secret of the webhook is derived.
            expected: The versions that the alert may have. 0: there is no alert.

        Raises:
            NoSuchListError: The user has no such preset.
            OutdatedError: The alert has none of the expected versions.
            InvalidListError: The user has ``MAX_ALERTS`` alerts.
        """
        find_list(self.presets, list_id, "preset")
        version = self.alerts[list_id].version if list_id in self.alerts else 0
        if expected is not None and version not in expected:
            raise OutdatedError(version)
        if not version:
            check_capacity(self.alerts, "alerts", MAX_ALERTS)
        self._record(stamp, user_events.AlertSet, list_id, webhook=webhook, salt=salt)

    def remove_alert(self, stamp: Stamp, list_id: str, expected: ExpectedVersions | None = None) -> None:
        """Remove the alert of a filter preset.

        Raises:
            NoSuchListError: The preset has no alert.
            OutdatedError: The alert has none of the expected versions.
        """
        find_list(self.alerts, list_id, "alert of preset", expected)
        self._record(stamp, user_events.AlertRemoved, list_id)

    def restore(self, stamp: Stamp, deleted: Watchlist | Preset, name: str | None = None) -> None:
        """Restore a deleted list.

        Args:
            stamp: The source and time of the command.
            deleted: The list in the state in which it was deleted.
            name: A new name. None restores the former name.

        Raises:
            NameTakenError: Another list of the same kind has the name.
            InvalidListError: The list is not deleted, or the user has ``MAX_LISTS`` lists of this kind.
        """
        is_watchlist = isinstance(deleted, Watchlist)
        lists: Mapping[str, Watchlist | Preset] = self.watchlists if is_watchlist else self.presets
        if deleted.id in lists:
            raise InvalidListError([(deleted.id, "is not deleted: only a deleted list can be restored")])
        check_capacity(lists, "watchlists" if is_watchlist else "presets")
        common = {
            "name": validate_name(lists, deleted.name if name is None else name),
            "created_at": deleted.created_at,
            "version": deleted.version + 1,
        }
        if isinstance(deleted, Watchlist):
            self._record(stamp, user_events.WatchlistRestored, deleted.id, symbols=deleted.symbols, **common)
        else:
            self._record(stamp, user_events.PresetRestored, deleted.id, parameters=dict(deleted.parameters), **common)

    def get(self, list_id: str) -> Watchlist | Preset | None:
        """Return the watchlist or preset with this id, or None."""
        return self.watchlists.get(list_id) or self.presets.get(list_id)

    def apply(self, event: user_events.UserEvent) -> None:
        """Apply an event to the workspace. The event must be the next event of the stream."""
        match event:
            case user_events.WatchlistEvent():
                self._apply_to_watchlists(event)
            case user_events.PresetEvent():
                self._apply_to_presets(event)
            case user_events.AlertEvent():
                self.alerts = apply_alert_event(self.alerts, event)
            case user_events.DefaultPresetChosen():
                for list_id in (self.default_preset, event.list_id):
                    if list_id is not None:
                        self.presets[list_id] = changed_list(self.presets[list_id], event.occurred_at)
                self.default_preset = event.list_id
            case user_events.UserForgotten():
                self.watchlists, self.presets, self.default_preset, self.alerts = {}, {}, None, {}
                self.generation = max(self.generation, event.generation + 1)
        self.version += 1

    def _apply_to_watchlists(self, event: user_events.WatchlistEvent) -> None:
        lists, key, at = self.watchlists, event.list_id, event.occurred_at
        match event:
            case user_events.WatchlistCreated():
                lists[key] = Watchlist(key, event.name, event.symbols, at, at)
            case user_events.WatchlistRestored():
                lists[key] = Watchlist(key, event.name, event.symbols, event.created_at, at, event.version)
            case user_events.WatchlistRenamed():
                lists[key] = changed_list(lists[key], at, name=event.name)
            case user_events.WatchlistChanged():
                lists[key] = changed_list(lists[key], at, symbols=event.symbols)
            case user_events.WatchlistDeleted():
                del lists[key]

    def _apply_to_presets(self, event: user_events.PresetEvent) -> None:
        lists, key, at = self.presets, event.list_id, event.occurred_at
        match event:
            case user_events.PresetCreated():
                lists[key] = Preset(key, event.name, event.parameters, at, at)
            case user_events.PresetRestored():
                lists[key] = Preset(key, event.name, event.parameters, event.created_at, at, event.version)
            case user_events.PresetRenamed():
                lists[key] = changed_list(lists[key], at, name=event.name)
            case user_events.PresetChanged():
                lists[key] = changed_list(lists[key], at, parameters=event.parameters)
            case user_events.PresetDeleted():
                del lists[key]
                self.default_preset = None if self.default_preset == key else self.default_preset
                self.alerts.pop(key, None)

    def _record(
        self, stamp: Stamp, event_type: Callable[..., user_events.UserEvent], list_id: str | None, **fields: Any
    ) -> None:
        # The event id stays empty: the log assigns one.
        event = event_type(
            event_id="", occurred_at=stamp.at, source=stamp.source, user=self.user, list_id=list_id, **fields
        )
        self.apply(event)
        self._pending.append(event)

    def _choose_default(self, stamp: Stamp, list_id: str, *, default: bool) -> None:
        if default != (self.default_preset == list_id):
            self._record(stamp, user_events.DefaultPresetChosen, list_id if default else None)
