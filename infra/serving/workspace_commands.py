"""Commands to workspaces, for the API."""

import asyncio
from collections.abc import Callable

import structlog
from eventsourcing.persistence import PersistenceError
from redis.exceptions import RedisError

from domain.origins import Sender
from domain.workspace import Workspace
from infra.serving.blocking_calls import unavailability
from infra.workspaces.repository import ConflictError, UnreadableEventError, WorkspaceRepository
from readapi.ports.commands import CommandResult
from readapi.ports.errors import UnavailableError

logger = structlog.get_logger()

DEPLOYMENT_SECONDS = 60
"""Seconds after which a deployment under way is probably over, so that all processes can read the newest events."""


class AsyncWorkspaceCommands:
    """Executes commands in a thread. Implements ``WorkspaceCommands``."""

    def __init__(self, workspaces: WorkspaceRepository) -> None:
        self._workspaces = workspaces

    async def execute(self, user: Sender, command: Callable[[Workspace], None]) -> CommandResult:
        """Execute a command on a user's workspace, and record its events with the user's token.

        Raises:
            WorkspaceError: The workspace refuses the command.
            UnavailableError: The events of the user cannot be read or recorded now.
        """
        try:
            return await asyncio.to_thread(self._workspaces.execute, user.subject, command, user)
        except ConflictError as error:
            raise UnavailableError(str(error)) from error
        except UnreadableEventError as error:
            logger.error("workspace unreadable", error=str(error))
            raise UnavailableError("this release cannot read the history of these lists", DEPLOYMENT_SECONDS) from error
        except (RedisError, PersistenceError) as error:
            logger.warning("workspace command not recorded", error=str(error))
            reason = unavailability(error) or UnavailableError("the event log cannot be used now")
            raise UnavailableError(
                f"the lists cannot be changed now, read them, then send the request again: {reason}", reason.retry_after
            ) from error
