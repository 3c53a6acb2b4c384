"""One sequence of events: the archive supplies the events that were trimmed from a log."""

from domain.log import LogEntry
from infra.log.archive_port import Archive, StreamRange
from infra.log.errors import HistoryGapError


def fill_from_archive(
    archive: Archive | None, log: str, after: int, last_missing: int, limit: int, entries: list[LogEntry]
) -> list[LogEntry]:
    """Return the archived events with positions > ``after`` and <= ``last_missing``, followed by ``entries``.

    Args:
        archive: The archive behind the log, if there is one.
        log: The name of the log.
        after: The last position that the reader has read.
        last_missing: The last position that the log did not return.
        limit: The highest number of events to return.
        entries: The events that the log returned. They follow ``last_missing``.

    Raises:
        HistoryGapError: Neither the log nor the archive has an event of the range.
        ArchiveUnavailableError: The archive cannot be reached.
    """
    archived = archive.read(log, after, last_missing, limit) if archive else []
    positions = range(after + 1, min(last_missing, after + limit) + 1)
    if missing := set(positions) - {entry.position for entry in archived}:
        raise HistoryGapError(_describe_gap(archive, f"positions {min(missing)} to {max(missing)} of log {log}"))
    return archived + entries[: limit - len(archived)]


def read_archived_batch(archive: Archive | None, log: str, after: int, upto: int, limit: int) -> list[LogEntry]:
    """Return the first archived events with positions > ``after`` and <= ``upto``, bounded by number and bytes.

    Raises:
        HistoryGapError: There is no archive, or an event of the range is missing.
        ArchiveUnavailableError: The archive cannot be reached.
    """
    entries = archive.read_batch(log, after, upto, limit) if archive else []
    last = entries[-1].position if entries else upto
    if len(entries) < last - after:
        raise HistoryGapError(_describe_gap(archive, f"events of positions {after + 1} to {last} of log {log}"))
    return entries


def read_archived_stream(archive: Archive | None, log: str, versions: StreamRange) -> list[LogEntry]:
    """Return the archived events of a stream in a range of versions.

    Raises:
        HistoryGapError: There is no archive, or it has none of the events.
        ArchiveUnavailableError: The archive cannot be reached.
    """
    entries = archive.read_stream(log, versions) if archive else []
    # A stream may begin with version 0 or with version 1, so that a missing version 0 is no gap.
    if archive is None or (not entries and versions.highest > 0):
        described = f"versions {versions.lowest} to {versions.highest} of stream {versions.stream}"
        raise HistoryGapError(_describe_gap(archive, described))
    return entries


def _describe_gap(archive: Archive | None, events: str) -> str:
    if archive is None:
        return f"{events} are in the archive alone: set TICKVIEW_POSTGRES_DSN"
    return f"{events} are neither in the log nor in the archive"
