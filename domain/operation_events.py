"""The events of operators: their commands, in the log ``operations``."""

from typing import Any, Literal

from domain.events import NO_VALUES, Event
from domain.streams import OPERATIONS_STREAM

Command = Literal[
    "replay",
    "switch",
    "rollback",
    "verify-replay",
    "retry-parked",
    "retry-dead-letter",
    "discard-dead-letter",
    "restore-list",
    "import-lists",
    "forget-user",
    "create-token",
    "revoke-token",
    "raise-partitions",
    "rebuild-history",
    "verify-archive",
    "check-heads",
]
"""The commands that are recorded."""


class CommandGiven(Event):
    """An operator has given a command. The event is recorded before the command is executed, which may be refused.

    ``source`` is the subject of the operator's token, or the operator's name on the machine of the command line.
    """

    command: Command
    target: str
    """The target: the name of a read model, history or log, the time of heads, or the id of a dead letter, list, token
    or user."""
    details: dict[str, Any] = NO_VALUES
    """The options of the command."""

    @property
    def stream(self) -> str:
        """The name of the stream of all commands."""
        return OPERATIONS_STREAM


OPERATION_EVENT_TYPES: dict[str, type[Event]] = {CommandGiven.__name__: CommandGiven}
"""Every event type of the log ``operations`` by the name of its class."""
