"""Errors of PostgreSQL as errors of the archive, with advice for the operator."""

from psycopg import Error
from psycopg.errors import (
    DeadlockDetected,
    LockNotAvailable,
    QueryCanceled,
    ReadOnlySqlTransaction,
    SerializationFailure,
)

from infra.log.errors import ArchiveBusyError, ArchiveReadOnlyError, ArchiveUnavailableError

READ_ONLY_ADVICE = (
    "This PostgreSQL server only allows reading, perhaps because it is a standby. The archive must be written: set "
    "TICKVIEW_POSTGRES_DSN to the primary server, or let it name all servers, of which the primary server is then used"
)


def translate_error(error: Error, seconds: float) -> ArchiveUnavailableError:
    """Return TickView's error for a transaction that failed after ``seconds``, with advice for the operator."""
    reason = one_line(error)
    if isinstance(error, ReadOnlySqlTransaction):
        return ArchiveReadOnlyError(f"{READ_ONLY_ADVICE} ({reason})")
    if isinstance(error, LockNotAvailable):
        return ArchiveBusyError(
            f"Another session of PostgreSQL holds a lock. This session gave up waiting for the lock {seconds:.1f} s "
            f"after its transaction began ({reason}). If the lock remains, look in pg_stat_activity for the "
            "transaction with the oldest xact_start, and end its session with pg_terminate_backend(pid)"
        )
    if isinstance(error, QueryCanceled):
        return ArchiveBusyError(
            f"PostgreSQL ended a statement {seconds:.1f} s after the transaction began ({reason}). "
            "If the statement was not cancelled by hand, statement_timeout is too short for the archive: raise it with "
            "ALTER ROLE or ALTER DATABASE, or in TICKVIEW_POSTGRES_DSN, wherever it is set"
        )
    if isinstance(error, SerializationFailure | DeadlockDetected):
        return ArchiveBusyError(
            f"The standby of PostgreSQL ended a statement that held up its replication ({reason}). Set "
            "hot_standby_feedback = on, or a longer max_standby_streaming_delay, on the standby"
        )
    return ArchiveUnavailableError(f"PostgreSQL cannot be reached: {reason}")


def one_line(error: Exception) -> str:
    """Return the message of the server or the library in one line."""
    text = str(error)
    # With several hosts, psycopg repeats the last failure before the list of all.
    failures = text.partition("All failures were:")[2] or text
    hint = "no server can be written, because no standby is promoted: " if "session is read-only" in failures else ""
    return hint + " ".join(failures.split())
