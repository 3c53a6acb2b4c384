"""Verification of everything that is recorded: chains, histories, and the heads that are kept outside of PostgreSQL."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import structlog
from psycopg.errors import InsufficientPrivilege

from infra.archive.errors import AuditError
from infra.archive.ranges import WHOLE_ARCHIVE, ArchiveRange, parse_range_end
from infra.archive.verification import heads
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
from infra.composition import lazy_database, open_read_database, redis_url
from infra.log.errors import ArchiveReadOnlyError
from infra.operations.jobs import Report
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
        database: The archive, or its standby, which must first have what the primary server has.
        log: The log to verify; None for every log.
        archive_range: The range of each log.
        progress: A function that is told the progress, from several threads.
        history_scope: Which part of each history to verify; None: the range.

    Raises:
        AuditError: The archive does not have the log or any event in the range, or the key of the heads cannot be read.
        ArchiveUnavailableError: The archive cannot be reached.
    """
    # The heads come first: the archive may grow, and the heads with it, while it is verified.
    sources = _read_heads(settings)
    database.catch_up()
    since = first_month(settings)
    verification = verify(database, log, archive_range, progress, positions_of(sources), since)
    if archive_range != WHOLE_ARCHIVE and not any(each.events or each.finding for each in verification.logs):
        raise AuditError("The archive has no event in this range, so that nothing was verified.")
    verification = compare_heads(verification, sources, log, is_whole=archive_range == WHOLE_ARCHIVE)
    scope = archive_range if history_scope is None else history_scope
    histories = verify_histories(database, all_projections(), progress, log, scope)
    return replace(verification, finished_at=time.time(), histories=histories)


def first_month(settings: Settings) -> date | None:
    """Return the first month that the archive should have. None: every month."""
    return date.fromisoformat(f"{settings.archive_since}-01") if settings.archive_since else None


def record_if_whole(
    database: Database, verification: Verification, log: str | None, archive_range: ArchiveRange
) -> bool:
    """Record the result of a verification if it is about the whole archive.

    Returns:
        False if the result should be recorded, but the PostgreSQL role or server only allows reading.
    """
    if log is not None or archive_range != WHOLE_ARCHIVE:
        return True
    try:
        record_verification(database, verification)
    except (InsufficientPrivilege, ArchiveReadOnlyError):
        return False
    return True


def run_verification(settings: Settings, options: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """Verify the archive, or a range of it. This is the work of a job.

    Args:
        settings: The settings, which name Redis and PostgreSQL.
        options: ``log`` (null: every log), and the ends ``from`` and ``to`` of the range as text, or null.
        report: A function that is told the progress.

    Returns:
        The document of the verification.

    Raises:
        StartupError: There is no archive.
        AuditError: As ``verify_everything``.
        ArchiveUnavailableError: The archive cannot be reached.
    """
    log, ends = options["log"], (options["from"], options["to"])
    archive_range = ArchiveRange(*(None if end is None else parse_range_end(end) for end in ends))
    database = open_read_database(settings)
    verification = verify_everything(settings, database, log, archive_range, report)
    if not record_if_whole(database.primary, verification, log, archive_range):
        logger.warning("verification not recorded", reason="PostgreSQL only allows reading")
    return verification.document()


def take_signed_heads(settings: Settings, database: Database) -> heads.HeadFile:
    """Return the present heads, with a signature if a key is set.

    Raises:
        AuditError: The last event of a log is not the archived event, or the key cannot be read.
        ArchiveUnavailableError: The archive cannot be reached.
    """
    key = heads.read_private_key(settings.audit_key) if settings.audit_key else None
    taken = heads.take_heads(database, datetime.now(UTC))
    return heads.sign(taken, key) if key else taken


def check_heads(settings: Settings, database: Database, taken: heads.HeadFile, progress: Progress) -> dict[str, Any]:
    """Check that the present history extends the heads of an earlier time, and that their signature is valid.

    Args:
        settings: The settings, which name the key of the heads.
        database: The archive, or its standby, which must first have what the primary server has.
        taken: The heads.
        progress: A function that is told the progress.

    Returns:
        The document of the result.

    Raises:
        AuditError: The key cannot be read, or ``taken_at`` is no time.
        ArchiveUnavailableError: The archive cannot be reached.
    """
    key = heads.read_public_key(settings.audit_key) if settings.audit_key else None
    signature = heads.check_signature(taken, key)
    database.catch_up()
    results = heads.check_extension(database, taken, progress, first_month(settings))
    return {
        "ok": all(result.extends for result in results) and heads.is_accepted(signature, key),
        "taken_at": taken.taken_at,
        "signature": signature,
        "heads": [result.document() for result in results],
    }


def run_head_check(settings: Settings, options: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """Check heads against the archive. This is the work of a job, whose option ``heads`` is the head file.

    Raises as ``check_heads``, and StartupError if there is no archive.
    """
    taken = heads.HeadFile.model_validate(options["heads"])
    return check_heads(settings, open_read_database(settings), taken, report)


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
