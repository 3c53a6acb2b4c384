"""The journal of the commands that operators give on the command line."""

from collections.abc import Mapping, Sequence
from typing import Any

from eventsourcing.persistence import PersistenceError
from redis.exceptions import RedisError

from domain.errors import TickViewError
from domain.operation_events import Command
from domain.streams import OPERATIONS_LOG
from infra.cli.output import notes
from infra.composition import Stores, open_logs, open_stores
from infra.operations.journal import Journal, local_operator
from infra.settings import Settings


def record_command(stores: Stores, command: Command, target: str, details: Mapping[str, Any] | None = None) -> None:
    """Record a command in the log ``operations``, before it is executed.

    Raises:
        RedisError: The log cannot be written.
        PersistenceError: The log cannot append.
    """
    _open_journal(stores).record(command, target, local_operator(), details)


def record_command_for_each(stores: Stores, command: Command, targets: Sequence[str]) -> None:
    """Record a command once for each of its targets, before it is executed. Raises as ``record_command``."""
    _open_journal(stores).record_each(command, targets, local_operator())


def _open_journal(stores: Stores) -> Journal:
    return Journal(open_logs(stores, [OPERATIONS_LOG])[OPERATIONS_LOG], "cli")


def record_or_warn(settings: Settings, command: Command, target: str, details: Mapping[str, Any] | None = None) -> None:
    """Record a command that must be possible without Redis. If it cannot be recorded, print a warning."""
    try:
        record_command(open_stores(settings), command, target, details)
    except (RedisError, PersistenceError, TickViewError) as error:
        reason = " ".join(str(error).split())
        notes.print(f"warning: not recorded in the log {OPERATIONS_LOG}: {reason}", markup=False)
