"""Repository of workspaces: loads the aggregate from the log ``users``, and appends the events of commands."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from eventsourcing.persistence import IntegrityError

from domain.codec import decode, encode, topic_of
from domain.errors import TickViewError
from domain.lists import Preset, Watchlist
from domain.log import LogEntry
from domain.origins import Sender, format_origin
from domain.user_events import PresetDeleted, UserEvent, UserForgotten, WatchlistDeleted
from domain.workspace import Workspace
from infra.eventlog.recorders import translate_redis_errors
from infra.log.append import NewEvent
from infra.log.event_log import EventLog
from infra.user_keys.encryption import Place, UserKey, encrypt
from infra.user_keys.key_store import UserKeys, reveal
from infra.workspaces.snapshots import Snapshots
from readapi.ports.commands import CommandResult

MAX_ATTEMPTS = 2
"""Highest number of attempts of a command. The second attempt sees the change that made the first attempt fail."""

READ_BATCH = 500
"""Highest number of events that one command to Redis reads."""


class ConflictError(TickViewError):
    """Other commands changed the workspace during every attempt of this command."""


class UnreadableEventError(TickViewError):
    """This code cannot read an event of the user."""


class _Loaded(NamedTuple):
    """A workspace, with the key and the incarnation that were read together with it."""

    workspace: Workspace
    key: UserKey | None
    """The key of the user, if there is one."""
    incarnation: str
    """The incarnation of the log."""


class WorkspaceRepository:
    """The workspaces of all users.

    Args:
        log: The log ``users``.
        origin: The way by which commands come, ``http`` or ``cli``. See ``LogEntry``.
    """

    def __init__(self, log: EventLog, origin: str) -> None:
        self._log = log
        self._origin = origin
        self._keys = UserKeys(log)
        self._snapshots = Snapshots(log, self._keys)

    @translate_redis_errors()
    def load(self, user: str) -> Workspace:
        """Load the workspace of a user.

        Raises:
            UnreadableEventError: This code cannot read an event of the user.
            PersistenceError: The log cannot be read.
        """
        return self._load(user).workspace

    @translate_redis_errors()
    def deleted_lists(self, user: str) -> dict[str, Watchlist | Preset]:
        """Return the lists that a user has deleted and not restored, by id. Read the whole history of the user."""
        workspace = Workspace(user)
        deleted: dict[str, Watchlist | Preset] = {}
        for event in self._history(workspace, self._keys.read([user]).get(user)):
            if isinstance(event, WatchlistDeleted | PresetDeleted) and (last := workspace.get(event.list_id)):
                deleted[last.id] = last
            elif isinstance(event, UserForgotten):
                deleted.clear()
            workspace.apply(event)
        return {list_id: last for list_id, last in deleted.items() if workspace.get(list_id) is None}

    @translate_redis_errors()
    def execute(self, user: str, command: Callable[[Workspace], None], sender: Sender | None = None) -> CommandResult:
        """Execute a command on the workspace of a user, and record all of its events or none.

        If another command changes the workspace in the meantime, the command is executed once more on the new state.

        Args:
            user: The user.
            command: Changes the workspace.
            sender: The sender of the command, for the origin of the events.

        Raises:
            WorkspaceError: The workspace refuses the command.
            ConflictError: Other commands changed the workspace during every attempt.
            UnreadableEventError: This code cannot read an event of the user.
            PersistenceError: The log cannot be read or cannot append.
        """
        origin = format_origin(self._origin, sender.words if sender else "")
        for _ in range(MAX_ATTEMPTS):
            workspace, stored_key, incarnation = self._load(user)
            command(workspace)
            events = workspace.collect_events()
            if not events:
                return CommandResult(workspace, {self._log.name: self._log.head()})
            key = self._keys.for_writing(user, stored_key, workspace.generation)
            if key is None:
                self._log.open()
                continue
            try:
                position = self._append(workspace, events, key, origin)
            except IntegrityError:
                continue
            self._snapshots.store(workspace, key, incarnation)
            return CommandResult(workspace, {self._log.name: position})
        raise ConflictError(
            "Other requests are changing the lists of this user at the same time. Send the request again."
        )

    def _append(self, workspace: Workspace, events: Sequence[UserEvent], key: UserKey, origin: str) -> int:
        """Append the last events of a workspace, encrypted. Return the position of the last one."""
        first = workspace.version - len(events) + 1
        new_events = []
        for version, event in enumerate(events, first):
            topic = topic_of(type(event))
            state = encrypt(key, Place(workspace.id, version, topic), encode(event))
            new_events.append(NewEvent(workspace.id, topic, state, expected_version=version, origin=origin))
        return self._log.append(new_events)[-1].position

    def _load(self, user: str) -> _Loaded:
        try:
            return self._load_once(user)
        except UnreadableEventError:
            # Another process may have created the key, and recorded events under it, after this one read the key.
            return self._load_once(user)

    def _load_once(self, user: str) -> _Loaded:
        workspace, key, incarnation = self._snapshots.load(user)
        for event in self._history(workspace, key):
            workspace.apply(event)
        return _Loaded(workspace, key, incarnation)

    def _history(self, workspace: Workspace, key: UserKey | None) -> Iterator[UserEvent]:
        """Read the events after the version of a workspace in batches."""
        after = workspace.version
        while batch := self._log.read_stream(workspace.id, gt=after, limit=READ_BATCH):
            yield from (_decode(reveal(entry, key)) for entry in batch)
            after = batch[-1].version
            if len(batch) < READ_BATCH:
                return


def _decode(entry: LogEntry) -> UserEvent:
    place = f"version {entry.version} of {entry.stream}"
    try:
        event = decode(entry.topic, entry.event_id, entry.state)
    except ValueError as error:
        raise UnreadableEventError(f"The event at {place} cannot be read: {error}") from error
    if not isinstance(event, UserEvent):
        raise UnreadableEventError(f"The event at {place} is not an event of a user: {entry.topic}")
    return event
