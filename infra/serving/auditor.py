"""Verification of the archive and its heads, for the API. The long work is done by jobs in child processes."""

from collections.abc import Mapping
from typing import Any, cast

from domain.origins import Sender
from infra.archive.errors import AuditError
from infra.operations.jobs import read_job, start_job
from infra.operations.journal import Journal
from infra.operations.verification import run_head_check, run_verification, take_signed_heads
from infra.redis.connections import RedisClient
from infra.serving.archive import HISTORY_TIMEOUT_SECONDS, ArchiveGateway
from infra.serving.blocking_calls import in_thread
from infra.settings import Settings
from readapi.ports.audit import Heads
from readapi.ports.errors import StateConflictError
from readapi.ports.jobs import Job

VERIFICATION = "verification"
CHECK = "head-check"


class ArchiveAuditor:
    """Verifies the archive, takes heads and checks them. Implements ``Auditor``.

    Args:
        archive: The archive.
        client: The Redis server that keeps the state of the jobs.
        journal: Records the commands.
        settings: The settings, which name the key of the heads.
    """

    def __init__(self, archive: ArchiveGateway, client: RedisClient, journal: Journal, settings: Settings) -> None:
        self._archive = archive
        self._client = client
        self._journal = journal
        self._settings = settings

    async def verify(self, options: Mapping[str, Any], operator: Sender) -> Job:
        """Start a verification of the archive. Raises StateConflictError and UnavailableError."""
        return await in_thread(lambda: self._verify(options, operator))

    def _verify(self, options: Mapping[str, Any], operator: Sender) -> Job:
        target = options["log"] or "all logs"
        self._journal.record("verify-archive", target, operator, {name: options[name] for name in ("from", "to")})
        return start_job(self._client, VERIFICATION, run_verification, options)

    async def last_verification(self) -> Job | None:
        """Return the last verification that was started here. Raises UnavailableError."""
        return await in_thread(lambda: read_job(self._client, VERIFICATION))

    async def take_heads(self) -> Heads:
        """Return the present heads, signed if there is a key. Raises StateConflictError and UnavailableError."""
        try:
            taken = await self._archive.run(
                lambda: take_signed_heads(self._settings, self._archive.database), HISTORY_TIMEOUT_SECONDS
            )
        except AuditError as error:
            raise StateConflictError("no-heads", str(error)) from error
        return cast("Heads", taken.document())

    async def check_heads(self, heads: Heads, operator: Sender) -> Job:
        """Start a check of heads. Raises StateConflictError and UnavailableError."""
        return await in_thread(lambda: self._check_heads(heads, operator))

    def _check_heads(self, heads: Heads, operator: Sender) -> Job:
        self._journal.record("check-heads", heads["taken_at"], operator)
        return start_job(self._client, CHECK, run_head_check, {"heads": heads})

    async def last_check(self) -> Job | None:
        """Return the last check of heads that was started here. Raises UnavailableError."""
        return await in_thread(lambda: read_job(self._client, CHECK))
