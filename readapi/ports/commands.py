"""Ports for commands: recording of messages, workspaces and dead letters."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from domain.announcements import DeadLetter, Receipt
from domain.origins import Sender
from domain.workspace import Workspace
from projections.queries import Positions


class MessageRecorder(Protocol):
    """Records messages of producers in the event log."""

    async def record(
        self, messages: Sequence[tuple[str, bytes]], sender: Sender, trace: str | None = None
    ) -> list[Receipt]:
        """Record messages. On return, every event has the configured durability.

        Args:
            messages: Channel and payload of each message.
            sender: The sender of the messages, whom the origin of each event names.
            trace: The ``traceparent`` of the request, or None.

        Returns:
            One receipt for each message.

        Raises:
            UnavailableError: The backlog is full, or the event log cannot be reached.
        """
        ...


class CommandResult(NamedTuple):
    """The result of a command to a workspace."""

    workspace: Workspace
    """The workspace after the command."""
    positions: Positions
    """Log -> position up to which the workspace is recorded."""


class WorkspaceCommands(Protocol):
    """Executes commands on users' workspaces."""

    async def execute(self, user: Sender, command: Callable[[Workspace], None]) -> CommandResult:
        """Execute a command on a user's workspace, and record all its events or none.

        Args:
            user: The user. The origin of the events names the user's token.
            command: Changes the workspace. It is called once more if another command has changed the workspace
                meanwhile.

        Raises:
            WorkspaceError: The workspace refuses the command.
            UnavailableError: The workspace cannot be read or recorded now.
        """
        ...


class Webhooks(Protocol):
    """The webhooks of alerts."""

    async def check(self, url: str) -> None:
        """Check that a webhook may have a URL.

        Raises:
            InvalidListError: The URL is malformed, its host cannot be resolved, or it has an address that is not
                allowed.
        """
        ...

    async def secret(self, user: str, list_id: str, salt: str) -> str:
        """Return the secret that signs the requests to a webhook.

        Args:
            user: The id of the user.
            list_id: The id of the preset.
            salt: The salt of the alert.

        Raises:
            UnavailableError: The key of the user cannot be read, or the user is being forgotten.
        """
        ...


class DeadLetterCommands(Protocol):
    """The dead letters. Every method raises UnavailableError while they cannot be reached.

    Commands are recorded with the name of the operator before they are executed.
    """

    async def page(self, cursor: str | None, limit: int) -> tuple[Sequence[DeadLetter], str | None]:
        """Return a page of letters, newest first, and the cursor of the next page or None.

        Args:
            cursor: The cursor of the page. None for the first page.
            limit: Highest number of letters.

        Raises:
            ValueError: The cursor is malformed.
        """
        ...

    async def get(self, letter_id: str) -> DeadLetter | None:
        """Return a letter, or None if it does not exist."""
        ...

    async def retry(self, letter_id: str, operator: Sender) -> Receipt | None:
        """Record the message of a letter again. Return None if the letter does not exist."""
        ...

    async def discard(self, letter_id: str, operator: Sender) -> bool:
        """Remove a letter. Return False if it does not exist."""
        ...


@dataclass(frozen=True)
class Commands:
    """All ports for commands."""

    messages: MessageRecorder
    dead_letters: DeadLetterCommands
    workspaces: WorkspaceCommands
    webhooks: Webhooks
