"""A user's workspace: watchlists and filter presets, and what may be done with them.

An aggregate of the ``eventsourcing`` library by its protocols (``MutableAggregateProtocol``,
``CollectEventsProtocol``), whose stream is ``user-<user id>``. Every command either appends events to those that
``collect_events`` gives, or raises a WorkspaceError and changes nothing.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from domain import user_events as happened
from domain.list_rules import InvalidListError, WorkspaceError, validate_name, validate_symbols
from domain.streams import user_stream

MAX_LISTS = 100
"""Watchlists of one user; presets likewise."""

Versions = Collection[int]
"""Of a list: it must be at one of these; None instead: at any."""


class Stamp(NamedTuple):
    """Who does something, and when."""

    source: str
    at: float
    """Epoch seconds."""


@dataclass(frozen=True)
class Watchlist:
    """Symbols under a name. ``version`` counts its changes, from 1; times are epoch seconds."""

    id: str
    name: str
    symbols: tuple[str, ...]
    created_at: float
    updated_at: float
    version: int = 1


@dataclass(frozen=True)
class Preset:
    """Scan parameters under a name. ``version`` counts its changes, from 1, those of being the default too."""

    id: str
    name: str
    parameters: Mapping[str, Any]
    created_at: float
    updated_at: float
    version: int = 1


class NoSuchListError(WorkspaceError):
    """The user has no such list."""


class OutdatedError(WorkspaceError):
    """The list is not as the command expects it."""

    def __init__(self, version: int) -> None:
        super().__init__(f"the list has changed meanwhile: it is at version {version}")
        self.version = version


class Workspace:
    """What one user has."""

    def __init__(self, user: str) -> None:
        self.user = user
        self.version = 0
        """The last version of the stream that is in it, those not yet recorded included."""
        self.watchlists: dict[str, Watchlist] = {}
        self.presets: dict[str, Preset] = {}
        self.default_preset: str | None = None
        self._pending: list[happened.UserEvent] = []

    @property
    def id(self) -> str:
        """The name of its stream."""
        return user_stream(self.user)

    def collect_events(self) -> Sequence[happened.UserEvent]:
        """What has been done since the last call."""
        collected, self._pending = self._pending, []
        return collected

    def create_watchlist(self, stamp: Stamp, list_id: str, name: str, symbols: Sequence[str]) -> None:
        """Begin a watchlist under an id that was never used. Raises NameTakenError, InvalidListError."""
        checked = validate_symbols(symbols)
        self._check_room(self.watchlists, "watchlists")
        self._do(stamp, happened.WatchlistCreated, list_id, name=validate_name(self.watchlists, name), symbols=checked)

    def change_watchlist(
        self,
        stamp: Stamp,
        list_id: str,
        name: str | None,
        symbols: Sequence[str] | None,
        expected: Versions | None = None,
    ) -> None:
        """Give it this name and these symbols; what is None stays as it is.

        Raises NoSuchListError, OutdatedError, and as ``create_watchlist``.
        """
        before = _get(self.watchlists, list_id, "watchlist", expected)
        checked = before.symbols if symbols is None else validate_symbols(symbols)
        free = before.name if name is None else validate_name(self.watchlists, name, before.id)
        if free != before.name:
            self._do(stamp, happened.WatchlistRenamed, list_id, name=free)
        if checked != before.symbols:
            self._do(stamp, happened.WatchlistChanged, list_id, symbols=checked)

    def delete_watchlist(self, stamp: Stamp, list_id: str, expected: Versions | None = None) -> None:
        """Remove it. Raises NoSuchListError, OutdatedError."""
        _get(self.watchlists, list_id, "watchlist", expected)
        self._do(stamp, happened.WatchlistDeleted, list_id)

    def create_preset(
        self, stamp: Stamp, list_id: str, name: str, parameters: Mapping[str, Any], *, default: bool
    ) -> None:
        """Begin a preset under an id that was never used. Raises NameTakenError, InvalidListError."""
        self._check_parameters(parameters)
        self._check_room(self.presets, "presets")
        self._do(
            stamp,
            happened.PresetCreated,
            list_id,
            name=validate_name(self.presets, name),
            parameters=dict(parameters),
        )
        self._choose_default(stamp, list_id, default=default)

    def change_preset(
        self,
        stamp: Stamp,
        list_id: str,
        name: str,
        parameters: Mapping[str, Any],
        *,
        default: bool,
        expected: Versions | None = None,
    ) -> None:
        """Give it this name and these parameters, and make it the default or not.

        Raises NoSuchListError, OutdatedError, and as ``create_preset``.
        """
        before = _get(self.presets, list_id, "preset", expected)
        free = validate_name(self.presets, name, before.id)
        if parameters != before.parameters:
            self._check_parameters(parameters)
        if free != before.name:
            self._do(stamp, happened.PresetRenamed, list_id, name=free)
        if parameters != before.parameters:
            self._do(stamp, happened.PresetChanged, list_id, parameters=dict(parameters))
        self._choose_default(stamp, list_id, default=default)

    def delete_preset(self, stamp: Stamp, list_id: str, expected: Versions | None = None) -> None:
        """Remove it. Raises NoSuchListError, OutdatedError."""
        _get(self.presets, list_id, "preset", expected)
        self._do(stamp, happened.PresetDeleted, list_id)

    def restore(self, stamp: Stamp, lost: Watchlist | Preset, name: str | None = None) -> None:
        """Bring back a list as it was when it was deleted, under another name if one is given.

        Raises NameTakenError, and InvalidListError where it is not deleted or there is no room for it.
        """
        is_watchlist = isinstance(lost, Watchlist)
        kept: Mapping[str, Watchlist | Preset] = self.watchlists if is_watchlist else self.presets
        if lost.id in kept:
            raise InvalidListError([(lost.id, "is not deleted")])
        self._check_room(kept, "watchlists" if is_watchlist else "presets")
        common = {
            "name": validate_name(kept, lost.name if name is None else name),
            "created_at": lost.created_at,
            "version": lost.version + 1,
        }
        if isinstance(lost, Watchlist):
            self._do(stamp, happened.WatchlistRestored, lost.id, symbols=lost.symbols, **common)
        else:
            self._do(stamp, happened.PresetRestored, lost.id, parameters=dict(lost.parameters), **common)

    def _choose_default(self, stamp: Stamp, list_id: str, *, default: bool) -> None:
        if default != (self.default_preset == list_id):
            self._do(stamp, happened.DefaultPresetChosen, list_id if default else None)

    def _check_parameters(self, parameters: Mapping[str, Any]) -> None:
        watchlist = parameters.get("watchlist")
        if watchlist is not None and watchlist not in self.watchlists:
            raise InvalidListError([("parameters.watchlist", f"is none of this user's watchlists: {watchlist!r}")])

    def _check_room(self, kept: Mapping[str, object], kind: str) -> None:
        if len(kept) >= MAX_LISTS:
            raise InvalidListError([(kind, f"are {MAX_LISTS} already, the most that a user can have")])

    def _do(
        self, stamp: Stamp, event_type: Callable[..., happened.UserEvent], list_id: str | None, **said: Any
    ) -> None:
        # The log gives it an id.
        event = event_type(
            event_id="", occurred_at=stamp.at, source=stamp.source, user=self.user, list_id=list_id, **said
        )
        self.apply(event)
        self._pending.append(event)

    def get(self, list_id: str) -> Watchlist | Preset | None:
        """The list of this id, of either kind."""
        return self.watchlists.get(list_id) or self.presets.get(list_id)

    def apply(self, event: happened.UserEvent) -> None:
        """Become what the event, the next of the stream, makes of the workspace."""
        at = event.occurred_at
        match event:
            case happened.WatchlistCreated(list_id=key):
                self.watchlists[key] = Watchlist(key, event.name, event.symbols, at, at)
            case happened.WatchlistRestored(list_id=key):
                self.watchlists[key] = Watchlist(key, event.name, event.symbols, event.created_at, at, event.version)
            case happened.WatchlistRenamed(list_id=key):
                self.watchlists[key] = _changed(self.watchlists[key], at, name=event.name)
            case happened.WatchlistChanged(list_id=key):
                self.watchlists[key] = _changed(self.watchlists[key], at, symbols=event.symbols)
            case happened.WatchlistDeleted(list_id=key):
                del self.watchlists[key]
            case happened.PresetCreated(list_id=key):
                self.presets[key] = Preset(key, event.name, event.parameters, at, at)
            case happened.PresetRestored(list_id=key):
                self.presets[key] = Preset(key, event.name, event.parameters, event.created_at, at, event.version)
            case happened.PresetRenamed(list_id=key):
                self.presets[key] = _changed(self.presets[key], at, name=event.name)
            case happened.PresetChanged(list_id=key):
                self.presets[key] = _changed(self.presets[key], at, parameters=event.parameters)
            case happened.PresetDeleted(list_id=key):
                del self.presets[key]
                self.default_preset = None if self.default_preset == key else self.default_preset
            case happened.DefaultPresetChosen():
                for changed in (self.default_preset, event.list_id):
                    if changed is not None:
                        self.presets[changed] = _changed(self.presets[changed], at)
                self.default_preset = event.list_id
        self.version += 1


def _changed(before: Any, at: float, **changes: Any) -> Any:
    return replace(before, updated_at=at, version=before.version + 1, **changes)


def _get(kept: Mapping[str, Any], list_id: str, kind: str, expected: Versions | None) -> Any:
    found = kept.get(list_id)
    if found is None:
        raise NoSuchListError(f"{kind} {list_id!r} of this user")
    if expected is not None and found.version not in expected:
        raise OutdatedError(found.version)
    return found
