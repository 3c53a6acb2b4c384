"""Commands: record messages, change workspaces, handle dead letters."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from domain.announcements import DeadLetter, Receipt
from domain.workspace import Workspace
from projections.queries import Positions


class MessageRecorder(Protocol):
    """The way in by POST."""

    async def record(self, messages: Sequence[tuple[str, bytes]]) -> list[Receipt]:
        """Record messages (channel, payload); each event is as safe as configured when this returns.

        Raises UnavailableError where the backlog is full or the log cannot be reached.
        """
        ...


class Executed(NamedTuple):
    """What a command has made of a workspace, and up to which position all of that is recorded."""

    workspace: Workspace
    positions: Positions


class WorkspaceCommands(Protocol):
    """The commands to users' workspaces."""

    async def execute(self, user: str, command: Callable[[Workspace], None]) -> Executed:
        """Let ``command`` do something to the user's workspace, and record it, all or nothing.

        It is asked once more if somebody else has changed the workspace meanwhile. Raises what it raises
        (WorkspaceError), and UnavailableError.
        """
        ...


class DeadLetterCommands(Protocol):
    """The dead letters."""

    async def page(self, cursor: str | None, limit: int) -> tuple[Sequence[DeadLetter], str | None]:
        """Letters, the newest first, and the cursor of the next page; None if there is none.

        Raises ValueError for a cursor that is none of ours.
        """
        ...

    async def get(self, letter_id: str) -> DeadLetter | None:
        """One letter."""
        ...

    async def retry(self, letter_id: str) -> Receipt | None:
        """Read it again; None if there is no such letter."""
        ...

    async def discard(self, letter_id: str) -> bool:
        """Remove it; False if there is no such letter."""
        ...
