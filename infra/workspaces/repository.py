"""The commands to users' workspaces: loads the aggregate from the log of the users, and appends what it does."""

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
from readapi.ports.commands import Executed

logger = structlog.get_logger()

TRIES = 2
"""Of a command: what others do meanwhile is taken into account once."""

READ_AT_ONCE = 500


class Sequenced(NamedTuple):
    """An event with its place in the stream, as the ``eventsourcing`` library wants it."""

    originator_id: str
    originator_version: int
    event: UserEvent


class CodecMapper(Mapper[str]):
    """Events to and from what is stored, by our own codec and its upcasts."""

    def __init__(self) -> None:
        super().__init__(JSONTranscoder())

    def to_stored_event(self, domain_event: DomainEventProtocol[str]) -> StoredEvent:
        """As it is stored; the log gives it an id."""
        assert isinstance(domain_event, Sequenced)
        originator_id, originator_version, event = domain_event
        return StoredEvent(originator_id, originator_version, topic_of(type(event)), encode(event))

    def to_domain_event(self, stored_event: StoredEvent) -> Sequenced:
        """As it was stored. Raises MapperDeserialisationError where this code cannot read it."""
        place = f"version {stored_event.originator_version} of {stored_event.originator_id}"
        try:
            event = decode(stored_event.topic, "", stored_event.state)
        except ValueError as error:
            raise MapperDeserialisationError(f"{place} cannot be read: {error}") from error
        if not isinstance(event, UserEvent):
            raise MapperDeserialisationError(f"{place} is no event of a user: {stored_event.topic}")
        return Sequenced(str(stored_event.originator_id), stored_event.originator_version, event)


class ConflictError(TickViewError):
    """Others were quicker, again and again."""


class WorkspaceRepository:
    """The workspaces of all users, in the log of the users; ``origin`` says how commands come in."""

    def __init__(self, log: EventLog, origin: str) -> None:
        self._log = log
        self._mapper = CodecMapper()
        self._recorder = RedisApplicationRecorder(log, str, origin)
        self._events = EventStore(self._mapper, self._recorder)
        self._snapshots = Snapshots(log)

    def load(self, user: str) -> Workspace:
        """What the user has now. Raises what the log raises."""
        return self._load(user)[0]

    def deleted(self, user: str) -> dict[str, Watchlist | Preset]:
        """The lists that were deleted and not restored, as they were, from the whole history."""
        workspace = Workspace(user)
        lost: dict[str, Watchlist | Preset] = {}
        for stored in self._history(workspace.id, 0):
            event = self._mapper.to_domain_event(stored).event
            if isinstance(event, WatchlistDeleted | PresetDeleted) and (one := workspace.get(event.list_id)):
                lost[one.id] = one
            workspace.apply(event)
        return {list_id: one for list_id, one in lost.items() if workspace.get(list_id) is None}

    def execute(self, user: str, command: Callable[[Workspace], None]) -> Executed:
        """Let ``command`` do something to the workspace, and record it, all or nothing.

        Where somebody else has changed the workspace meanwhile, the command is put to what it has become, once: it
        succeeds if it does not mind. Raises what the command raises (WorkspaceError), ConflictError, and what the log
        raises.
        """
        for _ in range(TRIES):
            workspace, reign = self._load(user)
            command(workspace)
            events = workspace.collect_events()
            if not events:
                return Executed(workspace, {self._log.name: self._log.head()})
            first = workspace.version - len(events) + 1
            done = [Sequenced(workspace.id, version, event) for version, event in enumerate(events, first)]
            try:
                recorded = self._events.put(done)
            except IntegrityError:
                continue
            self._snapshots.keep(workspace, reign)
            return Executed(workspace, {self._log.name: recorded[-1].notification.id})
        raise ConflictError("this user's lists are being changed by others at the same time: send the same again")

    @translate_redis_errors()
    def _load(self, user: str) -> tuple[Workspace, str]:
        """What the user has now, and the reign of the log under which it was read."""
        workspace, reign = self._snapshots.get(user)
        for stored in self._history(workspace.id, workspace.version):
            workspace.apply(self._mapper.to_domain_event(stored).event)
        return workspace, reign

    def _history(self, stream: str, after: int) -> Iterator[StoredEvent]:
        """The events behind a version, some at a time."""
        while some := self._recorder.select_events(stream, gt=after, limit=READ_AT_ONCE):
            yield from some
            after = some[-1].originator_version
            if len(some) < READ_AT_ONCE:
                return
