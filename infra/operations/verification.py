"""Verification of everything that is recorded: chains, histories, and the heads that are kept outside of PostgreSQL."""

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import date

import structlog

from infra.archive.errors import AuditError
from infra.archive.ranges import WHOLE_ARCHIVE, ArchiveRange
from infra.archive.verification.chain_walk import Progress
from infra.archive.verification.head_comparison import compare_heads, positions_of
from infra.archive.verification.histories import verify_histories
from infra.archive.verification.history_segments import Scope
from infra.archive.verification.kept_heads import HeadSource, read_heads_in_redis
from infra.archive.verification.published_heads import publish_heads, read_published_heads
from infra.archive.verification.verify import (
    Verification,
    no_progress,
    record_verification,
    verify,
)
from infra.composition import lazy_database, redis_url
from infra.plugins import configure
from infra.postgres.database import Database
from infra.processes.errors import StartupError
from infra.redis.connections import connect
from infra.settings import Settings
from projections.registry import all_projections

logger = structlog.get_logger()


def verify_everything(
    settings: Settings,
    database: Database,
    log: str | None = None,
    archive_range: ArchiveRange = WHOLE_ARCHIVE,
    progress: Progress = no_progress,
    history_scope: Scope | None = None,
) -> Verification:
    """Verify the chains, the histories, and that the archive extends the heads that are kept elsewhere.

    Args:
        settings: The settings, which name Redis and the place of the heads. Redis may be unavailable.
        database: The archive.
        log: The log to verify; None for every log.
        archive_range: The range of each log.
        progress: A function that is told the progress, from several threads.
        history_scope: Which part of each history to verify; None: the range.

    Raises:
        AuditError: The archive does not have the log, or the key of the heads cannot be read.
        ArchiveUnavailableError: The archive cannot be reached.
    """
    # The heads come first: the archive may grow, and the heads with it, while it is verified.
    sources = _read_heads(settings)
    since = first_month(settings)
    verification = verify(database, log, archive_range, progress, positions_of(sources), since)
    verification = compare_heads(verification, sources, log, is_whole=archive_range == WHOLE_ARCHIVE)
    scope = archive_range if history_scope is None else history_scope
    histories = verify_histories(database, all_projections(), progress, log, scope)
    return replace(verification, finished_at=time.time(), histories=histories)


def first_month(settings: Settings) -> date | None:
    """Return the first month that the archive should have. None: every month."""
    return date.fromisoformat(f"{settings.archive_since}-01") if settings.archive_since else None


def verify_on_schedule() -> None:
    """Verify the archive and record the result. If everything fits, write signed heads to the configured place.

    Raises:
        ArchiveUnavailableError: The archive cannot be reached.
    """
    settings = configure()
    database = lazy_database(settings)
    assert database is not None, "an archiver has a database"
    try:
        verification = verify_everything(settings, database, history_scope="sample")
        record_verification(database, verification)
        if verification.ok and settings.audit_heads and settings.audit_key:
            publish_heads(database, settings.audit_heads, settings.audit_key)
    except AuditError as error:
        logger.error("heads not written", reason=str(error))
    finally:
        database.close()


def _read_heads(settings: Settings) -> Sequence[HeadSource]:
    sources = []
    try:
        with connect(redis_url(settings), retries=0) as client:
            sources.append(read_heads_in_redis(client))
    except StartupError as error:
        sources.append(HeadSource("redis", note=str(error)))
    if settings.audit_heads and settings.audit_key:
        sources.append(read_published_heads(settings.audit_heads, settings.audit_key))
    return sources
