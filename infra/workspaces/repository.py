"""Repository of workspaces: loads the aggregate from the log ``users``, and appends the events of commands."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import structlog
from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import (
    EventStore,
    IntegrityError,
    JSONTranscoder,
    Mapper,
    MapperDeserialisationError,
    StoredEvent,
)

from domain.codec import decode, encode, topic_of
from domain.errors import TickViewError
from domain.lists import Preset, Watchlist
from domain.user_events import PresetDeleted, UserEvent, WatchlistDeleted
from domain.workspace import Workspace
from infra.eventlog import RedisApplicationRecorder
from infra.eventlog.recorders import translate_redis_errors
from infra.log.event_log import EventLog
from infra.workspaces.snapshots import Snapshots
from readapi.ports.commands import CommandResult

logger = structlog.get_logger()

MAX_ATTEMPTS = 2
"""Highest number of attempts of a command. The second attempt sees the change that made the first attempt fail."""

READ_BATCH = 500
"""Highest number of events that one command to Redis reads."""


class Sequenced(NamedTuple):
    """An event with its stream and its version, in the form of the ``eventsourcing`` library."""

    originator_id: str
    originator_version: int
    event: UserEvent


class CodecMapper(Mapper[str]):
    """Mapper between events and stored events. It uses TickView's codec, which upcasts old schema versions."""

    def __init__(self) -> None:
        super().__init__(JSONTranscoder())

    def to_stored_event(self, domain_event: DomainEventProtocol[str]) -> StoredEvent:
        """Encode an event. The log gives it an id."""
        assert isinstance(domain_event, Sequenced)
        originator_id, originator_version, event = domain_event
        return StoredEvent(originator_id, originator_version, topic_of(type(event)), encode(event))

    def to_domain_event(self, stored_event: StoredEvent) -> Sequenced:
        """Decode an event.

        Raises:
            MapperDeserialisationError: This code cannot read the event, or it is not an event of a user.
        """
        place = f"version {stored_event.originator_version} of {stored_event.originator_id}"
        try:
            event = decode(stored_event.topic, "", stored_event.state)
        except ValueError as error:
            raise MapperDeserialisationError(f"The event at {place} cannot be read: {error}") from error
        if not isinstance(event, UserEvent):
            raise MapperDeserialisationError(f"The event at {place} is not an event of a user: {stored_event.topic}")
        return Sequenced(str(stored_event.originator_id), stored_event.originator_version, event)


class ConflictError(TickViewError):
    """Other commands changed the workspace during every attempt of this command."""


class WorkspaceRepository:
    """The workspaces of all users.

    Args:
        log: The log ``users``.
        origin: The origin that the log stores with the events. See ``LogEntry``.
    """

    def __init__(self, log: EventLog, origin: str) -> None:
        self._log = log
        self._mapper = CodecMapper()
        self._recorder = RedisApplicationRecorder(log, str, origin)
        self._events = EventStore(self._mapper, self._recorder)
        self._snapshots = Snapshots(log)

    def load(self, user: str) -> Workspace:
        """Load the workspace of a user.

        Raises:
            MapperDeserialisationError: This code cannot read an event of the user.
            PersistenceError: The log cannot be read.
        """
        return self._load(user)[0]

    def deleted_lists(self, user: str) -> dict[str, Watchlist | Preset]:
        """Return the lists that a user has deleted and not restored, by id. Read the whole history of the user."""
        workspace = Workspace(user)
        deleted: dict[str, Watchlist | Preset] = {}
        for stored in self._history(workspace.id, 0):
            event = self._mapper.to_domain_event(stored).event
            if isinstance(event, WatchlistDeleted | PresetDeleted) and (last := workspace.get(event.list_id)):
                deleted[last.id] = last
            workspace.apply(event)
        return {list_id: last for list_id, last in deleted.items() if workspace.get(list_id) is None}

    def execute(self, user: str, command: Callable[[Workspace], None]) -> CommandResult:
        """Execute a command on the workspace of a user, and record all of its events or none.

        If another command changes the workspace in the meantime, the command is executed once more on the new state.

        Raises:
            WorkspaceError: The workspace refuses the command.
            ConflictError: Other commands changed the workspace during every attempt.
            PersistenceError: The log cannot be read or cannot append.
        """
        for _ in range(MAX_ATTEMPTS):
            workspace, incarnation = self._load(user)
            command(workspace)
            events = workspace.collect_events()
            if not events:
                return CommandResult(workspace, {self._log.name: self._log.head()})
            first = workspace.version - len(events) + 1
            sequenced = [Sequenced(workspace.id, version, event) for version, event in enumerate(events, first)]
            try:
                recorded = self._events.put(sequenced)
            except IntegrityError:
                continue
            self._snapshots.store(workspace, incarnation)
            return CommandResult(workspace, {self._log.name: recorded[-1].notification.id})
        raise ConflictError(
            "Other requests are changing the lists of this user at the same time. Send the request again."
        )

    @translate_redis_errors()
    def _load(self, user: str) -> tuple[Workspace, str]:
        """Return the workspace, and the incarnation of the log from which it was read."""
        workspace, incarnation = self._snapshots.load(user)
        for stored in self._history(workspace.id, workspace.version):
            workspace.apply(self._mapper.to_domain_event(stored).event)
        return workspace, incarnation

    def _history(self, stream: str, after: int) -> Iterator[StoredEvent]:
        """Read the events after a version in batches."""
        while batch := self._recorder.select_events(stream, gt=after, limit=READ_BATCH):
            yield from batch
            after = batch[-1].originator_version
            if len(batch) < READ_BATCH:
                return
