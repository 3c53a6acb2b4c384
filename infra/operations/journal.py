"""The journal of operators: each command becomes an event of the log ``operations`` before it is executed."""

import getpass
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from domain.codec import encode, topic_of
from domain.events import OWN_IDS
from domain.operation_events import Command, CommandGiven
from domain.origins import Sender, format_origin
from infra.log.append import NewEvent
from infra.log.event_log import EventLog

BATCH = 500
"""Highest number of commands that are recorded at once."""

_MAX_SUBJECT = 128


class Journal:
    """Records the commands of operators.

    Args:
        log: The log ``operations``.
        via: The way by which the commands come: ``http`` or ``cli``.
    """

    def __init__(self, log: EventLog, via: str) -> None:
        self._log = log
        self._via = via

    def record(self, command: Command, target: str, operator: Sender, details: Mapping[str, Any] | None = None) -> None:
        """Record a command. The caller executes the command only after this method has returned.

        Raises:
            RedisError: The log cannot be written.
            PersistenceError: The log cannot append.
        """
        self._log.append([self._new_event(command, target, operator, details or {})])

    def record_each(self, command: Command, targets: Sequence[str], operator: Sender) -> None:
        """Record a command once for each of its targets, many at once. Raises as ``record``."""
        for start in range(0, len(targets), BATCH):
            batch = targets[start : start + BATCH]
            self._log.append([self._new_event(command, target, operator, {}) for target in batch])

    def _new_event(self, command: Command, target: str, operator: Sender, details: Mapping[str, Any]) -> NewEvent:
        event = CommandGiven(
            event_id=f"{OWN_IDS}command-{uuid4().hex}",
            occurred_at=time.time(),
            source=operator.subject,
            command=command,
            target=target,
            details=dict(details),
        )
        origin = format_origin(self._via, operator.words)
        return NewEvent(event.stream, topic_of(CommandGiven), encode(event), event.event_id, origin=origin)


def local_operator() -> Sender:
    """Return the user of the command line. A user without a name is ``operator``."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # The user of a container may have no name.
        name = "operator"
    return Sender(re.sub("[^!-~]", "?", name)[:_MAX_SUBJECT])
