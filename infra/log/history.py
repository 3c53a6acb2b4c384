"""One sequence of events: the archive fills in the events that a log no longer has."""

from domain.log import LogEntry
from infra.log.archive_port import Archive
from infra.log.errors import HistoryGapError


def fill_from_archive(
    archive: Archive | None, log: str, after: int, last_missing: int, limit: int, entries: list[LogEntry]
) -> list[LogEntry]:
    """Put the archived events with positions > ``after`` and <= ``last_missing`` in front of ``entries``.

    Args:
        archive: The archive behind the log, if there is one.
        log: The name of the log.
        after: The position that the reader has already.
        last_missing: The last position that the log itself did not return.
        limit: The highest number of events to return.
        entries: The events that the log returned, which follow ``last_missing``.

    Raises:
        HistoryGapError: An event is in neither of them.
        ArchiveUnavailableError: The archive cannot be reached.
    """
    archived = archive.read(log, after, last_missing, limit) if archive else []
    wanted = range(after + 1, min(last_missing, after + limit) + 1)
    if missing := set(wanted) - {entry.position for entry in archived}:
        raise HistoryGapError(_gap(archive, f"positions {min(missing)} to {max(missing)} of log {log}"))
    return archived + entries[: limit - len(archived)]


def read_archived_stream(
    archive: Archive | None, log: str, stream: str, lowest: int, highest: int, *, desc: bool, limit: int
) -> list[LogEntry]:
    """Return the archived events of a stream with versions from ``lowest`` to ``highest``, at most ``limit``.

    Raises HistoryGapError where there is no archive, or where the archive has none of the events, and
    ArchiveUnavailableError where it cannot be reached.
    """
    entries = archive.read_stream(log, stream, lowest, highest, desc=desc, limit=limit) if archive else []
    # Only version 0 may never have existed.
    if archive is None or (not entries and highest > 0):
        raise HistoryGapError(_gap(archive, f"versions {lowest} to {highest} of stream {stream}"))
    return entries


def _gap(archive: Archive | None, events: str) -> str:
    if archive is None:
        return f"{events} are in the archive alone: set TICKVIEW_POSTGRES_DSN"
    return f"{events} are neither in the log nor in the archive"
